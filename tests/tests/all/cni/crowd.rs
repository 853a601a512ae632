//! Many pods at once, as after a node's start.

use std::thread;

use hostport_tests::cni::{Attachment, error};
use hostport_tests::hook::{hostport, journal_files, published};
use hostport_tests::lab::{Lab, NODE4, Pod, tcp};
use hostport_tests::rounds::rounds;

#[test]
fn pods_that_start_and_end_at_once_have_their_ports_and_leave_none() {
    let lab = Lab::new();
    let number = rounds(16, 110);
    let pods: Vec<Pod> = (0..number).map(|index| lab.pod(&format!("pod{index}"))).collect();
    let attachments: Vec<Attachment> = (0u16..)
        .zip(&pods)
        .map(|(index, pod)| {
            let port = |nth: u16| (9000 + 3 * index + nth, 8080, "tcp");
            Attachment::of(pod).ports(&[port(0), port(1), port(2)])
        })
        .collect();
    let all = |work: &(dyn Fn(&Attachment) + Sync)| {
        thread::scope(|scope| attachments.iter().for_each(|of| drop(scope.spawn(|| work(of)))));
    };
    all(&|attachment| drop(attachment.add(lab.node()).expect_success()));
    assert_eq!(published(lab.node()).len(), 2 * 3 * number);
    let last = pods.last().unwrap();
    let _servers = last.serve(8080);
    let port = 9000 + 3 * (number as u16 - 1);
    assert_eq!(tcp(lab.client(), (NODE4, port)).unwrap().server, last.name());
    hostport(lab.node(), &["doctor"]).expect_success();
    all(&|attachment| drop(attachment.del(lab.node()).expect_success()));
    assert_eq!(published(lab.node()), [""; 0]);
    assert!(journal_files(lab.node()).is_empty());
}

#[test]
fn of_pods_that_ask_for_one_port_at_once_exactly_one_gets_it() {
    let lab = Lab::new();
    let pods: Vec<Pod> = (0..8).map(|index| lab.pod(&format!("pod{index}"))).collect();
    let attachments: Vec<Attachment> =
        pods.iter().map(|pod| Attachment::of(pod).ports(&[(9000, 8080, "tcp")])).collect();
    for _ in 0..rounds(3, 100) {
        let added = thread::scope(|scope| {
            let calls: Vec<_> =
                attachments.iter().map(|of| scope.spawn(|| of.add(lab.node()))).collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect::<Vec<_>>()
        });
        let (won, lost): (Vec<_>, Vec<_>) = added.iter().partition(|added| added.success());
        assert_eq!(won.len(), 1, "{added:#?}");
        assert!(lost.iter().all(|lost| error(lost).0 == 11), "{lost:#?}");
        assert_eq!(published(lab.node()).len(), 2);
        attachments.iter().for_each(|attachment| drop(attachment.del(lab.node()).expect_success()));
        assert_eq!(published(lab.node()), [""; 0]);
    }
}
