//! What the make targets install, and that it works as installed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hostport_tests::hook::published;
use hostport_tests::install::{command, install_below, make};
use hostport_tests::lab::Lab;
use hostport_tests::runtime::{Container, Network, OciRuntime, Podman, Scratch, run};
use hostport_tests::web::{KUBELET, KUBELET_9000, assert_answers, assert_closed};

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let find = run(Command::new("find").arg(folder).args(["-type", "f"]));
    let mut files: Vec<_> = find.stdout.lines().map(PathBuf::from).collect();
    files.sort();
    files
}

#[test]
fn make_install_stages_a_package_and_uninstall_removes_it() {
    let stage = Scratch::new("destdir");
    let variables = [format!("DESTDIR={}", stage.path().display()), "PREFIX=/usr".to_owned()];
    make("install", &variables);
    let installed = ["bin/hostport", "hostport-kubernetes.json", "hostport.json"];
    let [binary, kubernetes, user] = installed.map(|name| match name {
        "bin/hostport" => stage.path().join("usr").join(name),
        _ => stage.path().join("usr/share/containers/oci/hooks.d").join(name),
    });
    let units =
        ["gc", "metrics", "restore@", "watch"].map(|name| format!("hostport-{name}.service"));
    let folder = stage.path().join("usr/lib/systemd/system");
    let [gc, metrics, restore, watch] = units.map(|name| folder.join(name));
    let [gc_timer, metrics_timer] =
        ["gc", "metrics"].map(|name| folder.join(format!("hostport-{name}.timer")));
    let all =
        [&binary, &gc, &gc_timer, &metrics, &metrics_timer, &restore, &watch, &kubernetes, &user];
    assert_eq!(files_below(stage.path()), all.map(PathBuf::clone));
    for unit in [gc, metrics, restore, watch] {
        let text = fs::read_to_string(&unit).unwrap();
        assert!(text.contains("ExecStart=/usr/bin/hostport "), "{text}");
    }
    for file in [kubernetes, user] {
        let hook: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(hook["hook"]["path"], "/usr/bin/hostport", "{file:?}");
    }
    run(Command::new(binary).arg("--version")).expect_success();
    let plugin = stage.path().join("opt/cni/bin/hostport");
    assert_eq!(fs::read_link(&plugin).unwrap(), Path::new("/usr/bin/hostport"));
    make("uninstall", &variables);
    assert!(files_below(stage.path()).is_empty() && fs::read_link(&plugin).is_err());
}

#[test]
fn make_install_containerd_stages_a_configuration_and_uninstall_removes_it() {
    let stage = Scratch::new("destdir");
    let variables = [format!("DESTDIR={}", stage.path().display()), "PREFIX=/usr".to_owned()];
    make("install-containerd", &variables);
    let folder = stage.path().join("etc/containerd/hostport");
    let names = ["base-runtime-spec.json", "config-v2.toml", "config-v3.toml"];
    let files = names.map(|name| folder.join(name));
    assert_eq!(files_below(stage.path()), files);
    let [specification, v2, v3] = files.map(|file| fs::read_to_string(file).unwrap());
    let specification: serde_json::Value = serde_json::from_str(&specification).unwrap();
    for stage in ["prestart", "poststop"] {
        assert_eq!(specification["hooks"][stage][0]["path"], "/usr/bin/hostport");
    }
    for configuration in [v2, v3] {
        assert!(configuration.contains("/etc/containerd/hostport/base-runtime-spec.json"));
    }
    make("uninstall-containerd", &variables);
    assert!(files_below(stage.path()).is_empty());
}

#[test]
fn an_existing_file_is_replaced_at_once_and_not_written_into() {
    let stage = Scratch::new("destdir");
    let variables = [format!("DESTDIR={}", stage.path().display()), "PREFIX=/usr".to_owned()];
    let targets = ["install", "install-containerd"];
    targets.iter().for_each(|target| make(target, &variables));
    let names = |file: &Path| (file.to_owned(), fs::metadata(file).unwrap().ino());
    let before: Vec<_> = files_below(stage.path()).iter().map(|file| names(file)).collect();
    // Other names keep the files, so that no inode number is used again.
    for (number, (file, _)) in before.iter().enumerate() {
        fs::hard_link(file, stage.path().join(format!("kept-{number}"))).unwrap();
    }
    targets.iter().for_each(|target| make(target, &variables));
    let files: Vec<_> = before.iter().map(|(file, _)| names(file)).collect();
    assert!(files.iter().all(|file| !before.contains(file)), "{files:?}");
    assert_eq!(files_below(stage.path()).len(), 2 * before.len(), "something is left over");
    for (file, _) in files {
        let mode = if file.ends_with("bin/hostport") { 0o755 } else { 0o644 };
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, mode, "{file:?}");
    }
}

#[test]
fn an_uninstall_that_ends_half_way_leaves_no_hook_without_its_program() {
    let stage = Scratch::new("destdir");
    let variables = [format!("DESTDIR={}", stage.path().display()), "PREFIX=/usr".to_owned()];
    make("install", &variables);
    let program = stage.path().join("usr/bin/hostport");
    fs::remove_file(&program).unwrap();
    // `rm` does not remove a folder.
    fs::create_dir(&program).unwrap();
    assert!(!try_make("uninstall", &variables).status.success());
    assert_eq!(files_below(stage.path()), [""; 0].map(PathBuf::from));
}

#[test]
fn a_hook_configuration_for_another_program_is_neither_replaced_nor_removed() {
    let stage = Scratch::new("destdir");
    let variables = [format!("DESTDIR={}", stage.path().display())];
    make("install", &variables);
    // Now the package's configuration is there.
    let hook = stage.path().join("usr/share/containers/oci/hooks.d/hostport.json");
    let packages = fs::read_to_string(&hook).unwrap().replace("/usr/local/bin", "/usr/bin");
    fs::write(&hook, &packages).unwrap();
    let program = stage.path().join("usr/local/bin/hostport");
    let before = fs::metadata(&program).unwrap().ino();
    let refused = try_make("install", &variables);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("calls another program"), "{said}");
    assert_eq!(fs::metadata(&program).unwrap().ino(), before, "nothing was written");
    let removed = try_make("uninstall", &variables);
    let said = String::from_utf8_lossy(&removed.stderr);
    assert!(removed.status.success() && said.contains("hostport.json stays"), "{said}");
    assert_eq!(fs::read_to_string(&hook).unwrap(), packages);
    assert_eq!(files_below(stage.path()).len(), 1);
}

#[test]
fn an_invalid_prefix_is_refused_before_anything_is_written() {
    let stage = Scratch::new("destdir");
    for prefix in ["local", "/opt/a b", "/opt/a\"b", "/opt/a|b"] {
        for target in ["install", "install-containerd", "install-manual"] {
            let variables =
                [format!("DESTDIR={}", stage.path().display()), format!("PREFIX={prefix}")];
            let refused = try_make(target, &variables);
            let said = String::from_utf8_lossy(&refused.stderr);
            assert!(!refused.status.success() && said.contains("must be absolute paths"), "{said}");
        }
    }
    assert!(files_below(stage.path()).is_empty());
}

#[test]
fn the_manual_names_the_program_where_it_is_installed() {
    let (stage, manual) = (Scratch::new("destdir"), Scratch::new("manual"));
    let pages = manual.folder("man8");
    fs::write(pages.join("hostport.8"), "\"path\": \"/usr/local/bin/hostport\"\n").unwrap();
    for file in ["bash/hostport", "zsh/_hostport", "fish/hostport.fish"] {
        let file = manual.path().join("completions").join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "").unwrap();
    }
    let variables = [
        format!("DESTDIR={}", stage.path().display()),
        format!("MANUAL={}", manual.path().display()),
        "PREFIX=/usr".to_owned(),
    ];
    make("install-manual", &variables);
    let page = stage.path().join("usr/share/man/man8/hostport.8.gz");
    let text = run(Command::new("zcat").arg(page)).expect_success();
    assert_eq!(text.stdout, "\"path\": \"/usr/bin/hostport\"\n");
}

/// `make`, which may fail.
fn try_make(target: &str, variables: &[String]) -> Output {
    command(target, variables).output().unwrap()
}

#[test]
fn what_make_install_installs_works_under_podman_as_it_is() {
    let lab = Lab::new();
    let (pod, root) = (lab.pod("web"), Scratch::new("prefix"));
    install_below(root.path());
    let podman = Podman::in_node(lab.node().path(), OciRuntime::Runc);
    let podman = podman.hooks_dir(root.path().join("hooks.d")).own_journal();
    let web = Container::http_server(8080).network(Network::Path(pod.path()));
    podman.run("web", &web.annotation(KUBELET, KUBELET_9000)).expect_success();
    assert_answers(&lab);
    podman.stop("web").expect_success();
    assert_closed(&lab);
    assert_eq!(published(lab.node()), [""; 0]);
}
