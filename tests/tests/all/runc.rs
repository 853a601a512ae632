//! The hook under runc alone: a bundle with hooks in config.json. runc runs in a lab's node, and the lab's client
//! sends the packets.

use hostport_tests::hook::{Bundle, list, program, published, state_dir};
use hostport_tests::lab::{Lab, Pod};
use hostport_tests::runtime::{Container, Hook, Network, Runc};
use hostport_tests::web::{KUBELET, KUBELET_9000, assert_answers, assert_closed};

/// The user's annotation.
const PORTS: &str = "io.hostport.ports";

#[track_caller]
fn assert_nothing_left(lab: &Lab) {
    assert_closed(lab);
    assert_eq!(published(lab.node()), [""; 0]);
}

/// What is published for a pod of the lab with 9000 to 8080.
fn as_published(pod: &Pod) -> [String; 2] {
    [
        format!("0.0.0.0 9000/tcp -> {} 8080", pod.ipv4()),
        format!(":: 9000/tcp -> {} 8080", pod.ipv6()),
    ]
}

fn web_in(pod: &Pod) -> Container {
    Container::http_server(8080).network(Network::Path(pod.path()))
}

/// A container in a pod with the hook in config.json, at these stages.
fn with_hooks(lab: &Lab, container: Container, stages: &[&str]) -> Container {
    let journal = state_dir(lab.node());
    stages.iter().fold(container, |container, stage| {
        let arguments = ["hook", stage, "--state-dir", journal.to_str().unwrap()];
        // A real bundle gives its hooks no environment, or one without PATH.
        container.hook(stage, Hook::new(program(), &arguments).env(&[]))
    })
}

#[test]
fn runc_publishes_at_either_stage_or_both_and_withdraws_at_the_end() {
    let lab = Lab::new();
    let (pod, runc) = (lab.pod("web"), Runc::in_node(lab.node().path()));
    for (id, stages) in [
        ("a", &["prestart", "poststop"][..]),
        ("b", &["createRuntime", "poststop"]),
        ("c", &["prestart", "createRuntime", "poststart", "poststop"]),
    ] {
        let web = with_hooks(&lab, web_in(&pod).annotation(PORTS, "9000:8080"), stages);
        runc.run(id, &web).expect_success();
        assert_eq!(published(lab.node()), as_published(&pod), "{stages:?}");
        assert!(list(lab.node()).iter().all(|row| row["owner"] == id));
        assert_answers(&lab);
        runc.remove(id).expect_success();
        assert_nothing_left(&lab);
    }
}

#[test]
fn runc_without_a_stage_in_the_arguments_follows_the_status() {
    let lab = Lab::new();
    let (pod, runc) = (lab.pod("web"), Runc::in_node(lab.node().path()));
    let journal = state_dir(lab.node());
    let hook = || Hook::new(program(), &["hook", "--state-dir", journal.to_str().unwrap()]);
    let web = web_in(&pod).annotation(KUBELET, KUBELET_9000);
    let web = ["prestart", "createRuntime", "poststop"]
        .iter()
        .fold(web, |web, stage| web.hook(stage, hook()));
    runc.run("web", &web).expect_success();
    assert_answers(&lab);
    runc.remove("web").expect_success();
    assert_nothing_left(&lab);
}

/// What the error for a taken port must contain: the port, the owner, and its endpoint.
#[track_caller]
fn assert_names_the_owner(text: &str, owner: &str, endpoint: &str) {
    let line = text.lines().find(|line| line.contains("9000"));
    let line = line.unwrap_or_else(|| panic!("no word of the port: {text}"));
    for part in ["9000/tcp", owner, endpoint] {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
}

#[test]
fn runc_shows_the_owner_of_a_taken_port() {
    let lab = Lab::new();
    let (first, second) = (lab.pod("web"), lab.pod("late"));
    let runc = Runc::in_node(lab.node().path());
    let stages = ["createRuntime", "poststop"];
    let web = with_hooks(&lab, web_in(&first).annotation(PORTS, "9000:8080"), &stages);
    runc.run("first", &web).expect_success();
    let late = web_in(&second).annotation(PORTS, "8999:8080,9000:8080,9001:8080/udp");
    let failed = runc.run("second", &with_hooks(&lab, late, &stages)).expect_failure();
    assert_names_the_owner(&failed.stderr, "first", &format!("{}:8080", first.ipv4()));
    assert!(runc.state("second").is_none());
    assert_eq!(published(lab.node()), as_published(&first));
    assert_answers(&lab);
}

#[test]
fn a_host_network_container_starts_and_publishes_nothing() {
    let lab = Lab::new();
    let runc = Runc::in_node(lab.node().path());
    let web = Container::sleeper().network(Network::Host).annotation(KUBELET, KUBELET_9000);
    runc.run("web", &with_hooks(&lab, web, &["prestart", "poststop"])).expect_success();
    assert_nothing_left(&lab);
    runc.remove("web").expect_success();
}

#[test]
fn the_hooks_error_for_a_bad_annotation_is_shown_in_full_however_long_it_is() {
    let lab = Lab::new();
    let pod = lab.pod("web");
    let runc = Runc::in_node(lab.node().path());
    let long = format!("9000:8080,{}", "\"\u{1b}[31m x\t".repeat(400));
    for (name, bad) in [("short", "9000:http"), ("long", &long)] {
        let bundle = Bundle::of(&pod).annotation(PORTS, bad);
        let said = bundle.prestart(lab.node(), &[]);
        let line = said.stderr.trim_end();
        assert!(
            said.code == Some(1) && line.starts_with("hostport: ") && line.lines().count() == 1
        );
        let web = with_hooks(&lab, web_in(&pod).annotation(PORTS, bad), &["createRuntime"]);
        let failed = runc.run(name, &web).expect_failure();
        // runc's log writes strings as Go does.
        let shown = failed.stderr.replace("\\\"", "\"").replace("\\\\", "\\");
        assert!(shown.contains(line), "{line}\n{shown}");
    }
}
