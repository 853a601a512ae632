//! Part 3: a node that boots: all its containers at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hostport_tests::lab::{Families, Pod, PodSpec};

use crate::bench::{Bench, progress};
use crate::measure::{Rounds, Spread, rounds, thousands};
use crate::node::{Init, Node};
use crate::peers::portmap::Backend;
use crate::peers::{Action, Container, Pair, Peer};
use crate::report::{Better, Chapter, Figure, Goal, Table};

/// As many pods as kubelet starts on a node by default.
const CONTAINERS: u16 = 110;
const PORTS_OF_EACH: u16 = 3;
/// How many are started side by side: kubelet's pods do not wait for each other, but for the cores.
const SIDE_BY_SIDE: usize = 8;
const FIRST_PORT: u16 = 1_000;
const PORTS: usize = CONTAINERS as usize * PORTS_OF_EACH as usize;
/// hostport is the first contender, portmap's nftables backend the second.
const PORTMAP: usize = 1;

/// A node with its pods.
struct Crowd {
    pods: Vec<(Pod, Init)>,
    node: Node,
}

/// A peer, and how many of its calls run side by side.
struct Contender<'a> {
    peer: &'a dyn Peer,
    side_by_side: usize,
    containers: Vec<(Pair, Container)>,
}

/// What went wrong.
#[derive(Default)]
struct Faults {
    /// How many calls failed.
    failed: usize,
    /// What the first of them said.
    first: Option<String>,
    /// How many ports were not there once all had come.
    missing: usize,
    /// How many were still there once all had gone.
    left: usize,
}

/// The values of a contender in each round.
const VALUES: usize = 4;
const TOTAL: usize = 0;
const SLOWEST: usize = 1;
const TOTAL_STOP: usize = 2;
const SLOWEST_STOP: usize = 3;

/// Measures it.
pub fn run(bench: &Bench) -> Chapter {
    progress(format_args!("a node with {CONTAINERS} pods"));
    let crowd = Crowd::new();
    let programs = &bench.programs;
    let (hostport, crio) = (programs.hostport(), programs.crio());
    let nftables = programs.portmap(Backend::Nftables);
    let iptables = programs.portmap(Backend::Iptables);
    let everyone = usize::from(CONTAINERS);
    let mut all: Vec<(&dyn Peer, usize)> =
        vec![(&hostport, SIDE_BY_SIDE), (&nftables, SIDE_BY_SIDE)];
    all.extend(bench.pick(
        vec![(&hostport as &dyn Peer, everyone), (&crio, SIDE_BY_SIDE), (&iptables, SIDE_BY_SIDE)],
        vec![],
    ));
    let contenders: Vec<_> = all.iter().map(|(peer, many)| crowd.contender(*peer, *many)).collect();
    let mut faults: Vec<Faults> = contenders.iter().map(|_| Faults::default()).collect();
    let limit = bench.pick(Duration::from_secs(150), Duration::from_secs(20));
    let mut times = [f64::NAN; VALUES];
    let groups = vec![VALUES; contenders.len()];
    let rounds = rounds(&groups, bench.pick(7, 2), limit, |turn, round| {
        let index = turn / VALUES;
        if turn % VALUES == TOTAL {
            times = crowd.boot(&contenders[index], &mut faults[index]);
            let [total, ..] = times;
            let name = contenders[index].peer.name();
            progress(format_args!("round {}: {name}, {total:.0} ms", round + 1));
        }
        times[turn % VALUES]
    });
    let transactions = crowd.transactions(&contenders[0]);
    let results = Results { contenders, faults, rounds, transactions };
    Chapter {
        text: results.text(),
        tables: vec![
            results.table("All containers come", TOTAL, SLOWEST),
            results.table("All containers go", TOTAL_STOP, SLOWEST_STOP),
            results.faults(),
        ],
        goals: results.goals(),
        figures: results.figures(),
        ..Chapter::new("A node that boots")
    }
}

impl Crowd {
    fn new() -> Crowd {
        let node = Node::new(Families::Ipv4);
        let pods = (0..CONTAINERS)
            .map(|number| {
                let spec = PodSpec::new(&format!("p{number}")).families(Families::Ipv4);
                let pod = node.lab.add_pod(spec);
                let init = Init::start(&pod);
                (pod, init)
            })
            .collect();
        Crowd { pods, node }
    }

    fn contender<'a>(&self, peer: &'a dyn Peer, side_by_side: usize) -> Contender<'a> {
        let containers = self.pods.iter().zip(0..).map(|((pod, init), number)| {
            let first = FIRST_PORT + number * PORTS_OF_EACH;
            let ports = (0..PORTS_OF_EACH).map(|port| (first + port, 8080 + port));
            let addresses = [pod.ipv4().into()];
            let container = Container::in_pod(self.node.netns(), pod, &addresses, init.pid())
                .named(&format!("{number:064x}"))
                .ports(ports);
            (peer.prepare(&container), container)
        });
        Contender { peer, side_by_side, containers: containers.collect() }
    }

    /// All containers come, on a node without any rules, and go again.
    fn boot(&self, contender: &Contender, faults: &mut Faults) -> [f64; VALUES] {
        let node = self.node.netns();
        node.nft("flush ruleset");
        let [start, slowest_start] = self.at_once(contender, |pair| &*pair.add, faults);
        let there = contender.peer.count(&contender.peer.rules(node));
        faults.missing += PORTS.saturating_sub(there);
        let [stop, slowest_stop] = self.at_once(contender, |pair| &*pair.remove, faults);
        faults.left += contender.peer.count(&contender.peer.rules(node));
        [start, slowest_start, stop, slowest_stop]
    }

    /// A step of all containers: the time of all together, and the longest that one took.
    fn at_once(
        &self,
        contender: &Contender,
        step: fn(&Pair) -> &dyn Action,
        faults: &mut Faults,
    ) -> [f64; 2] {
        let next = AtomicUsize::new(0);
        let containers = &contender.containers;
        let work = || {
            let take = || containers.get(next.fetch_add(1, Ordering::Relaxed));
            let each = || take().map(|(pair, _)| step(pair).run());
            std::iter::from_fn(each).collect::<Vec<_>>()
        };
        let (total, results) = self.node.netns().run(|| {
            thread::scope(|scope| {
                let start = Instant::now();
                let workers: Vec<_> =
                    (0..contender.side_by_side).map(|_| scope.spawn(work)).collect();
                let results =
                    workers.into_iter().flat_map(|worker| worker.join().expect("no panic"));
                let results: Vec<_> = results.collect();
                (start.elapsed(), results)
            })
        });
        let mut slowest = Duration::ZERO;
        for result in results {
            match result {
                Ok(time) => slowest = slowest.max(time),
                Err(why) => {
                    faults.failed += 1;
                    faults.first.get_or_insert(why);
                }
            }
        }
        [total.as_secs_f64() * 1e3, slowest.as_secs_f64() * 1e3]
    }

    /// How many transactions all containers send under strace when they come, and when they go. A hook
    /// that meets no conflict sends one each time.
    fn transactions(&self, contender: &Contender) -> [usize; 2] {
        progress("the same under strace, for conflicts");
        self.node.netns().nft("flush ruleset");
        let steps: [fn(&Pair) -> &dyn Action; 2] = [|pair| &*pair.add, |pair| &*pair.remove];
        steps.map(|step| {
            let next = AtomicUsize::new(0);
            let sent = AtomicUsize::new(0);
            self.node.netns().run(|| {
                thread::scope(|scope| {
                    for _ in 0..contender.side_by_side {
                        scope.spawn(|| {
                            let take =
                                || contender.containers.get(next.fetch_add(1, Ordering::Relaxed));
                            while let Some((pair, _)) = take() {
                                sent.fetch_add(step(pair).transactions(), Ordering::Relaxed);
                            }
                        });
                    }
                });
            });
            sent.into_inner()
        })
    }
}

struct Results<'a> {
    contenders: Vec<Contender<'a>>,
    faults: Vec<Faults>,
    rounds: Rounds,
    transactions: [usize; 2],
}

impl Results<'_> {
    /// A value of a contender as a multiple of hostport's in the same round.
    fn ratio(&self, contender: usize, value: usize) -> Spread {
        self.rounds.ratio(contender * VALUES + value, value)
    }

    fn table(&self, what: &str, total: usize, slowest: usize) -> Table {
        let caption = format!("{what}: {} rounds. Milliseconds.", self.rounds.len());
        let titles = ["who", "side by side", "all of them", "× hostport", "the slowest call"];
        let mut table = Table::new(&caption, titles);
        for (index, contender) in self.contenders.iter().enumerate() {
            table.row([
                contender.peer.name().to_owned(),
                contender.side_by_side.to_string(),
                self.rounds.of(index * VALUES + total).to_string(),
                self.ratio(index, total).to_string(),
                self.rounds.of(index * VALUES + slowest).to_string(),
            ]);
        }
        table
    }

    fn faults(&self) -> Table {
        let titles = ["who", "side by side", "failed calls", "ports missing", "ports left behind"];
        let calls = self.rounds.len() * 2 * usize::from(CONTAINERS);
        let caption = format!("What went wrong, in {} calls of each.", thousands(calls as i64));
        let mut table = Table::new(&caption, titles);
        for (contender, faults) in self.contenders.iter().zip(&self.faults) {
            table.row([
                contender.peer.name().to_owned(),
                contender.side_by_side.to_string(),
                faults.failed.to_string(),
                faults.missing.to_string(),
                faults.left.to_string(),
            ]);
        }
        table
    }

    fn text(&self) -> String {
        let retries = self.transactions.map(|sent| sent.saturating_sub(CONTAINERS.into()));
        let mut text = format!(
            "{TEXT}\nConflicts: each hook needs one transaction. In a run of its own under strace, which keeps \
             the hooks longer in each other's way, the {CONTAINERS} that published sent {}, so {} had to \
             be tried again, and the {CONTAINERS} that withdrew {}, so {}.\n",
            self.transactions[0], retries[0], self.transactions[1], retries[1],
        );
        for (contender, faults) in self.contenders.iter().zip(&self.faults) {
            if let Some(why) = &faults.first {
                let name = contender.peer.name();
                let why = why.lines().last().unwrap_or_default();
                text += &format!("\nThe first failed call of {name}:\n\n    {why}\n");
            }
        }
        text
    }

    fn goals(&self) -> Vec<Goal> {
        let portmap = self.ratio(PORTMAP, TOTAL);
        let failed: usize = (self.contenders.iter().zip(&self.faults))
            .filter(|(contender, _)| contender.peer.name() == self.contenders[0].peer.name())
            .map(|(_, faults)| faults.failed + faults.missing + faults.left)
            .sum();
        let work = format!("node boot, {PORTS} ports");
        vec![
            Goal {
                work: work.clone(),
                goal: "20 times faster than portmap in total".to_owned(),
                measured: format!("{portmap} ×"),
                reached: portmap.median >= 20.0,
            },
            Goal {
                work,
                goal: "no failed hook".to_owned(),
                measured: format!("{failed} failed"),
                reached: failed == 0,
            },
        ]
    }

    fn figures(&self) -> Vec<Figure> {
        let figure = |name: &str, value| Figure {
            name: name.to_owned(),
            value,
            unit: "×",
            better: Better::Higher,
        };
        vec![
            figure("330 ports at once, portmap's nftables / hostport", self.ratio(PORTMAP, TOTAL)),
            figure("330 ports gone at once, the same", self.ratio(PORTMAP, TOTAL_STOP)),
        ]
    }
}

const TEXT: &str = "\
110 pods, each in its own network namespace with its own init process, on a node without any rules. Each has a
container with three TCP ports. Their calls run side by side on all cores, eight at a time, as kubelet starts pods that
do not wait for each other; hostport's also all at once. Then all of them go again, likewise. The time of a call
is that of the whole process, with its waits for others: CRI-O has a lock in its daemon, iptables and nft
compare and swap, hostport's hooks meet in the kernel only.
";
