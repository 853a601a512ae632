//! Rules of other programs, at each hook and in both directions: what explain and the doctor print, and what real
//! packets do.

use std::time::Duration;

use hostport_tests::doctor::Ground;
use hostport_tests::hook::{Bundle, hostport};
use hostport_tests::lab::{Client, NODE4, NODE4_SECOND, NODE6, tcp};

use super::ground::{Said, explain};

const CLIENT: [&str; 5] = ["9000", "--from", "192.0.2.2", "--to", "192.0.2.1"];

/// Rules that let nothing through: explain reports this first for a client's packet, at a step of this name, and
/// after its fix nothing is in the way.
#[track_caller]
fn stops(rules: &str, kind: &str, step: &str) -> Said {
    let ground = Ground::new();
    ground.node().nft(rules);
    assert!(ground.is_cut_off(), "{rules}");
    let said = explain(ground.node(), &CLIENT);
    let cause = &said.report["causes"][0];
    assert_eq!((&cause["kind"], &cause["certain"]), (&kind.into(), &true.into()), "{said:#?}");
    assert!(said.step(step).starts_with("blocked "), "{said:#?}");
    assert!(ground.doctor().kinds().contains(&kind), "{rules}: {:#?}", ground.doctor());
    let fix = cause["fix"].as_str().unwrap();
    let fix = fix.split_once(", or: ").map_or(fix, |(_, command)| command);
    let mut fix = serde_json::json!({ "fix": fix });
    // If a chain drops one direction with each of two rules, one is reported at a time.
    for _ in 0..3 {
        ground.mend(&fix);
        let now = explain(ground.node(), &CLIENT);
        match now.report["causes"].as_array().unwrap().first() {
            Some(next) => fix = next.clone(),
            None => break,
        }
    }
    assert!(ground.reaches(), "{rules}: {said:#?}");
    explain(ground.node(), &CLIENT).expect_open();
    said
}

/// Rules that let everything through: neither explain nor the doctor reports them.
#[track_caller]
fn passes(rules: &str) {
    let ground = Ground::new();
    ground.node().nft(rules);
    assert!(ground.reaches(), "{rules}");
    explain(ground.node(), &CLIENT).expect_open();
    assert_eq!(ground.doctor().kinds(), [""; 0], "{rules}");
}

fn chain(kind: &str, hook: &str, priority: i32, policy: &str, rules: &str) -> String {
    format!(
        "table inet own {{ chain some {{ type {kind} hook {hook} priority {priority}; policy {policy};
            {rules}; }}; }}"
    )
}

#[test]
fn an_answer_that_a_forward_chain_drops() {
    for (policy, rules) in [
        ("drop", "tcp dport 8080 accept"),
        ("drop", "iifname uplink0 oifname br0 ct state new accept; iifname transit0 accept"),
        ("accept", "iifname br0 drop"),
        ("accept", "ct state established drop"),
        ("accept", "ct direction reply drop"),
        ("accept", "tcp sport 8080 drop"),
        ("accept", "tcp flags & (syn | ack) == syn | ack drop"),
    ] {
        let said = stops(&chain("filter", "forward", 0, policy, rules), "forward-drop", "firewall");
        assert!(said.conclusion().contains("drops the container's answer"), "{said:#?}");
        assert!(said.step("firewall").contains("the answers of containers"), "{said:#?}");
    }
}

#[test]
fn a_forward_chain_that_lets_answers_through() {
    for rules in [
        "ct state established,related accept; tcp dport 8080 accept",
        "ct status dnat accept",
        "ct direction reply accept; oifname br0 accept",
        "tcp dport { 22, 8080 } accept; tcp sport 8080 tcp dport 32768-65535 accept",
        "ct state vmap { established : accept, related : accept, new : accept }",
    ] {
        passes(&chain("filter", "forward", 0, "drop", rules));
    }
    passes(&chain("filter", "forward", 0, "accept", "tcp dport 22 drop; ct state invalid drop"));
}

#[test]
fn a_chain_of_another_hook_that_drops() {
    for (kind, hook, priority, rules, step) in [
        ("filter", "prerouting", -300, "tcp dport 9000 drop", "other rules"),
        (
            "filter",
            "prerouting",
            -150,
            "ip daddr 192.0.2.1 tcp dport 9000 ct state new drop",
            "other rules",
        ),
        ("nat", "prerouting", -110, "tcp dport 9000 drop", "other rules"),
        ("filter", "prerouting", -50, "tcp dport 8080 ct status dnat drop", "translation"),
        ("filter", "postrouting", 0, "oifname br0 tcp dport 8080 drop", "source"),
        ("filter", "postrouting", 0, "oifname != br0 ct direction reply drop", "firewall"),
        ("filter", "prerouting", -300, "iifname br0 tcp sport 8080 drop", "firewall"),
        ("nat", "postrouting", 90, "tcp dport 8080 drop", "source"),
        // The answer is the same before and after the translation.
        ("filter", "prerouting", -100, "iifname br0 tcp sport 8080 drop", "firewall"),
    ] {
        stops(&chain(kind, hook, priority, "accept", rules), "hook-drop", step);
    }
    stops(
        &chain("filter", "prerouting", -300, "drop", "iifname br0 accept"),
        "hook-drop",
        "other rules",
    );
}

#[test]
fn a_chain_of_another_hook_that_lets_through() {
    for (hook, priority, rules) in [
        // Before connection tracking, every state is invalid.
        ("prerouting", -300, "ct state new drop; ct direction original drop"),
        ("prerouting", -300, "tcp dport 8080 drop"),
        ("prerouting", -150, "ct state invalid drop; ct status snat drop"),
        ("prerouting", -50, "tcp dport 9000 drop; fib daddr type local tcp dport 8080 drop"),
        ("prerouting", -300, "fib saddr . iif oif missing drop"),
        ("postrouting", 0, "tcp dport 9000 drop; iifname br0 oifname br0 drop"),
        // The answer is for this host.
        ("input", 0, "fib daddr type != { local, broadcast, multicast } drop"),
    ] {
        passes(&chain("filter", hook, priority, "accept", rules));
    }
}

#[test]
fn what_this_host_sends_and_an_output_chain_drops() {
    let ground = Ground::new();
    ground.node().nft(&chain("filter", "output", 0, "accept", "oifname lo ct status dnat drop"));
    assert!(tcp(ground.node(), (NODE4, 9000)).is_err());
    assert!(ground.reaches());
    let said = explain(ground.node(), &["9000", "--from", "192.0.2.1", "--to", "192.0.2.1"]);
    assert_eq!(said.causes(), ["hook-drop"], "{said:#?}");
    explain(ground.node(), &CLIENT).expect_open();
    let finding = ground.doctor().only("hook-drop");
    assert!(
        finding["what"].as_str().unwrap().contains("packets that this host sends"),
        "{finding:#}"
    );
    ground.mend(&finding);
    assert_eq!(tcp(ground.node(), (NODE4, 9000)).unwrap().server, "web");
    assert_eq!(ground.doctor().kinds(), [""; 0]);
}

#[test]
fn an_answer_to_this_host_that_an_input_chain_drops() {
    let ground = Ground::new();
    ground.node().nft(&chain(
        "filter",
        "input",
        0,
        "drop",
        "iifname lo accept; iifname uplink0 accept",
    ));
    assert!(
        Client::new(ground.node()).timeout(Duration::from_millis(300)).tcp((NODE4, 9000)).is_err()
    );
    assert!(ground.reaches());
    let said = explain(ground.node(), &["9000", "--from", "192.0.2.1", "--to", "192.0.2.1"]);
    assert_eq!(said.causes(), ["hook-drop"], "{said:#?}");
    explain(ground.node(), &CLIENT).expect_open();
    ground.mend(&said.report["causes"][0]);
    assert_eq!(tcp(ground.node(), (NODE4, 9000)).unwrap().server, "web");
}

#[test]
fn what_is_kept_from_connection_tracking_is_never_translated() {
    let said = stops(
        &chain("filter", "prerouting", -300, "accept", "tcp dport 9000 notrack"),
        "not-tracked",
        "other rules",
    );
    assert!(said.conclusion().contains("keeps the packet from being translated"), "{said:#?}");
    let said = stops(
        &chain("filter", "prerouting", -300, "accept", "iifname br0 tcp sport 8080 notrack"),
        "not-tracked",
        "firewall",
    );
    assert!(said.conclusion().contains("from being translated back"), "{said:#?}");
    let unsure = Ground::new();
    unsure.node().nft(&chain(
        "filter",
        "prerouting",
        -300,
        "accept",
        "ip saddr 203.0.113.0/24 notrack",
    ));
    explain(unsure.node(), &CLIENT).expect_open();
    assert_eq!(unsure.doctor().only("not-tracked")["severity"], "warning");
}

#[test]
fn what_this_host_calls_is_answered_to_an_address_of_its_own() {
    const OWN: [&str; 5] = ["9000", "--from", "192.0.2.1", "--to", "192.0.2.1"];
    let calls = |ground: &Ground| {
        Client::new(ground.node()).timeout(Duration::from_millis(300)).tcp((NODE4, 9000)).is_ok()
    };
    let open = Ground::new();
    open.node().nft(&chain("filter", "input", 0, "drop", "fib daddr type local accept"));
    assert!(calls(&open));
    explain(open.node(), &OWN).expect_open();
    let cut = Ground::new();
    let rule = "iifname br0 fib daddr type local drop";
    cut.node().nft(&chain("filter", "prerouting", -150, "accept", rule));
    assert!(!calls(&cut));
    let said = explain(cut.node(), &OWN);
    assert_eq!(said.causes(), ["hook-drop"], "{said:#?}");
    assert_eq!(said.report["reachable"], false, "{said:#?}");
}

/// One link may differ from what is known of the whole host, and after the hook's source translation, an answer
/// comes from the host port.
#[test]
fn what_is_uncertain_is_not_reported_as_certain() {
    let is_unsure = |ground: &Ground, asked: &[&str]| {
        let said = explain(ground.node(), asked);
        assert_eq!(said.causes(), ["hook-drop"], "{said:#?}");
        assert_eq!(said.report["reachable"], true, "{said:#?}");
    };
    let ground = Ground::new();
    let rule = "iifname transit0 fib daddr . iif type != { local, broadcast, multicast } drop";
    ground.node().nft(&chain("filter", "prerouting", -300, "accept", rule));
    assert!(tcp(ground.lab.beyond(), (NODE4, 9000)).is_err());
    assert_eq!(tcp(ground.lab.beyond(), ([198, 51, 100, 1], 9000)).unwrap().server, "web");
    for to in ["192.0.2.1", "198.51.100.1"] {
        is_unsure(&ground, &["9000", "--from", "198.51.100.2", "--to", to]);
    }
    for port in [8080, 9000] {
        let ground = Ground::new();
        let rules = format!("iifname uplink0 tcp dport {port} drop");
        ground.node().nft(&chain("filter", "prerouting", -100, "accept", &rules));
        is_unsure(&ground, &CLIENT);
    }
    for (port, reaches) in [(8080, true), (9000, false)] {
        let ground = Ground::new();
        let rule = format!("oifname uplink0 tcp sport {port} drop");
        ground.node().nft(&chain("filter", "postrouting", 150, "accept", &rule));
        assert_eq!(ground.answers(Duration::from_millis(300)), reaches);
        is_unsure(&ground, &CLIENT);
    }
    // After a nat chain that rewrites the source, the next one is not consulted.
    let ground = Ground::new();
    ground.node().nft(
        "table ip a { chain p { type nat hook postrouting priority 10; oifname br0 masquerade; }; }
         table ip b { chain q { type nat hook postrouting priority 20; oifname br0 drop; }; }",
    );
    assert!(ground.reaches());
    is_unsure(&ground, &CLIENT);
    assert_eq!(ground.doctor().code, Some(0));
}

/// The kernel takes the first of joined intervals that contain a key.
#[test]
fn the_first_of_overlapping_joined_intervals_decides() {
    let map = "ct state established accept; meta nfproto ipv6 accept; ip daddr . tcp dport vmap \
        { 10.85.0.0/24 . 8000-9000 : accept, 10.0.0.0/8 . 1-65535 : drop }";
    passes(&chain("filter", "forward", 0, "accept", map));
}

/// iptables lists and saves what the fix wrote into its table, and it is exactly the fix.
#[test]
fn a_fix_in_a_table_of_iptables_is_in_its_own_words() {
    let ground = Ground::with("9000:8080,9001:8081,9000:8080/udp", &[]);
    let sh = |command: &str| {
        let sh = || std::process::Command::new("sh").args(["-c", command]).output().unwrap();
        let output = ground.node().run(sh);
        assert!(output.status.success(), "{command}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    sh("iptables -P OUTPUT DROP; iptables -A OUTPUT -o lo -m conntrack --ctstate NEW -j DROP");
    let finding = ground.doctor().only("hook-drop");
    ground.mend(&finding);
    assert_eq!(tcp(ground.node(), (NODE4, 9000)).unwrap().server, "web");
    assert!(sh("iptables-save").contains("-A OUTPUT -m conntrack --ctstate DNAT -j ACCEPT"));
    sh(
        "iptables -P OUTPUT ACCEPT; iptables -F OUTPUT; iptables -t raw -A PREROUTING -p tcp --dport 9000:9001 -j DROP",
    );
    ground.mend(&ground.doctor().only("hook-drop"));
    assert!(ground.reaches());
    let saved = sh("iptables-save -t raw");
    assert!(
        saved.contains("-A PREROUTING -p tcp -m multiport --dports 9000,9001 -j ACCEPT"),
        "{saved}"
    );
}

/// A finding has limited room, and half a command repairs nothing.
#[test]
fn with_very_many_ports_no_truncated_command_is_printed() {
    let ground = Ground::with("9000:8080,20000-20399:20000-20399", &[]);
    ground.node().nft(&chain("filter", "prerouting", -300, "accept", "tcp dport 20000-20399 drop"));
    let finding = ground.doctor().only("hook-drop");
    assert!(finding["fix"].as_str().unwrap().starts_with("accept host ports"), "{finding:#}");
}

/// A quota that is used up, or a limit, lets the packet go on to the next rule.
#[test]
fn what_an_object_or_an_element_counts_may_be_used_up() {
    for (objects, rule) in [
        ("quota none { over 0 bytes }", "tcp dport 8080 quota name \"none\" drop"),
        (
            "limit few { rate 100/second }",
            "tcp dport 8080 limit name \"few\" accept; tcp dport 8080 drop",
        ),
        (
            "set few { type inet_service; size 16; limit rate 100/second; elements = { 8080 limit rate 100/second } }",
            "tcp dport @few accept; tcp dport 8080 drop",
        ),
    ] {
        let ground = Ground::new();
        ground.node().nft(&format!(
            "table inet own {{ {objects}
                chain some {{ type filter hook forward priority 0; policy accept; {rule}; }}; }}"
        ));
        let said = explain(ground.node(), &CLIENT);
        assert_eq!(said.causes(), ["forward-drop"], "{rule}: {said:#?}");
        assert!(said.step("firewall").starts_with("unsure "), "{rule}: {said:#?}");
    }
}

#[test]
fn a_missing_element_of_a_wildcard_is_not_in_the_way_of_a_packet_for_a_specific_address() {
    let ground = Ground::new();
    let other = ground.lab.pod("other");
    let _servers = other.serve(8080);
    let bundle = Bundle::of(&other).named("other");
    bundle.annotation("io.hostport.ports", "192.0.2.3:9000:8080").start(ground.node());
    ground.node().nft("delete element ip hostport ports { 0.0.0.0 . 9000 . tcp }");
    assert_eq!(tcp(ground.lab.client(), (NODE4_SECOND, 9000)).unwrap().server, "other");
    explain(ground.node(), &["9000", "--to", "192.0.2.3"]).expect_open();
    assert_eq!(explain(ground.node(), &["9000", "--to", "192.0.2.1"]).causes()[0], "port-missing");
}

#[test]
fn another_translation_to_the_same_container_is_not_in_the_way() {
    let ground = Ground::new();
    let same = |port: u16| {
        format!(
            "table ip other {{ chain pre {{ type nat hook prerouting priority dstnat - 10;
                tcp dport 9000 dnat to {}:{port}; }}; }}",
            ground.web.ipv4()
        )
    };
    ground.node().nft(&same(8080));
    assert!(ground.reaches());
    explain(ground.node(), &CLIENT).expect_open();
    assert_eq!(ground.doctor().kinds(), [""; 0]);
    ground.node().nft("delete table ip other");
    ground.node().nft(&same(8081));
    assert_eq!(explain(ground.node(), &CLIENT).causes(), ["translated-before"]);
}

#[test]
fn a_source_that_others_rewrite() {
    let ground = Ground::new();
    let masquerade = |rule: &str| {
        ground.node().nft(&format!(
            "table ip other {{ chain post {{ type nat hook postrouting priority srcnat; {rule} masquerade; }}; }}"
        ));
    };
    masquerade("oifname br0");
    let answer = tcp(ground.lab.client(), (NODE4, 9000)).unwrap();
    assert_ne!(answer.peer, std::net::IpAddr::from([192, 0, 2, 2]));
    let said = explain(ground.node(), &CLIENT).expect_open();
    assert!(
        said.step("source").contains("is rewritten by the chain post of the table ip other"),
        "{said:#?}"
    );
    ground.node().nft("delete table ip other");
    // Packets come without a mark; a rule may set one where that depends on what is not known.
    masquerade("meta mark 1");
    assert!(explain(ground.node(), &CLIENT).step("source").contains("192.0.2.2 is not rewritten"));
    let marks = |rule: &str| {
        ground.node().nft(&format!(
            "table ip marks {{ chain pre {{ type filter hook prerouting priority mangle; {rule} meta mark set 1; }}; }}"
        ));
    };
    marks("meta length 2000");
    let said = explain(ground.node(), &CLIENT).expect_open();
    assert!(said.step("source").contains("may be rewritten by the chain post"), "{said:#?}");
    ground.node().nft("delete table ip marks");
    marks("tcp dport 9001");
    assert!(explain(ground.node(), &CLIENT).step("source").contains("192.0.2.2 is not rewritten"));
    ground.node().nft("delete table ip marks; delete table ip other");
    masquerade("ip saddr 10.85.0.0/16 oifname != br0");
    assert!(explain(ground.node(), &CLIENT).step("source").contains("192.0.2.2 is not rewritten"));
}

/// Of two chains with one priority the younger comes first: than our table of the packet's own family.
#[test]
fn a_chain_of_both_families_is_compared_with_our_table_of_the_packets_own() {
    let ground = Ground::new();
    let other = ground.lab.pod("other");
    let _servers = other.serve(8080);
    ground.node().nft("delete table ip6 hostport");
    ground.node().nft(&format!(
        "table inet other {{ chain pre {{ type nat hook prerouting priority dstnat;
            tcp dport 9000 dnat ip to {}:8080; }}; }}",
        other.ipv4()
    ));
    // That makes our table of IPv6 the youngest.
    hostport(ground.node(), &["restore"]).expect_success();
    assert_eq!(tcp(ground.lab.client(), (NODE4, 9000)).unwrap().server, "other");
    let said = explain(ground.node(), &CLIENT);
    assert_eq!(said.causes(), ["translated-before"], "{said:#?}");
    assert_eq!(said.report["reachable"], false, "{said:#?}");
}

/// A rule of a table of both families that names no family but in its target.
#[test]
fn a_translation_into_one_family_leaves_the_packets_of_the_other_alone() {
    let ground = Ground::new();
    ground.node().nft(
        "table inet other { chain pre { type nat hook prerouting priority dstnat - 10;
            tcp dport 9000 dnat ip to 10.85.0.99; }; }",
    );
    assert_eq!(tcp(ground.lab.client(), (NODE6, 9000)).unwrap().server, "web");
    let client = ["9000", "--from", "2001:db8:1::2", "--to", "2001:db8:1::1"];
    explain(ground.node(), &client).expect_open();
    assert!(ground.is_cut_off());
    assert_eq!(explain(ground.node(), &CLIENT).causes()[0], "translated-before");
    // By its port alone, it is translated in both.
    ground.node().nft(
        "delete table inet other; table inet other { chain pre {
            type nat hook prerouting priority dstnat - 10; tcp dport 9000 dnat to :8081; }; }",
    );
    assert!(tcp(ground.lab.client(), (NODE4, 9000)).is_err());
    assert!(tcp(ground.lab.client(), (NODE6, 9000)).is_err());
    for asked in [CLIENT, client] {
        assert_eq!(explain(ground.node(), &asked).causes()[0], "translated-before");
    }
}

/// Such a chain sees the packet before the translation or behind it, and the answer in any case.
#[test]
fn a_chain_at_the_very_priority_of_the_translation_that_drops_everything() {
    for (policy, rules) in [("drop", "ct state invalid accept"), ("accept", "drop")] {
        let rules = chain("filter", "prerouting", -100, policy, rules);
        stops(&rules, "hook-drop", "firewall");
    }
}
