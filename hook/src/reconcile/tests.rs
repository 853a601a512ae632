//! The operations on a node that exists in the test alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hostport_nft::kernel::fake::{Call as Asked, Fault, Moment as When, Step as Asking};
use hostport_nft::{Conditions, Endpoint, Error as Ruleset, Family, Restored, Settings};
use rustix::io::Errno;

use super::drift::Drift;
use super::fake::{Everywhere, FakeNode};
use super::gc::{Garbage, collect};
use super::publish::publish;
use super::restore::{Plan, restore};
use super::withdraw::withdraw;
use super::*;
use crate::journal::fake::Call;
use crate::journal::{Entry, Folder, Journal, Lock};
use crate::request::{Names, Request};
use hostport_nft::{Claim, Mapping, OwnerId, Protocol, Published};

fn host(port: u16) -> HostPort {
    let port = port.to_string().parse().unwrap();
    HostPort { host_ip: "0.0.0.0".parse().unwrap(), port, protocol: Protocol::Tcp }
}

/// A container with a process and an address of this number, that asks for host ports.
fn container(number: u8, ports: &[u16]) -> Request {
    let container: OwnerId = format!("c{number}").parse().unwrap();
    let ip = format!("10.0.0.{number}").parse().unwrap();
    let endpoint = Endpoint { ip, port: "8080".parse().unwrap() };
    let claim = |port: &u16| Claim {
        owner: container.clone(),
        mapping: Mapping::new(host(*port), endpoint).unwrap(),
    };
    Request {
        claims: ports.iter().map(claim).collect(),
        container: container.clone(),
        waiting: Vec::new(),
        followed: Family::ALL.into(),
        masquerade: false,
        conditions: Conditions::default(),
        allow_from: Vec::new(),
        replace: false,
        settings: Settings::default(),
        hairpin_mode: true,
        pid: Some(number.into()),
        namespace: (format!("/run/netns/{number}").into(), (4, number.into())),
        names: Names::default(),
        bundle: "/bundle".into(),
        attachment: None,
    }
}

fn start(node: &FakeNode, request: Request) -> Result<usize, Error> {
    publish(node, request, &mut Everywhere)
}

fn end(node: &FakeNode, number: u8) -> Result<bool, Error> {
    withdraw(node, &owner(number), Default::default(), Settings::default())
}

fn owner(number: u8) -> OwnerId {
    format!("c{number}").parse().unwrap()
}

fn restored(node: &FakeNode) -> Result<Restored, Error> {
    restored_with(node, false)
}

fn restored_with(node: &FakeNode, force: bool) -> Result<Restored, Error> {
    let table = TableName::default();
    let plan = Plan { table, settings: None, anew: false, force, dry_run: false };
    restore(node, plan, |_| None, |_| true, |_, _, _| Ok(Conditions::default()), |_| {})
}

fn garbage(node: &FakeNode, dry_run: bool) -> Vec<Garbage> {
    let mut all = Vec::new();
    collect(node, &TableName::default(), dry_run, |garbage| all.push(garbage)).unwrap();
    all
}

/// The host ports in the kernel and the number of each one's owner.
fn published(node: &FakeNode) -> Vec<(u16, String)> {
    let all = node.kernel.hand().published(&TableName::default());
    let port = |there: &Published| {
        let owner = there.owner.as_ref().map_or("", OwnerId::as_str);
        (there.mapping.host().port.get(), owner.to_owned())
    };
    let mut ports: Vec<_> = all.iter().map(port).collect();
    ports.sort();
    ports
}

fn of(number: u8, ports: &[u16]) -> Vec<(u16, String)> {
    ports.iter().map(|port| (*port, format!("c{number}"))).collect()
}

fn entry(node: &FakeNode, number: u8) -> Option<Entry> {
    let journal = Journal::over(node.folder.clone(), Lock::Shared).unwrap();
    journal.read(&owner(number)).unwrap()
}

/// The host ports in an entry: those that it has, and those that it lost.
fn noted(node: &FakeNode, number: u8) -> Option<(Vec<u16>, Vec<u16>)> {
    let ports = |all: &[Mapping]| all.iter().map(|mapping| mapping.host().port.get()).collect();
    entry(node, number).map(|entry| (ports(&entry.mappings), ports(&entry.lost)))
}

/// The node with a kernel whose n-th transaction, counted from 0, and all later ones meet a fault.
fn with_fault(node: &FakeNode, fault: Fault, commits: std::ops::Range<u32>) -> FakeNode {
    let count = AtomicU32::new(0);
    let plan = move |step: Asking<'_>| {
        let commit = matches!(step.call, Asked::Commit(_));
        (commit && commits.contains(&count.fetch_add(1, Ordering::Relaxed))).then_some(fault)
    };
    FakeNode { kernel: node.kernel.actor(7).failing(Arc::new(plan)), ..node.clone() }
}

#[test]
fn a_container_has_its_ports_until_its_end() {
    let node = FakeNode::default();
    assert_eq!(start(&node, container(1, &[80, 81])).unwrap(), 0);
    assert_eq!(published(&node), of(1, &[80, 81]));
    assert_eq!(noted(&node, 1), Some((vec![80, 81], vec![])));
    // Prestart and createRuntime may both fire.
    assert_eq!(start(&node, container(1, &[80, 81])).unwrap(), 0);
    assert!(end(&node, 1).unwrap());
    assert_eq!((published(&node), entry(&node, 1)), (vec![], None));
    assert!(!end(&node, 1).unwrap(), "nothing is left to do");
}

#[test]
fn a_container_that_comes_back_with_other_ports_keeps_none_of_the_former() {
    let node = FakeNode::default();
    start(&node, container(1, &[80, 81])).unwrap();
    start(&node, container(1, &[81, 82])).unwrap();
    assert_eq!(published(&node), of(1, &[81, 82]));
    assert_eq!(noted(&node, 1), Some((vec![81, 82], vec![80])));
}

#[test]
fn a_living_container_keeps_its_port_and_the_other_gets_none() {
    let node = FakeNode::default();
    start(&node, container(1, &[80])).unwrap();
    let error = start(&node, container(2, &[79, 80, 81])).unwrap_err();
    assert!(matches!(error, Error::Taken { .. }) && error.is_conflict(), "{error}");
    assert_eq!(published(&node), of(1, &[80]));
    assert_eq!((entry(&node, 2), node.folder.files().len()), (None, 1));
}

#[test]
fn a_port_of_an_owner_without_an_entry_is_refused_with_the_command_that_clears_it() {
    let node = FakeNode::default();
    start(&node, container(1, &[80])).unwrap();
    node.folder.remove("c1.json").unwrap();
    node.liveness.end_process(1);
    let error = start(&node, container(2, &[80])).unwrap_err();
    assert!(matches!(error, Error::TakenByUnknown { .. }) && error.is_conflict(), "{error}");
    let command = "nft delete element ip hostport ports '{ 0.0.0.0 . 80 . tcp }'";
    assert!(error.to_string().ends_with(command), "{error}");
}

#[test]
fn a_dead_containers_port_is_taken_over_and_its_others_are_withdrawn() {
    let node = FakeNode::default();
    start(&node, container(1, &[80, 81])).unwrap();
    node.liveness.end_process(1);
    assert_eq!(start(&node, container(2, &[80])).unwrap(), 1);
    assert_eq!(published(&node), of(2, &[80]));
    assert_eq!(entry(&node, 1), None);
    // Its own poststop comes late.
    let hosts = [host(80), host(81)].into();
    assert!(withdraw(&node, &owner(1), hosts, Settings::default()).unwrap());
    assert_eq!(published(&node), of(2, &[80]));
}

#[test]
fn a_replacement_leaves_a_living_container_its_other_ports_and_its_entry() {
    let node = FakeNode::default();
    start(&node, container(1, &[80, 81])).unwrap();
    let second = Request { replace: true, ..container(2, &[80]) };
    assert_eq!(start(&node, second).unwrap(), 1);
    assert_eq!(published(&node), [of(2, &[80]), of(1, &[81])].concat());
    assert_eq!(noted(&node, 1), Some((vec![81], vec![80])));
    end(&node, 1).unwrap();
    assert_eq!(published(&node), of(2, &[80]));
}

#[test]
fn a_full_disk_before_a_takeover_leaves_everything_as_it_was() {
    for failing in [Call::Create, Call::Write, Call::Rename] {
        let node = FakeNode::default();
        start(&node, container(1, &[80])).unwrap();
        node.liveness.end_process(1);
        node.folder.set_fault(move |_, call, name| {
            (call == failing && name.starts_with("c2")).then_some(Errno::NOSPC)
        });
        let error = start(&node, container(2, &[80])).unwrap_err().to_string();
        assert!(error.contains("No space left"), "{failing:?}: {error}");
        assert_eq!(published(&node), of(1, &[80]), "{failing:?}");
        assert_eq!(node.folder.files().len(), 1, "{failing:?}");
    }
}

#[test]
fn a_journal_that_cannot_be_written_after_a_takeover_does_not_undo_it() {
    let node = FakeNode::default();
    start(&node, container(1, &[80, 81])).unwrap();
    // The entry of the container that lost a port can be written no more.
    node.folder.set_fault(|_, call, name| {
        (call == Call::Create && name.starts_with("c1.")).then_some(Errno::NOSPC)
    });
    start(&node, Request { replace: true, ..container(2, &[80]) }).unwrap();
    node.folder.clear_fault();
    assert_eq!(noted(&node, 1), Some((vec![80, 81], vec![])), "it says too much");
    // A restore puts it right.
    assert!(restored(&node).unwrap().is_nothing());
    assert_eq!(noted(&node, 1), Some((vec![81], vec![80])));
    assert_eq!(published(&node), [of(2, &[80]), of(1, &[81])].concat());
}

#[test]
fn a_publication_that_the_kernel_refuses_leaves_no_entry() {
    let node = with_fault(&FakeNode::default(), Fault::NoMemory, 0..9);
    assert!(start(&node, container(1, &[80])).is_err());
    assert_eq!((published(&node), node.folder.files().len()), (vec![], 0));
}

#[test]
fn a_lost_answer_is_asked_for_again() {
    let node = FakeNode::default();
    let lossy = with_fault(&node, Fault::LostAnswer(Errno::NOBUFS), 0..1);
    assert_eq!(start(&lossy, container(1, &[80])).unwrap(), 0);
    assert_eq!((published(&node), noted(&node, 1)), (of(1, &[80]), Some((vec![80], vec![]))));
}

#[test]
fn what_may_be_published_stays_in_the_journal_and_goes_with_the_next_collection() {
    let node = FakeNode::default();
    start(&node, container(1, &[79])).unwrap();
    let silent = with_fault(&node, Fault::LostAnswer(Errno::AGAIN), 0..9);
    let error = start(&silent, container(2, &[80])).unwrap_err();
    assert!(matches!(error, Error::Ruleset(Ruleset::Unanswered(_))), "{error}");
    assert_eq!(published(&node), [of(1, &[79]), of(2, &[80])].concat());
    node.liveness.end_process(2);
    let left = [Garbage::Left(owner(2), Names::default(), container(2, &[80]).claims[0].mapping)];
    assert_eq!(garbage(&node, true), left);
    assert_eq!(published(&node).len(), 2, "nothing was changed");
    assert_eq!(garbage(&node, false), left);
    assert_eq!((published(&node), entry(&node, 2)), (of(1, &[79]), None));
}

#[test]
fn a_journal_that_cannot_be_used_does_not_keep_ports_published() {
    let node = FakeNode::default();
    start(&node, container(1, &[80])).unwrap();
    node.folder.set_fault(|_, call, _| (call == Call::Lock).then_some(Errno::IO));
    withdraw(&node, &owner(1), [host(80)].into(), Settings::default()).unwrap();
    assert_eq!(published(&node), []);
}

#[test]
fn a_restore_gives_living_containers_their_ports_back_and_dead_ones_none() {
    let node = FakeNode::default();
    start(&node, container(1, &[80, 81])).unwrap();
    start(&node, container(2, &[82])).unwrap();
    node.liveness.end_process(2);
    node.kernel.hand().flush();
    assert_eq!(restored(&node).unwrap().added.len(), 2);
    assert_eq!(published(&node), of(1, &[80, 81]));
    assert!(restored(&node).unwrap().is_nothing());
}

#[test]
fn a_restore_decides_between_two_living_containers_as_the_kernel_has_it() {
    let node = FakeNode::default();
    start(&node, container(1, &[80])).unwrap();
    node.kernel.hand().flush();
    start(&node, container(2, &[80])).unwrap();
    restored(&node).unwrap();
    assert_eq!((published(&node), noted(&node, 1)), (of(2, &[80]), Some((vec![], vec![80]))));
}

#[test]
fn an_entry_whose_hook_was_killed_before_the_transaction_is_void_while_the_port_is_anothers() {
    let node = FakeNode::default();
    start(&node, container(1, &[80])).unwrap();
    // Killed at the commit.
    let disk = node.folder.clone();
    let watch = move |step: Asking<'_>| {
        if step.moment == When::Before && matches!(step.call, Asked::Commit(_)) {
            disk.kill(2);
        }
    };
    let refuse = |step: Asking<'_>| {
        matches!(step.call, Asked::Commit(_)).then_some(Fault::Unsent(Errno::NOBUFS))
    };
    let kernel = node.kernel.actor(2).watched(Arc::new(watch)).failing(Arc::new(refuse));
    let second = FakeNode { kernel, ..node.process(2) };
    let _ = start(&second, Request { replace: true, ..container(2, &[80, 81]) });
    assert_eq!(noted(&node, 2), Some((vec![80, 81], vec![])));
    restored(&node).unwrap();
    assert_eq!((published(&node), entry(&node, 2)), (of(1, &[80]), None));
    assert_eq!(node.folder.files().len(), 1, "temporary files and locks are gone");
}

#[test]
fn a_restore_leaves_to_an_owner_what_it_has_whose_entry_cannot_be_read() {
    let node = FakeNode::default();
    start(&node, container(1, &[80])).unwrap();
    node.folder.put("c1.json", b"{\"version\":2}");
    assert_eq!(restored(&node).unwrap().kept, 1);
    assert_eq!(published(&node), of(1, &[80]));
}

#[test]
fn a_restore_whose_lists_are_always_interrupted_makes_the_tables_again() {
    let node = FakeNode::default();
    start(&node, container(1, &[80])).unwrap();
    let plan = |step: Asking<'_>| {
        let lists = matches!(step.call, Asked::Elements(..) | Asked::Objects(_));
        lists.then_some(Fault::Interrupted)
    };
    let busy = FakeNode { kernel: node.kernel.actor(7).failing(Arc::new(plan)), ..node.clone() };
    assert_eq!(restored(&busy).unwrap().tables.len(), 1);
    assert_eq!(published(&node), of(1, &[80]));
}

#[test]
fn a_collection_keeps_what_nobody_knows_and_says_so() {
    let node = FakeNode::default();
    start(&node, container(1, &[80])).unwrap();
    node.folder.remove("c1.json").unwrap();
    for dry_run in [true, false] {
        let [Garbage::Unknown(there)] = &garbage(&node, dry_run)[..] else { panic!("{dry_run}") };
        assert_eq!(there.mapping.host(), host(80));
    }
    assert_eq!(published(&node), of(1, &[80]));
}

#[test]
fn a_collection_that_fails_has_named_what_it_did() {
    let node = FakeNode::default();
    for number in 1..=2 {
        start(&node, container(number, &[80 + u16::from(number)])).unwrap();
        node.liveness.end_process(number.into());
    }
    let failing = with_fault(&node, Fault::NotPermitted, 1..9);
    let mut named = 0;
    collect(&failing, &TableName::default(), false, |_| named += 1).unwrap_err();
    assert_eq!((named, published(&node).len()), (1, 1));
}

#[test]
fn owners_in_another_table_are_another_hostports() {
    let node = FakeNode::default();
    let table: TableName = "other".parse().unwrap();
    let settings = Settings { table: table.clone(), ..Settings::default() };
    start(&node, Request { settings, ..container(1, &[80]) }).unwrap();
    node.liveness.end_process(1);
    assert_eq!(garbage(&node, false), []);
    restored(&node).unwrap();
    assert_eq!(node.kernel.hand().published(&table).len(), 1);
    assert!(entry(&node, 1).is_some());
}

#[test]
fn every_kind_of_drift_is_found() {
    let node = FakeNode::default();
    for number in 1..=4 {
        start(&node, container(number, &[80 + u16::from(number)])).unwrap();
    }
    let mut entries: Vec<Entry> = (1..=4).map(|number| entry(&node, number).unwrap()).collect();
    let mut there = node.kernel.hand().published(&TableName::default());
    there.sort_by_key(|there| there.mapping);
    let agree = Drift::between(&there, &entries, |_| false);
    assert!(agree.missing.is_empty() && agree.unknown.is_empty() && agree.dead.is_empty());

    there.remove(0); // Missing: of the first.
    entries[1].mappings.clear(); // Not in its entry: of the second.
    there[1].owner = None; // Nobody's, so missing too: of the third.
    let drift = Drift::between(&there, &entries, |entry| entry.owner == owner(4));
    let missing: Vec<_> = drift.missing.iter().map(|m| (&m.claim.owner, m.there)).collect();
    assert_eq!(missing, [(&owner(1), None), (&owner(3), Some(&there[1]))]);
    let unknown: Vec<_> = drift.unknown.iter().map(|(there, e)| (*there, e.is_some())).collect();
    assert_eq!(unknown, [(&there[0], true), (&there[1], false)]);
    assert_eq!(drift.dead.len(), 1);
    assert_eq!(drift.dead[0].1, [&there[2]]);
    assert_eq!(drift.outdone, []);

    // Two living ones that ask for the same host port at different endpoints.
    entries[0].mappings = container(1, &[84]).claims.iter().map(|claim| claim.mapping).collect();
    let drift = Drift::between(&there, &entries, |_| false);
    assert_eq!(drift.outdone, entries[0].mappings, "the later one gets it");
}

#[test]
fn field_29_restore_keeps_the_ports_of_owners_that_a_damaged_journal_lacks() {
    let node = FakeNode::default();
    for (number, ports) in [(1, &[80, 81][..]), (2, &[82]), (3, &[83])] {
        start(&node, container(number, ports)).unwrap();
    }
    let remove = |number| {
        Journal::over(node.folder.clone(), Lock::Shared).unwrap().remove(&owner(number)).unwrap()
    };
    remove(1);
    node.liveness.end_process(3);
    let done = restored(&node).unwrap();
    assert_eq!((done.removed.len(), done.kept), (1, 3), "the dead one's port alone goes");
    assert_eq!(published(&node), [of(1, &[80, 81]), of(2, &[82])].concat());
    remove(2);
    assert_eq!(restored(&node).unwrap().kept, 3);
    remove(3);
    assert!(matches!(restored(&node), Err(Error::NoEntries(_))));
    assert_eq!(published(&node), [of(1, &[80, 81]), of(2, &[82])].concat());
    assert_eq!(restored_with(&node, true).unwrap().removed.len(), 3);
    assert_eq!(published(&node), []);
}
