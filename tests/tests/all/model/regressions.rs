//! Sequences that the model has found, and similar ones.

use super::ground::Ground;
use super::operation::{Address, Ask, Damage, Life, Operation, Operation::*};
use super::play::play;

const fn port(port: u16) -> Ask {
    Ask { address: Address::None, port, to: 0, udp: false }
}

fn start(pod: usize, asks: &[Ask]) -> Operation {
    Start { pod, life: Life::Process, asks: asks.to_vec(), replace: false, exclude: 0 }
}

fn member(own: &[Ask], carries: bool) -> Operation {
    StartMember { sandbox: 0, own: own.to_vec(), carries, replace: false, exclude: 0 }
}

fn sandbox(annotation: &[Ask]) -> Operation {
    StartSandbox { pod: 0, annotation: annotation.to_vec() }
}

#[track_caller]
fn agrees(sequence: &[Operation]) {
    if let Err((step, error)) = play(&Ground::new(), sequence) {
        panic!("step {step}: {error}");
    }
}

#[test]
fn a_container_that_comes_back_with_other_ports_leaves_none_of_the_former_behind() {
    let again = Restart { of: 0, pod: 1, asks: vec![port(1)], exclude: 0 };
    agrees(&[start(0, &[port(0), port(2)]), Crash { of: 0 }, again, Stop { of: 0 }]);
}

#[test]
fn the_hairpin_element_of_several_goes_with_the_last_although_others_took_its_ports() {
    let steps = [
        start(0, &[port(0)]),
        start(0, &[port(1)]),
        Stop { of: 1 },
        Crash { of: 0 },
        start(1, &[port(0)]),
    ];
    agrees(&steps);
}

#[test]
fn a_table_without_hairpin_elements_gets_them_when_it_is_replaced() {
    agrees(&[
        start(0, &[port(0)]),
        Nft(Damage::OldSchema(0, true)),
        start(0, &[port(1)]),
        Crash { of: 1 },
        start(1, &[port(1)]),
    ]);
}

#[test]
fn an_unknown_element_in_the_map_is_named_and_goes_with_a_restore() {
    agrees(&[
        start(0, &[port(0)]),
        Nft(Damage::AddPort(0, 1, true)),
        Nft(Damage::AddPort(1, 2, false)),
        start(1, &[port(1)]),
        start(1, &[port(2)]),
        Gc { dry_run: false },
        Restore,
        start(1, &[port(1), port(2)]),
    ]);
}

#[test]
fn losing_one_port_while_the_table_was_gone_costs_a_pod_no_other_port() {
    let at = |address, port| Ask { address, port, to: 0, udp: false };
    agrees(&[
        sandbox(&[at(Address::Second4, 3), at(Address::Wildcard6, 2), at(Address::Node6, 0)]),
        member(&[], true),
        Nft(Damage::DeleteTable(1)),
        start(1, &[port(2)]),
        Restore,
    ]);
}

#[test]
fn what_the_journal_lost_of_a_container_that_came_back_elsewhere_may_linger_until_a_restore() {
    agrees(&[
        start(0, &[port(0)]),
        Forget { of: 0 },
        Crash { of: 0 },
        Restart { of: 0, pod: 1, asks: vec![port(1)], exclude: 0 },
        Start { pod: 2, life: Life::Process, asks: vec![port(0)], replace: true, exclude: 0 },
        Restore,
    ]);
}

#[test]
fn a_hairpin_element_that_came_back_for_one_container_is_its_pods_when_the_table_is_re_created() {
    let on = |address, port| Ask { address, port, to: 0, udp: false };
    agrees(&[
        start(1, &[on(Address::Second4, 2)]),
        Nft(Damage::DeleteHairpin(0)),
        // Alone, as far as it knows.
        start(1, &[port(3), on(Address::Wildcard6, 0)]),
        Nft(Damage::FlushTable(0)),
        Crash { of: 1 },
        // Re-creates the table, and takes a port over: what the dead owner had goes.
        start(0, &[port(3)]),
    ]);
}

#[test]
fn gc_reports_what_no_entry_explains_as_unknown() {
    agrees(&[
        start(2, &[port(2)]),
        Crash { of: 0 },
        Forget { of: 0 },
        Restart { of: 0, pod: 0, asks: vec![port(3)], exclude: 0 },
        Crash { of: 0 },
        Gc { dry_run: true },
        Gc { dry_run: false },
    ]);
}

#[test]
fn an_owner_without_an_entry_may_lack_its_hairpin_element_in_a_re_created_table() {
    let on = |address, port| Ask { address, port, to: 0, udp: false };
    agrees(&[
        start(1, &[on(Address::Second4, 0), port(1)]),
        Nft(Damage::OldSchema(0, true)),
        Forget { of: 0 },
        Crash { of: 0 },
        Restart { of: 0, pod: 1, asks: vec![port(1)], exclude: 0 },
        Stop { of: 0 },
    ]);
}

#[test]
fn a_restore_leaves_a_shared_port_to_the_owner_that_has_it_though_its_entry_is_lost() {
    agrees(&[
        start(0, &[port(0)]),
        start(0, &[port(0)]),
        Forget { of: 0 },
        Restore,
        Stop { of: 1 },
    ]);
}
