//! hostport as a CNI plugin in containerd's list, in portmap's place: no hook, and no annotation.

use hostport_tests::lab::Lab;
use hostport_tests::runtime::wait_until;
use hostport_tests::web::{KUBELET_9000, assert_answers, assert_closed};

use super::node::Node;

#[test]
fn a_pods_port_is_open_from_its_network_to_its_end() {
    let lab = Lab::new();
    let node = Node::with_plugin(&lab, false);
    let plain = node.pod_with("plain", &[]).unwrap();
    let state = node.containerd.call("ls", &["/run/hostport"]);
    assert!(!state.success(), "a pod without ports leaves nothing: {state:#?}");
    let pod = node.pod_with("web", &[(9000, 8080)]).unwrap();
    assert_eq!(node.published().len(), 2);
    assert!(node.list().iter().all(|row| {
        row["owner"] == pod.id.as_str()
            && row["pod_name"] == "web"
            && row["pod_namespace"] == "default"
    }));
    let mut web = node.serve(&pod, ("web", 0), "[]").unwrap();
    assert_answers(&lab);
    node.hostport(&["doctor"]).expect_success();
    // Its container restarts in the living pod.
    for attempt in 1..3 {
        node.kill(&web);
        assert!(wait_until(|| !node.cri.is_running(&web)));
        web = node.serve(&pod, ("web", attempt), "[]").unwrap();
        assert_answers(&lab);
    }
    // Another pod that asks for the port is told whose it is, and kubelet tries again.
    let refused = node.pod_with("other", &[(9000, 8080)]).err().expect("the port is taken");
    assert!(refused.contains("0.0.0.0:9000/tcp is taken by default/web ["), "{refused}");
    assert_answers(&lab);
    node.cri.stop_pod(&pod).unwrap();
    assert_closed(&lab);
    let other = node.pod_with("other", &[(9000, 8080)]).unwrap();
    node.serve(&other, ("web", 0), "[]").unwrap();
    assert_answers(&lab);
    // What comes late takes nothing from it.
    node.cri.remove_pod(&pod).unwrap();
    assert_answers(&lab);
    for pod in [&other, &plain] {
        node.cri.stop_pod(pod).unwrap();
        node.cri.remove_pod(pod).unwrap();
    }
    node.assert_nothing_left(&lab);
}

#[test]
fn a_flush_and_a_restart_of_the_daemon_lose_nothing() {
    let lab = Lab::new();
    let mut node = Node::with_plugin(&lab, false);
    let pod = node.pod_with("web", &[(9000, 8080)]).unwrap();
    node.serve(&pod, ("web", 0), "[]").unwrap();
    lab.node().nft("flush ruleset");
    node.hostport(&["restore"]).expect_success();
    assert_answers(&lab);
    node.restart_containerd();
    assert_answers(&lab);
    node.cri.stop_pod(&pod).unwrap();
    node.assert_nothing_left(&lab);
}

#[test]
fn with_the_hook_as_well_a_port_is_published_once_and_goes_once() {
    let lab = Lab::new();
    let node = Node::with_plugin(&lab, true);
    let pod = node.pod_with("web", &[(9000, 8080)]).unwrap();
    let before = node.published();
    let web = node.serve(&pod, ("web", 0), KUBELET_9000).unwrap();
    assert_eq!(node.published(), before);
    assert_answers(&lab);
    node.kill(&web);
    assert!(wait_until(|| !node.cri.is_running(&web)));
    assert_eq!(node.published(), before, "it is the pod's");
    node.serve(&pod, ("web", 1), KUBELET_9000).unwrap();
    assert_answers(&lab);
    node.cri.stop_pod(&pod).unwrap();
    node.assert_nothing_left(&lab);
}
