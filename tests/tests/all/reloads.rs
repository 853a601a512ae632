//! Reloads of Debian's firewalls: firewalld itself, what nftables.service does, and rules of iptables-nft next to
//! ours. And systemd's own check of the units.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hostport_tests::firewalld::{Daemon, Firewalld};
use hostport_tests::hook::{Bundle, hostport, list, program, published, state_dir};
use hostport_tests::lab::{Client, Lab, NODE4, Netns, tcp};
use hostport_tests::runtime::{Scratch, run, wait_until};

const LIMIT: Duration = Duration::from_secs(30);

/// `hostport watch` in a node.
fn watch(node: &Netns) -> Daemon {
    let mut command = Command::new(program());
    Daemon::start(node, command.args(["watch", "--state-dir"]).arg(state_dir(node)))
}

/// Connects once to each of some ports of the node in turn, and counts the failures per port.
fn failures_while(lab: &Lab, ports: [u16; 2], work: impl FnOnce()) -> [u32; 2] {
    let stop = AtomicBool::new(false);
    let client = Client::new(lab.client()).timeout(Duration::from_millis(100));
    thread::scope(|scope| {
        let counting = scope.spawn(|| {
            let mut failures = [0; 2];
            let begin = Instant::now();
            while !stop.load(Ordering::Relaxed) && begin.elapsed() < LIMIT {
                for (failures, port) in failures.iter_mut().zip(ports) {
                    *failures += u32::from(client.tcp((NODE4, port)).is_err());
                }
            }
            failures
        });
        work();
        stop.store(true, Ordering::Relaxed);
        counting.join().unwrap()
    })
}

/// nft's text without what packets change.
fn without_counters(text: &str) -> String {
    let words: Vec<&str> = text.split_inclusive([' ', '\n']).collect();
    let number = |at: usize| at > 0 && ["packets ", "bytes "].contains(&words[at - 1]);
    (0..words.len()).filter(|at| !number(*at)).map(|at| words[at]).collect()
}

/// Every table except hostport's, with its handles: nft's JSON, and what iptables prints.
fn others(node: &Netns) -> String {
    let say = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        node.run(|| run(command.args(arguments))).expect_success().stdout
    };
    let ruleset: serde_json::Value =
        serde_json::from_str(&say("nft", &["-j", "-a", "list", "ruleset"])).unwrap();
    let mut objects = ruleset["nftables"].as_array().unwrap().clone();
    objects.retain(|object| {
        let ours = |o: &serde_json::Value| o["table"] == "hostport" || o["name"] == "hostport";
        !object.as_object().unwrap().values().any(ours)
    });
    // Its comments contain the time, and a chain's own counter counts the lab's neighbour discovery.
    let saved = say("iptables-nft-save", &["-c"]) + &say("ip6tables-nft-save", &["-c"]);
    let lines = saved.lines().filter(|line| !line.starts_with('#'));
    let bare = |line: &'_ str| match line.split_once(" [") {
        Some((chain, _)) if line.starts_with(':') => chain.to_owned(),
        _ => line.to_owned(),
    };
    let saved: Vec<String> = lines.map(bare).collect();
    format!("{}\n{}", serde_json::Value::from(objects), saved.join("\n"))
}

/// The rules of a container runtime and of an administrator on the same host.
fn load_other_rules(node: &Netns) {
    let rules = "*nat
:PREROUTING ACCEPT [7:420]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8088 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
[12:1040] -A DOCKER-USER -j RETURN
COMMIT
";
    let scratch = Scratch::new("rules");
    let file = scratch.path().join("rules");
    fs::write(&file, rules).unwrap();
    for program in ["iptables-nft-restore", "ip6tables-nft-restore"] {
        // The same for IPv6, except for the addresses.
        let v6 = rules.replace("172.17.0.2:80", "[2001:db8:17::2]:80");
        let v6 = v6.replace("172.17.0.0/16", "2001:db8:17::/64").replace("127.0.0.0/8", "::1");
        if program.starts_with("ip6") {
            fs::write(&file, v6).unwrap();
        }
        let mut command = Command::new(program);
        node.run(|| run(command.args(["-c"]).arg(&file))).expect_success();
    }
    node.nft(
        "table inet own {
            set seen { type ipv4_addr; elements = { 192.0.2.9 } }
            chain input { type filter hook input priority filter; policy accept;
                tcp dport 22 counter packets 5 bytes 300 accept; }; }",
    );
}

/// A file like /etc/nftables.conf, as nftables.service loads it.
fn load_nftables_conf(node: &Netns) {
    const CONF: &str = "#!/usr/sbin/nft -f

flush ruleset

table inet filter {
	chain input {
		type filter hook input priority filter;
	}
	chain forward {
		type filter hook forward priority filter;
	}
	chain output {
		type filter hook output priority filter;
	}
}
";
    let scratch = Scratch::new("nftables");
    let file = scratch.path().join("nftables.conf");
    fs::write(&file, CONF).unwrap();
    let mut command = Command::new("nft");
    node.run(|| run(command.arg("-f").arg(&file))).expect_success();
}

fn owners(node: &Netns) -> Vec<(String, String)> {
    let text = |row: &serde_json::Value, key: &str| row[key].to_string();
    list(node)
        .iter()
        .map(|row| (text(row, "host_ip") + ":" + &text(row, "host_port"), text(row, "owner")))
        .collect()
}

/// When firewalld reloads, our tables stay as they are, and our clients lose no more connections than those of a
/// rule that has nothing to do with hostport.
fn survives_firewalld(with_watch: bool) {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    let firewalld = Firewalld::start(lab.node());
    lab.node().nft(&format!(
        "table ip control {{ chain prerouting {{ type nat hook prerouting priority dstnat - 5
            ip daddr {NODE4} tcp dport 9100 dnat to {}:8080; }}; }}",
        web.ipv4()
    ));
    Bundle::of(&web).annotation("io.hostport.ports", "9000:8080").start(lab.node());
    let _watcher = with_watch.then(|| watch(lab.node()));
    let served = || tcp(lab.client(), (NODE4, 9000)).is_ok_and(|answer| answer.server == "web");
    assert!(wait_until(served));
    let tables = || {
        let all = without_counters(&lab.node().nft_list());
        let ours = all.split("\n}\n").filter(|table| table.contains(" hostport {"));
        ours.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = tables();
    assert_eq!(before.len(), 2);
    for reload in ["--reload", "--complete-reload"] {
        let [ours, control] = failures_while(&lab, [9000, 9100], || {
            firewalld.call(reload).expect_success();
        });
        assert!(
            ours <= control + 2,
            "{reload}: {ours} connections lost, {control} without hostport"
        );
        assert!(served(), "{reload}");
        assert_eq!(tables(), before, "{reload}");
        assert!(lab.node().nft_list().contains("table inet firewalld"), "it did reload");
    }
}

#[test]
fn a_firewalld_reload_takes_nothing_and_costs_no_more_than_it_costs_others() {
    survives_firewalld(false);
}

#[test]
fn watch_and_firewalld_do_not_disturb_each_other() {
    survives_firewalld(true);
}

#[test]
fn after_nftables_conf_was_loaded_watch_brings_all_back() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8999);
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", "8000-8999:8000-8999");
    bundle.start(lab.node());
    let _watcher = watch(lab.node());
    let client = Client::new(lab.client()).timeout(Duration::from_millis(100));
    let served = || client.tcp((NODE4, 8999)).is_ok_and(|answer| answer.server == "web");
    assert!(wait_until(served));
    let before = owners(lab.node());
    for _ in 0..5 {
        load_nftables_conf(lab.node());
        let begin = Instant::now();
        assert!(wait_until(served));
        let took = begin.elapsed();
        for _ in 0..20 {
            tcp(lab.client(), (NODE4, 8999)).unwrap_or_else(|_| panic!("lost after {took:?}"));
        }
        assert_eq!(owners(lab.node()), before);
        assert!(lab.node().nft_list().contains("table inet filter"), "the administrator's stays");
    }
}

#[test]
fn after_nftables_conf_was_loaded_restore_brings_all_back_with_the_same_owners() {
    let lab = Lab::new();
    let pods = ["a", "b"].map(|name| lab.pod(name));
    let _servers = pods.each_ref().map(|pod| pod.serve(8080));
    let inits = pods.each_ref().map(|pod| pod.sleeper());
    for (number, init) in inits.iter().enumerate() {
        let ports = format!("900{number}:8080,910{number}:8080/udp");
        Bundle::of_process(init.pid()).annotation("io.hostport.ports", &ports).start(lab.node());
    }
    tcp(lab.client(), (NODE4, 9000)).unwrap();
    let (rules, before) = (without_counters(&lab.node().nft_list()), owners(lab.node()));
    load_nftables_conf(lab.node());
    assert_eq!(published(lab.node()), [""; 0]);
    hostport(lab.node(), &["restore"]).expect_success();
    assert_eq!(owners(lab.node()), before);
    assert!(without_counters(&lab.node().nft_list()).ends_with(&rules), "the same tables");
    // What was flushed has lost its counters; what restore finds right keeps them.
    assert!(list(lab.node()).iter().all(|row| row["connections"] == 0));
    tcp(lab.client(), (NODE4, 9001)).unwrap();
    hostport(lab.node(), &["restore"]).expect_success();
    let count = |row: &serde_json::Value| row["connections"].as_u64().unwrap();
    assert_eq!(list(lab.node()).iter().map(count).sum::<u64>(), 1);
}

#[test]
fn restore_leaves_the_rules_of_docker_and_of_others_byte_for_byte() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    load_other_rules(lab.node());
    Bundle::of(&web).annotation("io.hostport.ports", "9000:8080").start(lab.node());
    let before = others(lab.node());
    assert!(before.contains("172.17.0.2") && before.contains("DOCKER-USER"), "{before}");
    for damage in ["delete table ip hostport", "flush table ip6 hostport", ""] {
        lab.node().nft(damage);
        hostport(lab.node(), &["restore"]).expect_success();
        assert_eq!(others(lab.node()), before, "{damage}");
    }
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
}

#[test]
fn systemd_accepts_the_units() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist/systemd");
    let scratch = Scratch::new("units");
    let mut names = Vec::new();
    for file in fs::read_dir(units).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        // As make install does for another PREFIX.
        let text = fs::read_to_string(&path).unwrap();
        let text = text.replace("/usr/local/bin/hostport", program().to_str().unwrap());
        fs::write(scratch.path().join(&name), text).unwrap();
        match name.strip_suffix("@.service") {
            Some(template) => names
                .extend(["nftables", "firewalld"].map(|unit| format!("{template}@{unit}.service"))),
            None => names.push(name),
        }
    }
    assert!(names.len() >= 2, "{names:?}");
    for name in names {
        let mut command = Command::new("systemd-analyze");
        command.arg("verify").arg(scratch.path().join(&name));
        let said = run(&mut command).expect_success();
        let about_us: Vec<&str> = said.stderr.lines().filter(|l| l.contains("hostport")).collect();
        assert_eq!(about_us, [""; 0], "{name}");
    }
}
