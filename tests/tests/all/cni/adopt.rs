//! The switch from portmap on a node whose pods go on: `hostport adopt`.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use hostport_tests::cni::{Attachment, PluginList};
use hostport_tests::doctor::{doctor, text};
use hostport_tests::hook::{Bundle, feed, hostport, journal_files, program, published, state_dir};
use hostport_tests::lab::{Lab, NODE4, NODE6, Netns, Server, tcp, udp};
use hostport_tests::runtime::Finished;
use serde_json::{Value, json};

/// How portmap publishes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Backend {
    /// By iptables, which is iptables-nft: Debian 12's portmap itself.
    Iptables,
    /// By nftables, as its later versions do: what they write, loaded by nft.
    Nftables,
}

/// A node with pods that portmap has published.
struct Node {
    lab: Lab,
    backend: Backend,
    records: PathBuf,
}

/// A pod that runs, with its attachment and its servers.
struct Web {
    netns: Netns,
    attachment: Attachment,
    _servers: [Server; 2],
}

/// portmap's part of the list.
fn portmap() -> Value {
    json!({ "type": "portmap", "capabilities": { "portMappings": true }, "snat": true })
}

impl Node {
    fn new(backend: Backend) -> Self {
        let lab = Lab::new();
        let records = lab.node().folder().join("results");
        fs::create_dir_all(&records).unwrap();
        if backend == Backend::Nftables {
            // portmap sets it on the link of the pod.
            lab.node().sysctl("net.ipv4.conf.all.route_localnet", "1");
        }
        Node { lab, backend, records }
    }

    fn netns(&self) -> &Netns {
        self.lab.node()
    }

    fn ptp(&self) -> Value {
        json!({
            "type": "ptp",
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": "10.88.0.0/24" }], [{ "subnet": "fd00:88::/64" }]],
                "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
                "dataDir": self.netns().folder().join("ipam"),
            },
        })
    }

    /// A pod that portmap publishes, and libcni's record of it.
    fn pod(&self, name: &str, ports: Value) -> Web {
        let netns = Netns::new(name);
        let mut attachment = Attachment::at(&netns.path()).port_mappings(ports);
        attachment.arguments =
            format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={name}");
        let list = match self.backend {
            Backend::Iptables => {
                PluginList::new("1.0.0", &[self.ptp()], ("/usr/lib/cni/portmap".into(), portmap()))
            }
            Backend::Nftables => {
                PluginList::new("1.0.0", &[], ("/usr/lib/cni/ptp".into(), self.ptp()))
            }
        };
        list.add(self.netns(), &mut attachment).unwrap_or_else(|done| panic!("{done:#?}"));
        if self.backend == Backend::Nftables {
            self.nftables(&attachment);
        }
        self.record(&attachment, "pods");
        let _servers = [
            // Of both families.
            Server::tcp(&netns, name, ([0u16; 8], 8080)),
            Server::udp(&netns, name, ([0u16; 8], 8080)),
        ];
        Web { netns, attachment, _servers }
    }

    /// What portmap's backend nftables loads for an attachment.
    fn nftables(&self, attachment: &Attachment) {
        let id = &attachment.id;
        for (family, at) in [("ip", 0), ("ip6", 1)] {
            let ip = address(attachment, at);
            let mut rules = String::new();
            for port in attachment.ports.as_array().unwrap() {
                let host_ip = port["hostIP"].as_str().unwrap_or("");
                let host_ip: Option<IpAddr> = host_ip.parse().ok();
                if host_ip.is_some_and(|ip| ip.is_ipv4() != (family == "ip")) {
                    continue;
                }
                let daddr = host_ip.filter(|ip| !ip.is_unspecified());
                let daddr = daddr.map(|ip| format!("{family} daddr {ip} ")).unwrap_or_default();
                let (protocol, from) = (port["protocol"].as_str().unwrap(), &port["hostPort"]);
                let to = std::net::SocketAddr::new(ip, 8080);
                rules.push_str(&format!(
                    "add rule {family} cni_hostport hostports {daddr}{protocol} dport {from} \
                     dnat to {to} comment \"{id}\"\n"
                ));
            }
            let localhost = match family {
                "ip" => format!(
                    "add rule ip cni_hostport masquerading ip saddr 127.0.0.1 ip daddr {ip} masquerade\n"
                ),
                _ => String::new(),
            };
            let base = |chain: &str, hook: &str, priority: &str| {
                format!(
                    "add chain {family} cni_hostport {chain} {{ type nat hook {hook} priority {priority}; }}\n"
                )
            };
            let jump = |chain: &str| {
                format!(
                    "flush chain {family} cni_hostport {chain}\n\
                     add rule {family} cni_hostport {chain} fib daddr type local jump hostports_all\n"
                )
            };
            let chain = |chain: &str| format!("add chain {family} cni_hostport {chain}\n");
            self.netns().nft(&[
                format!("add table {family} cni_hostport {{ comment \"CNI portmap plugin\"; }}\n"),
                chain("hostports"),
                chain("hostip_hostports"),
                chain("hostports_all"),
                format!("flush chain {family} cni_hostport hostports_all\n"),
                format!("add rule {family} cni_hostport hostports_all jump hostip_hostports\n"),
                format!("add rule {family} cni_hostport hostports_all jump hostports\n"),
                base("prerouting", "prerouting", "dstnat"),
                jump("prerouting"),
                base("output", "output", "-100"),
                jump("output"),
                base("masquerading", "postrouting", "srcnat"),
                rules,
                format!(
                    "add rule {family} cni_hostport masquerading {family} saddr {ip} {family} daddr {ip} \
                     masquerade comment \"{id}\"\n"
                ),
                localhost,
            ].concat());
        }
    }

    /// libcni's record of an attachment.
    fn record(&self, attachment: &Attachment, network: &str) -> PathBuf {
        let list =
            json!({ "cniVersion": "1.0.0", "name": network, "plugins": [self.ptp(), portmap()] });
        let arguments = attachment.arguments.split(';').filter_map(|pair| pair.split_once('='));
        let record = json!({
            "kind": "cniCacheV1",
            "containerId": attachment.id,
            "config": base64(&list.to_string()),
            "ifName": attachment.interface,
            "networkName": network,
            "netns": attachment.namespace,
            "cniArgs": arguments.map(|(key, value)| [key, value]).collect::<Vec<_>>(),
            "capabilityArgs": { "portMappings": attachment.ports },
            "result": attachment.previous,
        });
        let path =
            self.records.join(format!("{network}-{}-{}", attachment.id, attachment.interface));
        fs::write(&path, record.to_string()).unwrap();
        path
    }

    fn adopt(&self, options: &[&str]) -> Finished {
        let records = self.records.to_str().unwrap();
        hostport(self.netns(), &[&["adopt", "--results", records], options].concat())
    }

    /// What is left of portmap.
    fn rules(&self) -> Vec<String> {
        let list = self.netns().nft_list();
        let is_own = |line: &&str| {
            ["CNI-HOSTPORT-", "CNI-DN-", "cni_hostport"].iter().any(|own| line.contains(own))
        };
        list.lines().filter(is_own).map(str::to_owned).collect()
    }
}

fn address(attachment: &Attachment, at: usize) -> IpAddr {
    let address = &attachment.previous.as_ref().unwrap()["ips"][at]["address"];
    address.as_str().unwrap().split('/').next().unwrap().parse().unwrap()
}

/// As Go's encoding/json writes bytes.
fn base64(text: &str) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |bytes: &[u8]| {
        let at = |place: usize| u32::from(bytes.get(place).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        let digit = |place: usize| match place <= bytes.len() {
            true => DIGITS[(bits >> (18 - 6 * place) & 63) as usize] as char,
            false => '=',
        };
        [0, 1, 2, 3].map(digit)
    };
    text.as_bytes().chunks(3).flat_map(group).collect()
}

fn port(number: u16, protocol: &str) -> Value {
    json!({ "hostPort": number, "containerPort": 8080, "protocol": protocol, "hostIP": "" })
}

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
