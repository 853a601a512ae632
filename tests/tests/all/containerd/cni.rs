//! hostport as a CNI plugin in containerd's list, in portmap's place: no hook, and no annotation.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hostport_tests::lab::{Lab, NODE4};
use hostport_tests::runtime::wait_until;
use hostport_tests::web::{KUBELET_9000, assert_answers, assert_closed, page};

use super::cri::{Cri, Pod, PodSandbox};
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

/// The switch from portmap, and the way back, with pods that run.
#[test]
fn a_node_changes_over_from_portmap_and_back() {
    let lab = Lab::new();
    let node = Node::with_portmap(&lab);
    let [lists, plugins] = node.containerd.network_folders();
    let [lists, plugins] = [&lists, &plugins].map(|folder| folder.to_str().unwrap());
    let list = fs::read_to_string(format!("{lists}/10-bridge.conflist")).unwrap();
    let old = node.pod_with("web", &[(9000, 8080)]).unwrap();
    node.serve(&old, ("web", 0), "[]").unwrap();
    assert_answers(&lab);
    assert!(lab.node().nft_list().contains("CNI-HOSTPORT-DNAT"), "portmap has published it");

    let change = |command: &str| {
        let words = [command, "cni", "--lists", lists, "--plugins", plugins];
        node.hostport(&words).expect_success();
    };
    change("install");
    node.hostport(&["adopt", "--remove"]).expect_success();
    assert_answers(&lab);
    assert!(!lab.node().nft_list().contains("CNI-HOSTPORT"), "{}", lab.node().nft_list());
    // containerd reads a list again soon after it has changed.
    let publishes = |by_hostport: bool| {
        let tried = |attempt: u32| {
            let pod = node.pod_with(&format!("new-{attempt}"), &[(9001, 8080)]).unwrap();
            let published = node.endpoint(" 9001/tcp ").len() == 2;
            node.cri.stop_pod(&pod).unwrap();
            node.cri.remove_pod(&pod).unwrap();
            std::thread::sleep(Duration::from_millis(100));
            published == by_hostport
        };
        (0..20).any(tried)
    };
    assert!(publishes(true));
    assert_answers(&lab);
    change("uninstall");
    assert_eq!(fs::read_to_string(format!("{lists}/10-bridge.conflist")).unwrap(), list);
    assert!(publishes(false));
    // The end of a pod of before goes to portmap now.
    assert_answers(&lab);
    node.cri.stop_pod(&old).unwrap();
    node.cri.remove_pod(&old).unwrap();
    node.hostport(&["gc"]).expect_success();
    change("uninstall");
    assert!(!Path::new(plugins).join("hostport").is_symlink());
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
fn after_a_reboot_the_pods_of_before_go_and_new_ones_get_their_ports() {
    let lab = Lab::new();
    let mut node = Node::with_plugin(&lab, false);
    let old = node.pod_with("web", &[(9000, 8080)]).unwrap();
    node.serve(&old, ("web", 0), "[]").unwrap();
    assert_answers(&lab);
    node.reboot();
    assert_closed(&lab);
    // kubelet starts the pod anew, and takes the sandbox of before away at some time.
    let new = node.pod_with("new", &[(9000, 8080)]).unwrap();
    node.serve(&new, ("web", 0), "[]").unwrap();
    assert_answers(&lab);
    node.cri.stop_pod(&old).unwrap();
    node.cri.remove_pod(&old).unwrap();
    assert_answers(&lab);
    node.hostport(&["doctor"]).expect_success();
    node.cri.stop_pod(&new).unwrap();
    node.assert_nothing_left(&lab);
}

#[test]
fn a_force_deleted_pods_successor_waits_until_it_is_gone() {
    let lab = Lab::new();
    let node = Node::with_plugin(&lab, false);
    let old = node.pod_with("old", &[(9000, 8080)]).unwrap();
    let web = node.serve(&old, ("web", 0), "[]").unwrap();
    // The API has forgotten the pod, and its network lives on, whatever became of its processes.
    node.kill_shim(&old, &web);
    let refused = node.pod_with("new", &[(9000, 8080)]).err().expect("its network lives");
    assert!(refused.contains("is taken by default/old ["), "{refused}");
    node.cri.stop_pod(&old).unwrap();
    let new = node.pod_with("new", &[(9000, 8080)]).unwrap();
    node.serve(&new, ("web", 0), "[]").unwrap();
    assert_answers(&lab);
    node.cri.remove_pod(&old).unwrap();
    assert_answers(&lab);
    node.cri.stop_pod(&new).unwrap();
    node.assert_nothing_left(&lab);
}

#[test]
#[ignore = "a minute of work: make endurance"]
fn a_hundred_and_ten_pods_at_once() {
    const PODS: usize = 110;
    let lab = Lab::new();
    let node = Node::with_plugin(&lab, false);
    let next = AtomicUsize::new(0);
    let pods: Vec<PodSandbox> = std::thread::scope(|scope| {
        let start = || {
            let cri = Cri::connect(&node.containerd.socket());
            let mut pods = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= PODS {
                    return pods;
                }
                let first = 10_000 + 3 * number as i32;
                let ports = [(first, 8080), (first + 1, 8081), (first + 2, 8082)];
                let pod = Pod { name: &format!("p{number}"), ports: &ports, ..Pod::default() };
                pods.push(cri.run_pod(&pod, &node.containerd.logs()).unwrap());
            }
        };
        let lanes: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
        lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
    });
    assert_eq!(node.published().len(), 2 * 3 * PODS);
    let last = &pods[PODS - 1];
    node.serve(last, ("web", 0), "[]").unwrap();
    let row = node.list().into_iter().find(|row| row["owner"] == last.id.as_str()).unwrap();
    let port = row["host_port"].as_u64().unwrap() as u16;
    assert!(wait_until(|| page(lab.client(), NODE4, port).is_ok()));
    for pod in &pods {
        node.cri.stop_pod(pod).unwrap();
    }
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
