//! Who has a port that several ask for: interfaces of one container, and the other faces of hostport.

use hostport_tests::cni::{Attachment, error};
use hostport_tests::hook::{Bundle, journal_files, list, published};
use hostport_tests::lab::{ClientError, Lab, NODE4, Pod, tcp};

/// The two interfaces of one container. The lab's second pod stands for the second interface: another address.
fn interfaces(pods: &[Pod; 2]) -> [Attachment; 2] {
    let first = Attachment::of(&pods[0]).ports(&[(9000, 8080, "tcp")]);
    let mut second = Attachment::of(&pods[1]).ports(&[(9000, 8080, "tcp")]);
    second.id = first.id.clone();
    second.previous.as_mut().unwrap()["interfaces"][1]["name"] = "net1".into();
    [first, second.interface("net1")]
}

#[test]
fn of_two_interfaces_of_one_container_the_first_keeps_the_port() {
    let lab = Lab::new();
    let pods = [lab.pod("eth0"), lab.pod("net1")];
    let _servers = pods.each_ref().map(|pod| pod.serve(8080));
    for order in [[0, 1], [1, 0]] {
        let all = interfaces(&pods);
        let [first, second] = order.map(|at| &all[at]);
        first.add(lab.node()).expect_success();
        let said = second.add(lab.node()).expect_success();
        assert!(said.stderr.contains("stays with another interface"), "{said:#?}");
        assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, first.interface);
        assert_eq!(journal_files(lab.node()).len(), 1);
        // Another container is refused.
        let other = Attachment { id: format!("{}f", &first.id[1..]), ..second.clone() };
        assert_eq!(error(&other.add(lab.node())).0, 11);
        second.del(lab.node()).expect_success();
        assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, first.interface);
        first.del(lab.node()).expect_success();
        assert_eq!(tcp(lab.client(), (NODE4, 9000)), Err(ClientError::Refused));
    }
}

#[test]
fn a_long_id_and_a_strange_interface_have_an_owner() {
    let lab = Lab::new();
    let web = lab.pod("web");
    for (id, interface) in
        [("a".repeat(300), "eth0"), ("b".repeat(120), "eth1"), ("c".to_owned(), "é@1")]
    {
        let mut attachment =
            Attachment { id, ..Attachment::of(&web) }.ports(&[(9000, 8080, "tcp")]);
        attachment.previous.as_mut().unwrap()["interfaces"][1]["name"] = interface.into();
        let attachment = attachment.interface(interface);
        attachment.add(lab.node()).expect_success();
        assert_eq!(published(lab.node()).len(), 2);
        attachment.call(lab.node(), "CHECK").expect_success();
        attachment.del(lab.node()).expect_success();
        assert_eq!(published(lab.node()).len(), 0);
    }
}

#[test]
fn with_the_hook_as_well_ports_are_published_once_and_go_once() {
    for hook_ends_first in [true, false] {
        let lab = Lab::new();
        let web = lab.pod("web");
        let _servers = web.serve(8080);
        let attachment = Attachment::of(&web).ports(&[(9000, 8080, "tcp")]);
        attachment.add(lab.node()).expect_success();
        let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080");
        bundle.start(lab.node());
        assert_eq!(published(lab.node()).len(), 2);
        assert!(list(lab.node()).iter().all(|row| row["owner"] == attachment.id.as_str()));
        if hook_ends_first {
            bundle.stop(lab.node());
            assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
            attachment.del(lab.node()).expect_success();
        } else {
            attachment.del(lab.node()).expect_success();
            bundle.stop(lab.node());
        }
        assert_eq!(tcp(lab.client(), (NODE4, 9000)), Err(ClientError::Refused));
        assert!(journal_files(lab.node()).is_empty());
    }
}

/// CRI-O takes a pod's network down when it stops the pod, and calls poststop only when kubelet removes the container.
#[test]
fn field_36_del_takes_along_what_the_pods_containers_published() {
    for portless in [true, false] {
        let lab = Lab::new();
        let web = lab.pod("web");
        let attachment = match portless {
            true => Attachment::of(&web),
            false => Attachment::of(&web).ports(&[(9001, 8080, "tcp")]),
        };
        attachment.add(lab.node()).expect_success();
        let other = lab.pod("other");
        let _servers = (web.serve(8080), other.serve(8080));
        let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080");
        let others = Bundle::of(&other).annotation("io.hostport.ports", "9100:8080");
        bundle.start(lab.node());
        others.start(lab.node());
        attachment.del(lab.node()).expect_success();
        assert_eq!(tcp(lab.client(), (NODE4, 9000)), Err(ClientError::Refused));
        assert_eq!(tcp(lab.client(), (NODE4, 9100)).unwrap().server, "other");
        assert_eq!(journal_files(lab.node()).len(), 1);
        bundle.stop(lab.node());
    }
}
