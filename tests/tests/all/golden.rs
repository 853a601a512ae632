//! The ruleset as nft lists it from the kernel, against golden files in `tests/golden`.
//!
//! Each scenario is applied through netlink and listed by nft. Then nft loads the text that `hostport show` prints
//! in its place, and must list the same, and `hostport show --json` must equal `nft --json list` (nft 1.0.6 crashes
//! when it loads such JSON, even its own). To write the golden files again: `HOSTPORT_BLESS=1 cargo test -p
//! hostport-tests --test all golden::`, and review the difference.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use hostport_nft::{
    Claim, Conditions, Family, HostPort, HostPorts, Link, LinkName, Mapping, Publication, Settings,
};
use hostport_reference::{golden, golden_text};
use hostport_tests::hook::{Bundle, hostport, published};
use hostport_tests::lab::{Families, Lab, NODE4, Netns, Network, Pod, PodSpec, tcp};
use hostport_tests::schema::assert_valid;
use serde_json::Value;

/// The two tables as nft lists them, without a table that does not exist.
///
/// Two things are changed: the machine's boot becomes the one of the golden files, and versions of nft after 1.0.6
/// print the priority of an output chain from `dstnat` on. Nothing else is, neither counters nor any order.
fn tables(node: &Netns, name: &str) -> Vec<String> {
    let list = |family| {
        let output =
            node.run(|| Command::new("nft").args(["list", "table", family, name]).output());
        let output = output.expect("the nft program");
        let text = String::from_utf8(output.stdout).expect("text");
        let text = text.replace("hook output priority dstnat + 10", "hook output priority -90");
        text.replace(&format!(" boot {}", boot()), " boot 5f0c9a31")
    };
    ["ip", "ip6"].map(list).into_iter().filter(|text| !text.is_empty()).collect()
}

/// What the tables' comments name of the machine's boot.
fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("the boot's ID");
    id[..8].to_owned()
}

/// Compares what is in the kernel with the golden file, then with the result of our own text.
#[track_caller]
fn assert_golden(node: &Netns, scenario: &str, options: &[&str]) {
    let name = options.iter().skip_while(|option| **option != "--table").nth(1);
    let name = name.copied().unwrap_or("hostport");
    let listed = tables(node, name);
    assert!(!listed.is_empty(), "there is no table {name}");
    golden(&format!("{scenario}.nft"), &listed.join("\n"));

    let show = [&["show"], options].concat();
    let text = hostport(node, &show).expect_success().stdout;
    node.nft("flush ruleset");
    node.nft(&text);
    let loaded = tables(node, name);
    for table in &listed {
        assert!(loaded.contains(table), "our text:\n{text}\nlisted:\n{loaded:#?}\nnot:\n{table}");
    }

    let json = hostport(node, &[&show[..], &["--json"]].concat()).expect_success().stdout;
    let ours: Value = serde_json::from_str(&json).expect("JSON");
    assert_valid(include_str!("../../../docs/schemas/show.schema.json"), &ours);
    let ours = plain(ours["nftables"].as_array().expect("objects"));
    for family in ["ip", "ip6"]
        .iter()
        .filter(|f| listed.iter().any(|t| t.starts_with(&format!("table {f} "))))
    {
        for object in plain(&node.nft_list_json(family, name)) {
            assert!(ours.contains(&object), "nft lists\n{object}\nand we\n{ours:#?}");
        }
    }
}

/// nft's JSON objects as lines, without what only one of the two has: the kernel's handles, the versions, and the
/// table's comment, which nft 1.0.6 leaves out. Elements are sorted by their text.
fn plain(objects: &[Value]) -> Vec<String> {
    let line = |object: &Value| {
        let mut object = object.clone();
        for (kind, inner) in object.as_object_mut()?.iter_mut() {
            let inner = inner.as_object_mut()?;
            inner.remove("handle");
            if kind == "metainfo" {
                return None;
            }
            if kind == "table" {
                inner.remove("comment");
            }
            let elements = inner.get_mut("elem").and_then(Value::as_array_mut).into_iter();
            elements.for_each(|elements| elements.sort_by_key(Value::to_string));
        }
        Some(object.to_string())
    };
    objects.iter().filter_map(line).collect()
}

/// A lab with one pod, whose container `5e0f` asks for ports through a call of the hook.
fn hooked(spec: PodSpec, ports: &str, options: &[&str]) -> (Lab, Pod, Bundle) {
    let lab = Lab::new();
    let web = lab.add_pod(spec);
    let bundle = Bundle::of(&web).named("5e0f").annotation("io.hostport.ports", ports);
    bundle.prestart(lab.node(), options).expect_success();
    (lab, web, bundle)
}

/// A pod without a bridge, so that no link is in `same_link`.
fn routed() -> PodSpec {
    PodSpec::new("web").network(Network::Routed)
}

#[test]
fn a_ruleset_without_ports_is_the_skeleton() {
    let lab = Lab::new();
    let text = hostport(lab.node(), &["show"]).expect_success().stdout;
    lab.node().nft(&text);
    assert_golden(lab.node(), "empty", &[]);
}

#[test]
fn what_is_withdrawn_leaves_the_skeleton_alone() {
    let (lab, _web, bundle) = hooked(routed(), "9000:8080,9001:53/udp", &[]);
    bundle.stop(lab.node());
    assert_golden(lab.node(), "empty", &[]);
}

#[test]
fn one_of_two_pods_withdrawn_leaves_the_other() {
    let (lab, _web, bundle) = hooked(routed(), "9000:8080", &[]);
    let other = lab.add_pod(PodSpec::new("other").network(Network::Routed));
    let stays = Bundle::of(&other).named("77ab").annotation("io.hostport.ports", "9001:53/udp");
    stays.start(lab.node());
    bundle.stop(lab.node());
    assert_golden(lab.node(), "one_withdrawn", &[]);
}

fn claim(owner: &str, host_ip: &str, port: &str, protocol: &str, endpoint: (&str, &str)) -> Claim {
    let host = HostPort {
        host_ip: host_ip.parse().unwrap(),
        port: port.parse().unwrap(),
        protocol: protocol.parse().unwrap(),
    };
    let endpoint = hostport_nft::Endpoint {
        ip: endpoint.0.parse().unwrap(),
        port: endpoint.1.parse().unwrap(),
    };
    Claim { owner: owner.parse().unwrap(), mapping: Mapping::new(host, endpoint).unwrap() }
}

#[test]
fn the_worked_example_is_the_target() {
    let lab = Lab::new();
    let node = lab.node();
    let exclude = vec!["10.96.0.0/12".parse().unwrap()];
    let settings = Settings { exclude, ..Settings::default() };
    node.run(|| {
        let mut host_ports = HostPorts::open(settings).unwrap();
        let name = LinkName::new("cni0".as_ref()).unwrap();
        let links = vec![Link { family: Family::Ip, name, bypasses: true }];
        let claims = vec![
            claim("5e0f", "0.0.0.0", "9000", "tcp", ("10.85.0.11", "8080")),
            claim("5e0f", "::", "9000", "tcp", ("2001:db8:85::11", "8080")),
        ];
        let sources = [(claims[0].mapping.host(), vec!["192.0.2.0/24".parse().unwrap()])].into();
        let conditions = Conditions { links, sources, ..Conditions::default() };
        let restricted = Publication { claims, conditions, ..Publication::default() };
        host_ports.publish(&restricted, |_| false).unwrap();
        let claims = vec![
            claim("77ab", "192.0.2.1", "9001", "udp", ("10.85.0.12", "53")),
            claim("77ab", "0.0.0.0", "53", "udp", ("10.85.0.12", "53")),
        ];
        let host_ip = "127.0.0.53".parse().unwrap();
        let kept = [HostPort { host_ip, ..claims[1].mapping.host() }].into();
        let masqueraded = ["10.85.0.12".parse().unwrap()].into();
        let conditions = Conditions { kept, masqueraded, ..Conditions::default() };
        let masqueraded = Publication { claims, conditions, ..Publication::default() };
        host_ports.publish(&masqueraded, |_| false).unwrap();
    });
    let applied = tables(node, "hostport").join("\n");

    // The target as it was designed, in its own namespace. It lacks three things: the second pod's own hairpin
    // element, the wildcard that leaves an address alone, and the fingerprint of the settings in the comment.
    let target = Lab::new();
    target.node().nft(&golden_text("target.nft"));
    target
        .node()
        .nft("add element ip hostport hairpin { 10.85.0.12 . 10.85.0.12 comment \"77ab\" }");
    target.node().nft(
        "add element ip hostport ports { 0.0.0.0 . 53 . udp comment \"77ab\" : 10.85.0.12 . 53 }",
    );
    let fingerprint = applied.split(" settings ").nth(1).unwrap().split('"').next().unwrap();
    let without = applied.replace(&format!(" settings {fingerprint}"), "");
    assert_eq!(without, tables(target.node(), "hostport").join("\n"));
    assert_golden(node, "worked_example", &["--exclude", "10.96.0.0/12"]);
}

#[test]
fn a_wildcard_and_a_specific_address_live_side_by_side() {
    let ports = "9000:8080,192.0.2.1:9000:8081,192.0.2.3:9000:8082";
    let (lab, _web, _bundle) = hooked(routed(), ports, &[]);
    assert_golden(lab.node(), "wildcard_and_specific", &[]);
}

#[test]
fn a_pod_of_both_families_is_in_both_tables() {
    let ports = "9000:8080,[2001:db8:1::1]:9001:8080,192.0.2.1:9002:8080";
    let (lab, _web, _bundle) = hooked(routed(), ports, &[]);
    assert_golden(lab.node(), "dual_stack", &[]);
}

#[test]
fn a_pod_of_ipv6_alone_needs_no_table_for_ipv4() {
    let (lab, _web, _bundle) = hooked(routed().families(Families::Ipv6), "9000:8080", &[]);
    assert_golden(lab.node(), "ipv6_alone", &[]);
}

#[test]
fn one_port_serves_three_protocols() {
    let (lab, _web, _bundle) = hooked(routed(), "9000:53/tcp,9000:53/udp,9000:5000/sctp", &[]);
    assert_golden(lab.node(), "protocols", &[]);
}

/// `--exclude` before each prefix.
fn excluding<'a>(prefixes: &[&'a str]) -> Vec<&'a str> {
    prefixes.iter().flat_map(|prefix| ["--exclude", prefix]).collect()
}

#[test]
fn excluded_ranges_that_touch_or_overlap_are_one() {
    let options = excluding(&[
        "10.96.0.0/13", // two halves
        "10.104.0.0/13",
        "10.97.0.0/16",  // inside
        "192.0.2.64/26", // side by side, and no prefix together
        "192.0.2.128/25",
        "198.51.100.7/32",
        "fd00::/108",
        "fd00::1:0:0/96",
        "fd00::1/128",
    ]);
    let (lab, _web, _bundle) = hooked(routed(), "9000:8080", &options);
    assert_golden(lab.node(), "excluded", &options);
}

#[test]
fn excluded_ranges_reach_the_first_and_the_last_address() {
    let options = excluding(&["0.0.0.0/8", "240.0.0.0/4", "::/96", "ff00::/8"]);
    let (lab, _web, _bundle) = hooked(routed(), "9000:8080", &options);
    assert_golden(lab.node(), "excluded_edges", &options);
}

#[test]
fn all_addresses_can_be_excluded() {
    let options = excluding(&["0.0.0.0/0", "::/0"]);
    let (lab, _web, _bundle) = hooked(routed(), "9000:8080", &options);
    assert_golden(lab.node(), "excluded_all", &options);
}

#[test]
fn without_localhost_its_network_is_excluded_and_not_masqueraded() {
    let options = ["--no-localhost"];
    let (lab, _web, _bundle) = hooked(routed(), "9000:8080", &options);
    assert_golden(lab.node(), "no_localhost", &options);
}

#[test]
fn the_tables_can_have_another_name() {
    let options = ["--table", "edge-ports_2"];
    let (lab, _web, _bundle) = hooked(routed(), "9000:8080", &options);
    assert_golden(lab.node(), "another_name", &options);
}

#[test]
fn two_containers_of_a_pod_share_its_hairpin_element() {
    let (lab, web, _bundle) = hooked(routed(), "9000:8080", &[]);
    let second = Bundle::of(&web).named("77ab").annotation("io.hostport.ports", "9001:8081");
    second.start(lab.node());
    assert_golden(lab.node(), "shared_hairpin", &[]);
}

#[test]
fn a_bridge_that_netfilter_does_not_see_is_in_same_link() {
    let (lab, _web, _bundle) = hooked(PodSpec::new("web"), "9000:8080", &[]);
    assert_golden(lab.node(), "same_link", &[]);
}

#[test]
fn two_hundred_ports_are_two_hundred_elements() {
    let (lab, _web, _bundle) = hooked(routed(), "10000-10199:20000-20199", &[]);
    assert_eq!(published(lab.node()).len(), 400);
    assert_golden(lab.node(), "two_hundred_ports", &[]);
}

#[test]
fn counters_are_carried_over_when_the_settings_change() {
    let (lab, web, _bundle) = hooked(routed(), "9000:8080,9001:8080", &[]);
    let _servers = web.serve(8080);
    for _ in 0..3 {
        assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
    }
    // Another pod's call has other settings, and therefore replaces the table.
    let other = lab.add_pod(PodSpec::new("other").network(Network::Routed));
    let second = Bundle::of(&other).named("77ab").annotation("io.hostport.ports", "9002:53/udp");
    let options = excluding(&["10.96.0.0/12"]);
    second.prestart(lab.node(), &options).expect_success();
    assert_golden(lab.node(), "carried_counters", &options);
}

#[test]
fn a_library_user_withdraws_what_the_hook_published() {
    let (lab, _web, _bundle) = hooked(routed(), "9000:8080", &[]);
    lab.node().run(|| {
        let hosts: BTreeSet<HostPort> = ["0.0.0.0", "::"]
            .map(|ip| claim("5e0f", ip, "9000", "tcp", (ip, "1")).mapping.host())
            .into();
        let mut host_ports = HostPorts::open(Settings::default()).unwrap();
        host_ports.withdraw(&"5e0f".parse().unwrap(), &hosts, &BTreeSet::new()).unwrap();
    });
    assert_golden(lab.node(), "empty", &[]);
}
