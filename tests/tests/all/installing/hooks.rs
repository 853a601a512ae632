//! podman's and CRI-O's folders of hook configurations.

use super::{PROGRAM, Root};

const FOLDER: &str = "/usr/share/containers/oci/hooks.d";
const CRIO: &str = "/etc/crio/crio.conf.d/zz-hostport.conf";

#[test]
fn podman_gets_the_configurations_and_loses_them() {
    let root = Root::new().with("/usr/share/containers/containers.conf", "[engine]\n");
    let before = root.all();
    let said = root.call(&["install", "podman"]).expect_success();
    assert_eq!(said.stdout.matches("wrote ").count(), 2, "{said:?}");
    for name in ["hostport.json", "hostport-kubernetes.json"] {
        let text = root.read(&format!("{FOLDER}/{name}"));
        assert!(text.contains(&format!("\"path\": \"{PROGRAM}\"")), "{text}");
    }
    // An operator's options stay.
    let file = format!("{FOLDER}/hostport.json");
    let options = root.read(&file).replace("\"hook\"]", "\"hook\", \"--no-localhost\"]");
    let root = root.with(&file, &options);
    assert_eq!(root.call(&["install", "podman"]).expect_success().stdout, "nothing to change\n");
    root.call(&["uninstall", "podman"]).expect_success();
    assert_eq!(root.all(), before);
}

#[test]
fn podman_that_reads_other_folders_gets_the_usual_one_as_well() {
    let root = Root::new()
        .with("/etc/containers/containers.conf", "[engine]\nhooks_dir = [\"/srv/hooks\"]\n");
    let before = root.all();
    root.call(&["install", "podman"]).expect_success();
    let own = root.read("/etc/containers/containers.conf.d/zz-hostport.conf");
    assert!(
        own.ends_with(&format!("[engine]\nhooks_dir = [\"/srv/hooks\", \"{FOLDER}\"]\n")),
        "{own}"
    );
    assert_eq!(root.call(&["install", "podman"]).expect_success().stdout, "nothing to change\n");
    root.call(&["uninstall", "podman"]).expect_success();
    assert_eq!(root.all(), before);
}

#[test]
fn crio_gets_its_own_host_ports_turned_off() {
    let root = Root::new()
        .with("/etc/crio/crio.conf", "[crio.runtime]\ndisable_hostport_mapping = false\n");
    let before = root.all();
    let said = root.call(&["install", "crio"]).expect_success();
    assert!(said.stdout.ends_with("then: systemctl restart crio\n"), "{said:?}");
    let own = root.read(CRIO);
    assert!(own.contains("disable_hostport_mapping = true\n") && own.contains(FOLDER), "{own}");
    // Both read one folder.
    let both = root.all();
    let said = root.call(&["uninstall", "podman"]).expect_success();
    assert!(said.stdout.contains("so they stay: hostport uninstall crio"), "{said:?}");
    assert_eq!(root.all(), both);
    root.call(&["uninstall", "crio"]).expect_success();
    assert_eq!(root.all(), before);
    // The operator's own file of that name is not taken away.
    let root = root.with(CRIO, &own.replacen("# By hostport install.\n", "", 1));
    root.call(&["install", "crio"]).expect_success();
    root.call(&["uninstall", "crio"]).expect_success();
    assert!(root.path(CRIO).exists());
}

#[test]
fn a_configuration_that_calls_another_program_is_refused() {
    let root = Root::new().with(
        &format!("{FOLDER}/hostport.json"),
        r#"{"hook": {"path": "/usr/bin/hostport"}, "when": {}, "stages": []}"#,
    );
    let said = root.refused(&["install", "crio"]);
    assert!(said.contains("it calls \"/usr/bin/hostport\", not /opt/hostport/hostport"), "{said}");
    let before = root.all();
    let said = root.call(&["uninstall", "crio"]).expect_success().stdout;
    assert!(said.starts_with("nothing to change\nthen: "), "{said}");
    assert!(said.contains("stays, since it calls \"/usr/bin/hostport\": name"), "{said}");
    assert_eq!(root.all(), before);
}

#[test]
fn one_runtime_keeps_what_the_other_one_gives_up() {
    let folders = "[engine]\nhooks_dir = [\"/srv/hooks\"]\n";
    let root = Root::new().with("/etc/containers/containers.conf", folders);
    for face in ["podman", "crio"] {
        root.call(&["install", face]).expect_success();
    }
    let said = root.call(&["uninstall", "crio"]).expect_success().stdout;
    assert!(said.contains("podman reads the hook configurations too, so they stay"), "{said}");
    assert!(root.read(&format!("{FOLDER}/hostport.json")).contains(PROGRAM));
}

#[test]
fn a_link_and_settings_of_others_are_refused() {
    let root = Root::new().with_link(&format!("{FOLDER}/hostport.json"), "/etc/passwd");
    let said = root.refused(&["install", "podman"]);
    assert!(said.contains("it is a link to /etc/passwd: change that file"), "{said}");
    let root = Root::new().with(CRIO, "[crio.runtime]\nlog_level = \"debug\"\n");
    let said = root.refused(&["install", "crio"]);
    assert!(said.contains("zz-hostport.conf stays as it is: hostport install did not"), "{said}");
}
