//! A call of the plugin is killed at each of its system calls (in a usual run at each twentieth), and the next call mends
//! what it leaves.

use hostport_tests::cni::Attachment;
use hostport_tests::hook::{hostport, journal_files, published};
use hostport_tests::lab::{ClientError, Lab, NODE4, tcp};
use hostport_tests::rounds::rounds;
use hostport_tests::strace::{Call, Injection, Invocation};

/// What follows a kill.
#[derive(Debug, Clone, Copy)]
enum Next {
    Again,
    Del,
    Successor,
}

/// The calls of an operation at which it is killed.
fn calls(lab: &Lab, invocation: &Invocation) -> Vec<Call> {
    let (finished, calls) = invocation.trace(lab.node());
    finished.expect_success();
    calls.into_iter().step_by(rounds(20, 1)).collect()
}

fn assert_nothing_left(lab: &Lab, why: &str) {
    hostport(lab.node(), &["gc"]).expect_success();
    assert_eq!(published(lab.node()), [""; 0], "{why}");
    assert!(journal_files(lab.node()).is_empty(), "{why}");
    assert_eq!(tcp(lab.client(), (NODE4, 9000)), Err(ClientError::Refused), "{why}");
}

#[test]
fn an_add_killed_at_any_system_call_is_mended_by_the_next_call() {
    let lab = Lab::new();
    let (web, other) = (lab.pod("web"), lab.pod("other"));
    let _servers = (web.serve(8080), other.serve(8080));
    let attachment = Attachment::of(&web).ports(&[(9000, 8080, "tcp"), (9000, 8080, "udp")]);
    let add = Invocation::plugin(&attachment, lab.node(), "ADD");
    let all = calls(&lab, &add);
    attachment.del(lab.node()).expect_success();
    for call in &all {
        for next in [Next::Again, Next::Del, Next::Successor] {
            let why = format!("killed at {call}, then {next:?}");
            add.inject(lab.node(), call, Injection::Kill);
            match next {
                Next::Again => {
                    attachment.add(lab.node()).expect_success();
                    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web", "{why}");
                    attachment.call(lab.node(), "CHECK").expect_success();
                }
                Next::Del => {}
                // The runtime gave up the first pod, by its DEL.
                Next::Successor => {
                    attachment.del(lab.node()).expect_success();
                    let successor = Attachment::of(&other).ports(&[(9000, 8080, "tcp")]);
                    successor.add(lab.node()).expect_success();
                    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "other", "{why}");
                    successor.del(lab.node()).expect_success();
                }
            }
            attachment.del(lab.node()).expect_success();
            assert_nothing_left(&lab, &why);
        }
    }
}

#[test]
fn a_del_killed_at_any_system_call_is_mended_by_the_next_one() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let attachment = Attachment::of(&web).ports(&[(9000, 8080, "tcp"), (9000, 8080, "udp")]);
    let del = Invocation::plugin(&attachment, lab.node(), "DEL");
    attachment.add(lab.node()).expect_success();
    for call in &calls(&lab, &del) {
        attachment.add(lab.node()).expect_success();
        del.inject(lab.node(), call, Injection::Kill);
        attachment.del(lab.node()).expect_success();
        assert_nothing_left(&lab, &format!("killed at {call}"));
    }
}
