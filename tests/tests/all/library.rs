//! The library alone, in a node's namespace: what its public functions do to a real kernel.

use std::collections::BTreeSet;

use hostport_nft::{
    Claim, Conditions, Endpoint, Error, Family, HostPort, HostPorts, Link, LinkName, Mapping,
    OwnerId, Publication, Settings, Snapshot,
};
use hostport_tests::lab::Lab;

/// The first release with elements that stand for all others.
const CATCH_ALL: (u32, u32) = (5, 13);

fn mapping(host: (&str, u16), endpoint: (&str, u16)) -> Mapping {
    let host = HostPort {
        host_ip: host.0.parse().unwrap(),
        port: hostport_nft::Port::new(host.1).unwrap(),
        protocol: hostport_nft::Protocol::Tcp,
    };
    let endpoint = Endpoint {
        ip: endpoint.0.parse().unwrap(),
        port: hostport_nft::Port::new(endpoint.1).unwrap(),
    };
    Mapping::new(host, endpoint).unwrap()
}

fn publication(owner: &OwnerId, mappings: &[Mapping]) -> Publication {
    let claim = |mapping: &Mapping| Claim { owner: owner.clone(), mapping: *mapping };
    Publication { claims: mappings.iter().map(claim).collect(), ..Publication::default() }
}

#[test]
fn what_is_published_can_be_got_listed_withdrawn_and_removed() {
    let lab = Lab::new();
    lab.node().run(|| {
        let owner: OwnerId = "5e0f".parse().unwrap();
        let first = mapping(("0.0.0.0", 9000), ("10.85.0.11", 8080));
        let second = mapping(("::", 9000), ("2001:db8:85::11", 8080));
        let mut host_ports = HostPorts::open(Settings::default()).unwrap();
        assert!(!host_ports.remove().unwrap(), "there is nothing to remove");
        assert_eq!(host_ports.list().unwrap(), []);
        assert_eq!(host_ports.get(first.host()).unwrap(), None);

        let both = publication(&owner, &[first, second]);
        assert_eq!(host_ports.publish(&both, |_| false).unwrap().added, [first, second]);
        assert_eq!(host_ports.publish(&both, |_| false).unwrap().added, []);
        let got = host_ports.get(second.host()).unwrap().unwrap();
        assert_eq!((got.mapping, got.owner), (second, Some(owner.clone())));
        let listed: Vec<_> = host_ports.list().unwrap().iter().map(|one| one.mapping).collect();
        assert_eq!(listed, [first, second]);

        let gone =
            host_ports.withdraw(&owner, &BTreeSet::from([first.host()]), &BTreeSet::new()).unwrap();
        assert_eq!(gone.iter().map(|one| one.mapping).collect::<Vec<_>>(), [first]);
        assert!(host_ports.remove().unwrap());
        assert!(!host_ports.remove().unwrap());
    });
    assert_eq!(lab.node().nft_list(), "");
}

#[test]
fn a_taken_port_is_an_error_that_names_its_owner_and_may_be_taken_where_allowed() {
    let lab = Lab::new();
    lab.node().run(|| {
        let (old, new): (OwnerId, OwnerId) = ("old".parse().unwrap(), "new".parse().unwrap());
        let before = mapping(("0.0.0.0", 9000), ("10.85.0.11", 8080));
        let after = mapping(("0.0.0.0", 9000), ("10.85.0.12", 8080));
        let mut host_ports = HostPorts::open(Settings::default()).unwrap();
        host_ports.publish(&publication(&old, &[before]), |_| false).unwrap();
        let refused = host_ports.publish(&publication(&new, &[after]), |_| false).unwrap_err();
        let Error::Taken(taken) = refused else { panic!("{refused}") };
        assert_eq!((taken.owner, taken.endpoint), (Some(old.clone()), before.endpoint()));
        let changes = host_ports.publish(&publication(&new, &[after]), |_| true).unwrap();
        assert_eq!(changes.added, [after]);
        assert_eq!(changes.taken_over[0].owner, Some(old.clone()));
        assert_eq!(
            host_ports.withdraw(&old, &BTreeSet::from([before.host()]), &BTreeSet::new()).unwrap(),
            []
        );
    });
}

#[test]
fn an_owner_that_comes_back_renews_its_elements_and_keeps_their_counters() {
    let lab = Lab::new();
    lab.node().run(|| {
        let (owner, next): (OwnerId, OwnerId) = ("5e0f".parse().unwrap(), "next".parse().unwrap());
        let port = mapping(("0.0.0.0", 9000), ("10.85.0.11", 8080));
        let mut host_ports = HostPorts::open(Settings::default()).unwrap();
        host_ports.publish(&publication(&owner, &[port]), |_| false).unwrap();
        let element = "{ 0.0.0.0 . 9000 . tcp }";
        let counted = "{ 0.0.0.0 . 9000 . tcp counter packets 7 bytes 420 comment \"5e0f\" : 10.85.0.11 . 8080 }";
        lab.node().nft(&format!(
            "delete element ip hostport ports {element}; add element ip hostport ports {counted}"
        ));
        // Another container found the owner dead, and is about to take the port over.
        let mut other = HostPorts::open(Settings::default()).unwrap();
        let again = Publication { comes_back: true, ..publication(&owner, &[port]) };
        let taken = mapping(("0.0.0.0", 9000), ("10.85.0.12", 8080));
        let mut asked = 0;
        let refused = other.publish(&publication(&next, &[taken]), |_| {
            asked += 1;
            if asked == 1 {
                assert_eq!(host_ports.publish(&again, |_| false).unwrap().added, []);
            }
            asked == 1
        });
        assert!(matches!(refused, Err(Error::Taken(_))), "{refused:?}");
        assert_eq!(asked, 2, "the first answer does not count");
        let kept = host_ports.get(port.host()).unwrap().unwrap();
        assert_eq!((kept.owner, kept.counter.packets), (Some(owner), 7));
    });
}

#[test]
fn restoring_says_what_it_changed_and_leaves_exactly_what_was_asked_for() {
    let lab = Lab::new();
    lab.node().run(|| {
        let owner: OwnerId = "5e0f".parse().unwrap();
        let wrong = mapping(("0.0.0.0", 80), ("10.85.0.99", 80));
        let right = mapping(("0.0.0.0", 9000), ("10.85.0.11", 8080));
        let missing = mapping(("::", 9000), ("2001:db8:85::11", 8080));
        let mut host_ports = HostPorts::open(Settings::default()).unwrap();
        host_ports.publish(&publication(&owner, &[wrong, right]), |_| false).unwrap();
        let wanted = publication(&owner, &[right, missing]).claims;
        let conditions = on_lo();
        let restored = host_ports.restore(&wanted, &conditions).unwrap();
        assert_eq!(restored.tables, [Family::Ip6]);
        assert_eq!(restored.kept, 1);
        let mappings = |list: &[hostport_nft::Published]| {
            list.iter().map(|one| one.mapping).collect::<Vec<_>>()
        };
        assert_eq!(mappings(&restored.added), [missing]);
        assert_eq!(mappings(&restored.removed), [wrong]);
        assert_eq!(mappings(&host_ports.list().unwrap()), [right, missing]);
    });
}

/// The links of endpoints that are reached by lo, past the connection tracking.
fn on_lo() -> Conditions {
    let name = LinkName::new("lo".as_ref()).unwrap();
    let links = vec![Link { family: Family::Ip, name, bypasses: true }];
    Conditions { links, ..Conditions::default() }
}

/// A published host port, and the claim to it.
fn with_one() -> (HostPorts, Vec<Claim>) {
    let owner: OwnerId = "5e0f".parse().unwrap();
    let claims = publication(&owner, &[mapping(("0.0.0.0", 9000), ("10.85.0.11", 8080))]).claims;
    let mut host_ports = HostPorts::open(Settings::default()).unwrap();
    host_ports.restore(&claims, &Conditions::default()).unwrap();
    (host_ports, claims)
}

#[test]
fn restoring_touches_nothing_that_is_right() {
    let lab = Lab::new();
    lab.node().run(|| {
        let owner: OwnerId = "5e0f".parse().unwrap();
        let first = mapping(("0.0.0.0", 9000), ("10.85.0.11", 8080));
        let second = mapping(("0.0.0.0", 9001), ("10.85.0.11", 8080));
        let mut host_ports = HostPorts::open(Settings::default()).unwrap();
        let both = publication(&owner, &[first, second]);
        let conditions = on_lo();
        host_ports.restore(&both.claims, &conditions).unwrap();
        let before = lab.node().nft_list_handles();
        let restored = host_ports.restore(&both.claims, &conditions).unwrap();
        assert_eq!((restored.kept, restored.tables, restored.added), (2, vec![], vec![]));
        assert_eq!(lab.node().nft_list_handles(), before);

        for change in [
            "delete element ip hostport ports { 0.0.0.0 . 9001 . tcp }",
            "add element ip hostport ports { 0.0.0.0 . 9002 . tcp : 10.85.0.12 . 80 }",
            "delete element ip hostport hairpin { 10.85.0.11 . 10.85.0.11 }",
            "add element ip hostport hairpin { 10.85.0.12 . 10.85.0.13 }",
            "flush set ip hostport same_link",
        ] {
            lab.node().nft(change);
            assert_ne!(lab.node().nft_list_handles(), before, "{change} did nothing");
            host_ports.restore(&both.claims, &conditions).unwrap();
            assert_eq!(lab.node().nft_list_handles(), before, "after {change}");
        }
    });
}

#[test]
fn restoring_re_creates_a_table_whose_sets_have_another_form() {
    let lab = Lab::new();
    lab.node().run(|| {
        let (mut host_ports, claims) = with_one();
        let before = lab.node().nft_list();
        let hairpin = "set hairpin {\n\t\ttype ipv4_addr . ipv4_addr\n";
        let excluded = "set excluded {\n\t\ttype ipv4_addr\n\t\tflags interval\n";
        let ports = "ipv4_addr . inet_service\n\t\tcounter\n";
        for (set, form) in [
            (hairpin, "\t\tflags timeout\n"),
            (hairpin, "\t\tsize 1\n"),
            (excluded, "\t\ttimeout 1h\n"),
            (ports, "\t\tsize 1\n"),
            // The element expires after an hour.
            (ports, "\t\ttimeout 1h\n"),
        ] {
            assert!(before.contains(set), "{set}");
            lab.node()
                .nft(&format!("flush ruleset\n{}", before.replace(set, &format!("{set}{form}"))));
            assert_ne!(lab.node().nft_list(), before);
            let restored = host_ports.restore(&claims, &Conditions::default()).unwrap();
            assert_eq!((restored.tables, restored.kept), (vec![Family::Ip], 1), "{set}{form}");
            assert_eq!(lab.node().nft_list(), before, "{set}{form}");
        }
    });
}

#[test]
fn an_element_for_all_other_ports_stops_no_command() {
    let lab = Lab::new();
    lab.node().run(|| {
        let owner: OwnerId = "5e0f".parse().unwrap();
        let right = mapping(("0.0.0.0", 9000), ("10.85.0.11", 8080));
        let mut host_ports = HostPorts::open(Settings::default()).unwrap();
        host_ports.publish(&publication(&owner, &[right]), |_| false).unwrap();
        for set in ["ports { * : 10.85.0.99 . 80 }", "hairpin { * }"] {
            if !lab.node().nft_since(CATCH_ALL, &format!("add element ip hostport {set}")) {
                return;
            }
        }
        assert_eq!(host_ports.list().unwrap().len(), 1);
        let audit = host_ports.audit(&Snapshot::read().unwrap(), Family::Ip).unwrap();
        assert_eq!((audit.strangers, audit.differences.len()), (1, 1), "{audit:?}");
        let hosts = BTreeSet::from([right.host()]);
        assert_eq!(host_ports.withdraw(&owner, &hosts, &BTreeSet::new()).unwrap().len(), 1);
        host_ports.restore(&[], &Conditions::default()).unwrap();
        assert!(!lab.node().nft_list().contains('*'), "{}", lab.node().nft_list());
    });
}

#[test]
fn a_table_that_a_running_program_owns_is_reported() {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    let lab = Lab::new();
    // The first release with this flag; the table goes with the program that owns it.
    if !lab.node().nft_since((5, 12), "add table ip hostport { flags owner; }") {
        return;
    }
    let mut nft = Command::new("nft");
    nft.arg("--interactive").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut nft = lab.node().run(|| nft.spawn()).unwrap();
    let commands =
        "add table ip hostport { flags owner; comment \"hostport schema 1\"; }\nlist tables\n";
    nft.stdin.as_mut().unwrap().write_all(commands.as_bytes()).unwrap();
    let told = BufReader::new(nft.stdout.as_mut().unwrap()).lines().map_while(Result::ok);
    assert!(told.into_iter().any(|line| line.ends_with("table ip hostport")));
    lab.node().run(|| {
        let owner: OwnerId = "5e0f".parse().unwrap();
        let wanted = [mapping(("0.0.0.0", 9000), ("10.85.0.11", 8080))];
        let mut host_ports = HostPorts::open(Settings::default()).unwrap();
        let refused = host_ports.publish(&publication(&owner, &wanted), |_| false).unwrap_err();
        assert!(matches!(refused, Error::OwnedTable { family: Family::Ip, .. }), "{refused}");
        let refused = host_ports.restore(&[], &Conditions::default()).unwrap_err();
        assert!(matches!(refused, Error::OwnedTable { family: Family::Ip, .. }), "{refused}");
    });
    nft.kill().unwrap();
    nft.wait().unwrap();
}

#[test]
fn a_host_port_that_is_asked_for_twice_is_refused_by_name() {
    let lab = Lab::new();
    lab.node().run(|| {
        let owner: OwnerId = "5e0f".parse().unwrap();
        let twice = ["10.85.0.11", "10.85.0.12"].map(|ip| mapping(("0.0.0.0", 9000), (ip, 8080)));
        let both = publication(&owner, &twice);
        let mut host_ports = HostPorts::open(Settings::default()).unwrap();
        let host = twice[0].host();
        let refused = host_ports.publish(&both, |_| true).unwrap_err();
        assert!(
            matches!(refused, hostport_nft::Error::Twice { host: h } if h == host),
            "{refused}"
        );
        let refused = host_ports.restore(&both.claims, &Conditions::default()).unwrap_err();
        assert!(
            matches!(refused, hostport_nft::Error::Twice { host: h } if h == host),
            "{refused}"
        );
        assert_eq!(lab.node().nft_list(), "");
    });
}

#[test]
fn what_changed_besides_mappings_is_counted() {
    let lab = Lab::new();
    lab.node().run(|| {
        let (mut host_ports, claims) = with_one();
        for change in [
            "flush set ip hostport hairpin",
            "add element ip hostport same_link { 1 . 1 }",
            "add element ip hostport ports { 0.0.0.0 . 77 . 99 : 10.85.0.12 . 80 }",
        ] {
            lab.node().nft(change);
            assert_eq!(
                host_ports.restore(&claims, &Conditions::default()).unwrap().others,
                1,
                "after {change}"
            );
            assert!(
                host_ports.restore(&claims, &Conditions::default()).unwrap().is_nothing(),
                "after {change}"
            );
        }
    });
}

#[test]
fn restoring_re_creates_a_table_that_is_not_as_it_should_be() {
    let lab = Lab::new();
    lab.node().run(|| {
        let (mut host_ports, claims) = with_one();
        let ruleset = || lab.node().nft_list();
        let before = ruleset();
        for change in [
            "add chain ip hostport mine",
            "add set ip hostport mine { type ipv4_addr; }",
            "add element ip hostport excluded { 192.0.2.1 }",
            "insert rule ip hostport publish drop",
            "flush chain ip hostport publish",
            "add table ip hostport { flags dormant; }",
            "flush table ip hostport",
            // A rule that keeps a client at one endpoint, or chooses one at random.
            "flush chain ip hostport publish; \
             add rule ip hostport publish ip daddr @excluded return; \
             add rule ip hostport publish dnat ip to ip daddr . th dport . meta l4proto map @ports persistent; \
             add rule ip hostport publish dnat ip to ip daddr & 0.0.0.0 . th dport . meta l4proto map @ports random",
            // Whatever has no element of its own goes to another program.
            "add element ip hostport ports { * : 10.85.0.99 . 80 }",
            "add element ip hostport hairpin { * }",
        ] {
            let since = if change.contains('*') { CATCH_ALL } else { (5, 10) };
            if !lab.node().nft_since(since, change) {
                continue;
            }
            assert_ne!(ruleset(), before, "{change} did nothing");
            let restored = host_ports.restore(&claims, &Conditions::default()).unwrap();
            assert_eq!(restored.tables, [Family::Ip], "after {change}");
            assert_eq!(ruleset(), before, "after {change}");
        }
    });
}
