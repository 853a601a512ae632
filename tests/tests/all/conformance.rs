//! The kernel in memory (`hostport_nft::kernel::fake`) against the real one: the same random operations on both,
//! in a namespace of the real one's own. Every answer is compared, and in the end all that either holds, so that
//! what is tested on the one holds for the other.
//!
//! An ordinary run has 80 sequences of at most 120 operations. A longer one:
//!
//! ```text
//! PROPTEST_CASES=2000 cargo test -p hostport-tests --test all conformance::
//! ```

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io::Write;
use std::net::{IpAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::thread;

use hostport_nft::kernel::fake::{Fake, Hand};
use hostport_nft::kernel::{
    Change, Element, Flow, Generation, Kernel, Pass, SetName, SetRef, Socket, TableQuery,
    Transaction,
};
use hostport_nft::object::NfFamily;
use hostport_nft::{
    Claim, Counter, Endpoint, Family, HostPort, HostPorts, IfIndex, Link, Mapping, OwnerId, Port,
    Protocol, Publication, Settings, Snapshot, Table, TableName,
};
use hostport_tests::lab::Lab;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const CASES: u32 = 80;
const STEPS: usize = 120;
const NAMESPACES: u32 = 8;

/// What is done to both kernels. Numbers name things of which there are few, so that operations meet.
#[derive(Debug, Clone)]
enum Operation {
    Generation,
    Tables,
    Element(Family, SetName, Key),
    Elements(Family, SetName),
    Objects(Family),
    Commit(Rests, Vec<Part>),
    Publish {
        owner: u8,
        hosts: BTreeSet<u8>,
        pod: u8,
        settings: u8,
        takes: bool,
    },
    Withdraw {
        owner: u8,
        hosts: BTreeSet<u8>,
    },
    Restore {
        owner: u8,
        hosts: BTreeSet<u8>,
        settings: u8,
        recreate: bool,
    },
    Remove,
    /// Another program's `nft`.
    Nft(Nft),
    /// A datagram that the connection tracking sees, to a port of this host.
    Track(u16),
    Flows(Protocol, Option<u16>),
    Forget(u16),
}

/// What a transaction rests on.
#[derive(Debug, Clone, Copy)]
enum Rests {
    Nothing,
    Present,
    Past,
}

#[derive(Debug, Clone)]
enum Part {
    NewTable(Family, u8),
    DeleteTable(Family),
    NewElement(Family, SetName, Thing),
    NewElements(Family, SetName, Vec<Thing>),
    DeleteElement(Family, SetName, Key),
}

#[derive(Debug, Clone, Copy)]
enum Key {
    Right(u8),
    /// A byte too long.
    Long(u8),
}

/// An element to be.
#[derive(Debug, Clone, Copy)]
struct Thing {
    key: Key,
    data: u8,
    /// With a map's data in a set, or without it in a map.
    misfit: bool,
    comment: Option<u8>,
    counter: bool,
}

#[derive(Debug, Clone)]
enum Nft {
    CreateTable(Family, bool),
    DeleteTable(Family),
    FlushTable(Family),
    AddRule(Family),
    DeletePort(Family, u8),
    Elsewhere,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let family = || prop_oneof![4 => Just(Family::Ip), 1 => Just(Family::Ip6)];
    let set = || prop_oneof![3 => Just(SetName::Ports), 1 => Just(SetName::Hairpin), 1 => Just(SetName::SameLink)];
    let read = || prop_oneof![4 => set(), 1 => Just(SetName::Excluded)];
    let key =
        || prop_oneof![20 => (0u8..4).prop_map(Key::Right), 1 => (0u8..4).prop_map(Key::Long)];
    let thing = move || {
        (key(), 0u8..2, prop::bool::weighted(0.03), prop::option::of(0u8..2), any::<bool>())
            .prop_map(|(key, data, misfit, comment, counter)| Thing {
                key,
                data,
                misfit,
                comment,
                counter,
            })
    };
    let part = prop_oneof![
        2 => (family(), 0u8..2).prop_map(|(family, settings)| Part::NewTable(family, settings)),
        1 => family().prop_map(Part::DeleteTable),
        6 => (family(), set(), thing()).prop_map(|(family, set, thing)| Part::NewElement(family, set, thing)),
        3 => (family(), set(), prop::collection::vec(thing(), 1..4))
            .prop_map(|(family, set, things)| Part::NewElements(family, set, things)),
        4 => (family(), set(), key()).prop_map(|(family, set, key)| Part::DeleteElement(family, set, key)),
    ];
    let rests =
        prop_oneof![4 => Just(Rests::Nothing), 4 => Just(Rests::Present), 1 => Just(Rests::Past)];
    let nft = prop_oneof![
        (family(), any::<bool>()).prop_map(|(family, comment)| Nft::CreateTable(family, comment)),
        family().prop_map(Nft::DeleteTable),
        family().prop_map(Nft::FlushTable),
        family().prop_map(Nft::AddRule),
        (family(), 0u8..4).prop_map(|(family, host)| Nft::DeletePort(family, host)),
        Just(Nft::Elsewhere),
    ];
    let hosts = || prop::collection::btree_set(0u8..4, 0..4);
    let protocol = prop_oneof![3 => Just(Protocol::Udp), 1 => Just(Protocol::Tcp)];
    let ports = || 9000u16..9003;
    let operation = prop_oneof![
        8 => Just(Operation::Generation),
        10 => Just(Operation::Tables),
        15 => (family(), read(), key()).prop_map(|(family, set, key)| Operation::Element(family, set, key)),
        10 => (family(), read()).prop_map(|(family, set)| Operation::Elements(family, set)),
        4 => family().prop_map(Operation::Objects),
        25 => (rests, prop::collection::vec(part, 0..4))
            .prop_map(|(rests, parts)| Operation::Commit(rests, parts)),
        8 => (0u8..3, hosts(), 0u8..2, prop::bool::weighted(0.1), any::<bool>())
            .prop_map(|(owner, hosts, pod, other, takes)| {
                Operation::Publish { owner, hosts, pod, settings: other.into(), takes }
            }),
        5 => (0u8..3, hosts()).prop_map(|(owner, hosts)| Operation::Withdraw { owner, hosts }),
        3 => (0u8..3, hosts(), prop::bool::weighted(0.1), any::<bool>())
            .prop_map(|(owner, hosts, other, recreate)| {
                Operation::Restore { owner, hosts, settings: other.into(), recreate }
            }),
        1 => Just(Operation::Remove),
        2 => nft.prop_map(Operation::Nft),
        3 => ports().prop_map(Operation::Track),
        3 => (protocol, prop::option::of(ports())).prop_map(|(protocol, port)| Operation::Flows(protocol, port)),
        2 => ports().prop_map(Operation::Forget),
    ];
    prop::collection::vec(operation, 1..STEPS)
}

fn address(family: Family, last: u8) -> IpAddr {
    match family {
        Family::Ip => [192, 0, 2, last].into(),
        Family::Ip6 => [0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last)].into(),
    }
}

fn address_bytes(family: Family, last: u8) -> Vec<u8> {
    match address(family, last) {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn host(family: Family, number: u8) -> HostPort {
    let port = Port::new(9000).unwrap();
    HostPort { host_ip: address(family, number + 1), port, protocol: Protocol::Tcp }
}

/// The bytes of a key, as the table in the crate's documentation lays them out.
fn key_of(family: Family, set: SetName, key: Key) -> Vec<u8> {
    let (Key::Right(number) | Key::Long(number)) = key;
    let address = address_bytes(family, number + 1);
    let mut bytes = match set {
        SetName::Ports => [address.as_slice(), &[0x23, 0x28, 0, 0, 6, 0, 0, 0]].concat(),
        SetName::Hairpin => [address.as_slice(), &address].concat(),
        SetName::SameLink => [u32::from(number) + 1; 2].map(u32::to_ne_bytes).concat(),
        SetName::Excluded => address,
    };
    if matches!(key, Key::Long(_)) {
        bytes.push(0);
    }
    bytes
}

fn element(family: Family, set: SetName, thing: Thing) -> Element {
    let mapped = (set == SetName::Ports) != thing.misfit;
    let pod = address_bytes(family, 100 + thing.data);
    let counter = Counter { packets: 5, bytes: 300 };
    Element {
        key: key_of(family, set, thing.key),
        data: mapped.then(|| [pod.as_slice(), &[0x1f, 0x90, 0, 0]].concat()),
        comment: thing.comment.map(|number| format!("owner-{number}")),
        counter: (thing.counter && set == SetName::Ports).then_some(counter),
        ..Element::default()
    }
}

fn settings(number: u8) -> Settings {
    let exclude = if number == 0 { vec![] } else { vec!["10.96.0.0/12".parse().unwrap()] };
    Settings { exclude, ..Settings::default() }
}

fn owner(number: u8) -> OwnerId {
    format!("owner-{number}").parse().unwrap()
}

fn claims(number: u8, hosts: &BTreeSet<u8>, pod: u8) -> Vec<Claim> {
    let claim = |family, host_number: &u8| {
        let endpoint = Endpoint { ip: address(family, 100 + pod), port: Port::new(8080).unwrap() };
        let mapping = Mapping::new(host(family, *host_number), endpoint).unwrap();
        Claim { owner: owner(number), mapping }
    };
    // One of the four is in the other family.
    let family = |host: &u8| if *host == 3 { Family::Ip6 } else { Family::Ip };
    hosts.iter().map(|host| claim(family(host), host)).collect()
}

fn links() -> [Link; 2] {
    Family::ALL.map(|family| Link { family, index: IfIndex(3), bypasses: family == Family::Ip })
}

/// What is done to a kernel beside our own operations.
trait Foreign {
    fn nft(&self, nft: &Nft) -> bool;
    fn track(&self, port: u16);
}

impl Foreign for Socket {
    fn nft(&self, nft: &Nft) -> bool {
        let command = match nft {
            Nft::CreateTable(family, false) => format!("create table {family} hostport"),
            Nft::CreateTable(family, true) => {
                format!("create table {family} hostport {{ comment \"another's\"; }}")
            }
            Nft::DeleteTable(family) => format!("delete table {family} hostport"),
            Nft::FlushTable(family) => format!("flush table {family} hostport"),
            Nft::AddRule(family) => format!("add rule {family} hostport publish counter"),
            Nft::DeletePort(family, number) => {
                let HostPort { host_ip, port, .. } = host(*family, *number);
                format!("delete element {family} hostport ports {{ {host_ip} . {port} . tcp }}")
            }
            Nft::Elsewhere => "add rule inet keep output counter".to_owned(),
        };
        nft_takes(&command)
    }

    fn track(&self, port: u16) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let _ = socket.send_to(b"x", ("127.0.0.1", port));
    }
}

fn nft_takes(command: &str) -> bool {
    let mut nft = Command::new("nft");
    nft.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::null());
    let mut nft = nft.spawn().unwrap();
    nft.stdin.take().unwrap().write_all(command.as_bytes()).unwrap();
    nft.wait().unwrap().success()
}

impl Foreign for Fake {
    fn nft(&self, nft: &Nft) -> bool {
        let (hand, table): (Hand, _) = (self.hand(), TableName::default());
        match nft {
            Nft::CreateTable(family, comment) => {
                hand.add_table(*family, &table, if *comment { "another's" } else { "" }, 0)
            }
            Nft::DeleteTable(family) => hand.delete_table(*family, &table),
            Nft::FlushTable(family) => hand.flush_table(*family, &table),
            Nft::AddRule(family) => hand.add_rule(*family, &table, "publish"),
            Nft::DeletePort(family, number) => {
                let key = key_of(*family, SetName::Ports, Key::Right(*number));
                hand.delete_element(*family, &table, SetName::Ports, &key)
            }
            Nft::Elsewhere => {
                hand.change_elsewhere();
                true
            }
        }
    }

    fn track(&self, port: u16) {
        let port = Port::new(port).unwrap();
        let ip = IpAddr::from([127, 0, 0, 1]);
        let host = HostPort { host_ip: ip, port, protocol: Protocol::Udp };
        self.hand().track(host, Endpoint { ip, port });
    }
}

/// One of the two kernels.
struct Side<K> {
    kernel: K,
    /// The same, with each of the two settings.
    host_ports: [HostPorts<K>; 2],
    first: Generation,
}

impl<K: Kernel> Side<K> {
    fn new(mut socket: impl FnMut() -> K) -> Self {
        let host_ports = [0, 1].map(|number| HostPorts::with(socket(), settings(number)));
        Side { kernel: socket(), host_ports, first: Generation(0) }
    }
}

/// What an operation answers, as text that must be the same of both kernels.
fn answer<K: Kernel + Foreign>(side: &mut Side<K>, operation: &Operation) -> String {
    let name = TableName::default();
    let Side { kernel, host_ports, first } = side;
    match operation {
        Operation::Generation => {
            let now = kernel.generation().unwrap();
            format!("{} generations", now.0.wrapping_sub(first.0))
        }
        Operation::Tables => {
            let query = |family| TableQuery {
                family,
                table: &name,
                chains: vec!["publish", "postrouting", "guard", "none"],
            };
            text(kernel.tables(&Family::ALL.map(query)))
        }
        Operation::Element(family, set, key) => {
            let set = SetRef { family: *family, table: &name, name: *set };
            text(kernel.element(set, &key_of(*family, set.name, *key)))
        }
        Operation::Elements(family, set) => {
            let pass =
                kernel.elements(SetRef { family: *family, table: &name, name: *set }).map(|pass| {
                    match pass {
                        Pass::Complete(mut elements) => {
                            elements.sort_by(|a, b| {
                                (&a.key, a.interval_end).cmp(&(&b.key, b.interval_end))
                            });
                            Pass::Complete(elements)
                        }
                        other => other,
                    }
                });
            text(pass)
        }
        Operation::Objects(family) => {
            text(kernel.objects((*family).into(), Some(&name)).map(|pass| objects(*family, pass)))
        }
        Operation::Commit(rests, parts) => {
            let generation = kernel.generation().unwrap();
            let generation = match rests {
                Rests::Nothing => None,
                Rests::Present => Some(generation),
                Rests::Past => Some(Generation(generation.0 - 1)),
            };
            let mut transaction = Transaction::new(&name, generation);
            parts.iter().for_each(|part| transaction.push(change(part)));
            text(kernel.commit(&transaction))
        }
        Operation::Publish { owner, hosts, pod, settings, takes } => {
            let claims = claims(*owner, hosts, *pod);
            let publication =
                Publication { claims, links: links().into(), ..Publication::default() };
            text(host_ports[usize::from(*settings)].publish(&publication, |_| *takes))
        }
        Operation::Withdraw { owner: number, hosts } => {
            let hosts =
                claims(*number, hosts, 0).iter().map(|claim| claim.mapping.host()).collect();
            text(host_ports[0].withdraw(&owner(*number), &hosts, &BTreeSet::new()))
        }
        Operation::Restore { owner, hosts, settings, recreate } => {
            let claims = claims(*owner, hosts, 0);
            let host_ports = &mut host_ports[usize::from(*settings)];
            text(match recreate {
                true => host_ports.recreate(&claims, &links()),
                false => host_ports.restore(&claims, &links()),
            })
        }
        Operation::Remove => text(host_ports[0].remove()),
        Operation::Nft(nft) => text(kernel.nft(nft)),
        Operation::Track(port) => {
            kernel.track(*port);
            String::new()
        }
        Operation::Flows(protocol, port) => {
            let port = port.and_then(Port::new);
            let flows = flows(kernel, *protocol, port);
            text(flows.iter().map(|flow| (flow.host, flow.answers)).collect::<Vec<_>>())
        }
        Operation::Forget(port) => {
            let found = flows(kernel, Protocol::Udp, Port::new(*port));
            let Some(flow) = found.first() else { return String::new() };
            text((kernel.forget(flow), kernel.forget(flow)))
        }
    }
}

fn text(answer: impl Debug) -> String {
    format!("{answer:?}")
}

fn change(part: &Part) -> Change {
    match part {
        Part::NewTable(family, number) => Change::NewTable(Table::new(*family, &settings(*number))),
        Part::DeleteTable(family) => Change::DeleteTable(*family),
        Part::NewElement(family, set, thing) => {
            Change::NewElement(*family, *set, element(*family, *set, *thing))
        }
        Part::NewElements(family, set, things) => {
            let elements = things.iter().map(|thing| element(*family, *set, *thing)).collect();
            Change::NewElements(*family, *set, elements)
        }
        Part::DeleteElement(family, set, key) => {
            Change::DeleteElement(*family, *set, key_of(*family, *set, *key))
        }
    }
}

/// What a snapshot has of our table. Handles are the kernel's own, and so is what it adds to an expression.
fn objects(family: Family, pass: Pass<Snapshot>) -> Pass<Vec<String>> {
    let Pass::Complete(snapshot) = pass else { return Pass::Interrupted };
    let family = NfFamily::from(family);
    let mut lines = Vec::new();
    if let Some(table) = snapshot.tables.get(&(family, "hostport".to_owned())) {
        lines.push(format!("{:?} {}", table.comment, table.dormant));
    }
    for (id, chain) in snapshot.chains.iter().filter(|(id, _)| id.table == "hostport") {
        let rules: Vec<Vec<&str>> = chain
            .rules
            .iter()
            .map(|rule| rule.expressions.iter().map(|one| one.name.as_str()).collect())
            .collect();
        lines.push(format!("{id:?} {:?} {rules:?}", chain.base));
    }
    lines.extend(snapshot.sets.values().map(|set| format!("{set:?}")));
    Pass::Complete(lines)
}

fn flows(kernel: &mut impl Kernel, protocol: Protocol, port: Option<Port>) -> Vec<Flow> {
    let Ok(Pass::Complete(mut flows)) = kernel.flows(Family::Ip, protocol, port) else {
        return Vec::new();
    };
    flows.retain(|flow| port.is_none_or(|port| flow.host.port == port));
    flows.sort_by_key(|flow| (flow.host, flow.answers));
    flows
}

/// All of it, after the last operation.
fn everything() -> Vec<Operation> {
    let mut all =
        vec![Operation::Generation, Operation::Tables, Operation::Flows(Protocol::Udp, None)];
    for family in Family::ALL {
        all.push(Operation::Objects(family));
        for set in [SetName::Ports, SetName::Excluded, SetName::Hairpin, SetName::SameLink] {
            all.push(Operation::Elements(family, set));
        }
    }
    all
}

/// In several namespaces at once, since a transaction that fails waits for the kernel's RCU.
#[test]
fn the_kernel_in_memory_answers_as_the_real_one() {
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    config.cases = config.cases.div_ceil(NAMESPACES);
    let outcomes: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..NAMESPACES).map(|_| scope.spawn(|| compare(&config))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    println!("{} operations", outcomes.iter().map(|(count, _)| count).sum::<usize>());
    for (_, outcome) in outcomes {
        outcome.unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Runs sequences in a namespace, and counts the operations.
fn compare(config: &Config) -> (usize, Result<(), String>) {
    let lab = Lab::new();
    lab.node().run(|| {
        // Without a rule that asks for them, no connection is tracked.
        assert!(nft_takes(
            "table inet keep { chain output { type filter hook output priority 0; ct state new counter; }; }"
        ));
        let count = Cell::new(0);
        let real = RefCell::new(Side::new(|| Socket::open().unwrap()));
        let outcome = TestRunner::new(config.clone()).run(&operations(), |sequence| {
            count.set(count.get() + sequence.len());
            let (real, kernel) = (&mut *real.borrow_mut(), Fake::new());
            let mut fake = Side::new(|| kernel.actor(1));
            clear(real);
            fake.first = fake.kernel.generation().unwrap();
            for (place, operation) in sequence.iter().chain(&everything()).enumerate() {
                let (is, fakes) = (answer(real, operation), answer(&mut fake, operation));
                let step = format!("the real kernel (left) and the fake, at step {place}, {operation:?}");
                prop_assert_eq!(is, fakes, "{}", step);
            }
            Ok(())
        });
        (count.get(), outcome.map_err(|error| error.to_string()))
    })
}

/// Removes what the last sequence left behind.
fn clear(real: &mut Side<Socket>) {
    for family in Family::ALL {
        let mut deletion = Transaction::new(&TableName::default(), None);
        deletion.push(Change::DeleteTable(family));
        // It fails where there is no table.
        real.kernel.commit(&deletion).unwrap();
    }
    for flow in flows(&mut real.kernel, Protocol::Udp, None) {
        real.kernel.forget(&flow).unwrap();
    }
    real.first = real.kernel.generation().unwrap();
}
