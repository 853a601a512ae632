//! The switch from portmap on a node whose pods go on: `hostport adopt`.

mod node;

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use hostport_tests::cni::{Attachment, PluginList};
use hostport_tests::doctor::{doctor, text};
use hostport_tests::hook::{Bundle, feed, hostport, journal_files, program, published, state_dir};
use hostport_tests::lab::{NODE4, NODE6, Netns, tcp, udp};
use serde_json::json;

use node::{Backend, Node, Web, address, port};

/// Clients connect in a loop through 100 ports of four pods, from all sides, until `work` is done.
fn no_connection_fails(node: &Node, pods: &[Web], work: impl FnOnce()) {
    let (stop, made) = (AtomicBool::new(false), AtomicUsize::new(0));
    let ask = |from: &Netns, to: IpAddr| {
        while !stop.load(Ordering::Relaxed) {
            for number in 0..100u16 {
                let answer = tcp(from, (to, 9000 + number));
                let server = answer.unwrap_or_else(|error| panic!("{to} port {number}: {error:?}"));
                assert_eq!(server.server, format!("web-{}", number / 25));
                made.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let client = node.lab.client();
    thread::scope(|scope| {
        // Also if the work panics.
        let _stop = OnDrop(&stop);
        let sides = [
            (client, NODE4.into()),
            (client, IpAddr::from(NODE6)),
            (node.netns(), NODE4.into()),
            (node.netns(), [127, 0, 0, 1].into()),
            (&pods[0].netns, NODE4.into()),
        ];
        let ask = &ask;
        let clients: Vec<_> =
            sides.into_iter().map(|(from, to)| scope.spawn(move || ask(from, to))).collect();
        let wait = |more: usize| {
            let enough = made.load(Ordering::Relaxed) + more;
            while made.load(Ordering::Relaxed) < enough && !clients.iter().any(|c| c.is_finished())
            {
                thread::yield_now();
                thread::sleep(std::time::Duration::from_millis(5));
            }
        };
        wait(500);
        work();
        wait(1000);
    });
}

/// Sets a flag when it is dropped.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn nobody_loses_a_connection(backend: Backend) {
    let node = Node::new(backend);
    let pod = |number: u16| {
        let first = 9000 + 25 * number;
        let ports = (first..first + 25).map(|number| port(number, "tcp"));
        let udp = port(first, "udp");
        node.pod(&format!("web-{number}"), ports.chain([udp]).collect())
    };
    let pods = [0, 1, 2, 3].map(pod);
    let before = node.netns().nft_list();
    no_connection_fails(&node, &pods, || {
        let dry = node.adopt(&["--dry-run", "--remove"]).expect_success();
        let to = address(&pods[1].attachment, 0);
        let line = format!("would adopt 0.0.0.0:9030/tcp -> {to}:8080 of shop/web-1 [");
        assert!(dry.stdout.contains(&line), "{}", dry.stdout);
        assert!(
            dry.stdout.ends_with(
                "would adopt 208 host ports, 0 were published already, 0 failed\n\
                 would remove portmap's rules for 208 host ports\n"
            ),
            "{}",
            dry.stdout
        );
        assert!(journal_files(node.netns()).is_empty() && published(node.netns()).is_empty());

        let done = node.adopt(&[]).expect_success();
        assert!(
            done.stdout.contains("adopted 208 host ports, 0 were published"),
            "{}",
            done.stdout
        );
        assert!(done.stdout.ends_with("hostport adopt --remove\n"), "{}", done.stdout);
        assert_eq!(published(node.netns()).len(), 208);
        assert!(!node.rules().is_empty());
        let finding = doctor(node.netns()).only("portmap-left");
        assert!(
            text(&finding).contains("published by hostport too: 0.0.0.0:9000/tcp"),
            "{finding}"
        );

        let again = node.adopt(&["--remove"]).expect_success();
        assert_eq!(
            again.stdout,
            "adopted 0 host ports, 208 were published already, 0 failed\n\
             removed portmap's rules for 208 host ports\n"
        );
        assert_eq!(node.rules(), Vec::<String>::new());
        assert_eq!(doctor(node.netns()).kinds(), Vec::<&str>::new());
    });
    assert_ne!(before, node.netns().nft_list());
    assert_eq!(udp(node.lab.client(), (NODE4, 9025)).unwrap().server, "web-1");
    let done = node.adopt(&["--remove"]).expect_success();
    assert!(done.stdout.ends_with("portmap has no rules here\n"), "{}", done.stdout);

    // They are hostport's now, and go with their pods.
    let keys = json!({
        "type": "hostport", "capabilities": { "portMappings": true }, "stateDir": state_dir(node.netns()),
    });
    let list = PluginList::new("1.0.0", &[node.ptp()], (program(), keys));
    for pod in &pods {
        list.del(node.netns(), &pod.attachment).unwrap_or_else(|done| panic!("{done:#?}"));
    }
    assert!(published(node.netns()).is_empty() && journal_files(node.netns()).is_empty());
}

#[test]
fn no_connection_is_lost_on_the_way_from_iptables() {
    nobody_loses_a_connection(Backend::Iptables);
}

#[test]
fn no_connection_is_lost_on_the_way_from_nftables() {
    nobody_loses_a_connection(Backend::Nftables);
}

/// A port that another has is named, and portmap's rules stay as they are, all of them.
fn a_taken_port_is_named(backend: Backend) {
    let node = Node::new(backend);
    let other = node.lab.pod("other");
    Bundle::of(&other)
        .named("other")
        .annotation("io.hostport.ports", "9001:80/tcp")
        .start(node.netns());
    let web = node.pod("web", json!([port(9000, "tcp"), port(9001, "tcp")]));
    let before = node.rules();
    let dry = node.adopt(&["--dry-run"]).expect_failure();
    assert!(dry.stdout.contains("would adopt 0.0.0.0:9000/tcp"), "{}", dry.stdout);
    assert!(
        dry.stdout.contains("not adopted: host port 0.0.0.0:9001/tcp leads to"),
        "{}",
        dry.stdout
    );
    let done = node.adopt(&["--remove"]).expect_failure();
    assert!(done.stdout.contains("adopted 0.0.0.0:9000/tcp"), "{}", done.stdout);
    assert!(
        done.stdout.contains("not adopted: host port 0.0.0.0:9001/tcp is taken by"),
        "{}",
        done.stdout
    );
    let to = address(&web.attachment, 0);
    let left =
        format!("portmap's rules stay, all of them, because of 0.0.0.0:9001/tcp -> {to}:8080");
    assert!(done.stdout.contains(&left), "{}", done.stdout);
    assert_eq!(node.rules().len(), before.len());
    for number in [9000, 9001] {
        assert_eq!(tcp(node.lab.client(), (NODE4, number)).unwrap().server, "web", "{backend:?}");
    }
}

#[test]
fn a_port_that_is_taken_is_named_and_everything_of_iptables_stays() {
    a_taken_port_is_named(Backend::Iptables);
}

#[test]
fn a_port_that_is_taken_is_named_and_everything_of_nftables_stays() {
    a_taken_port_is_named(Backend::Nftables);
}

#[test]
fn host_ips_and_the_rules_of_others_in_the_same_table_are_kept() {
    for backend in [Backend::Iptables, Backend::Nftables] {
        let node = Node::new(backend);
        let on = |number: u16, ip: &str| {
            let mut port = port(number, "tcp");
            port["hostIP"] = ip.into();
            port
        };
        let ports =
            json!([on(9000, "192.0.2.1"), on(9001, "0.0.0.0"), on(9002, &NODE6.to_string())]);
        let _web = node.pod("web", ports);
        let iptables = |arguments: &str| {
            let mut command = Command::new("/usr/sbin/iptables-nft");
            feed(
                node.netns(),
                {
                    command.args(arguments.split(' '));
                    command
                },
                b"",
            )
            .expect_success();
        };
        iptables("-t nat -N KUBE-X");
        iptables("-t nat -A KUBE-X -p tcp --dport 9100 -j DNAT --to-destination 10.88.0.9:1");
        iptables("-t nat -A PREROUTING -m addrtype --dst-type LOCAL -j KUBE-X");
        let done = node.adopt(&["--remove"]).expect_success();
        assert!(done.stdout.contains("adopted 3 host ports"), "{backend:?}: {}", done.stdout);
        assert!(done.stdout.contains("adopted 192.0.2.1:9000/tcp -> "), "{}", done.stdout);
        assert_eq!(node.rules(), Vec::<String>::new());
        let list = node.netns().nft_list();
        assert_eq!(list.matches("KUBE-X").count(), 2, "{list}");
        assert_eq!(tcp(node.lab.client(), (NODE4, 9000)).unwrap().server, "web");
        assert_eq!(tcp(node.lab.client(), (NODE6, 9002)).unwrap().server, "web");
    }
}

#[test]
fn of_two_pods_with_one_port_the_older_one_keeps_it() {
    let node = Node::new(Backend::Iptables);
    let ports = json!([port(9000, "tcp")]);
    let older = node.pod("older", ports.clone());
    let _newer = node.pod("newer", ports);
    // In the order of the names it would be the second.
    let record = |name: &str| node.records.join(name);
    fs::rename(record(&format!("pods-{}-eth0", older.attachment.id)), record("zzz")).unwrap();
    for options in [&["--dry-run"][..], &["--remove"]] {
        assert_eq!(tcp(node.lab.client(), (NODE4, 9000)).unwrap().server, "older");
        let done = node.adopt(options).expect_failure();
        let mut lines = done.stdout.lines();
        let (adopted, not) = (lines.next().unwrap(), lines.nth(1).unwrap());
        assert!(adopted.contains("0.0.0.0:9000/tcp -> ") && adopted.contains("older"), "{adopted}");
        assert!(
            not.starts_with("not adopted: ") && not.contains("asked for by shop/newer"),
            "{not}"
        );
    }
    assert_eq!(tcp(node.lab.client(), (NODE4, 9000)).unwrap().server, "older");
}

#[test]
fn what_is_gone_is_left_out_and_what_cannot_be_read_fails() {
    let node = Node::new(Backend::Iptables);
    let mut gone = Attachment::at(Path::new("/run/netns/gone")).ports(&[(9000, 8080, "tcp")]);
    gone.previous = Some(json!({ "cniVersion": "1.0.0", "ips": [{ "address": "10.88.0.9/24" }] }));
    node.record(&gone, "pods");
    let done = node.adopt(&["--remove"]).expect_success();
    assert!(done.stdout.starts_with("left out shop/web-0 ["), "{}", done.stdout);
    assert!(
        done.stdout.contains("its network namespace /run/netns/gone is gone\n"),
        "{}",
        done.stdout
    );
    assert!(done.stdout.ends_with("0 failed\nportmap has no rules here\n"), "{}", done.stdout);

    // A path that leads into another pod by now.
    let other = node.lab.pod("other");
    gone.namespace = other.path();
    let record = node.record(&gone, "pods");
    let done = node.adopt(&[]).expect_success();
    assert!(done.stdout.contains("has none of its addresses\n"), "{}", done.stdout);
    assert!(published(node.netns()).is_empty());

    for (text, why) in [
        ("{", "not a record of libcni"),
        (r#"{"kind":"x"}"#, "not a record of libcni"),
        (
            &fs::read_to_string(&record).unwrap().replace("\"netns\"", "\"was\""),
            "no network namespace",
        ),
    ] {
        fs::write(&record, text).unwrap();
        let done = node.adopt(&[]).expect_failure();
        assert!(
            done.stdout.contains("not adopted: pods-") && done.stdout.contains(why),
            "{}",
            done.stdout
        );
    }
    let done = hostport(node.netns(), &["adopt", "--results", "/nowhere"]).expect_failure();
    assert!(
        done.stderr.contains("/nowhere") && done.stderr.contains("--results"),
        "{}",
        done.stderr
    );
}

#[test]
fn the_commands_for_iptables_legacy_are_printed() {
    let node = Node::new(Backend::Iptables);
    let run = |line: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("PATH=/usr/sbin:/usr/bin:/sbin:/bin; {line}")]);
        feed(node.netns(), command, b"").expect_success()
    };
    for rule in [
        "-N CNI-HOSTPORT-DNAT",
        "-N CNI-DN-5e0f",
        "-A CNI-DN-5e0f -p tcp --dport 9000 -j DNAT --to-destination 10.88.0.2:8080",
        "-A CNI-HOSTPORT-DNAT -p tcp --dport 9000 -j CNI-DN-5e0f",
        "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
        "-N OTHER",
    ] {
        run(&format!("iptables-legacy -t nat {rule}"));
    }
    let done = node.adopt(&["--remove"]).expect_success();
    let command = done.stdout.lines().last().unwrap();
    assert!(command.starts_with("iptables-legacy-save "), "{}", done.stdout);
    run(command);
    let left = run("iptables-legacy-save").stdout;
    assert!(left.contains(":OTHER") && !left.contains("CNI-"), "{left}");
}
