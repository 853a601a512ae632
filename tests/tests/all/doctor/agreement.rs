//! The journal, and whether it agrees with the kernel.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use hostport_tests::hook::{Bundle, hostport, state_dir};
use hostport_tests::lab::Lab;

use hostport_tests::doctor::{Ground, doctor, text};

#[test]
fn a_host_port_that_is_missing() {
    let ground = Ground::new();
    let finding = ground.breaks_and_mends("port-missing", |ground| {
        ground.node().nft("delete element ip hostport ports { 0.0.0.0 . 9000 . tcp }");
        assert!(ground.is_cut_off());
    });
    assert_eq!(finding["severity"], "broken");
    assert!(text(&finding).contains("0.0.0.0:9000/tcp -> 10.85.0.11:8080"), "{finding:#}");
    assert!(ground.reaches());
}

#[test]
fn a_host_port_that_leads_elsewhere() {
    let ground = Ground::new();
    let finding = ground.breaks_and_mends("port-missing", |ground| {
        ground.node().nft(
            "delete element ip hostport ports { 0.0.0.0 . 9000 . tcp }
             add element ip hostport ports { 0.0.0.0 . 9000 . tcp comment \"web\" : 10.85.0.11 . 81 }",
        );
    });
    assert!(text(&finding).contains("it leads to 10.85.0.11:81 of web"), "{finding:#}");
    assert!(ground.reaches());
}

#[test]
fn a_host_port_whose_owner_is_not_in_the_journal() {
    let ground = Ground::with("9000:8080", &[]);
    fs::remove_file(state_dir(ground.node()).join("web.json")).unwrap();
    let report = ground.doctor();
    assert_eq!(report.kinds(), ["owner-unknown"; 2], "a family each");
    assert_eq!(report.findings[0]["severity"], "warning");
    let said = text(&report.findings[0]);
    assert!(said.contains("the journal has no entry for web"), "{said}");
    assert!(said.contains("after web has ended: nft delete element ip hostport ports"), "{said}");
    // As the fix says.
    for finding in &report.findings {
        let fix =
            finding["fix"].as_str().unwrap().strip_prefix("after web has ended: nft ").unwrap();
        ground.node().nft(&fix.replace('\'', ""));
    }
    assert_eq!(ground.doctor().kinds(), [""; 0]);
}

#[test]
fn a_host_port_that_its_owners_entry_does_not_list() {
    let ground = Ground::new();
    ground.node().nft(
        "add element ip hostport ports { 0.0.0.0 . 9009 . tcp comment \"web\" : 10.85.0.11 . 8080 }",
    );
    let said = text(&ground.doctor().only("owner-unknown"));
    assert!(said.contains("the journal's entry for web does not list it"), "{said}");
}

#[test]
fn a_dead_owner_that_has_host_ports_left() {
    let mut ground = Ground::new();
    assert_eq!(ground.doctor().kinds(), [""; 0]);
    ground.kill();
    let finding = ground.doctor().only("owner-dead");
    assert_eq!(finding["severity"], "broken");
    let said = text(&finding);
    assert!(said.contains("still published: 0.0.0.0:9000/tcp"), "{said}");
    assert!(said.contains("hostport gc"), "{said}");
    ground.mend(&finding);
    assert_eq!(ground.doctor().kinds(), [""; 0]);
}

#[test]
fn a_dead_owner_whose_pod_lives_is_a_finding_once_its_pod_has_ended() {
    let lab = Lab::new();
    let (node, web) = (lab.node(), lab.pod("web"));
    let init = web.sleeper();
    let bundle = Bundle::of(&web).process(init.pid());
    bundle.annotation("io.hostport.ports", "9000:8080").start(node);
    // As under CRI-O, between a crash and the next start: nobody else gets the address.
    drop(init);
    assert_eq!(doctor(node).kinds(), [""; 0]);
    drop(web);
    assert_eq!(doctor(node).only("owner-dead")["severity"], "broken");
}

#[test]
fn a_dead_owner_that_has_only_an_entry_left() {
    let mut ground = Ground::new();
    ground.kill();
    ground.node().nft("delete table ip hostport; delete table ip6 hostport");
    let finding = ground.doctor().only("owner-dead");
    assert!(text(&finding).contains("none of its host ports is still published"), "{finding:#}");
    ground.mend(&finding);
    assert_eq!(ground.doctor().kinds(), [""; 0]);
}

#[test]
fn a_pod_without_its_hairpin_element() {
    let ground = Ground::new();
    let finding = ground.breaks_and_mends("hairpin-missing", |ground| {
        ground.node().nft("flush set ip hostport hairpin");
    });
    assert_eq!(finding["severity"], "broken");
    assert!(text(&finding).contains("10.85.0.11"), "{finding:#}");
}

#[test]
fn a_journal_that_is_not_roots_alone() {
    let ground = Ground::new();
    let finding = ground.breaks_and_mends("journal-unreadable", |ground| {
        let folder = state_dir(ground.node());
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    });
    assert_eq!(finding["severity"], "broken");
}

#[test]
fn a_journal_that_is_not_a_folder() {
    let ground = Ground::new();
    let folder = state_dir(ground.node());
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "").unwrap();
    let report = ground.doctor();
    report.only("journal-unreadable");
    // What the kernel alone shows is still reported.
    ground.node().sysctl("net.ipv4.ip_forward", "0");
    ground.doctor().only("forwarding-off");
}

#[test]
fn a_damaged_entry_and_then_what_was_set_aside() {
    let ground = Ground::new();
    let folder = state_dir(ground.node());
    fs::write(folder.join("cut.json"), "{\"version\":1,").unwrap();
    let finding = ground.doctor().only("journal-damaged");
    assert_eq!(finding["severity"], "warning");
    assert!(text(&finding).contains("cut.json"), "{finding:#}");
    fs::create_dir(folder.join("folder.json")).unwrap();
    hostport(ground.node(), &["gc"]).expect_success();
    let report = ground.doctor();
    assert_eq!(report.kinds(), ["journal-set-aside"]);
    let said = text(&report.findings[0]);
    assert!(said.contains("cut.json.set-aside"), "{said}");
    assert!(said.contains("or restore removes their host ports"), "{said}");
    let command = said.split("then: ").last().unwrap().to_owned();
    let removed = std::process::Command::new("sh").args(["-c", &command]).status().unwrap();
    assert!(removed.success());
    assert_eq!(ground.doctor().kinds(), [""; 0]);
}

#[test]
fn a_file_that_was_set_aside_stays_while_its_container_runs() {
    let ground = Ground::new();
    let entry = state_dir(ground.node()).join("web.json");
    let newer = fs::read_to_string(&entry).unwrap().replace("\"version\":1", "\"version\":2");
    fs::write(&entry, newer).unwrap();
    hostport(ground.node(), &["restore"]).expect_success();
    let report = ground.doctor();
    let of_file = report.findings.iter().find(|finding| finding["kind"] == "journal-set-aside");
    let said = text(of_file.unwrap());
    assert!(said.contains("restart those of their containers that still run"), "{said}");
    // This is what the file is for.
    hostport(ground.node(), &["restore"]).expect_success();
    assert!(ground.reaches());
    fs::remove_file(entry.with_file_name("web.json.set-aside")).unwrap();
    hostport(ground.node(), &["restore"]).expect_failure();
    assert!(ground.reaches());
    hostport(ground.node(), &["restore", "--force"]).expect_success();
    assert!(ground.is_cut_off());
}

#[test]
fn what_is_down_on_the_way_to_dead_owners_alone_is_no_finding() {
    let mut ground = Ground::new();
    ground.kill();
    ground.node().ip("link set br0 down");
    assert_eq!(ground.doctor().kinds(), ["owner-dead"]);
}
