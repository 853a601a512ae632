//! Rules in tables that another program keeps: what the kernel would refuse, or the program would undo, is not advised.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use hostport_tests::doctor::{Ground, Report};
use hostport_tests::lab::Netns;
use hostport_tests::runtime::{Scratch, wait_until};

/// A program that owns the table `inet own`, which drops all that is forwarded. It ends with its input.
struct Owner(Child);

impl Owner {
    fn start(node: &Netns, program: &Path) -> Owner {
        let mut nft = Command::new(program);
        let nft = nft.arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = node.run(|| nft.spawn().unwrap());
        let rules = "add table inet own { flags owner; }\n\
            add chain inet own drops { type filter hook forward priority 0; policy drop; }\n";
        child.stdin.as_mut().unwrap().write_all(rules.as_bytes()).unwrap();
        assert!(wait_until(|| node.nft_list().contains("policy drop")), "{}", node.nft_list());
        Owner(child)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

/// The kernel lets nobody else change it.
fn is_refused(node: &Netns) -> bool {
    let insert = ["insert", "rule", "inet", "own", "drops", "ct", "status", "dnat", "accept"];
    !node.run(|| Command::new("nft").args(insert).output().unwrap().status.success())
}

fn fix(report: &Report, kind: &str) -> String {
    report.only(kind)["fix"].as_str().unwrap().to_owned()
}

#[test]
fn field_15_of_a_table_that_a_process_owns_the_process_is_named() {
    let ground = Ground::new();
    let node = ground.node();
    if !node.nft_since((5, 12), "table inet own { flags owner; }") {
        return;
    }
    let owner = Owner::start(node, Path::new("/usr/sbin/nft"));
    assert!(ground.is_cut_off() && is_refused(node));
    let expected = format!(
        "configure the process {} (nft) to accept packets with ct status dnat: it owns the table, and only it \
         can change it",
        owner.0.id()
    );
    assert_eq!(fix(&ground.doctor(), "forward-drop"), expected);
    drop(owner);
    assert!(wait_until(|| ground.reaches()));
    // firewalld has an own command.
    let scratch = Scratch::new("owner");
    let program = scratch.path().join("firewalld");
    fs::copy("/usr/sbin/nft", &program).unwrap();
    let _owner = Owner::start(node, &program);
    assert!(ground.is_cut_off() && is_refused(node));
    let said = fix(&ground.doctor(), "forward-drop");
    assert!(
        said.ends_with(
            "StrictForwardPorts=no in /etc/firewalld/firewalld.conf, and run: firewall-cmd --reload"
        ),
        "{said}"
    );
}

/// Docker's table of the nftables backend has no place for others, but a mark that it accepts.
#[test]
fn field_16_dockers_own_table_is_passed_with_its_mark() {
    let ground = Ground::new();
    ground.node().nft(
        "table ip docker-bridges { chain filter-FORWARD { type filter hook forward priority filter;
            meta mark 7 accept; oifname br0 ct state != established drop; }; }",
    );
    assert!(ground.is_cut_off());
    let said = fix(&ground.doctor(), "forward-drop");
    assert!(said.starts_with("start dockerd with --bridge-accept-fwmark=MARK, and set"), "{said}");
    assert!(!said.contains("nft insert"), "{said}");
    // As it says, with the mark 7.
    ground.node().nft(
        "table ip mine { chain forward { type filter hook forward priority filter - 1;
            ct status dnat meta mark set 7; }; }",
    );
    assert!(ground.reaches());
}

#[test]
fn field_16_a_rule_that_its_program_writes_again_is_not_to_be_deleted() {
    let rule = "tcp dport 9000 dnat ip to 10.85.0.99:8080";
    let keeps = |table: &str, chain: &str, program: &str, instead: &str| {
        let ground = Ground::new();
        ground.node().nft(&format!(
            "table {table} {{ chain {chain} {{ {rule}; }};
                chain before {{ type nat hook prerouting priority dstnat - 20; jump {chain}; }}; }}"
        ));
        assert!(ground.is_cut_off());
        let said = fix(&ground.doctor(), "translated-before");
        let expected = format!("{instead}: {program} writes the rule again if it is deleted");
        assert_eq!(said, expected, "{table} {chain}");
    };
    let service = "give the Kubernetes service another port";
    keeps("ip nat", "KUBE-NODEPORTS", "kube-proxy", service);
    keeps("ip kube-proxy", "external-ABC", "kube-proxy", service);
    let docker = "start the Docker container without that port (docker ps)";
    keeps("ip nat", "DOCKER", "dockerd", docker);
    let podman = "start the podman container without that port (podman ps)";
    keeps("inet netavark", "nv_dnat", "netavark", podman);
}
