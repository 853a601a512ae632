//! What `hostport list` and `hostport doctor` read while others change the ruleset.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use hostport_nft::survey::{Origin, Packet, Survey};
use hostport_nft::{Family, HostPorts, Port, Protocol, Settings, TableName};
use hostport_tests::hook::{Bundle, hostport, published};
use hostport_tests::lab::{Lab, NODE6};

/// Looks at a node with 300 host ports a family while its tables are replaced, and counts what was seen.
///
/// A restore replaces both tables in one transaction, and its new maps grow in the background.
fn while_tables_are_replaced<T: Ord + Send>(
    times: u32,
    look: impl Fn(&Lab) -> T + Sync,
) -> BTreeMap<T, usize> {
    const RESTORERS: u32 = 2;
    let lab = Lab::new();
    let web = lab.pod("web");
    Bundle::of(&web).annotation("io.hostport.ports", "8000-8299:8000-8299").start(lab.node());
    let at_work = AtomicU32::new(RESTORERS);
    thread::scope(|scope| {
        for _ in 0..RESTORERS {
            scope.spawn(|| {
                (0..times / RESTORERS).for_each(|_| drop(hostport(lab.node(), &["restore"])));
                at_work.fetch_sub(1, Ordering::Relaxed);
            });
        }
        let mut seen = BTreeMap::new();
        while at_work.load(Ordering::Relaxed) > 0 {
            *seen.entry(look(&lab)).or_default() += 1;
        }
        seen
    })
}

#[test]
fn a_list_is_whole_while_the_tables_are_replaced() {
    let seen = while_tables_are_replaced(300, |lab| published(lab.node()).len());
    assert_eq!(
        seen.keys().collect::<Vec<_>>(),
        [&600],
        "lengths of lists, and how often: {seen:?}"
    );
}

/// What the doctor compares with the journal; and what it looks up in the sets of other tables, which
/// hostport's own is here, to whom has another.
#[test]
fn what_the_doctor_reads_is_whole_while_the_tables_are_replaced() {
    let another: TableName = "another".parse().unwrap();
    let packet = |port: u16| Packet {
        family: Family::Ip6,
        protocol: Protocol::Tcp,
        destination: Some(NODE6.into()),
        port: Port::new(port).unwrap(),
        local: true,
        translated: false,
        in_link: None,
        out_link: None,
    };
    let look = || {
        let mut host_ports = HostPorts::open(Settings::default()).unwrap();
        let mut survey = Survey::read().unwrap();
        let audits = Family::ALL.map(|family| {
            let audit = host_ports.audit(&survey, family).unwrap();
            (audit.ports.len(), audit.hairpins.len(), audit.strangers)
        });
        let mut translated = |port| {
            let judgements = survey.translating(&packet(port), Origin::Outside, &another);
            judgements.iter().filter(|judgement| judgement.certain).count()
        };
        (audits, (8000..8300).step_by(10).map(&mut translated).sum::<usize>(), translated(8300))
    };
    let seen = while_tables_are_replaced(600, |lab| lab.node().run(look));
    let whole = ([(300, 1, 0); 2], 30, 0);
    assert_eq!(seen.keys().collect::<Vec<_>>(), [&whole], "what, and how often: {seen:?}");
}
