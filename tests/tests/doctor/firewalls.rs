//! Forward chains that drop, and the rule that lets host ports through.

use std::process::Command;

use hostport_tests::lab::Netns;

use crate::ground::{Ground, text};

fn iptables(node: &Netns, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let status = node.run(|| Command::new(words[0]).args(&words[1..]).status().unwrap());
    assert!(status.success(), "{line}");
}

/// A chain that drops, which the doctor finds and names the rule for.
#[track_caller]
fn drops(ruleset: &str, says: &str) {
    let ground = Ground::new();
    let finding = ground.breaks_and_mends("forward-drop", |ground| {
        ground.node().nft(ruleset);
        assert!(!ground.reaches());
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
fn a_policy_that_drops_in_a_table_of_both_families_is_told_once_a_family_at_most() {
    let ground = Ground::new();
    ground.node().nft(
        "table inet filter { chain forward { type filter hook forward priority filter; policy drop;
            ct state vmap { established : accept, related : accept, invalid : drop }
            iifname \"docker0\" accept
            ip saddr 10.1.0.0/16 ip daddr 10.2.0.0/16 accept
            tcp dport { 22, 443 } accept; }; }",
    );
    assert!(!ground.reaches());
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
fn what_concerns_other_ports_or_links_or_states_is_no_finding() {
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

#[test]
fn rules_of_iptables_legacy() {
    let ground = Ground::new();
    assert_eq!(ground.doctor().kinds(), [""; 0]);
    iptables(ground.node(), "iptables-legacy -P FORWARD DROP");
    assert!(!ground.reaches());
    let finding = ground.doctor().only("iptables-legacy");
    assert_eq!(finding["severity"], "warning");
    let said = text(&finding);
    assert!(said.contains("iptables-legacy -S FORWARD"), "{said}");
    let (_, rule) = said.split_once("if FORWARD drops: ").unwrap();
    iptables(ground.node(), rule);
    assert!(ground.reaches());
}
