//! With kube-proxy in IPVS mode: each service's address is local to the node, on the dummy link kube-ipvs0, and a
//! real ip_vs service listens there on the number of a host port. The kernel must have ip_vs and dummy: `make
//! vm-test` runs these tests on such kernels.

use std::net::Ipv4Addr;

use hostport_tests::hook::Bundle;
use hostport_tests::lab::{BRIDGE4, Lab, NODE4, Netns, Pod, Server, tcp};

const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const SERVICES: &str = "10.96.0.0/12";

/// A service on 10.96.0.10:9000 with the pod `backend` behind it, and the pod `web` that publishes 9000.
struct Cluster {
    lab: Lab,
    _backend: Pod,
    _web: Pod,
    _servers: [[Server; 2]; 2],
}

fn cluster(arguments: &[&str]) -> Cluster {
    let lab = Lab::new();
    let (backend, web) = (lab.pod("backend"), lab.pod("web"));
    let servers = [backend.serve(8080), web.serve(8080)];
    proxy(lab.node(), &backend);
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080");
    bundle.prestart(lab.node(), arguments).expect_success();
    Cluster { lab, _backend: backend, _web: web, _servers: servers }
}

/// What kube-proxy sets up for a service with one endpoint (`pkg/proxy/ipvs` of Kubernetes).
fn proxy(node: &Netns, backend: &Pod) {
    node.ip(&format!("link add kube-ipvs0 type dummy\naddr add {CLUSTER_IP}/32 dev kube-ipvs0"));
    let service = format!("{CLUSTER_IP}:9000");
    let ipvsadm = |arguments: &[&str]| {
        let output = node.command("ipvsadm").args(arguments).output().expect("ipvsadm");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "ipvsadm {arguments:?}: {said}");
    };
    ipvsadm(&["--add-service", "--tcp-service", &service, "--scheduler", "rr"]);
    let server = format!("{}:8080", backend.ipv4());
    ipvsadm(&["-a", "--tcp-service", &service, "--real-server", &server, "--masquerading"]);
    // ip_vs creates the sysctl when a namespace first uses it.
    node.sysctl("net.ipv4.vs.conntrack", "1");
}

fn answerer(from: &Netns, ip: Ipv4Addr) -> String {
    let answer = tcp(from, (ip, 9000));
    answer.unwrap_or_else(|error| panic!("{ip}:9000: {error:?}")).server
}

#[test]
#[ignore = "needs a kernel with ip_vs and dummy: make vm-test"]
fn an_excluded_service_keeps_its_traffic_and_the_host_port_has_its_own() {
    let cluster = cluster(&["--exclude", SERVICES]);
    let (node, client) = (cluster.lab.node(), cluster.lab.client());
    for from in [client, node] {
        assert_eq!(answerer(from, CLUSTER_IP), "backend", "the service");
        assert_eq!(answerer(from, NODE4), "web", "the host port");
    }
}

#[test]
#[ignore = "needs a kernel with ip_vs and dummy: make vm-test"]
fn a_service_that_is_not_excluded_loses_its_traffic_to_a_host_port_of_its_number() {
    let cluster = cluster(&[]);
    let (node, client) = (cluster.lab.node(), cluster.lab.client());
    for from in [client, node] {
        assert_eq!(answerer(from, CLUSTER_IP), "web", "this is why there is --exclude");
    }
}

#[test]
#[ignore = "needs a kernel with ip_vs and dummy: make vm-test"]
fn a_host_port_on_one_address_leaves_services_alone() {
    let cluster = cluster(&["--exclude", SERVICES]);
    let lab = &cluster.lab;
    let other = lab.pod("other");
    let _servers = other.serve(8080);
    let ports = format!("{BRIDGE4}:9001:8080");
    Bundle::of(&other)
        .annotation("io.hostport.ports", &ports)
        .prestart(lab.node(), &["--exclude", SERVICES])
        .expect_success();
    assert_eq!(tcp(lab.node(), (BRIDGE4, 9001)).unwrap().server, "other");
    assert_eq!(answerer(lab.client(), CLUSTER_IP), "backend");
}
