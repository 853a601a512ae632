//! Owners that have ended without a poststop: who counts as dead, and what becomes of their ports.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use hostport_tests::hook::{
    Bundle, feed, hostport, journal_files, list, program, published, state_dir,
};
use hostport_tests::lab::{
    Client, ClientError, Lab, NODE4, Netns, PodSpec, Protocol, Server, UdpFlow, tcp,
};
use hostport_tests::runtime::copy_program;
use hostport_tests::strace::{Call, Injection, Invocation};

#[test]
fn field_1_the_ports_of_dead_containers_never_lead_to_another_pod_at_their_address() {
    for dead in [1, 2] {
        let lab = Lab::new();
        let (old, node) = (lab.pod("old"), lab.node());
        // They end without a poststop.
        for number in 0..dead {
            let init = old.sleeper();
            let ports = format!("900{number}:8080,900{number}:8080/udp");
            Bundle::of_process(init.pid()).annotation("io.hostport.ports", &ports).start(node);
        }
        let new = lab.successor(old, PodSpec::new("new"));
        let _servers = new.serve(8080);
        let bundle = Bundle::of(&new).annotation("io.hostport.ports", "9100:8080");
        let said = bundle.prestart(node, &[]).expect_success();
        let client = Client::new(lab.client());
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for number in 0..dead {
                let answer = client.ask(protocol, (NODE4, 9000 + number));
                assert_eq!(answer, Err(ClientError::Refused), "{said:#?}");
            }
        }
        assert_eq!(tcp(lab.client(), (NODE4, 9100)).unwrap().server, "new");
        assert_eq!(journal_files(node).len(), 1);
        assert!(list(node).iter().all(|row| row["owner"] == bundle.id()));
        bundle.stop(node);
        assert!(!node.nft_list().contains("several"), "{}", node.nft_list());
    }
}

#[test]
fn field_2_a_container_on_the_hosts_network_gets_the_port_that_a_dead_one_had() {
    let lab = Lab::new();
    let (old, node) = (lab.pod("old"), lab.node());
    let _servers = old.serve(9000);
    let init = old.sleeper();
    let ports = "9000:9000,192.0.2.1:9000:9000/udp";
    Bundle::of_process(init.pid()).annotation("io.hostport.ports", ports).start(node);
    let sender = UdpFlow::open(lab.client(), (NODE4, 9000));
    assert_eq!(sender.ask().unwrap().server, "old");
    drop(init);
    let any = (Ipv4Addr::UNSPECIFIED, 9000);
    let _own = [Protocol::Tcp, Protocol::Udp].map(|p| Server::start(node, p, "host", any));
    let host = Bundle::on_host_network().annotation("io.hostport.ports", "9000:9000,9000:9000/udp");
    let said = host.prestart(node, &[]).expect_success();
    assert!(said.stderr.contains("which has ended"), "{}", said.stderr);
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "host");
    assert_eq!(sender.ask().unwrap().server, "host");
    assert_eq!((published(node), journal_files(node).len()), (vec![], 0));
}

/// FIELD 29.
#[test]
fn field_29_restore_removes_no_port_for_want_of_a_journal() {
    let lab = Lab::new();
    let (node, web) = (lab.node(), lab.pod("web"));
    let _servers = web.serve(8080);
    Bundle::of(&web).annotation("io.hostport.ports", "9000:8080").start(node);
    fs::remove_dir_all(state_dir(node)).unwrap();
    for arguments in [&["restore"][..], &["restore", "--anew"], &["restore", "--dry-run"]] {
        let said = hostport(node, arguments).expect_failure();
        let why = "the journal has no entry, but the kernel has 2 host ports";
        assert!(said.stderr.contains(why), "{said:?}");
        assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
    }
    let said = hostport(node, &["restore", "--force"]).expect_success();
    assert!(said.stdout.ends_with("0 restored, 2 removed, 0 were right\n"), "{said:?}");
    assert!(published(node).is_empty());
}

/// FIELD 29.
#[test]
fn field_29_restore_removes_no_port_for_want_of_one_entry() {
    let lab = Lab::new();
    let (node, web, other) = (lab.node(), lab.pod("web"), lab.pod("other"));
    let _servers = web.serve(8080);
    let bundle = Bundle::of(&web)
        .annotation("io.hostport.ports", "9000:8080")
        .annotation("io.hostport.allow-from", "192.0.2.0/24,2001:db8::/32");
    bundle.start(node);
    Bundle::of(&other).annotation("io.hostport.ports", "9001:8080").start(node);
    fs::remove_file(state_dir(node).join(format!("{}.json", bundle.id()))).unwrap();
    let before = published(node);
    for arguments in [&["restore"][..], &["restore", "--anew"], &["restore", "--dry-run"]] {
        let said = hostport(node, arguments).expect_success();
        let why = "kept 2 host ports of 1 owner without a journal entry";
        assert!(said.stderr.contains(why), "{said:?}");
        assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
    }
    assert_eq!(published(node), before);
    assert!(node.nft_list().contains("9000 . tcp . 192.0.2.0/24"), "{}", node.nft_list());
    let said = hostport(node, &["restore", "--force"]).expect_success();
    assert!(said.stdout.ends_with("0 restored, 2 removed, 2 were right\n"), "{said:?}");
    assert_eq!(published(node).len(), 2);
}

/// FIELD 29.
#[test]
fn field_29_a_dry_run_of_restore_says_what_would_change_and_changes_nothing() {
    let lab = Lab::new();
    let (node, web) = (lab.node(), lab.pod("web"));
    Bundle::of(&web).named("web").annotation("io.hostport.ports", "9000:8080").start(node);
    node.nft("delete element ip hostport ports { 0.0.0.0 . 9000 . tcp }");
    node.nft("add element ip hostport ports { 0.0.0.0 . 80 . tcp : 10.99.0.9 . 80 }");
    node.sysctl("net.ipv4.conf.br0.route_localnet", "0");
    let before = (node.nft_list(), journal_files(node));
    let said = hostport(node, &["restore", "--dry-run"]).expect_success().stdout;
    let lines = "would remove 0.0.0.0:80/tcp -> 10.99.0.9:80\n\
                 would restore 0.0.0.0:9000/tcp -> 10.85.0.11:8080 of web\n\
                 1 to restore, 1 to remove, 1 right\n";
    assert_eq!(said, lines);
    assert_eq!((node.nft_list(), journal_files(node)), before);
    assert_eq!(node.read_sysctl("net.ipv4.conf.br0.route_localnet"), "0");
    node.nft("flush ruleset");
    let said = hostport(node, &["restore", "--dry-run"]).expect_success().stdout;
    assert!(said.starts_with("would re-create table ip\n"), "{said}");
    assert_eq!(node.nft_list(), "");
}

#[test]
fn an_owner_recorded_without_a_process_is_dead_once_its_namespace_is_gone() {
    let lab = Lab::new();
    let (old, new) = (lab.pod("old"), lab.pod("new"));
    let _servers = new.serve(8080);
    let first = Bundle::of(&old).annotation("io.hostport.ports", "9000:8080");
    let second = Bundle::of(&new).annotation("io.hostport.ports", "9000:8080");
    first.start(lab.node());
    second.prestart(lab.node(), &[]).expect_failure();
    drop(old);
    second.start(lab.node());
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "new");
}

#[test]
fn gc_withdraws_what_dead_owners_left_and_says_so() {
    let lab = Lab::new();
    let (dead, alive) = (lab.pod("dead"), lab.pod("alive"));
    let gone = Bundle::of(&dead).annotation("io.hostport.ports", "9000:8080");
    gone.start(lab.node());
    Bundle::of(&alive).annotation("io.hostport.ports", "9001:8080").start(lab.node());
    drop(dead);
    let dry = hostport(lab.node(), &["gc", "--dry-run"]).expect_success();
    assert!(dry.stdout.contains("would withdraw 0.0.0.0:9000/tcp"), "{}", dry.stdout);
    assert_eq!(published(lab.node()).len(), 4);
    let done = hostport(lab.node(), &["gc"]).expect_success();
    assert!(done.stdout.contains(gone.id()), "{}", done.stdout);
    assert_eq!(published(lab.node()).len(), 2);
    assert!(!lab.node().nft_list().contains(gone.id()), "no hairpin element is left either");
    assert_eq!(hostport(lab.node(), &["gc"]).expect_success().stdout, "0 dead containers\n");
}

#[test]
fn gc_reports_what_it_withdrew_even_if_it_fails_later() {
    let lab = Lab::new();
    let (dead, web) = (lab.pod("dead"), lab.pod("web"));
    let gone = Bundle::of(&dead).annotation("io.hostport.ports", "9000:8080");
    gone.start(lab.node());
    Bundle::of(&web).annotation("io.hostport.ports", "9001:8080").start(lab.node());
    drop(dead);
    // Removing its entry fails, and removing the gate.
    let call = Call { name: "unlinkat".to_owned(), nth: 1, text: String::new() };
    let failed = Invocation::command(&["gc"]).inject(lab.node(), &call, Injection::Errors("EROFS"));
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stdout.contains("withdrew 0.0.0.0:9000/tcp"), "{failed:?}");
    assert_eq!(published(lab.node()).len(), 2);
}

#[test]
fn gc_goes_on_where_tracked_connections_cannot_be_forgotten() {
    let lab = Lab::new();
    let pod = lab.pod("pod");
    let gc = Invocation::command(&["gc"]);
    let leave_behind = || {
        let init = pod.sleeper();
        let bundle = Bundle::of_process(init.pid()).annotation("io.hostport.ports", "9000:53/udp");
        bundle.start(lab.node());
    };
    leave_behind();
    let (_, calls) = gc.trace(lab.node());
    let asks = |call: &&Call| call.name == "sendto" && call.text.contains("CTNETLINK");
    leave_behind();
    let ended = gc.inject(
        lab.node(),
        calls.iter().find(asks).expect("a look at the connections"),
        Injection::Error("EOPNOTSUPP"),
    );
    let ended = ended.expect_success();
    assert!(ended.stderr.contains("clients that keep sending"), "{ended:?}");
    assert!(ended.stdout.contains("withdrew 0.0.0.0:9000/udp"), "{ended:?}");
    assert!(journal_files(lab.node()).is_empty(), "{:?}", journal_files(lab.node()));
}

#[test]
fn a_pod_does_not_count_as_dead_where_its_namespace_is_not_visible() {
    let lab = Lab::new();
    let pod = lab.pod("pod");
    let _server = pod.serve(8080);
    Bundle::of(&pod).annotation("io.hostport.ports", "9000:8080").start(lab.node());
    // As in a container that mounts the journal: without the folder of namespaces, with one of its own, or with empty
    // files in it.
    let path = pod.path();
    let (folder, path) = (path.parent().unwrap().display(), path.display());
    // The program itself may be below /run.
    let copy = state_dir(lab.node()).with_file_name("hostport");
    copy_program(&program(), &copy);
    let blinds = [
        "mount -t tmpfs none /run".to_owned(),
        format!("mount -t tmpfs none {folder}"),
        format!("umount {path}"),
    ];
    for blind in blinds {
        for command in ["gc", "restore"] {
            let line = format!("{blind} && exec \"$@\"");
            let apart = ["--mount", "/bin/sh", "-c", &line, "sh"];
            leaves_two_ports(lab.node(), &apart, &copy, command);
        }
    }
    drop(pod);
    let done = hostport(lab.node(), &["gc"]).expect_success();
    assert!(done.stdout.ends_with("1 dead container\n"), "{done:?}");
}

#[test]
fn a_pod_named_by_its_sandboxs_process_does_not_count_as_dead_in_another_pid_namespace() {
    let lab = Lab::new();
    let pod = lab.pod("pod");
    let sandbox = pod.sleeper();
    let path = format!("/proc/{}/ns/net", sandbox.pid());
    Bundle::at(Path::new(&path)).annotation("io.hostport.ports", "9000:8080").start(lab.node());
    for command in ["gc", "restore"] {
        leaves_two_ports(lab.node(), &["--pid", "--fork", "--mount-proc"], &program(), command);
    }
    drop(sandbox);
    let done = hostport(lab.node(), &["gc"]).expect_success();
    assert!(done.stdout.ends_with("1 dead container\n"), "{done:?}");
}

#[test]
fn a_dry_run_changes_nothing_and_lists_what_dead_owners_still_have() {
    let lab = Lab::new();
    let (dead, web) = (lab.pod("dead"), lab.pod("web"));
    let gone = Bundle::of(&dead).annotation("io.hostport.ports", "9000:8080,9001:8080");
    gone.start(lab.node());
    let other = Bundle::of(&web).annotation("io.hostport.ports", "9002:8080");
    other.start(lab.node());
    drop(dead);
    lab.node().nft("delete element ip hostport ports { 0.0.0.0 . 9001 . tcp }");
    let folder = state_dir(lab.node());
    let file = folder.join(format!("{}.json", other.id()));
    let newer = fs::read_to_string(&file).unwrap().replace("\"version\":1", "\"version\":2");
    fs::write(&file, &newer).unwrap();
    let names = || {
        let files = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name());
        files.collect::<BTreeSet<_>>()
    };
    let (before, ruleset) = (names(), lab.node().nft_list());
    let dry = hostport(lab.node(), &["gc", "--dry-run"]).expect_success().stdout;
    assert_eq!((names(), lab.node().nft_list()), (before, ruleset));
    assert!(dry.contains("would withdraw 0.0.0.0:9000/tcp"), "{dry}");
    assert!(!dry.contains("would withdraw 0.0.0.0:9001/tcp"), "{dry}");
    let done = hostport(lab.node(), &["gc"]).expect_success().stdout;
    assert!(done.contains("withdrew 0.0.0.0:9000/tcp"), "{done}");
    assert!(!done.contains("withdrew 0.0.0.0:9001/tcp"), "{done}");
}

#[test]
fn a_folder_in_the_journal_that_is_named_like_a_writers_file_stops_no_command() {
    let lab = Lab::new();
    let web = lab.pod("web");
    Bundle::of(&web).annotation("io.hostport.ports", "9000:8080").start(lab.node());
    fs::create_dir(state_dir(lab.node()).join("somebodys.tmp")).unwrap();
    let done = hostport(lab.node(), &["gc"]).expect_success();
    assert_eq!(done.stdout, "0 dead containers\n");
    let restored = hostport(lab.node(), &["restore"]).expect_success();
    assert_eq!(restored.stderr, "");
}

fn leaves_two_ports(node: &Netns, apart: &[&str], program: &Path, command: &str) {
    let mut unshare = std::process::Command::new("/usr/bin/unshare");
    unshare.args(apart).arg(program).args([command, "--state-dir"]).arg(state_dir(node));
    let done = feed(node, unshare, b"").expect_success();
    assert_eq!(published(node).len(), 2, "{done:?}");
}

#[test]
fn field_35_restore_names_the_owners_of_what_it_restores() {
    let lab = Lab::new();
    let (node, web) = (lab.node(), lab.pod("web"));
    let bundle = Bundle::of(&web)
        .named(&"7c".repeat(32))
        .annotation("io.kubernetes.pod.name", "web")
        .annotation("io.kubernetes.pod.namespace", "default")
        .annotation("io.kubernetes.container.name", "c1")
        .annotation("io.hostport.ports", "9000:8080");
    bundle.start(node);
    node.nft("flush ruleset");
    let line = "0.0.0.0:9000/tcp -> 10.85.0.11:8080 of default/web (container c1) [7c7c7c7c7c7c]\n";
    for (arguments, did) in
        [(&["restore", "--dry-run"][..], "would restore"), (&["restore"], "restored")]
    {
        let said = hostport(node, arguments).expect_success().stdout;
        assert!(said.contains(&format!("{did} {line}")), "{said}");
    }
}
