//! Dead owners, replacements, and what the journal is for.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;

use hostport_tests::hook::{
    Bundle, feed, hostport, journal_files, list, program, published, state_dir,
};
use hostport_tests::lab::{ClientError, Lab, NODE4, Protocol, Server, UdpFlow, tcp};
use hostport_tests::strace::{Call, Invocation};

const NOTHING: [&str; 0] = [];

#[test]
fn the_port_of_a_dead_container_goes_to_the_next_one_in_the_living_pod() {
    let lab = Lab::new();
    let pod = lab.pod("pod");
    let _servers = pod.serve(8080);
    // A container that restarts in place: another process, another ID, the same namespace; and the old container's
    // poststop is late.
    let init = pod.sleeper();
    let old = Bundle::of_process(init.pid()).annotation("io.hostport.ports", "9000:8080,9001:8080");
    old.start(lab.node());
    let next = pod.sleeper();
    let new = Bundle::of_process(next.pid()).annotation("io.hostport.ports", "9000:8080");
    // While both live, it serves both.
    new.start(lab.node());
    assert!(list(lab.node()).iter().all(|row| row["owner"] == old.id()));
    drop(init);
    new.start(lab.node());
    assert!(list(lab.node()).iter().all(|row| row["owner"] == new.id()), "all of the old is gone");
    old.stop(lab.node());
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "pod");
    // The pod reaches itself too: the hairpin element is the new container's.
    assert_eq!(tcp(&pod, (NODE4, 9000)).unwrap().server, "pod");
    new.stop(lab.node());
    assert_eq!(published(lab.node()), NOTHING);
    assert!(!lab.node().nft_list().contains("several"), "{}", lab.node().nft_list());
}

#[test]
fn an_owner_that_is_not_in_the_journal_counts_as_alive_and_the_error_names_the_fix() {
    let lab = Lab::new();
    let (old, new) = (lab.pod("old"), lab.pod("new"));
    let first = Bundle::of(&old).annotation("io.hostport.ports", "192.0.2.1:9000:8080");
    first.start(lab.node());
    fs::remove_dir_all(state_dir(lab.node())).unwrap();
    drop(old);
    let second = Bundle::of(&new).annotation("io.hostport.ports", "192.0.2.1:9000:8080");
    let refused = second.prestart(lab.node(), &[]).expect_failure();
    let command = "nft delete element ip hostport ports '{ 192.0.2.1 . 9000 . tcp }'";
    assert!(refused.stderr.contains(command), "{}", refused.stderr);
    lab.node().nft(&command.replace("nft ", "").replace('\'', ""));
    second.start(lab.node());
}

#[test]
fn the_journal_is_as_it_was_when_a_port_is_refused() {
    let lab = Lab::new();
    let (first, second) = (lab.pod("first"), lab.pod("second"));
    let owner = Bundle::of(&first).annotation("io.hostport.ports", "9000:8080");
    owner.start(lab.node());
    let late = Bundle::of(&second).annotation("io.hostport.ports", "9000:8080,9001:8080");
    late.prestart(lab.node(), &[]).expect_failure();
    let files: Vec<_> = journal_files(lab.node()).into_keys().collect();
    assert_eq!(files, [format!("{}.json", owner.id())]);
}

#[test]
fn a_replacement_takes_the_port_from_a_living_container_and_loses_no_flow() {
    let lab = Lab::new();
    let (old, new) = (lab.pod("old"), lab.pod("new"));
    let _servers = (old.serve(8080), new.serve(8080));
    let ports = "9000:8080,9000:8080/udp,9001:8080";
    let first = Bundle::of(&old).annotation("io.hostport.ports", ports);
    let second = Bundle::of(&new)
        .annotation("io.hostport.ports", "9000:8080,9000:8080/udp")
        .annotation("io.hostport.on-conflict", "replace");
    first.start(lab.node());
    let flow = UdpFlow::open(lab.client(), (NODE4, 9000));
    assert_eq!(flow.ask().unwrap().server, "old");
    second.start(lab.node());
    assert_eq!(flow.ask().unwrap().server, "old", "an established flow stays");
    let late = UdpFlow::open(lab.client(), (NODE4, 9000));
    assert_eq!(late.ask().unwrap().server, "new");
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "new");
    assert_eq!(tcp(lab.client(), (NODE4, 9001)).unwrap().server, "old", "not asked for, not taken");
    first.stop(lab.node());
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "new");
    assert_eq!(flow.ask().unwrap().server, "new", "once the old one has gone, the flow moves on");
    assert_eq!(tcp(lab.client(), (NODE4, 9001)), Err(ClientError::Refused));
}

#[test]
fn the_end_of_a_container_leaves_the_flows_of_its_replacement_in_the_same_pod() {
    let lab = Lab::new();
    let pod = lab.pod("pod");
    let _servers = pod.serve(8080);
    let first = Bundle::of(&pod).annotation("io.hostport.ports", "9000:8080/udp");
    let second = Bundle::of(&pod)
        .annotation("io.hostport.ports", "9000:8080/udp")
        .annotation("io.hostport.on-conflict", "replace");
    first.start(lab.node());
    second.start(lab.node());
    let flow = UdpFlow::open(lab.client(), (NODE4, 9000));
    assert_eq!(flow.ask().unwrap().server, "pod");
    first.stop(lab.node());
    assert_eq!(flow.ask().unwrap().server, "pod");
    // The flow would be counted again if it was forgotten.
    assert_eq!(list(lab.node())[0]["connections"], 1);
}

#[test]
fn a_pods_author_may_replace_only_if_the_option_allows_it() {
    let lab = Lab::new();
    let (old, new) = (lab.pod("old"), lab.pod("new"));
    Bundle::of(&old).annotation("io.hostport.ports", "9000:8080").start(lab.node());
    let second = Bundle::of(&new)
        .annotation("io.kubernetes.cri.container-type", "container")
        .annotation("io.kubernetes.container.ports", r#"[{"hostPort":9000,"containerPort":8080}]"#)
        .annotation("io.hostport.on-conflict", "replace");
    let refused = second.prestart(lab.node(), &[]).expect_failure();
    assert!(refused.stderr.contains("io.hostport.on-conflict is ignored"), "{}", refused.stderr);
    second.prestart(lab.node(), &["--allow-pod-annotation"]).expect_success();
    assert!(list(lab.node()).iter().all(|row| row["owner"] == second.id()));
}

#[test]
fn restore_brings_everything_back_after_a_flush() {
    let lab = Lab::new();
    let pods = ["a", "b", "c"].map(|name| lab.pod(name));
    let _servers = pods.each_ref().map(|pod| pod.serve(8080));
    let bundles = [0, 1, 2].map(|n| {
        let bundle = Bundle::of(&pods[n]).annotation("io.hostport.ports", &format!("900{n}:8080"));
        bundle.prestart(lab.node(), &["--exclude", "10.96.0.0/12"]).expect_success();
        bundle
    });
    // In one order, whichever table is younger.
    let tables = || {
        let list = lab.node().nft_list();
        let mut tables: Vec<String> = list.split_inclusive("\n}\n").map(str::to_owned).collect();
        tables.sort();
        tables
    };
    let before = tables();
    for damage in [
        "flush ruleset",
        "delete table ip hostport",
        "flush chain ip hostport publish; flush map ip hostport ports",
        "add element ip hostport ports { 0.0.0.0 . 80 . tcp : 10.85.0.99 . 80 }",
        "flush ruleset; table ip hostport { comment \"hostport schema 0\"; }",
    ] {
        lab.node().nft(damage);
        assert_ne!(tables(), before);
        hostport(lab.node(), &["restore"]).expect_success();
        assert_eq!(tables(), before, "{damage}");
    }
    for (n, port) in [9000, 9001, 9002].into_iter().enumerate() {
        assert_eq!(tcp(lab.client(), (NODE4, port)).unwrap().server, ["a", "b", "c"][n]);
        assert_eq!(tcp(&pods[n], (NODE4, port)).unwrap().server, ["a", "b", "c"][n]);
    }
    bundles.iter().for_each(|bundle| drop(bundle.stop(lab.node())));
    assert_eq!(published(lab.node()), NOTHING);
}

#[test]
fn restore_leaves_dead_owners_out_and_keeps_the_counters_of_what_is_right() {
    let lab = Lab::new();
    let (dead, alive) = (lab.pod("dead"), lab.pod("alive"));
    let _servers = alive.serve(8080);
    Bundle::of(&dead).annotation("io.hostport.ports", "9000:8080").start(lab.node());
    Bundle::of(&alive).annotation("io.hostport.ports", "9001:8080").start(lab.node());
    tcp(lab.client(), (NODE4, 9001)).unwrap();
    drop(dead);
    let restored = hostport(lab.node(), &["restore"]).expect_success();
    assert!(restored.stdout.ends_with("0 restored, 2 removed, 2 were right\n"), "{restored:?}");
    let rows = list(lab.node());
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["connections"], 1);
}

/// A command of ours in its own namespaces, by unshare(1).
#[track_caller]
/// As containerd names them.
#[test]
fn a_container_whose_entry_a_newer_version_wrote_keeps_its_ports_at_a_restore() {
    let lab = Lab::new();
    let (newer, web) = (lab.pod("newer"), lab.pod("web"));
    let _server = newer.serve(8080);
    let theirs = Bundle::of(&newer).annotation("io.hostport.ports", "9000:8080");
    theirs.start(lab.node());
    Bundle::of(&web).annotation("io.hostport.ports", "9001:8080").start(lab.node());
    let file = state_dir(lab.node()).join(format!("{}.json", theirs.id()));
    let text = fs::read_to_string(&file).unwrap().replace("\"version\":1", "\"version\":2");
    fs::write(&file, text).unwrap();
    for _ in 0..2 {
        let restored = hostport(lab.node(), &["restore"]).expect_success();
        assert!(restored.stderr.contains(theirs.id()), "{restored:?}");
        assert!(restored.stdout.ends_with("0 removed, 4 were right\n"), "{restored:?}");
        assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "newer");
    }
    hostport(lab.node(), &["restore", "--anew"]).expect_success();
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "newer");
}

#[test]
fn the_entry_of_an_owner_with_many_ports_is_read_a_few_times_and_not_once_a_port() {
    let lab = Lab::new();
    let (dead, web) = (lab.pod("dead"), lab.pod("web"));
    let ports = "9000-9029:9000-9029/udp";
    let gone = Bundle::of(&dead).annotation("io.hostport.ports", ports);
    gone.start(lab.node());
    let reads = |calls: Vec<Call>| {
        let entry = format!("\"{}.json\"", gone.id());
        calls.iter().filter(|c| c.name == "openat" && c.text.contains(&entry)).count()
    };
    let (_, gc) = Invocation::command(&["gc"]).trace(lab.node());
    assert!((1..=2).contains(&reads(gc)));
    drop(dead);
    let next = Bundle::of(&web).annotation("io.hostport.ports", ports);
    let (_, taken) = Invocation::prestart(&next).trace(lab.node());
    assert!((1..=4).contains(&reads(taken)));
    let owners: BTreeSet<_> = list(lab.node()).iter().map(|row| row["owner"].to_string()).collect();
    assert_eq!(owners.len(), 1, "taken over: {owners:?}");
}

#[test]
fn hostile_journal_files_are_set_aside_and_neither_obeyed_nor_lost() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080");
    bundle.start(lab.node());
    let folder = state_dir(lab.node());
    let good = fs::read_to_string(folder.join(format!("{}.json", bundle.id()))).unwrap();
    let hostile = [
        ("cut", good[..good.len() / 2].to_owned()),
        ("newer", good.replace("\"version\":1", "\"version\":2")),
        ("other", good.clone()),
        ("port", good.replace("9000", "0")),
        ("family", good.replace("0.0.0.0", "::")),
        ("binary", "\u{0}\u{1}".to_owned()),
        ("deep", "[".repeat(200_000)),
    ];
    for (name, text) in &hostile {
        fs::write(folder.join(format!("{name}.json")), text).unwrap();
    }
    std::os::unix::fs::symlink("/etc/passwd", folder.join("link.json")).unwrap();
    fs::create_dir(folder.join("folder.json")).unwrap();
    let before = lab.node().nft_list();
    let restored = hostport(lab.node(), &["restore"]).expect_success();
    assert_eq!(lab.node().nft_list(), before);
    for (name, text) in &hostile {
        let aside = fs::read_to_string(folder.join(format!("{name}.json.set-aside"))).unwrap();
        assert_eq!(aside, *text);
        assert!(restored.stderr.contains(&format!("{name}.json")), "{}", restored.stderr);
    }
    assert!(folder.join("link.json.set-aside").is_symlink());
    assert!(fs::read_to_string("/etc/passwd").unwrap().contains("root"));
}

#[test]
fn a_journal_that_others_may_write_in_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new();
    let web = lab.pod("web");
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080");
    fs::create_dir(state_dir(lab.node())).unwrap();
    fs::set_permissions(state_dir(lab.node()), fs::Permissions::from_mode(0o777)).unwrap();
    let refused = bundle.prestart(lab.node(), &[]).expect_failure();
    assert!(refused.stderr.contains("chmod 0700"), "{}", refused.stderr);
    assert_eq!(published(lab.node()), NOTHING);
    fs::remove_dir(state_dir(lab.node())).unwrap();
    std::os::unix::fs::symlink("/run", state_dir(lab.node())).unwrap();
    bundle.prestart(lab.node(), &[]).expect_failure();
    fs::remove_file(state_dir(lab.node())).unwrap();
    bundle.start(lab.node());
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state_dir(lab.node())), 0o700);
    assert_eq!(mode(&state_dir(lab.node()).join(format!("{}.json", bundle.id()))), 0o600);
}

#[test]
fn a_host_port_hides_a_server_of_the_node_until_it_is_withdrawn() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    let _own = Server::start(lab.node(), Protocol::Tcp, "node", (Ipv4Addr::UNSPECIFIED, 9000));
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080");
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "node");
    bundle.start(lab.node());
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
    bundle.stop(lab.node());
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "node");
}

#[test]
fn a_publication_whose_answer_was_lost_is_confirmed_by_a_read() {
    use std::process::Command;

    let lab = Lab::new();
    let (web, next) = (lab.pod("web"), lab.pod("next"));
    // Makes the tables, so that the call below finds them.
    let other = Bundle::of(&next).annotation("io.hostport.ports", "9009:8080");
    other.start(lab.node());
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "9000:8080");
    for call in 1..60 {
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-o", "/dev/null", "-e", "trace=recvfrom"]);
        strace.args(["-e", &format!("inject=recvfrom:error=ENOBUFS:when={call}")]);
        strace.arg(program()).args(["hook", "prestart", "--state-dir"]).arg(state_dir(lab.node()));
        fs::write(bundle.folder().join("config.json"), bundle.config().to_string()).unwrap();
        let state = bundle.state("created").to_string();
        let called = feed(lab.node(), strace, state.as_bytes());
        let entry = state_dir(lab.node()).join(format!("{}.json", bundle.id())).exists();
        let ports = published(lab.node()).iter().filter(|port| port.contains(" 9000/")).count();
        assert!([0, 2].contains(&ports), "half published: {called:?}");
        assert!(ports == 0 || entry, "published, and the journal does not know: {called:?}");
        assert_eq!(ports == 2, called.success(), "{called:?}");
        bundle.stop(lab.node());
        assert_eq!(published(lab.node()).len(), 2);
    }
}
