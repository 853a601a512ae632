//! Our tables, and what is in them.

use hostport_tests::hook::{Bundle, hostport};
use hostport_tests::lab::{BRIDGE4, Lab};

use hostport_tests::doctor::{Ground, doctor, text};

#[test]
fn a_table_that_is_missing() {
    let ground = Ground::new();
    let finding = ground.breaks_and_mends("table-missing", |ground| {
        ground.node().nft("delete table ip hostport");
        assert!(ground.is_cut_off());
    });
    assert_eq!(finding["severity"], "broken");
    assert!(text(&finding).contains("0.0.0.0:9000/tcp"), "{finding:#}");
    assert!(ground.reaches());
}

#[test]
fn another_programs_table_with_our_name() {
    let lab = Lab::new();
    lab.node().nft("table ip hostport { comment \"mine\"; }");
    let finding = doctor(lab.node()).only("table-foreign");
    assert_eq!(finding["fix"], "nft delete table ip hostport");
    lab.node().nft("delete table ip hostport");
    assert_eq!(doctor(lab.node()).kinds(), [""; 0]);
}

/// What somebody may do to the table by hand, and what the doctor reports of it.
const ALTERATIONS: [(&str, &str); 14] = [
    ("flush chain ip hostport guard", "the chain guard has 0 rules, not 1"),
    ("flush table ip6 hostport", "the chain publish has 0 rules, not 6"),
    ("add rule ip hostport publish counter", "the chain publish has 7 rules, not 6"),
    (
        "flush chain ip hostport prerouting; add rule ip hostport prerouting goto publish",
        "`fib daddr type local goto publish`",
    ),
    (
        "flush chain ip hostport guard
         add rule ip hostport guard iif != lo ip daddr 127.0.0.0/16 counter drop",
        "`iif != \"lo\" ip daddr 127.0.0.0/8 counter drop`",
    ),
    (
        "flush chain ip hostport guard
         add rule ip hostport guard iif != lo ip daddr 127.0.0.0/8 counter accept",
        "the chain guard has another rule",
    ),
    (
        "flush chain ip hostport publish
         add rule ip hostport publish ip daddr != @excluded return
         add rule ip hostport publish ip daddr . th dport . meta l4proto @restricted \
            ip daddr . th dport . ct protocol . ip saddr != @sources drop
         add rule ip hostport publish dnat ip to ip daddr . th dport . meta l4proto map @ports
         add rule ip hostport publish ip daddr . th dport . meta l4proto @kept return
         add rule ip hostport publish ip daddr & 0.0.0.0 . th dport . meta l4proto @restricted \
            ip daddr & 0.0.0.0 . th dport . ct protocol . ip saddr != @sources drop
         add rule ip hostport publish dnat ip to ip daddr & 0.0.0.0 . th dport . meta l4proto map @ports",
        "`ip daddr @excluded return`",
    ),
    ("add chain ip hostport extra", "the chain extra does not belong there"),
    (
        "add set ip hostport extra { type ipv4_addr; }",
        "the set extra does not belong there",
    ),
    (
        "delete rule ip hostport publish handle PUBLISH; add element ip hostport excluded { 192.0.2.0/24 }",
        "the chain publish has 5 rules, not 6",
    ),
    ("add element ip hostport excluded { 192.0.2.1 }", "its comment is"),
    ("flush chain ip6 hostport postrouting", "the chain postrouting has 0 rules, not 3"),
    ("add table ip hostport { flags dormant; }", "it is dormant"),
    ("add chain ip hostport guard { policy drop; }", "the chain guard is called from elsewhere"),
];

#[test]
fn a_table_that_was_altered() {
    let ground = Ground::new();
    for (alteration, says) in ALTERATIONS {
        let handle = |ground: &Ground| {
            let list = ["-a", "list", "chain", "ip", "hostport", "publish"];
            let listed = ground.node().command("nft").args(list).output().unwrap().stdout;
            let listed = String::from_utf8(listed).unwrap();
            let rule = listed.lines().find(|line| line.contains("@excluded")).unwrap().to_owned();
            rule.rsplit(' ').next().unwrap().to_owned()
        };
        let alteration = alteration.replace("PUBLISH", &handle(&ground));
        let finding = ground.breaks_and_mends("table-altered", |ground| {
            ground.node().nft(&alteration);
        });
        assert_eq!(finding["severity"], "broken");
        assert!(text(&finding).contains(says), "{alteration}: {finding:#}");
        assert!(ground.reaches(), "{alteration}");
    }
}

#[test]
fn a_table_whose_map_is_another() {
    let ground = Ground::new();
    ground.node().nft(
        "flush table ip hostport
         delete map ip hostport ports
         add map ip hostport ports { type ipv4_addr . inet_service : ipv4_addr . inet_service; }",
    );
    let report = ground.doctor();
    let finding = report.only("table-altered");
    assert!(text(&finding).contains("the set ports is of another type"), "{finding:#}");
    report.only("port-missing");
    ground.mend(&finding);
    assert_eq!(ground.doctor().kinds(), [""; 0]);
}

#[test]
fn another_name_and_journal_are_part_of_the_fix() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080");
    bundle.prestart(lab.node(), &["--table", "edge"]).expect_success();
    lab.node().nft("delete table ip edge");
    let said = hostport(lab.node(), &["doctor", "--table", "edge"]);
    let fix = format!(
        "fix: hostport restore --table edge --state-dir {}\n",
        hostport_tests::hook::state_dir(lab.node()).display()
    );
    assert!(said.stdout.contains(&fix), "{said:#?}");
    assert_eq!(doctor(lab.node()).kinds(), [""; 0], "of the other table nothing is known");
}

#[test]
fn elements_that_somebody_added_by_hand() {
    let ground = Ground::new();
    let finding = ground.breaks_and_mends("element-foreign", |ground| {
        ground.node().nft("add element ip hostport ports { 0.0.0.0 . 81 . tcp : 10.85.0.11 . 81 }");
    });
    assert_eq!(finding["severity"], "warning");
    assert!(text(&finding).contains("0.0.0.0:81/tcp"), "{finding:#}");
    let finding = ground.breaks_and_mends("element-foreign", |ground| {
        ground.node().nft("add element ip hostport ports { 0.0.0.0 . 0 . icmp : 10.85.0.11 . 81 }");
    });
    assert!(text(&finding).contains("has elements that are not mappings"), "{finding:#}");
}

#[test]
fn a_host_ip_that_is_excluded() {
    let options = ["--exclude", "192.0.2.0/24"];
    let ground = Ground::with("192.0.2.1:9000:8080", &options);
    let finding = ground.doctor().only("host-ip-excluded");
    assert_eq!(finding["severity"], "broken");
    assert!(text(&finding).contains("192.0.2.1:9000/tcp"), "{finding:#}");
    assert!(ground.is_cut_off());
    // As the fix says: without the option.
    ground.bundle.start(ground.node());
    assert!(ground.reaches());
    assert_eq!(ground.doctor().kinds(), [""; 0]);
}

#[test]
fn a_host_ip_that_the_host_does_not_have() {
    let ground = Ground::with("192.0.2.77:9000:8080", &[]);
    let finding = ground.doctor().only("host-ip-missing");
    assert_eq!(finding["severity"], "broken");
    assert!(text(&finding).contains("192.0.2.77:9000/tcp"), "{finding:#}");
    ground.node().ip("address add 192.0.2.77/24 dev uplink0");
    assert_eq!(ground.doctor().kinds(), [""; 0]);
}

#[test]
fn an_endpoint_without_a_route_or_of_the_hosts_own() {
    let ground = Ground::new();
    ground.node().ip("route add unreachable 10.85.0.11/32");
    let finding = ground.doctor().only("endpoint-unreachable");
    assert_eq!(finding["severity"], "broken");
    assert!(text(&finding).contains("no route to 10.85.0.11"), "{finding:#}");
    ground.node().ip("route del unreachable 10.85.0.11/32");
    assert_eq!(ground.doctor().kinds(), [""; 0]);
    ground
        .node()
        .ip(&format!("address del {BRIDGE4}/24 dev br0\naddress add 10.85.0.11/32 dev br0"));
    let finding = ground.doctor().only("endpoint-unreachable");
    assert!(text(&finding).contains("10.85.0.11 is an address of this host"), "{finding:#}");
}
