//! Part 2: what a container costs beside ports that are there already.

use std::time::{Duration, Instant};

use crate::bench::{Bench, progress};
use crate::measure::{Rounds, Spread, number, rounds, thousands};
use crate::peers::portmap::Backend;
use crate::peers::{Call, Peer, Station};
use crate::report::{Better, Chapter, Figure, Goal, Plot, Series, Table};

const PORTS: [u32; 5] = [0, 100, 1_000, 10_000, 60_000];
const QUICK: [u32; 2] = [0, 10_000];
/// How long one peer beside one number of ports may take, after its first round.
const LIMIT: Duration = Duration::from_secs(8);

/// A peer beside a number of ports, in turn with hostport beside as many.
struct Against {
    peer: usize,
    ports: u32,
    /// hostport's addition and removal, then the peer's.
    rounds: Rounds,
}

/// Measures it.
pub fn run(bench: &Bench) -> Chapter {
    let programs = &bench.programs;
    let (hostport, crio) = (programs.hostport(), programs.crio());
    let nftables = programs.portmap(Backend::Nftables);
    let iptables = programs.portmap(Backend::Iptables);
    let netavark = programs.netavark();
    let peers: Vec<&dyn Peer> =
        bench.pick(vec![&crio, &nftables, &iptables, &netavark], vec![&nftables]);
    let ports = bench.pick(&PORTS[..], &QUICK);
    let stations: Vec<Station> = ports
        .iter()
        .map(|ports| {
            progress(format_args!("hostport beside {} ports", thousands(*ports)));
            Station::new(&hostport, *ports)
        })
        .collect();
    let own = own(bench, &stations);
    let listing = listing(bench, stations.last().expect("a number of ports"));
    let mut against = Vec::new();
    for (station, ports) in stations.iter().zip(ports) {
        for (peer, each) in peers.iter().enumerate().filter(|(_, each)| *ports <= each.most_ports())
        {
            against.push(Against {
                peer,
                ports: *ports,
                rounds: measure(*each, *ports, station, bench),
            });
        }
    }
    stations.iter().for_each(Station::check);
    let results = Results { peers, ports, own, listing, against };
    Chapter {
        text: TEXT.to_owned(),
        tables: results.tables(),
        plots: results.plots(),
        goals: results.goals(),
        figures: results.figures(),
        ..Chapter::new("Beside other ports")
    }
}

/// hostport on all nodes in turn: additions and removals, those of a node next to each other.
fn own(bench: &Bench, stations: &[Station]) -> Rounds {
    let count = bench.pick(300, 60);
    progress(format_args!("hostport on all of them: {count} rounds"));
    let limit = bench.pick(Duration::from_secs(60), Duration::from_secs(10));
    rounds(&vec![2; stations.len()], count, limit, |turn, _| match turn % 2 {
        0 => stations[turn / 2].add(),
        _ => stations[turn / 2].remove(),
    })
}

/// A removal, and listing the map with nft, on the node with the most ports.
fn listing(bench: &Bench, station: &Station) -> Rounds {
    progress("a removal against listing the map with nft");
    let nft = Call::new(&bench.programs.nft, station.container.folder())
        .arguments(["--json", "list", "map", "ip", "hostport", "ports"]);
    let limit = bench.pick(Duration::from_secs(30), Duration::from_secs(8));
    let nft: Box<dyn crate::peers::Action> = Box::new(nft);
    rounds(&[2, 1], bench.pick(11, 3), limit, |turn, _| match turn {
        0 => station.add(),
        1 => station.remove(),
        _ => station.node.netns().run(|| nft.milliseconds()),
    })
}

fn measure(peer: &dyn Peer, ports: u32, hostport: &Station, bench: &Bench) -> Rounds {
    let start = Instant::now();
    let station = Station::new(peer, ports);
    let filled = start.elapsed().as_secs_f64();
    let rounds = rounds(&[2, 2], bench.pick(30, 7), LIMIT, |turn, _| match turn {
        0 => hostport.add(),
        1 => hostport.remove(),
        2 => station.add(),
        _ => station.remove(),
    });
    station.check();
    progress(format_args!(
        "{} beside {} ports: {} rounds; {} s to build",
        peer.name(),
        thousands(ports),
        rounds.len(),
        number(filled)
    ));
    rounds
}

struct Results<'a> {
    peers: Vec<&'a dyn Peer>,
    ports: &'a [u32],
    own: Rounds,
    listing: Rounds,
    against: Vec<Against>,
}

impl Results<'_> {
    /// What was measured of a peer beside a number of ports, if it was.
    fn of(&self, peer: usize, ports: u32) -> Option<&Rounds> {
        let found = self.against.iter().find(|each| each.peer == peer && each.ports == ports);
        found.map(|each| &each.rounds)
    }

    /// The same of portmap's nftables backend.
    fn portmap(&self, ports: u32) -> Option<&Rounds> {
        self.of(self.peers.iter().position(|peer| peer.name() == "portmap, nftables")?, ports)
    }

    fn tables(&self) -> Vec<Table> {
        ["Addition", "Removal"]
            .iter()
            .enumerate()
            .map(|(step, what)| self.table(what, step))
            .collect()
    }

    fn table(&self, what: &str, step: usize) -> Table {
        let caption = format!(
            "{what} beside other ports: milliseconds, × hostport's time in the same round, number of rounds."
        );
        let titles = ["who", "ports there", "time", "× hostport", "× its own at 0", "rounds"];
        let mut table = Table::new(&caption, titles);
        for (index, ports) in self.ports.iter().enumerate() {
            table.row([
                "hostport".to_owned(),
                thousands(*ports),
                self.own.of(2 * index + step).to_string(),
                String::new(),
                self.own.ratio(2 * index + step, step).to_string(),
                self.own.len().to_string(),
            ]);
        }
        for (peer, each) in self.peers.iter().enumerate() {
            for ports in self.ports {
                let mut row = vec![each.name().to_owned(), thousands(*ports)];
                let alone = self.of(peer, self.ports[0]);
                match self.of(peer, *ports).zip(alone) {
                    Some((rounds, alone)) => row.extend([
                        rounds.of(2 + step).to_string(),
                        rounds.ratio(2 + step, step).to_string(),
                        number(rounds.of(2 + step).median / alone.of(2 + step).median),
                        rounds.len().to_string(),
                    ]),
                    None => row.push("minutes, not measured".to_owned()),
                }
                table.row(row);
            }
        }
        table
    }

    fn plots(&self) -> Vec<Plot> {
        ["add", "remove"].iter().enumerate().map(|(step, name)| self.plot(name, step)).collect()
    }

    fn plot(&self, name: &str, step: usize) -> Plot {
        let points = |spread: &dyn Fn(usize, u32) -> Option<Spread>| {
            let ports = self.ports.iter().enumerate();
            ports
                .filter_map(|(index, ports)| Some((f64::from(*ports), spread(index, *ports)?)))
                .collect()
        };
        let own = Series {
            name: "hostport".to_owned(),
            points: points(&|index, _| Some(self.own.of(2 * index + step))),
        };
        let peers = self.peers.iter().enumerate().map(|(peer, each)| Series {
            name: each.name().to_owned(),
            points: points(&|_, ports| Some(self.of(peer, ports)?.of(2 + step))),
        });
        let what = if step == 0 { "Adding" } else { "Removing" };
        Plot {
            file: format!("growth-{name}"),
            title: format!("{what} a container's port beside other ports"),
            x: "ports that are there",
            y: "whole process, milliseconds",
            series: std::iter::once(own).chain(peers).collect(),
        }
    }

    fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        let mut goal = |work: &str, goal: &str, ratio: Spread, reached: bool| {
            let measured = format!("{ratio} ×");
            goals.push(Goal { work: work.to_owned(), goal: goal.to_owned(), measured, reached });
        };
        let work = "poststop with 10,000 ports there";
        if let Some(portmap) = self.portmap(10_000) {
            let ratio = portmap.ratio(3, 1);
            goal(work, "100 times faster than portmap", ratio, ratio.median >= 100.0);
        }
        if let Some(index) = self.place(10_000) {
            let ratio = self.own.ratio(2 * index + 1, 1);
            goal(work, "within 1.2 times its own cost at 0", ratio, ratio.median <= 1.2);
        }
        if self.place(60_000).is_some() {
            let ratio = self.listing.ratio(2, 1);
            goal(
                "poststop with 60,000 ports there",
                "500 times faster than listing the map with nft",
                ratio,
                ratio.median >= 500.0,
            );
        }
        goals
    }

    fn figures(&self) -> Vec<Figure> {
        let figure = |name: &str, value, better| Figure {
            name: format!("{name}, 10,000 ports"),
            value,
            unit: "×",
            better,
        };
        let mut figures = Vec::new();
        if let Some(index) = self.place(10_000) {
            let (prestart, poststop) = (2 * index, 2 * index + 1);
            figures.extend([
                figure("prestart / at 0", self.own.ratio(prestart, 0), Better::Lower),
                figure("poststop / at 0", self.own.ratio(poststop, 1), Better::Lower),
            ]);
        }
        if let Some(portmap) = self.portmap(10_000) {
            figures.extend([
                figure("portmap's nftables ADD / prestart", portmap.ratio(2, 0), Better::Higher),
                figure("portmap's nftables DEL / poststop", portmap.ratio(3, 1), Better::Higher),
            ]);
        }
        figures
    }

    /// Where a number of ports is among those that were there.
    fn place(&self, ports: u32) -> Option<usize> {
        self.ports.iter().position(|each| *each == ports)
    }
}

const TEXT: &str = "\
As above, on nodes where other containers, of ten TCP ports each, have theirs already. hostport's are there by its own
hook calls. Those of the peers are loaded in bulk, as the rules that they write themselves: that these are the
same is seen in every run, from their own calls for two containers. hostport takes turns with each peer, and once
more with itself on all nodes, which tells how much it grows. Where a single call takes seconds, there are few rounds.
";
