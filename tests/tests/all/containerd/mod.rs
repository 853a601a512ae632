//! containerd's CRI service, called as kubelet calls it, with the configuration that
//! `make install-containerd` installs. The lab's client sends the packets.

mod cni;
mod configuration;
mod cri;
mod kubernetes;
mod node;

use std::net::{IpAddr, Ipv4Addr};

use hostport_tests::lab::{BEYOND4, BEYOND6, Lab, NODE4, NODE6};
use hostport_tests::web::{assert_answers, seen};

use node::Node;

#[test]
fn a_pods_port_is_open_from_start_to_stop() {
    let lab = Lab::new();
    let node = Node::new(&lab);
    let pod = node.pod("web");
    assert_eq!(node.published(), [""; 0]);
    let web = node.serve(&pod, ("web", 0), hostport_tests::web::KUBELET_9000).unwrap();
    assert_answers(&lab);
    let addresses = node.cri.addresses(&pod);
    assert_eq!(
        node.published(),
        [("0.0.0.0", &addresses[0]), ("::", &addresses[1])]
            .map(|(host, pod)| format!("{host} 9000/tcp -> {pod} 8080"))
    );
    // The port is the container's, not the pod's.
    assert!(node.list().iter().all(|row| row["owner"] == web.as_str()));
    node.cri.stop(&web).unwrap();
    node.assert_nothing_left(&lab);
    node.cri.remove(&web).unwrap();
    node.cri.stop_pod(&pod).unwrap();
    node.cri.remove_pod(&pod).unwrap();
    node.assert_nothing_left(&lab);
}

#[test]
fn it_answers_the_node_a_host_beyond_and_the_pod_itself() {
    let lab = Lab::new();
    let node = Node::new(&lab);
    let (pod, web) = node.web("web");
    assert_answers(&lab);
    for (address, source) in
        [(IpAddr::from(NODE4), IpAddr::from(BEYOND4)), (NODE6.into(), BEYOND6.into())]
    {
        assert_eq!(seen(lab.beyond(), address, 9000).unwrap(), source);
        seen(lab.node(), address, 9000).unwrap();
    }
    seen(lab.node(), Ipv4Addr::LOCALHOST, 9000).unwrap();
    for address in [NODE4.to_string(), format!("[{NODE6}]")] {
        let url = format!("http://{address}:9000/");
        assert_eq!(node.cri.exec(&web, &["wget", "-q", "-O", "-", &url]).unwrap(), "web\n");
    }
    node.cri.stop_pod(&pod).unwrap();
    node.assert_nothing_left(&lab);
}
