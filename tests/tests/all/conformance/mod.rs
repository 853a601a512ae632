//! The kernel in memory (`hostport_nft::kernel::fake`) against the real one: the same random operations on both,
//! in a namespace of the real one's own. Every answer is compared, and in the end all that either holds, so that
//! what is tested on the one holds for the other.
//!
//! An ordinary run has 80 sequences of at most 120 operations. A longer one:
//!
//! ```text
//! PROPTEST_CASES=2000 cargo test -p hostport-tests --test all conformance::
//! ```

mod foreign;
mod operation;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::thread;

use hostport_nft::kernel::fake::Fake;
use hostport_nft::kernel::{
    Change, Flow, Generation, Kernel, Pass, SetName, SetRef, Socket, TableQuery, Transaction,
};
use hostport_nft::object::NfFamily;
use hostport_nft::{Family, HostPorts, Port, Protocol, Publication, Snapshot, Table, TableName};
use hostport_tests::lab::Lab;
use proptest::prop_assert_eq;
use proptest::test_runner::{Config, TestRunner};

use foreign::{Foreign, nft_takes};
use operation::*;

const CASES: u32 = 80;
const NAMESPACES: u32 = 8;

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
            let conditions = conditions(*owner, hosts, *pod);
            let publication = Publication { claims, conditions, ..Publication::default() };
            text(host_ports[usize::from(*settings)].publish(&publication, |_| *takes))
        }
        Operation::Withdraw { owner: number, hosts } => {
            let hosts =
                claims(*number, hosts, 0).iter().map(|claim| claim.mapping.host()).collect();
            text(host_ports[0].withdraw(&owner(*number), &hosts, &BTreeSet::new()))
        }
        Operation::Restore { owner, hosts, settings, recreate } => {
            let (claims, conditions) = (claims(*owner, hosts, 0), conditions(*owner, hosts, 0));
            let host_ports = &mut host_ports[usize::from(*settings)];
            text(match recreate {
                true => host_ports.recreate(&claims, &conditions),
                false => host_ports.restore(&claims, &conditions),
            })
        }
        Operation::Remove => text(host_ports[0].remove()),
        Operation::Nft(nft) => text(kernel.nft(nft)),
        Operation::Track(port) => {
            kernel.track(*port);
            String::new()
        }
        Operation::Flows(protocol, port, unanswered) => {
            let port = port.and_then(Port::new);
            let flows = flows(kernel, *protocol, port, *unanswered);
            text(flows.iter().map(|flow| (flow.host, flow.answers)).collect::<Vec<_>>())
        }
        Operation::Forget(port) => {
            let found = flows(kernel, Protocol::Udp, Port::new(*port), false);
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
        Part::DeleteRange(family, key) => {
            let first = key_of(*family, SetName::Sources, *key);
            Change::DeleteRange(*family, SetName::Sources, first, last_of(*family, *key))
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

fn flows(
    kernel: &mut impl Kernel,
    protocol: Protocol,
    port: Option<Port>,
    unanswered: bool,
) -> Vec<Flow> {
    let flows = kernel.flows(Family::Ip, protocol, port, unanswered);
    let Ok(Pass::Complete(mut flows)) = flows else { return Vec::new() };
    flows.sort_by_key(|flow| (flow.host, flow.answers));
    flows
}

/// All of it, after the last operation.
fn everything() -> Vec<Operation> {
    let mut all = vec![
        Operation::Generation,
        Operation::Tables,
        Operation::Flows(Protocol::Udp, None, false),
    ];
    for family in Family::ALL {
        all.push(Operation::Objects(family));
        for set in SETS {
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
    for flow in flows(&mut real.kernel, Protocol::Udp, None, false) {
        real.kernel.forget(&flow).unwrap();
    }
    real.first = real.kernel.generation().unwrap();
}
