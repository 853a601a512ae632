//! What was measured, as tables, plots and goals.

use super::clock::Clock;
use super::flow::BYTES;
use super::road::Rules;
use super::{MOST, Measure};
use crate::measure::{Rounds, Spread, number, thousands};
use crate::peers::portmap::Backend;
use crate::report::{Better, Chapter, Figure, Goal, Plot, Series, Table};

/// All that was measured.
pub struct Results {
    /// Whose rules, and for how many ports.
    pub contenders: Vec<(Rules, u32)>,
    /// The values of [`Measure`], in microseconds, for each contender.
    pub rounds: Rounds,
    /// Of which clock.
    pub clock: Clock,
}

const PORTMAP: Rules = Rules::Portmap(Backend::Nftables);

impl Results {
    /// The chapter of the page.
    pub fn chapter(&self) -> Chapter {
        Chapter {
            text: self.text(),
            tables: vec![self.connections(), self.first_packets(), self.flows()],
            plots: vec![
                self.plot(
                    "data-path-connections",
                    "New connections a second of one processor",
                    "connections a second",
                    |road| self.rate(road, Measure::Connection),
                ),
                self.plot(
                    "data-path-first-packet",
                    "A connection's first packet",
                    "time of the processor, microseconds",
                    |road| self.time(road, Measure::FirstPacket),
                ),
            ],
            goals: self.goals(),
            figures: self.figures(),
            ..Chapter::new("The data path")
        }
    }

    fn road(&self, rules: Rules, ports: u32) -> usize {
        let found = self.contenders.iter().position(|contender| *contender == (rules, ports));
        found.expect("a contender of every run")
    }

    fn untranslated(&self) -> usize {
        self.road(Rules::None, 0)
    }

    fn fixed(&self) -> usize {
        self.road(Rules::Fixed, MOST)
    }

    fn time(&self, road: usize, measure: Measure) -> Spread {
        self.rounds.of(at(road, measure))
    }

    fn rate(&self, road: usize, measure: Measure) -> Spread {
        self.rounds.each(|round| 1e6 / round[at(road, measure)])
    }

    /// How many times as long as with another's rules, in the same round.
    fn ratio(&self, road: usize, to: usize, measure: Measure) -> Spread {
        self.rounds.ratio(at(road, measure), at(to, measure))
    }

    /// How many microseconds more than with another's rules, in the same round.
    fn more(&self, road: usize, than: usize, measure: Measure) -> String {
        if road == than {
            return String::new();
        }
        let more = |round: &[f64]| round[at(road, measure)] - round[at(than, measure)];
        self.rounds.each(more).to_string()
    }

    fn connections(&self) -> Table {
        let caption = format!(
            "New connections, each with a request and an answer of 64 bytes, and what connect(2) takes: {} rounds.",
            self.rounds.len()
        );
        let titles = [
            "rules",
            "ports",
            "connections a second",
            "× one static rule",
            "connect(2), µs",
            "more than untranslated, µs",
            "of 99 in 100, µs",
        ];
        let mut table = Table::new(&caption, titles);
        for (road, (rules, ports)) in self.contenders.iter().enumerate() {
            table.row([
                rules.name().to_owned(),
                ports_of(*rules, *ports),
                self.rate(road, Measure::Connection).to_string(),
                self.ratio(self.fixed(), road, Measure::Connection).to_string(),
                self.time(road, Measure::Connect).to_string(),
                self.more(road, self.untranslated(), Measure::Connect),
                self.time(road, Measure::SlowConnect).to_string(),
            ]);
        }
        table
    }

    fn first_packets(&self) -> Table {
        let caption =
            "A connection's first packet by itself, from the client's send(2) to the pod's link.";
        let titles =
            ["rules", "ports", "µs", "more than untranslated, µs", "× the time of one static rule"];
        let mut table = Table::new(caption, titles);
        for (road, (rules, ports)) in self.contenders.iter().enumerate() {
            table.row([
                rules.name().to_owned(),
                ports_of(*rules, *ports),
                self.time(road, Measure::FirstPacket).to_string(),
                self.more(road, self.untranslated(), Measure::FirstPacket),
                self.ratio(road, self.fixed(), Measure::FirstPacket).to_string(),
            ]);
        }
        table
    }

    fn flows(&self) -> Table {
        let caption = "A connection that is there: requests and answers of one byte, and throughput, of one processor.";
        let titles = [
            "rules",
            "ports",
            "requests a second",
            "× one static rule",
            "Gbit/s",
            "× one static rule's",
        ];
        let mut table = Table::new(caption, titles);
        for (road, (rules, ports)) in self.contenders.iter().enumerate() {
            let bits = |round: &[f64]| (BYTES * 8) as f64 / (round[at(road, Measure::Bytes)] * 1e3);
            table.row([
                rules.name().to_owned(),
                ports_of(*rules, *ports),
                self.rate(road, Measure::Packets).to_string(),
                self.ratio(self.fixed(), road, Measure::Packets).to_string(),
                self.rounds.each(bits).to_string(),
                self.ratio(self.fixed(), road, Measure::Bytes).to_string(),
            ]);
        }
        table
    }

    fn plot(
        &self,
        file: &str,
        title: &str,
        label: &'static str,
        of: impl Fn(usize) -> Spread,
    ) -> Plot {
        let mut series: Vec<Series> = Vec::new();
        let most = f64::from(MOST);
        for (road, (rules, ports)) in self.contenders.iter().enumerate() {
            // The limits are the same for any number of ports.
            let places = match rules {
                Rules::None | Rules::Fixed => vec![1.0, most],
                _ => vec![f64::from(*ports)],
            };
            let points = places.into_iter().map(|place| (place, of(road)));
            match series.iter_mut().find(|each| each.name == rules.name()) {
                Some(each) => each.points.extend(points),
                None => {
                    series.push(Series { name: rules.name().to_owned(), points: points.collect() });
                }
            }
        }
        Plot {
            file: file.to_owned(),
            title: title.to_owned(),
            x: "published ports",
            y: label,
            series,
        }
    }

    fn goals(&self) -> Vec<Goal> {
        let ours = self.road(Rules::Hostport, MOST);
        let goal = |goal: &str, ratio: Spread, reached| Goal {
            work: "new connections at 60,000 ports".to_owned(),
            goal: goal.to_owned(),
            measured: format!("{ratio} ×"),
            reached,
        };
        let fixed = self.ratio(self.fixed(), ours, Measure::Connection);
        let portmap = self.ratio(self.road(PORTMAP, 10_000), ours, Measure::Connection);
        vec![
            goal("0.97 of one static rule or better", fixed, fixed.median >= 0.97),
            goal("2.5 times portmap's at 10,000 ports", portmap, portmap.median >= 2.5),
        ]
    }

    fn figures(&self) -> Vec<Figure> {
        let figure =
            |name: &str, value, better| Figure { name: name.to_owned(), value, unit: "×", better };
        let fixed = self.fixed();
        let [one, most] = [1, MOST].map(|ports| self.road(Rules::Hostport, ports));
        let portmap = self.road(PORTMAP, 10_000);
        vec![
            figure(
                "connections at 60,000 ports / one static rule's",
                self.ratio(fixed, most, Measure::Connection),
                Better::Higher,
            ),
            figure(
                "connections at 60,000 ports / portmap's at 10,000",
                self.ratio(portmap, most, Measure::Connection),
                Better::Higher,
            ),
            figure(
                "first packet, 1 port / one static rule's",
                self.ratio(one, fixed, Measure::FirstPacket),
                Better::Lower,
            ),
            figure(
                "first packet, 60,000 ports / one static rule's",
                self.ratio(most, fixed, Measure::FirstPacket),
                Better::Lower,
            ),
            figure(
                "requests over one connection, 60,000 ports / one static rule's",
                self.ratio(fixed, most, Measure::Packets),
                Better::Higher,
            ),
        ]
    }

    fn text(&self) -> String {
        let clock = match self.clock {
            Clock::Processor => {
                "Given is the time that this thread had on the processor, with the softirqs in it: what else the \
                 machine does meanwhile does not count."
            }
            Clock::Wall => {
                "Given is the time on the wall, since this kernel keeps the time of softirqs apart."
            }
        };
        let added = self.rounds.each(|round| {
            let ours = self.road(Rules::Hostport, MOST);
            round[at(ours, Measure::FirstPacket)] - round[at(self.fixed(), Measure::FirstPacket)]
        });
        format!(
            "{TEXT}{clock}\n{NOTES}hostport's rules with 60,000 ports take {} µs more of a connection's first packet than one static rule.\n",
            number(added.median)
        )
    }
}

/// Where a value stands in a round.
fn at(road: usize, measure: Measure) -> usize {
    let place = Measure::ALL.iter().position(|each| *each == measure);
    road * Measure::ALL.len() + place.expect("one of all")
}

fn ports_of(rules: Rules, ports: u32) -> String {
    match rules {
        Rules::None | Rules::Fixed => "any".to_owned(),
        _ => thousands(ports),
    }
}

const TEXT: &str = "\
A client, a node that routes, and a pod on the node's bridge: for each line a network of its own. Every published port \
leads to the one pod, and each connection goes to a port at random, evenly over all that are published: the same \
ones in the same order for all. For a chain of rules that is half of its length on average. \
One thread on one processor is client and server in turn; a packet goes \
through client, node and pod before the call that sends it returns. ";
const NOTES: &str = "
- *connections*: connect, a request and an answer of 64 bytes, and a reset, as in netperf's TCP_CRR. The reset (SO_LINGER) \
  keeps both ends from remembering the connection; the node's tracked connections are deleted after each slice.
- *first packet*: SYNs of ever new connections from a raw socket, which the pod drops on arrival.
- *no translation*: to the pod's own address, on a node without rules, which does not track connections either.
- *one static rule*: `tcp dport 5000-64999 dnat to POD:8080`, without the question whether the address is the node's.
- hostport's ports are there by its own hook calls, those of portmap as it writes them itself (see above), ten ports a \
  container. Docker's are the nat table of its bridge driver (moby 28), one rule a port; its filter table is left out, and \
  it was not run here. iptables is Debian's, which speaks to nf_tables.

";
