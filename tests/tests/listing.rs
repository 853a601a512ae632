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

#[test]
fn a_wide_list_names_the_pod_in_plain_characters_and_filters_choose() {
    let lab = Lab::new();
    let web = lab.pod("web");
    Bundle::of(&web)
        .annotation("io.hostport.ports", "9001:80,9000:80/udp")
        .annotation("io.kubernetes.pod.name", "a\u{1b}[2J\nforged")
        .annotation("io.kubernetes.pod.namespace", "shop")
        .start(lab.node());
    let list = |more: &[&str]| {
        let arguments = [&["list"], more].concat();
        hostport(lab.node(), &arguments).expect_success().stdout
    };
    let wide = list(&["--wide"]);
    assert_eq!(wide.lines().count(), 5, "{wide}");
    assert!(wide.contains(r"shop/a\u{1b}[2J\nforged"), "{wide}");
    assert_eq!(list(&["--port", "9000"]).lines().count(), 3);
    assert_eq!(list(&["--port", "9000", "--protocol", "tcp"]).lines().count(), 1);
    assert_eq!(list(&["--owner", "nobody"]).lines().count(), 1);
    let rows: serde_json::Value = serde_json::from_str(&list(&["--wide", "--json"])).unwrap();
    assert_eq!(rows[0]["pod"], "a\u{1b}[2J\nforged");
    assert!(rows[0]["since_ms"].as_u64().is_some());
}
