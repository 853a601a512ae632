//! Containers whose addresses come or change while they run, and what a reload of their network leaves behind. restore
//! and watch run as in their systemd units: with CAP_NET_ADMIN alone.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};

use hostport_tests::doctor::{Ground, doctor, text};
use hostport_tests::hook::{Bundle, feed, hostport, journal_files, program, published, state_dir};
use hostport_tests::lab::{
    BRIDGE4, BRIDGE6, Client, ClientError, Families, Lab, NODE4, NODE6, Network, Pod, PodSpec,
    Protocol, UdpFlow, tcp,
};
use hostport_tests::runtime::{Finished, wait_until};

const PORTS: &str = "9000:8080,9000:8080/udp";
const BOTH: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

fn confined(lab: &Lab, command: &str) -> Command {
    let mut confined = Command::new("/usr/bin/setpriv");
    confined.args(["--bounding-set", "-all,+net_admin"]).arg(program());
    confined.args([command, "--state-dir"]).arg(state_dir(lab.node()));
    confined
}

#[track_caller]
fn restore(lab: &Lab) -> Finished {
    feed(lab.node(), confined(lab, "restore"), b"").expect_success()
}

struct Watcher(Child, std::path::PathBuf);

impl Watcher {
    fn start(lab: &Lab) -> Watcher {
        let path = lab.node().folder().join("watch.log");
        let log = fs::File::create(&path).unwrap();
        let mut command = confined(lab, "watch");
        command.stdin(Stdio::null()).stderr(log);
        let watcher = Watcher(lab.node().run(|| command.spawn().unwrap()), path);
        assert!(wait_until(|| watcher.log().contains("watching")));
        watcher
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.1).unwrap()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Who answers at the node's two addresses, over TCP and UDP.
fn answers(lab: &Lab) -> [Result<String, ClientError>; 4] {
    let ask = |ip: IpAddr, protocol| {
        Client::new(lab.client()).ask(protocol, (ip, 9000)).map(|answer| answer.server)
    };
    let [four, six] = [NODE4.into(), NODE6.into()].map(|ip| BOTH.map(|protocol| ask(ip, protocol)));
    let ([a, b], [c, d]) = (four, six);
    [a, b, c, d]
}

fn all_of(name: &str) -> [Result<String, ClientError>; 4] {
    [(); 4].map(|()| Ok(name.to_owned()))
}

fn move_to(pod: &Pod, ipv4: &str, ipv6: &str) {
    pod.ip(&format!(
        "addr flush dev eth0 scope global
         addr add {ipv4}/24 dev eth0
         route add default via {BRIDGE4}
         addr add {ipv6}/64 dev eth0 nodad
         route replace default via {BRIDGE6} dev eth0"
    ));
}

/// FIELD 7: its own link has another address than at its start.
#[test]
fn field_7_restore_and_watch_follow_a_container_to_its_new_address() {
    for by_process in [true, false] {
        let lab = Lab::new();
        let web = lab.pod("web");
        let _servers = web.serve(8080);
        let init = web.sleeper();
        let bundle = match by_process {
            true => Bundle::of_process(init.pid()),
            false => Bundle::of(&web),
        };
        let bundle = bundle.annotation("io.hostport.ports", PORTS);
        bundle.start(lab.node());
        assert_eq!(answers(&lab), all_of("web"));
        move_to(&web, "10.85.0.99", "2001:db8:85::99");
        let said = restore(&lab);
        let line = "restored 0.0.0.0:9000/tcp -> 10.85.0.99:8080";
        assert!(said.stdout.contains(line), "{said:?}");
        assert!(said.stderr.contains("published at the address that"), "{said:?}");
        assert_eq!(answers(&lab), all_of("web"));
        let said = restore(&lab).stdout;
        assert_eq!(said, "0 restored, 0 removed, 4 were right\n");
        let _watcher = Watcher::start(&lab);
        move_to(&web, "10.85.0.98", "2001:db8:85::98");
        let line = "0.0.0.0 9000/tcp -> 10.85.0.98 8080".to_owned();
        assert!(wait_until(|| published(lab.node()).contains(&line)), "within ten seconds");
        assert_eq!(answers(&lab), all_of("web"));
        // Its end withdraws all of it, and nothing is left of the former addresses.
        bundle.stop(lab.node());
        assert!(!lab.node().nft_list().contains(bundle.id()), "{}", lab.node().nft_list());
        assert_eq!(journal_files(lab.node()).len(), 0);
    }
}

/// FIELD 7: a UDP client that does not stop sending is led to the new address.
#[test]
fn field_7_the_flows_of_a_client_follow_too() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    Bundle::of(&web).annotation("io.hostport.ports", PORTS).start(lab.node());
    let flow = UdpFlow::open(lab.client(), (NODE4, 9000));
    assert_eq!(flow.ask().unwrap().server, "web");
    move_to(&web, "10.85.0.99", "2001:db8:85::99");
    restore(&lab);
    assert_eq!(flow.ask().unwrap().server, "web");
}

/// FIELD 7: a pod that had IPv4 alone gets an IPv6 address.
#[test]
fn field_7_a_family_whose_first_address_comes_later_is_published() {
    let lab = Lab::new();
    let web = lab.add_pod(PodSpec::new("web").families(Families::Ipv4));
    let _servers = web.serve(8080);
    let bundle = Bundle::of(&web).annotation("io.hostport.ports", PORTS);
    bundle.start(lab.node());
    assert_eq!(published(lab.node()).len(), 2);
    restore(&lab);
    assert_eq!(published(lab.node()).len(), 2);
    // It sends all the time, so the kernel tracks it as one of the node's own.
    let flow = UdpFlow::open(lab.client(), (NODE6, 9000));
    assert_eq!(flow.ask(), None);
    web.ip(&format!(
        "addr add 2001:db8:85::11/64 dev eth0 nodad\nroute add default via {BRIDGE6} dev eth0"
    ));
    restore(&lab);
    assert_eq!(flow.ask().unwrap().server, "web");
    assert_eq!(answers(&lab), all_of("web"));
    bundle.stop(lab.node());
    assert_eq!(published(lab.node()), [""; 0]);
    assert_eq!(journal_files(lab.node()).len(), 0);
}

/// FIELD 7: Kubernetes names an address of the node in the family that the pod lacks at first.
#[test]
fn field_7_what_kubernetes_asks_for_in_a_missing_family_is_published_later() {
    let lab = Lab::new();
    let web = lab.add_pod(PodSpec::new("web").families(Families::Ipv4));
    let _servers = web.serve(8080);
    let ports = format!(r#"[{{"hostIP":"{NODE6}","hostPort":9000,"containerPort":8080}}]"#);
    let bundle = Bundle::of(&web).annotation("io.kubernetes.container.ports", &ports);
    let said = bundle.start(lab.node()).stderr;
    assert!(
        said.contains("is not published: the container has no address of its family"),
        "{said}"
    );
    web.ip(&format!(
        "addr add 2001:db8:85::11/64 dev eth0 nodad\nroute add default via {BRIDGE6} dev eth0"
    ));
    restore(&lab);
    assert_eq!(tcp(lab.client(), (NODE6, 9000)).unwrap().server, "web");
    bundle.stop(lab.node());
    assert_eq!(published(lab.node()), [""; 0]);
}

/// FIELD 7: of two networks, the second has the default route, as with Multus.
#[test]
fn field_7_a_pod_of_two_networks_is_followed_on_its_own_link() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    lab.node().ip(&format!(
        "link add net1 type veth peer name net1 netns {}
         link set net1 up
         address add 10.99.0.1/24 dev net1",
        web.path().file_name().unwrap().to_str().unwrap()
    ));
    web.ip(
        "link set net1 up\naddress add 10.99.0.2/24 dev net1\nroute del default via 10.85.0.1\n\
         route add default via 10.99.0.1 dev net1\nroute add 192.0.2.0/24 via 10.85.0.1",
    );
    Bundle::of(&web).annotation("io.hostport.ports", "9000:8080").start(lab.node());
    web.ip("addr del 10.85.0.11/24 dev eth0\naddr add 10.85.0.99/24 dev eth0\n\
         route add 192.0.2.0/24 via 10.85.0.1");
    restore(&lab);
    let now = published(lab.node());
    assert!(now.contains(&"0.0.0.0 9000/tcp -> 10.85.0.99 8080".to_owned()), "{now:?}");
    assert_eq!(tcp(lab.client(), (NODE4, 9000)).unwrap().server, "web");
}

/// FIELD 7: the port of an owner whose journal file cannot be read stays its.
#[test]
fn field_7_an_address_that_comes_takes_no_port_from_an_owner_that_cannot_be_read() {
    let lab = Lab::new();
    let late = lab.add_pod(PodSpec::new("late").families(Families::None));
    let early = lab.pod("early");
    Bundle::of(&late).annotation("io.hostport.ports", "9000:8080").start(lab.node());
    let first = Bundle::of(&early).annotation("io.hostport.ports", "9000:8080");
    first.start(lab.node());
    let before = published(lab.node());
    fs::write(state_dir(lab.node()).join(format!("{}.json", first.id())), "{").unwrap();
    late.ip("addr add 10.85.0.50/24 dev eth0");
    restore(&lab);
    assert_eq!(published(lab.node()), before);
}

/// FIELD 7: what the user has named stays, and so does what no link of the container's own leads to.
#[test]
fn field_7_only_an_address_on_the_containers_own_link_is_followed() {
    let lab = Lab::new();
    let (web, other) =
        (lab.pod("web"), lab.add_pod(PodSpec::new("other").network(Network::Routed)));
    let _servers = other.serve(8080);
    Bundle::of(&web)
        .annotation("io.hostport.ports", "9000:8080")
        .annotation("io.hostport.ip", &web.ipv4().to_string())
        .start(lab.node());
    Bundle::of(&web).annotation("io.hostport.ports", "9001:8080").start(lab.node());
    let before = published(lab.node());
    // Another's address, the node's own, one that is nowhere.
    for ip in [other.ipv4(), NODE4, Ipv4Addr::new(203, 0, 113, 7)] {
        web.ip(&format!("addr flush dev eth0 scope global\naddr add {ip}/32 dev eth0"));
        restore(&lab);
        assert_eq!(published(lab.node()), before, "{ip}");
    }
    web.ip("addr flush dev eth0 scope global\naddr add 10.85.0.99/24 dev eth0");
    restore(&lab);
    let now = published(lab.node());
    assert!(now.contains(&"0.0.0.0 9000/tcp -> 10.85.0.11 8080".to_owned()), "{now:?}");
    assert!(now.contains(&"0.0.0.0 9001/tcp -> 10.85.0.99 8080".to_owned()), "{now:?}");
}

/// FIELD 7: its address is another's by now.
#[test]
fn field_7_the_port_of_a_container_that_lost_its_address_to_another_is_closed() {
    let lab = Lab::new();
    let (old, new) = (lab.pod("old"), lab.pod("new"));
    let _servers = new.serve(8080);
    Bundle::of(&old).annotation("io.hostport.ports", "9000:8080").start(lab.node());
    Bundle::of(&new).annotation("io.hostport.ports", "9001:8080").start(lab.node());
    let before = published(lab.node());
    old.ip("addr flush dev eth0 scope global");
    restore(&lab);
    assert_eq!(published(lab.node()), before, "a virtual machine may have it");
    new.ip(&format!("addr add {}/24 dev eth0", old.ipv4()));
    restore(&lab);
    assert_eq!(tcp(lab.client(), (NODE4, 9000)), Err(ClientError::Refused));
    assert_eq!(tcp(lab.client(), (NODE4, 9001)).unwrap().server, "new");
    // It comes back.
    old.ip("addr add 10.85.0.77/24 dev eth0");
    restore(&lab);
    let now = published(lab.node());
    assert!(now.contains(&"0.0.0.0 9000/tcp -> 10.85.0.77 8080".to_owned()), "{now:?}");
}

/// FIELD 7
#[test]
fn field_7_the_doctor_calls_a_container_at_another_address_broken() {
    let ground = Ground::new();
    let finding = ground.breaks_and_mends("endpoint-moved", |ground| {
        move_to(&ground.web, "10.85.0.99", "2001:db8:85::99");
    });
    assert_eq!(finding["severity"], "broken");
    let said = text(&finding);
    assert!(said.contains("should be there: 0.0.0.0:9000/tcp -> 10.85.0.99:8080"), "{said}");
    assert!(said.contains("should not be there: 0.0.0.0:9000/tcp -> 10.85.0.11:8080"), "{said}");
    assert!(ground.reaches());
    // Without another address it may be a virtual machine's.
    ground.web.ip("addr del 10.85.0.99/24 dev eth0");
    assert_eq!(ground.doctor().only("endpoint-moved")["severity"], "warning");
}

/// A process in a network namespace that its own user namespace owns, as podman's --userns has it.
struct Apart(Child);

impl Apart {
    fn start(lab: &Lab) -> Apart {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "sleep", "600"]).stdin(Stdio::null());
        let apart = Apart(lab.node().run(|| command.spawn().unwrap()));
        let own = fs::read_link("/proc/self/ns/user").unwrap();
        let user = || fs::read_link(format!("/proc/{}/ns/user", apart.pid())).ok();
        let comm = || fs::read_to_string(format!("/proc/{}/comm", apart.pid())).unwrap();
        assert!(wait_until(|| user().is_some_and(|user| user != own) && comm() == "sleep\n"));
        apart
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn connect(&self, lab: &Lab) {
        let pid = self.pid();
        lab.node().ip(&format!(
            "link add apart0 type veth peer name eth0 netns {pid}\nlink set apart0 master br0 up"
        ));
        for line in [
            "link set eth0 up",
            "addr add 10.85.0.50/24 dev eth0",
            "route add default via 10.85.0.1",
        ] {
            let mut ip = Command::new("nsenter");
            let done = ip
                .arg(format!("--net=/proc/{pid}/ns/net"))
                .arg("ip")
                .args(line.split(' '))
                .status();
            assert!(done.unwrap().success(), "{line}");
        }
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// FIELD 21: the address comes only after the hook.
#[test]
fn field_21_a_container_without_an_address_starts_and_is_published_once_it_has_one() {
    for by in ["poststart", "restore", "watch"] {
        let lab = Lab::new();
        let watcher = (by == "watch").then(|| Watcher::start(&lab));
        let apart = Apart::start(&lab);
        let bundle = Bundle::of_process(apart.pid()).annotation("io.hostport.ports", "9000:8080");
        let said = bundle.start(lab.node());
        assert!(said.stderr.contains("has no global address yet"), "{said:?}");
        assert_eq!(published(lab.node()), [""; 0]);
        assert_eq!(journal_files(lab.node()).len(), 1);
        let found = text(&doctor(lab.node()).only("endpoint-awaited"));
        assert!(found.contains("has no address yet"), "{found}");
        let explained = hostport(lab.node(), &["explain", "9000"]);
        assert!(explained.stdout.contains("has no address yet"), "{explained:?}");
        apart.connect(&lab);
        let expected = ["0.0.0.0 9000/tcp -> 10.85.0.50 8080".to_owned()];
        match by {
            "poststart" => drop(bundle.poststart(lab.node(), &[]).expect_success()),
            "restore" => drop(restore(&lab)),
            _ => {
                let begin = std::time::Instant::now();
                assert!(wait_until(|| published(lab.node()) == expected));
                assert!(begin.elapsed().as_secs() < 3, "{:?}", begin.elapsed());
            }
        }
        assert_eq!(published(lab.node()), expected, "{by}");
        drop(watcher);
        bundle.stop(lab.node());
        assert_eq!(published(lab.node()), [""; 0]);
        assert_eq!(journal_files(lab.node()).len(), 0);
    }
}

/// FIELD 21: where an earlier stage has published, poststart looks at the journal alone.
#[test]
fn field_21_poststart_of_a_published_container_changes_nothing() {
    let lab = Lab::new();
    let web = lab.pod("web");
    let init = web.sleeper();
    let bundle = Bundle::of_process(init.pid()).annotation("io.hostport.ports", "9000:8080");
    bundle.start(lab.node());
    let entry = || fs::read(journal_files(lab.node()).values().next().unwrap()).unwrap();
    let before = (entry(), lab.node().nft_list());
    bundle.poststart(lab.node(), &[]).expect_success();
    assert_eq!((entry(), lab.node().nft_list()), before);
}

/// FIELD 21: of two that ask for a port, the first to be published keeps it.
#[test]
fn field_21_a_port_that_another_got_meanwhile_stays_with_it() {
    let lab = Lab::new();
    let late = lab.add_pod(PodSpec::new("late").families(Families::None));
    let early = lab.pod("early");
    let _servers = early.serve(8080);
    let ports = "9000:8080,9001:8080";
    let waiting = Bundle::of(&late).annotation("io.hostport.ports", ports);
    waiting.start(lab.node());
    let first = Bundle::of(&early).annotation("io.hostport.ports", "9000:8080");
    first.start(lab.node());
    let watcher = Watcher::start(&lab);
    late.ip("addr add 10.85.0.50/24 dev eth0");
    let said = restore(&lab).stderr;
    let line = format!("of {}, which has an address now, is taken by {}", waiting.id(), first.id());
    assert!(said.contains(&line), "{said}");
    assert_eq!(published(lab.node()).len(), 2, "all of its ports or none");
    let found = text(&doctor(lab.node()).only("endpoint-awaited"));
    let taken = format!("0.0.0.0:9000/tcp is taken by {}", first.id());
    assert!(found.contains(&taken), "{found}");
    assert!(wait_until(|| watcher.log().contains(&line)), "{}", watcher.log());
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(watcher.log().matches(&line).count(), 1, "{}", watcher.log());
    first.stop(lab.node());
    assert!(wait_until(|| published(lab.node()).len() == 2));
    let now = published(lab.node());
    assert!(now.iter().all(|line| line.contains("10.85.0.50")), "{now:?}");
}

/// FIELD 28: the bridge's port is another, and the link towards the container is closed for 127.0.0.0/8.
#[test]
fn field_28_restore_and_watch_mend_what_a_reload_of_the_network_undid() {
    let lab = Lab::new();
    lab.bridge_nf(true);
    let web = lab.pod("web");
    let _servers = web.serve(8080);
    let init = web.sleeper();
    Bundle::of_process(init.pid()).annotation("io.hostport.ports", "9000:8080").start(lab.node());
    let port = web.host_link();
    let works = || {
        let itself = Client::new(&web).timeout(std::time::Duration::from_millis(300));
        let itself = itself.tcp((NODE4, 9000)).is_ok();
        let local = Client::new(lab.node()).timeout(std::time::Duration::from_millis(300));
        [itself, local.tcp((Ipv4Addr::LOCALHOST, 9000)).is_ok()]
    };
    assert_eq!(works(), [true; 2]);
    let undo = || {
        lab.node().ip(&format!("link set {port} type bridge_slave hairpin off"));
        lab.node().sysctl("net.ipv4.conf.br0.route_localnet", "0");
    };
    let lines =
        ["opened 127.0.0.1 towards br0".to_owned(), format!("turned hairpin mode on for {port}")];
    undo();
    assert_eq!(works(), [false; 2]);
    let said = restore(&lab).stdout;
    assert_eq!(said, format!("{}\n{}\n0 restored, 0 removed, 2 were right\n", lines[0], lines[1]));
    assert_eq!(works(), [true; 2]);
    let watcher = Watcher::start(&lab);
    undo();
    assert!(wait_until(|| works() == [true; 2]), "within ten seconds");
    let log = watcher.log();
    assert!(lines.iter().all(|line| log.contains(line)), "{log}");
    drop(watcher);
    // The option holds for restore too.
    let bundle = Bundle::of_process(init.pid()).annotation("io.hostport.ports", "9001:8080");
    lab.node().nft("flush ruleset");
    fs::remove_dir_all(state_dir(lab.node())).unwrap();
    bundle.prestart(lab.node(), &["--no-hairpin-mode", "--no-localhost"]).expect_success();
    undo();
    assert_eq!(restore(&lab).stdout, "0 restored, 0 removed, 2 were right\n");
}
