//! containerd's configuration, with containerd itself as the judge of what it then says.

use std::process::Command;

use hostport_tests::runtime::{containerd_bin, run};

use super::{PROGRAM, Root};

const CONFIG: &str = "/etc/containerd/config.toml";
const SPEC: &str = "/etc/containerd/hostport/base-runtime-spec.json";

/// What containerd makes of the configuration, in the table of runc.
fn merged(root: &Root) -> Vec<String> {
    let containerd = containerd_bin().join("containerd");
    let dump = run(Command::new(containerd)
        .arg("--config")
        .arg(root.path(CONFIG))
        .args(["config", "dump"]));
    let dump = dump.expect_success().stdout.replace('\'', "\"");
    let table = dump.lines().skip_while(|line| !line.ends_with("runtimes.runc]")).skip(1);
    let table = table.take_while(|line| !line.trim_start().starts_with('['));
    let keys = ["base_runtime_spec", "container_annotations", "runtime_type"];
    let mut ours: Vec<String> = table.map(|line| line.trim().to_owned()).collect();
    ours.retain(|line| keys.iter().any(|key| line.starts_with(key)));
    ours.sort();
    ours
}

#[test]
fn containerd_reads_both_settings_and_gets_its_own_file_back() {
    let default =
        run(Command::new(containerd_bin().join("containerd")).args(["config", "default"]));
    let default = default.expect_success().stdout;
    let version = default.lines().find(|line| line.starts_with("version")).unwrap();
    let bare = format!("{version}\n# mine\n[grpc]\n  gid = 0\n");
    for text in [&default, &bare] {
        let root = Root::new().with(CONFIG, text);
        let before = root.all();
        let shown = root.call(&["install", "containerd", "--dry-run"]).expect_success();
        assert!(shown.stdout.contains(&format!("base_runtime_spec = \"{SPEC}\"")), "{shown:?}");
        assert_eq!(root.all(), before);
        let said = root.call(&["install", "containerd"]).expect_success();
        assert!(said.stdout.ends_with("then: systemctl restart containerd\n"), "{said:?}");
        let expected = [
            format!("base_runtime_spec = \"{SPEC}\""),
            "container_annotations = [\"io.kubernetes.container.ports\"]".to_owned(),
            "runtime_type = \"io.containerd.runc.v2\"".to_owned(),
        ];
        assert_eq!(merged(&root), expected);
        let spec: serde_json::Value = serde_json::from_str(&root.read(SPEC)).unwrap();
        assert_eq!(spec["hooks"]["prestart"][0]["path"], PROGRAM);
        assert_eq!(
            root.call(&["install", "containerd"]).expect_success().stdout,
            "nothing to change\n"
        );
        root.call(&["uninstall", "containerd"]).expect_success();
        assert_eq!(root.all(), before);
    }
}

#[test]
fn what_is_not_understood_stays_as_it_is() {
    let said = Root::new().refused(&["install", "containerd"]);
    assert!(said.contains("containerd config default > /etc/containerd/config.toml"), "{said}");
    let root = Root::new().with("/etc/containerd/real.toml", "").with_link(CONFIG, "real.toml");
    let said = root.refused(&["install", "containerd"]);
    assert!(said.contains("it is a link to real.toml: change that file"), "{said}");
    let said = Root::new().with(CONFIG, "").refused(&["install", "containerd"]);
    assert!(said.contains("its version is not 2 or 3; change it by hand"), "{said}");
    let own = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n  \
        base_runtime_spec = \"/etc/mine.json\"\n";
    let said = Root::new().with(CONFIG, own).refused(&["install", "containerd"]);
    assert!(said.contains("the runtime runc has a base_runtime_spec already"), "{said}");
}
