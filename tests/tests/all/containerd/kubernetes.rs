//! What happens to pods in a cluster: restarts, updates, a second replica on one node.

use std::time::Duration;

use hostport_tests::lab::{Lab, NODE4};
use hostport_tests::runtime::wait_until;
use hostport_tests::web::{KUBELET_9000, assert_answers, page};

use super::node::Node;

/// Kubelet's annotation for a second container of the pod.
const KUBELET_9001: &str =
    r#"[{"name":"more","hostPort":9001,"containerPort":8080,"protocol":"TCP"}]"#;

#[test]
fn a_container_restarts_in_a_living_pod_and_its_neighbour_keeps_its_port() {
    let lab = Lab::new();
    let node = Node::new(&lab);
    let (pod, mut web) = node.web("web");
    let more = ("more", 0);
    let other = node.cri.create(&pod, more, &["/bin/sleep", "60"], Some(KUBELET_9001)).unwrap();
    node.cri.start(&other).unwrap();
    let [before, neighbours] = [" 9000/tcp ", " 9001/tcp "].map(|port| node.endpoint(port));
    for attempt in 1..4 {
        node.kill(&web);
        assert!(wait_until(|| !node.cri.is_running(&web)));
        assert_eq!(node.endpoint(" 9000/tcp "), [""; 0]);
        let next = node.serve(&pod, ("web", attempt), KUBELET_9000).unwrap();
        // Kubelet keeps the last container that ended, for its logs.
        node.cri.remove(&web).unwrap();
        web = next;
        assert_answers(&lab);
        assert_eq!(node.endpoint(" 9000/tcp "), before);
        assert_eq!(node.endpoint(" 9001/tcp "), neighbours);
    }
    node.cri.stop(&other).unwrap();
    assert_eq!(node.endpoint(" 9000/tcp "), before);
    node.cri.stop_pod(&pod).unwrap();
    node.cri.remove_pod(&pod).unwrap();
    node.assert_nothing_left(&lab);
}

#[test]
fn a_container_that_restarts_in_place_has_its_port_before_the_old_ones_poststop() {
    let lab = Lab::new();
    let node = Node::new(&lab);
    let late = node.delay_poststop(Duration::from_secs(2));
    let (pod, old) = node.web("web");
    assert_answers(&lab);
    node.kill(&old);
    let new = node.serve(&pod, ("web", 1), KUBELET_9000).unwrap();
    assert_answers(&lab);
    assert!(!late.exists(), "the old container's poststop was not late");
    assert!(wait_until(|| late.exists()));
    assert!(wait_until(|| !node.cri.is_running(&old)));
    assert!(node.list().iter().all(|row| row["owner"] == new.as_str()));
    assert_answers(&lab);
    node.cri.stop_pod(&pod).unwrap();
    node.assert_nothing_left(&lab);
}

#[test]
fn a_daemonsets_update_brings_the_port_to_the_new_pod() {
    let lab = Lab::new();
    let node = Node::new(&lab);
    let (mut old, _) = node.web("v1");
    assert_answers(&lab);
    for version in ["v2", "v3"] {
        // Kubelet ends a pod before its successor is bound to the node, and forgets it later.
        node.cri.stop_pod(&old).unwrap();
        node.assert_nothing_left(&lab);
        let (new, _) = node.web(version);
        assert_answers(&lab);
        assert_eq!(page(lab.client(), NODE4, 9000).unwrap(), version);
        node.cri.remove_pod(&old).unwrap();
        assert_answers(&lab);
        old = new;
    }
}

#[test]
fn field_39_a_second_replica_on_the_node_is_refused_and_the_event_names_the_owner() {
    let lab = Lab::new();
    let node = Node::new(&lab);
    let (first, owner) = node.web("first");
    let endpoint = node.cri.addresses(&first).remove(0);
    let second = node.pod("second");
    let event = node.serve(&second, ("web", 0), KUBELET_9000).unwrap_err();
    let line = format!(
        "hostport: host port 0.0.0.0:9000/tcp is taken by {} [{}] (endpoint {endpoint}:8080): stop \
         that one, or choose another host port",
        "default/first (container web)",
        &owner[..12]
    );
    assert!(event.contains(&line), "{event}");
    // The longest note of an event of events.k8s.io/v1.
    assert!(event.len() < 1024, "{event}");
    // Kubelet would try again and again.
    node.serve(&second, ("web", 1), KUBELET_9000).unwrap_err();
    assert_answers(&lab);
    assert_eq!(page(lab.client(), NODE4, 9000).unwrap(), "first");
    // The refused pod goes, and takes nothing away; or the first pod goes, and the refused one gets its port.
    node.cri.stop_pod(&first).unwrap();
    node.serve(&second, ("web", 2), KUBELET_9000).unwrap();
    assert_answers(&lab);
    assert_eq!(page(lab.client(), NODE4, 9000).unwrap(), "second");
    node.cri.stop_pod(&second).unwrap();
    node.assert_nothing_left(&lab);
}

#[test]
fn containers_and_their_ports_outlive_the_daemon() {
    let lab = Lab::new();
    let mut node = Node::new(&lab);
    let (pod, web) = node.web("web");
    assert_answers(&lab);
    node.restart_containerd();
    assert_answers(&lab);
    assert!(node.cri.is_running(&web));
    node.cri.stop(&web).unwrap();
    node.assert_nothing_left(&lab);
    node.serve(&pod, ("web", 1), KUBELET_9000).unwrap();
    assert_answers(&lab);
    node.cri.stop_pod(&pod).unwrap();
    node.assert_nothing_left(&lab);
}

#[test]
fn a_pod_that_was_killed_with_its_shim_blocks_no_port() {
    let lab = Lab::new();
    let node = Node::new(&lab);
    let (pod, web) = node.web("killed");
    assert_answers(&lab);
    // containerd 2 keeps a container alive when its shim is killed, so this kills both.
    node.kill_shim(&pod, &web);
    assert!(wait_until(|| !node.cri.is_running(&web)));
    let (next, _) = node.web("next");
    assert_answers(&lab);
    assert_eq!(page(lab.client(), NODE4, 9000).unwrap(), "next");
    node.cri.stop_pod(&pod).unwrap();
    node.cri.remove_pod(&pod).unwrap();
    assert_answers(&lab);
    node.cri.stop_pod(&next).unwrap();
    node.assert_nothing_left(&lab);
}
