//! Forward chains that drop, and the rule that lets host ports through.

use std::net::Ipv6Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use hostport_tests::hook::hostport;
use hostport_tests::lab::{Client, NODE6, Netns};

use hostport_tests::doctor::{Ground, text};

fn iptables(node: &Netns, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let status = node.run(|| Command::new(words[0]).args(&words[1..]).status().unwrap());
    assert!(status.success(), "{line}");
}

/// A chain that drops; the doctor finds it and names the rule that helps.
#[track_caller]
fn drops(ruleset: &str, says: &str) {
    let ground = Ground::new();
    let finding = ground.breaks_and_mends("forward-drop", |ground| {
        ground.node().nft(ruleset);
        assert!(ground.is_cut_off());
    });
    assert_eq!(finding["severity"], "broken");
    assert!(text(&finding).contains(says), "{finding:#}");
    assert!(ground.reaches(), "{finding:#}");
}

#[test]
fn a_policy_that_drops() {
    drops(
        "table ip own { chain onward { type filter hook forward priority 0; policy drop; }; }",
        "nft insert rule ip own onward ct status dnat accept",
    );
}

#[test]
fn a_policy_that_drops_in_both_families_is_reported_at_most_once_per_family() {
    let ground = Ground::new();
    ground.node().nft(
        "table inet filter { chain forward { type filter hook forward priority filter; policy drop;
            ct state vmap { established : accept, related : accept, invalid : drop }
            iifname \"docker0\" accept
            ip saddr 10.1.0.0/16 ip daddr 10.2.0.0/16 accept
            tcp dport { 22, 443 } accept; }; }",
    );
    assert!(ground.is_cut_off());
    let report = ground.doctor();
    let finding = report.only("forward-drop");
    assert_eq!(finding["severity"], "broken");
    assert_eq!(finding["fix"], "nft insert rule inet filter forward ct status dnat accept");
    ground.mend(&finding);
    assert!(ground.reaches());
    assert_eq!(ground.doctor().kinds(), [""; 0]);
}

#[test]
fn a_last_rule_that_drops_in_a_chain_that_another_jumps_to() {
    drops(
        "table ip own {
            chain rest { ct state established accept; reject; }
            chain onward { type filter hook forward priority 0; policy accept; jump rest; }; }",
        "in rest",
    );
}

#[test]
fn a_policy_of_iptables_nft() {
    let ground = Ground::new();
    for program in ["iptables", "ip6tables"] {
        let finding = ground.breaks_and_mends("forward-drop", |ground| {
            iptables(ground.node(), &format!("{program}-nft -P FORWARD DROP"));
        });
        assert_eq!(
            finding["fix"],
            format!("{program} -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT")
        );
    }
    assert!(ground.reaches());
}

#[test]
fn what_depends_on_the_client_is_a_warning() {
    let ground = Ground::new();
    ground.node().nft(
        "table ip own { chain onward { type filter hook forward priority 0; policy accept;
            ip saddr 203.0.113.0/24 drop; }; }",
    );
    let finding = ground.doctor().only("forward-drop");
    assert_eq!(finding["severity"], "warning");
    assert!(text(&finding).contains("may drop"), "{finding:#}");
    assert!(ground.reaches());
}

#[test]
fn rules_for_other_ports_or_links_or_states_are_no_finding() {
    let ground = Ground::new();
    ground.node().nft(
        "table inet own {
            set few { type inet_service; flags interval; elements = { 1-1023, 8443 }; }
            chain onward { type filter hook forward priority 0; policy accept;
                ct state invalid drop
                tcp dport @few drop
                udp dport 8080 drop
                oifname \"docker*\" drop
                ip daddr 10.85.0.0/28 ip daddr != 10.85.0.11 drop
                tcp flags & (fin | syn) == (fin | syn) drop
                meta l4proto sctp drop; }; }
         table ip asleep { flags dormant;
            chain onward { type filter hook forward priority 0; policy drop; }; }
         table bridge own { chain onward { type filter hook forward priority 0; policy drop; }; }",
    );
    assert!(ground.reaches());
    assert_eq!(ground.doctor().kinds(), [""; 0]);
}

/// The range crosses a boundary of 32 bits: the last words of its end are less than those of the address.
#[test]
fn an_ipv6_range_that_is_joined_with_ports() {
    let ground = Ground::new();
    let reaches = || {
        let client = Client::new(ground.lab.client());
        client.tcp((NODE6, 9000)).is_ok()
    };
    let drops = |range: &str| {
        format!(
            "table ip6 own {{
                set few {{ type ipv6_addr . inet_service . inet_proto; flags interval;
                    elements = {{ {range} . 8000-8099 . tcp }}; }}
                chain onward {{ type filter hook forward priority 0; policy accept;
                    ip6 daddr . tcp dport . meta l4proto @few drop; }}; }}"
        )
    };
    let pod = ground.web.ipv6();
    assert!("2001:db8:85::".parse::<Ipv6Addr>().unwrap() < pod && pod.segments()[7] > 5);
    ground.node().nft(&drops("2001:db8:85::-2001:db8:86::5"));
    assert!(!reaches());
    let finding = ground.doctor().only("forward-drop");
    assert_eq!(finding["severity"], "broken");
    ground.node().nft("delete table ip6 own");
    // And a range that does not contain it, although each of its words is between those of the ends.
    ground.node().nft(&drops("2001:db8:84::-2001:db8:85::5"));
    assert!(reaches());
    assert_eq!(ground.doctor().kinds(), [""; 0]);
}

/// A wildcard stands for each of the host's addresses, and each is checked against all the rules.
#[test]
#[ignore = "ten seconds of work: make endurance"]
fn very_many_addresses_and_rules_are_left_after_a_while() {
    const ADDRESSES: u32 = 4000;
    const RULES: u32 = 10_000;
    let ground = Ground::new();
    let address = |n: u32| format!("address add 10.200.{}.{}/32 dev uplink0\n", n / 250, n % 250);
    ground.node().ip(&(0..ADDRESSES).map(address).collect::<String>());
    let rule = |n: u32| {
        let (third, fourth) = (n / 250, n % 250);
        format!("ip daddr 10.201.{third}.{fourth} tcp dport 9000 dnat to 10.85.0.99:8080\n")
    };
    ground.node().nft(&format!(
        "table ip own {{ chain pre {{ type nat hook prerouting priority dstnat - 10;\n{}}}\n}}",
        (0..RULES).map(rule).collect::<String>()
    ));
    let begin = Instant::now();
    let said = hostport(ground.node(), &["doctor"]);
    let took = begin.elapsed();
    let warning = "stopped after checking 0 of 2 host ports";
    assert!(said.stderr.contains(warning), "{took:?}: {said:#?}");
    assert!(said.stdout.contains(&format!("warning: unfinished: {warning}")), "{said:#?}");
    assert!(took > Duration::from_secs(10) && took < Duration::from_secs(60), "{took:?}");
}

#[test]
fn rules_of_iptables_legacy() {
    let ground = Ground::new();
    assert_eq!(ground.doctor().kinds(), [""; 0]);
    iptables(ground.node(), "iptables-legacy -P FORWARD DROP");
    assert!(ground.is_cut_off());
    let finding = ground.doctor().only("iptables-legacy");
    assert_eq!(finding["severity"], "warning");
    let said = text(&finding);
    assert!(said.contains("iptables-legacy -S FORWARD"), "{said}");
    let (_, rule) = said.split_once("if FORWARD drops: ").unwrap();
    iptables(ground.node(), rule);
    assert!(ground.reaches());
}
