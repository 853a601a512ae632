//! CRI-O's bundles under the runtimes that it uses: config.json with CRI-O's annotations, and hooks where CRI-O
//! puts them. Debian has no CRI-O; its sources show what it writes (`server/sandbox_run_linux.go`,
//! `internal/factory/container/container.go`).

use std::fs;
use std::path::PathBuf;

use hostport_tests::hook::{journal_files, list, program, published, state_dir};
use hostport_tests::lab::{Lab, Netns, Pod};
use hostport_tests::runtime::{Container, Hook, Network, Runc};
use hostport_tests::web::{KUBELET, KUBELET_9000, assert_answers, assert_closed};
use serde_json::json;

/// The time at which kubelet saw the pod.
const SEEN: (&str, &str) = ("kubernetes.io/config.seen", "2026-01-02T03:04:05.678901234Z");
/// CRI-O's form of the pod's ports: Go's names, since the type has no others.
const PORT_MAPPINGS: &str =
    r#"[{"HostPort":9000,"ContainerPort":8080,"Protocol":"TCP","HostIP":""}]"#;
const SANDBOX: &str = "1f04600dc6949359da68eee5fe7c4069706a567c07d1ef89fe3bbfdeac7a6dca";

/// What CRI-O writes both on the sandbox and on its containers.
fn of_crio(container: Container, kind: &str, id: &str) -> Container {
    let name = "k8s_web_web-0_default_5ff0d1ae-1d53-4a16-9d14-3a8cf6c1d9b1_0";
    [
        ("io.container.manager", "cri-o"),
        ("io.kubernetes.cri-o.ContainerID", id),
        ("io.kubernetes.cri-o.ContainerType", kind),
        ("io.kubernetes.cri-o.Created", "2026-01-02T03:04:06.504653972Z"),
        ("io.kubernetes.cri-o.Name", name),
        ("io.kubernetes.cri-o.SandboxID", SANDBOX),
        ("io.kubernetes.cri-o.SeccompProfilePath", ""),
        ("io.kubernetes.pod.name", "web-0"),
        ("io.kubernetes.pod.namespace", "default"),
        ("io.kubernetes.pod.uid", "5ff0d1ae-1d53-4a16-9d14-3a8cf6c1d9b1"),
        ("org.systemd.property.CollectMode", "'inactive-or-failed'"),
        SEEN,
        ("kubernetes.io/config.source", "api"),
    ]
    .iter()
    .fold(container, |container, (key, value)| container.annotation(key, value))
}

/// A container of the pod, with kubelet's list of its ports; the pod's own annotations are copied.
fn container(pod: &Pod, id: &str, ports: Option<&str>, author: &[(&str, &str)]) -> Container {
    let mut sent = json!({
        "io.kubernetes.container.hash": "5c0f8f2a",
        "io.kubernetes.container.restartCount": "0",
        "io.kubernetes.container.terminationMessagePath": "/dev/termination-log",
        "io.kubernetes.container.terminationMessagePolicy": "File",
        "io.kubernetes.pod.terminationGracePeriod": "30",
    });
    if let Some(ports) = ports {
        sent[KUBELET] = ports.into();
    }
    let web = Container::http_server(8080).network(Network::Path(pod.path()));
    let web = author.iter().fold(web, |web, (key, value)| web.annotation(key, value));
    let web = of_crio(web, "container", id)
        .annotation("io.kubernetes.container.name", "web")
        .annotation("io.kubernetes.cri-o.IP.0", &pod.ipv4().to_string())
        .annotation("io.kubernetes.cri-o.IP.1", &pod.ipv6().to_string())
        .annotation("io.kubernetes.cri-o.Annotations", &sent.to_string())
        .annotation("io.kubernetes.cri-o.TTY", "false");
    let sent = sent.as_object().unwrap().iter();
    sent.fold(web, |web, (key, value)| web.annotation(key, value.as_str().unwrap()))
}

/// The infra container, which exists with `drop_infra_ctr = false`, or if the pod's containers share their
/// processes.
fn infra(pod: &Pod) -> Container {
    let sent = json!({SEEN.0: SEEN.1, "kubernetes.io/config.source": "api"}).to_string();
    of_crio(Container::sleeper().network(Network::Path(pod.path())), "sandbox", SANDBOX)
        .annotation("io.kubernetes.container.name", "POD")
        .annotation("io.kubernetes.cri-o.Annotations", &sent)
        .annotation("io.kubernetes.cri-o.HostNetwork", "false")
        .annotation("io.kubernetes.cri-o.NamespaceOptions", r#"{"pid":1}"#)
        .annotation("io.kubernetes.cri-o.PortMappings", PORT_MAPPINGS)
        .annotation("io.kubernetes.cri-o.RuntimeHandler", "")
}

/// The hooks, as CRI-O injects them from the installed hook configurations.
fn hooked(node: &Netns, container: Container) -> Container {
    let journal = state_dir(node);
    let hook = || {
        let arguments = ["hook", "--state-dir", journal.to_str().unwrap()];
        Hook::new(program(), &arguments).timeout(10)
    };
    container.hook("prestart", hook()).hook("poststop", hook())
}

fn owners(node: &Netns) -> Vec<String> {
    list(node).iter().map(|row| row["owner"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn assert_nothing_left(lab: &Lab) {
    assert_closed(lab);
    assert_eq!(published(lab.node()), [""; 0]);
    let files = journal_files(lab.node()).into_values().filter(|path| path.is_file());
    assert_eq!(files.collect::<Vec<_>>(), [""; 0].map(PathBuf::from));
}

#[test]
fn a_container_without_an_infra_container_is_published_and_restarts_in_place_under_runc() {
    let lab = Lab::new();
    restarts_in_place(&lab, Runc::in_node(lab.node().path()));
}

#[test]
fn a_container_without_an_infra_container_is_published_and_restarts_in_place_under_crun() {
    let lab = Lab::new();
    restarts_in_place(&lab, Runc::crun_in_node(lab.node().path()));
}

fn restarts_in_place(lab: &Lab, runtime: Runc) {
    let pod = lab.pod("web");
    let start = |id: &str| {
        let web = container(&pod, id, Some(KUBELET_9000), &[]);
        runtime.run(id, &hooked(lab.node(), web)).expect_success();
    };
    start("first");
    assert_answers(lab);
    let at_first = published(lab.node());
    assert_eq!(at_first.len(), 2);
    for (old, new) in [("first", "second"), ("second", "third")] {
        // conmon has seen its end, kubelet starts the next one, and CRI-O has not deleted it yet.
        runtime.kill(old, "KILL").expect_success();
        runtime.wait_for_end(old);
        start(new);
        assert_answers(lab);
        runtime.delete(old).expect_success();
        assert_answers(lab);
        assert_eq!(published(lab.node()), at_first);
        assert_eq!(owners(lab.node()), [new, new]);
    }
    runtime.remove("third").expect_success();
    assert_nothing_left(lab);
}

/// CRI-O calls no hook for it; if anything else does, that publishes nothing.
#[test]
fn field_37_an_infra_container_leaves_the_ports_to_the_containers() {
    let lab = Lab::new();
    let (pod, runc) = (lab.pod("web"), Runc::in_node(lab.node().path()));
    runc.run(SANDBOX, &hooked(lab.node(), infra(&pod))).expect_success();
    assert_nothing_left(&lab);
    let web = container(&pod, "web", Some(KUBELET_9000), &[]);
    runc.run("web", &hooked(lab.node(), web)).expect_success();
    assert_answers(&lab);
    assert_eq!(owners(lab.node()), ["web", "web"]);
    runc.remove("web").expect_success();
    assert_nothing_left(&lab);
    runc.remove(SANDBOX).expect_success();
}

#[test]
fn a_pods_author_publishes_nothing_by_copying_what_kubelet_and_crio_write() {
    let lab = Lab::new();
    let (pod, runc) = (lab.pod("web"), Runc::in_node(lab.node().path()));
    let author = [
        (KUBELET, KUBELET_9000),
        ("io.kubernetes.cri-o.PortMappings", PORT_MAPPINGS),
        ("io.hostport.ports", "9000:8080"),
    ];
    let web = container(&pod, "web", None, &author);
    runc.run("web", &hooked(lab.node(), web)).expect_success();
    assert_eq!(published(lab.node()), [""; 0]);
    assert_closed(&lab);
}

#[test]
fn field_39_a_refused_replica_gets_the_owners_name_and_runc_shows_the_whole_line() {
    let lab = Lab::new();
    let (said, line) = refused(&lab, Runc::in_node(lab.node().path()), &[]);
    // CRI-O puts the runtime's words into its answer to kubelet, and that into the event.
    assert!(said.contains(&line), "{said}");
}

#[test]
fn field_39_a_refused_replica_gets_the_owners_name_and_crun_writes_it_to_a_file_that_is_named() {
    let lab = Lab::new();
    let file = lab.node().folder().join("hooks.stderr");
    let named = [("run.oci.hooks.stderr", file.to_str().unwrap())];
    let (said, line) = refused(&lab, Runc::crun_in_node(lab.node().path()), &named);
    assert!(said.contains("error executing hook"), "{said}");
    let written = fs::read_to_string(file).unwrap();
    assert!(written.contains(&line), "{written}");
}

/// The runtime's output for a second pod that asks for the first one's port, and the hook's line in it.
fn refused(lab: &Lab, runtime: Runc, annotations: &[(&str, &str)]) -> (String, String) {
    let [first, second] = ["first", "second"].map(|name| lab.pod(name));
    let start = |pod: &Pod, id: &str| {
        let web = container(pod, id, Some(KUBELET_9000), annotations);
        runtime.run(id, &hooked(lab.node(), web))
    };
    start(&first, "first").expect_success();
    let refused = start(&second, "second").expect_failure();
    let line = format!(
        "hostport: host port 0.0.0.0:9000/tcp is taken by default/web-0 (container web) [first] \
         (endpoint {}:8080): stop that one, or choose another host port",
        first.ipv4()
    );
    assert_eq!(owners(lab.node()), ["first", "first"]);
    assert_answers(lab);
    runtime.remove("first").expect_success();
    start(&second, "third").expect_success();
    assert_answers(lab);
    (refused.stderr, line)
}
