//! Part 4: what the rules cost the packets.

mod clock;
mod connection;
mod first_packet;
mod flow;
mod random;
mod report;
mod road;
mod rules;

use std::time::Duration;

use clock::Clock;
use flow::Load;
use report::Results;
use road::{Road, Rules};

use crate::bench::{Bench, progress};
use crate::measure::rounds;
use crate::peers::portmap::Backend;
use crate::report::Chapter;

const PORTS: [u32; 4] = [1, 1_000, 10_000, 60_000];
/// As many as the static rule has, and the largest number here.
const MOST: u32 = 60_000;

/// What is measured on each road in each round, in this order. All but the last two are of new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    /// A connection with a request and an answer.
    Connection,
    /// What connect(2) takes: half of all connections take less.
    Connect,
    /// The same of 99 in 100 connections.
    SlowConnect,
    /// A connection's first packet by itself.
    FirstPacket,
    /// A request and an answer of one byte, over a connection that is there.
    Packets,
    /// 32 KiB over a connection that is there.
    Bytes,
}

impl Measure {
    const ALL: [Measure; 6] = [
        Measure::Connection,
        Measure::Connect,
        Measure::SlowConnect,
        Measure::FirstPacket,
        Measure::Packets,
        Measure::Bytes,
    ];
}

/// Measures it.
pub fn run(bench: &Bench) -> Chapter {
    let roads: Vec<Road> = contenders(bench)
        .into_iter()
        .map(|(rules, ports)| Road::new(bench, rules, ports))
        .collect();
    let clock = Clock::choose(|clock, length| first_packet::measure(&roads[0], clock, length, 0));
    let count = bench.pick(150, 25);
    progress(format_args!("{} roads, {count} rounds", roads.len()));
    let limit = bench.pick(Duration::from_secs(180), Duration::from_secs(25));
    let mut connections = None;
    let groups = vec![Measure::ALL.len(); roads.len()];
    let rounds = rounds(&groups, count, limit, |turn, round| {
        let road = &roads[turn / Measure::ALL.len()];
        let milliseconds = Duration::from_millis;
        match Measure::ALL[turn % Measure::ALL.len()] {
            Measure::Connection => {
                let measured = connection::measure(road, clock, milliseconds(20), round);
                connections.insert(measured).slice.each()
            }
            Measure::Connect => connections.as_ref().expect("the turn before").connect(0.5),
            Measure::SlowConnect => connections.as_ref().expect("two turns before").connect(0.99),
            Measure::FirstPacket => {
                first_packet::measure(road, clock, milliseconds(10), round).each()
            }
            Measure::Packets => flow::measure(road, clock, milliseconds(5), Load::Packets).each(),
            Measure::Bytes => flow::measure(road, clock, milliseconds(5), Load::Bytes).each(),
        }
    });
    progress(format_args!("{} rounds", rounds.len()));
    let contenders = roads.iter().map(|road| (road.rules, road.ports)).collect();
    Results { contenders, rounds, clock }.chapter()
}

fn contenders(bench: &Bench) -> Vec<(Rules, u32)> {
    let nftables = Rules::Portmap(Backend::Nftables);
    let grow = [Rules::Hostport, nftables, Rules::Portmap(Backend::Iptables), Rules::Docker];
    let full = grow.into_iter().flat_map(|rules| PORTS.map(|ports| (rules, ports)));
    let quick = [(Rules::Hostport, 1), (Rules::Hostport, MOST), (nftables, 10_000)];
    let limits = [(Rules::None, 0), (Rules::Fixed, MOST)];
    limits.into_iter().chain(bench.pick(full.collect::<Vec<_>>(), quick.to_vec())).collect()
}
