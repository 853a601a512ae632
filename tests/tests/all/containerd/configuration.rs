//! The configuration that is shipped: what it does, and what it leaves alone.

use std::path::Path;
use std::process::Command;

use hostport_tests::doctor::{Report, text};
use hostport_tests::install::make;
use hostport_tests::lab::Lab;
use hostport_tests::page::block;
use hostport_tests::runtime::{Scratch, containerd_bin, run};
use hostport_tests::web::{KUBELET, KUBELET_9000, assert_closed};
use serde_json::Value;

use super::cri::Pod;
use super::node::Node;

/// A runtime next to the configured one, without hostport.
const PLAIN: &str = r#"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.plain]
  runtime_type = "io.containerd.runc.v2"
"#;

#[test]
fn the_base_specification_changes_nothing_but_the_hooks() {
    let lab = Lab::new();
    let node = Node::with(&lab, PLAIN);
    let [ours, plain] = ["", "plain"].map(|handler| {
        let pod = Pod { name: "web", handler, ..Pod::default() };
        let pod = node.cri.run_pod(&pod, &node.containerd.logs()).unwrap();
        let web = node.serve(&pod, ("web", 0), KUBELET_9000).unwrap();
        let said = [&pod.id, &web].map(|id| {
            // What differs between pods, and the version of a file that is older than containerd.
            let text = node.containerd.config(id).to_string();
            let text = text.replace(&web, "CONTAINER").replace(&pod.id, "SANDBOX");
            let mut config = serde_json::from_str::<Value>(&text).unwrap();
            for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
                if let Some(path) = namespace.get_mut("path") {
                    *path = "as it is".into();
                }
            }
            config["ociVersion"].take();
            config
        });
        node.cri.stop_pod(&pod).unwrap();
        node.cri.remove_pod(&pod).unwrap();
        said
    });
    let ([sandbox, mut web], [plain_sandbox, plain_web]) = (ours, plain);
    // containerd makes sandboxes without the base specification.
    assert_same(&sandbox, &plain_sandbox);
    assert_eq!(sandbox.get("hooks"), None);
    let hooks = web.as_object_mut().unwrap().remove("hooks").unwrap();
    assert_eq!(hooks.as_object().unwrap().keys().collect::<Vec<_>>(), ["poststop", "prestart"]);
    web["annotations"].as_object_mut().unwrap().remove(KUBELET).unwrap();
    assert_same(&web, &plain_web);
}

#[track_caller]
fn assert_same(ours: &Value, plain: &Value) {
    let [ours, plain] = [ours, plain].map(|value| serde_json::to_string_pretty(value).unwrap());
    let other = |lines: &str, of: &str| {
        let lines = lines.lines().filter(|line| !of.lines().any(|other| other == *line));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(other(&ours, &plain), other(&plain, &ours));
    assert_eq!(ours, plain);
}

#[test]
fn what_a_pods_author_writes_does_not_come_to_the_containers() {
    let lab = Lab::new();
    let node = Node::new(&lab);
    let annotations = [
        (KUBELET, KUBELET_9000),
        ("io.hostport.ports", "9000:8080"),
        ("io.kubernetes.cri-o.PortMappings", r#"[{"HostPort":9000,"ContainerPort":8080}]"#),
    ];
    let pod = Pod { name: "web", annotations: &annotations, ..Pod::default() };
    let pod = node.cri.run_pod(&pod, &node.containerd.logs()).unwrap();
    node.serve(&pod, ("web", 0), "[]").unwrap();
    assert_closed(&lab);
    node.assert_nothing_left(&lab);
}

#[test]
fn a_pod_on_the_hosts_network_starts_and_publishes_nothing() {
    let lab = Lab::new();
    let node = Node::new(&lab);
    let pod = Pod { name: "host", host_network: true, ..Pod::default() };
    let pod = node.cri.run_pod(&pod, &node.containerd.logs()).unwrap();
    // For such a pod Kubernetes sets each hostPort to the containerPort.
    let ports = r#"[{"hostPort":8080,"containerPort":8080,"protocol":"TCP"}]"#;
    node.serve(&pod, ("web", 0), ports).unwrap();
    node.assert_nothing_left(&lab);
    assert!(hostport_tests::runtime::wait_until(|| {
        hostport_tests::web::seen(lab.client(), hostport_tests::lab::NODE4, 8080).is_ok()
    }));
}

#[test]
fn both_versions_of_the_configuration_say_the_same() {
    let said = |version: &str| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../dist/containerd");
        let text = std::fs::read_to_string(format!("{folder}/config-{version}.toml")).unwrap();
        let lines = text.lines().map(|line| line.replace('\'', "\""));
        lines
            .filter(|line| line.starts_with(' ') && !line.trim_start().starts_with('#'))
            .collect::<Vec<_>>()
    };
    assert_eq!(said("v2").len(), 3);
    assert_eq!(said("v2"), said("v3"));
}

/// Lines of the page, with the paths of a folder.
fn commands(begin: &str, folder: &Path) -> String {
    block("runtimes.md", begin).replace("/etc/containerd", folder.to_str().unwrap())
}

/// What containerd makes of a folder's config.toml, after these commands of the page, in the runtime's table.
#[track_caller]
fn merged(scratch: &Scratch, config: &str, begin: &[&str]) -> Vec<String> {
    let (folder, file) = (scratch.path(), scratch.path().join("config.toml"));
    let containerd = containerd_bin().join("containerd");
    std::fs::write(&file, config).unwrap();
    for begin in begin {
        run(Command::new("sh").args(["-e", "-c", &commands(begin, folder)])).expect_success();
    }
    let dump = run(Command::new(containerd).arg("--config").arg(file).args(["config", "dump"]));
    let dump = dump.expect_success().stdout.replace('\'', "\"");
    let table = dump.lines().skip_while(|line| !line.ends_with("runtimes.runc]")).skip(1);
    let table = table.take_while(|line| !line.trim_start().starts_with('['));
    let keys = ["container_annotations", "base_runtime_spec"];
    let mut ours: Vec<String> = table
        .map(|line| line.trim().to_owned())
        .filter(|line| keys.iter().any(|key| line.starts_with(key)))
        .collect();
    ours.sort();
    ours
}

/// FIELD 31. Each way of the page, with the defaults of the containerd at hand.
#[test]
fn field_31_the_pages_ways_work_with_containerds_default_configuration() {
    let scratch = Scratch::new("containerd");
    let folder = scratch.path().display().to_string();
    make("install-containerd", &["PREFIX=/usr/local".into(), format!("CONTAINERDDIR={folder}")]);
    let wanted = [
        format!("base_runtime_spec = \"{folder}/hostport/base-runtime-spec.json\""),
        r#"container_annotations = ["io.kubernetes.container.ports"]"#.to_owned(),
    ];
    let containerd = containerd_bin().join("containerd");
    let default = run(Command::new(containerd).args(["config", "default"]));
    let default = default.expect_success().stdout;
    assert_eq!(merged(&scratch, &default, &[r"sed -i '/runtimes"]), wanted);
    if !default.contains("version = 3") {
        assert_eq!(merged(&scratch, "version = 2\n", &["cat /etc/containerd/hostport"]), wanted);
        return;
    }
    assert_eq!(merged(&scratch, &default, &["mkdir -p /etc/containerd/conf.d"]), wanted);
    let top = commands("version = 3", scratch.path());
    assert_eq!(merged(&scratch, &top, &[]), wanted);
}

#[test]
fn field_24_a_container_of_containerd_without_base_runtime_spec_is_found() {
    let lab = Lab::new();
    let node = Node::unhooked(&lab);
    // Where a node's containerd has them, in the mounts of this one.
    let state = node.containerd.state().display().to_string();
    let mount = format!("mkdir -p /run/containerd && mount --bind {state} /run/containerd");
    node.containerd.call("sh", &["-c", &mount]).expect_success();
    let (_pod, id) = node.web("web");
    let report = Report::of(node.hostport(&["doctor", "--json"]));
    assert_eq!(report.kinds(), ["ports-unpublished"], "{report:#?}");
    let said = text(&report.only("ports-unpublished"));
    for part in [&id[..12], "default/web (container web)", "9000:8080/tcp", "no base_runtime_spec"]
    {
        assert!(said.contains(part), "{said}");
    }
}
