//! Tables of an older schema, and of another boot.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use hostport_reference::golden_text;
use hostport_tests::hook::{Bundle, hostport, state_dir};
use hostport_tests::lab::{Lab, NODE4, Pod, tcp};

/// A container as a hook of schema 1 has left it: its entry, and tables of that time.
fn of_schema_1(lab: &Lab, pod: &Pod) -> Bundle {
    let bundle = Bundle::of(pod).named("5e0f").annotation("io.hostport.ports", "9000:8080");
    bundle.start(lab.node());
    lab.node().nft("flush ruleset");
    lab.node().nft(&golden_text("schema_1.nft"));
    bundle
}

fn is_whole(lab: &Lab) {
    let report = hostport(lab.node(), &["doctor"]).expect_success().stdout;
    assert!(!report.contains("warning"), "{report}");
    let listed = lab.node().nft_list();
    assert!(listed.contains("hostport schema 2 boot ") && !listed.contains("schema 1"), "{listed}");
}

#[test]
fn the_first_publication_replaces_a_table_of_schema_1_with_all_that_it_has() {
    let lab = Lab::new();
    let (web, other) = (lab.pod("web"), lab.pod("other"));
    let (_web, _other) = (web.serve(8080), other.serve(8080));
    let old = of_schema_1(&lab, &web);
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
    let echo = lab.client().run(|| TcpStream::connect((NODE4, 9000)).unwrap());
    Bundle::of(&other).annotation("io.hostport.ports", "9001:8080").start(lab.node());
    is_whole(&lab);
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
    assert_eq!(tcp(lab.client(), (NODE4, 9001)).unwrap().server, "other");
    // From the same bridge: the link came along by its name.
    assert_eq!(tcp(&other, (NODE4, 9000)).unwrap().server, "web");
    assert!(lab.node().nft_list().contains(r#""br0" . "br0""#), "{}", lab.node().nft_list());
    let count = |port: u16| {
        let listed = hostport(lab.node(), &["list", "--json"]).expect_success().stdout;
        let listed: Vec<serde_json::Value> = serde_json::from_str(&listed).unwrap();
        let is = |p: &&serde_json::Value| p["host_port"] == port && p["host_ip"] == "0.0.0.0";
        listed.iter().find(is).unwrap()["connections"].as_u64().unwrap()
    };
    assert!(count(9000) >= 4, "its counter came along");
    // What was connected stays so.
    let answer = (&echo).write_all(b"?\n").and_then(|()| (&echo).read(&mut [0; 100]));
    assert!(answer.is_ok_and(|length| length > 0));
    old.stop(lab.node());
    assert!(tcp(lab.client(), (NODE4, 9000)).is_err());
}

#[test]
fn a_restore_replaces_a_table_of_schema_1() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    of_schema_1(&lab, &web);
    let said = hostport(lab.node(), &["restore"]).expect_success().stdout;
    assert!(said.contains("re-created table ip\n"), "{said}");
    is_whole(&lab);
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
}

/// `nft list ruleset` was saved before a reboot, and is loaded at boot, when no bridge is there yet.
#[test]
fn field_13_a_saved_ruleset_loads_and_holds_nobodys_ports() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    Bundle::of(&web).annotation("io.hostport.ports", "9000:8080,9001:8080").start(lab.node());
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let saved = lab.node().nft_list().replace(&format!("boot {}", &boot[..8]), "boot 00000000");
    assert!(saved.contains("boot 00000000") && saved.contains(r#""br0" . "br0""#), "{saved}");
    let rebooted = || {
        let lab = Lab::new();
        let loaded = saved.replace(r#""br0" . "br0""#, r#""cni9" . "cni9""#);
        lab.node().nft(&loaded);
        lab
    };

    // A new container gets the port at once, and nothing of the old table stays.
    let lab = rebooted();
    let next = lab.pod("next");
    let _servers = next.serve(8080);
    Bundle::of(&next).annotation("io.hostport.ports", "9000:8080").start(lab.node());
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "next");
    let listed = hostport(lab.node(), &["list", "--json"]).expect_success().stdout;
    assert!(!listed.contains("9001"), "{listed}");
    is_whole(&lab);

    // Restore, as at boot, needs no --force for it.
    let lab = rebooted();
    assert!(!state_dir(lab.node()).exists());
    let report = hostport(lab.node(), &["doctor"]);
    assert!(report.stdout.contains("boot 00000000"), "{}", report.stdout);
    hostport(lab.node(), &["restore"]).expect_success();
    let listed = hostport(lab.node(), &["list", "--json"]).expect_success().stdout;
    assert_eq!(listed.trim(), "[]");
}
