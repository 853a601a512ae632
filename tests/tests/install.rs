//! What the make targets install, and that it works as it is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hostport_tests::hook::published;
use hostport_tests::install::{install_below, make};
use hostport_tests::lab::Lab;
use hostport_tests::runtime::{Container, Network, OciRuntime, Podman, Scratch, run};
use hostport_tests::web::{KUBELET, KUBELET_9000, assert_answers, assert_closed};

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let find = run(Command::new("find").arg(folder).args(["-type", "f"]), Duration::from_secs(5));
    let mut files: Vec<_> = find.stdout.lines().map(PathBuf::from).collect();
    files.sort();
    files
}

#[test]
fn make_install_stages_a_package_and_uninstall_takes_it_away() {
    let stage = Scratch::new("destdir");
    let variables = [format!("DESTDIR={}", stage.path().display()), "PREFIX=/usr".to_owned()];
    make("install", &variables);
    let installed = ["bin/hostport", "hostport-kubernetes.json", "hostport.json"];
    let [binary, kubernetes, user] = installed.map(|name| match name {
        "bin/hostport" => stage.path().join("usr").join(name),
        _ => stage.path().join("usr/share/containers/oci/hooks.d").join(name),
    });
    let units = ["hostport-metrics.service", "hostport-restore@.service", "hostport-watch.service"];
    let folder = stage.path().join("usr/lib/systemd/system");
    let [metrics, restore, watch] = units.map(|name| folder.join(name));
    let timer = folder.join("hostport-metrics.timer");
    let all = [&binary, &metrics, &timer, &restore, &watch, &kubernetes, &user];
    assert_eq!(files_below(stage.path()), all.map(PathBuf::clone));
    for unit in [metrics, restore, watch] {
        let text = fs::read_to_string(&unit).unwrap();
        assert!(text.contains("ExecStart=/usr/bin/hostport "), "{text}");
    }
    for file in [kubernetes, user] {
        let hook: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(hook["hook"]["path"], "/usr/bin/hostport", "{file:?}");
    }
    run(Command::new(binary).arg("--version"), Duration::from_secs(5)).expect_success();
    make("uninstall", &variables);
    assert!(files_below(stage.path()).is_empty());
}

#[test]
fn make_install_containerd_stages_a_configuration_and_uninstall_takes_it_away() {
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
fn what_make_install_installs_works_under_podman_as_it_is() {
    let lab = Lab::new();
    let (pod, root) = (lab.pod("web"), Scratch::new("prefix"));
    install_below(root.path());
    let podman = Podman::in_node(lab.node().path(), OciRuntime::Runc);
    let podman = podman.hooks_dir(root.path().join("hooks.d"));
    let web = Container::http_server(8080).network(Network::Path(pod.path()));
    podman.run("web", &web.annotation(KUBELET, KUBELET_9000)).expect_success();
    assert_answers(&lab);
    podman.stop("web").expect_success();
    assert_closed(&lab);
    assert_eq!(published(lab.node()), [""; 0]);
}
