//! hostport's calls against those of its peers, each on a node of its own without other ports.

use std::time::Duration;

use crate::bench::{Bench, progress};
use crate::measure::{Footprint, Rounds, rounds};
use crate::peers::portmap::Backend;
use crate::peers::{Peer, Station, check_bulk};

/// What was measured.
pub struct Against {
    /// hostport first.
    pub names: Vec<&'static str>,
    /// Of each its addition and its removal.
    pub rounds: Rounds,
    /// Likewise.
    pub footprints: Vec<[Footprint; 2]>,
}

/// Measures them.
pub fn measure(bench: &Bench) -> Against {
    let programs = &bench.programs;
    let (hostport, crio) = (programs.hostport(), programs.crio());
    let nftables = programs.portmap(Backend::Nftables);
    let iptables = programs.portmap(Backend::Iptables);
    let netavark = programs.netavark();
    let (portless, plugin) = (netavark.without_ports(), programs.plugin());
    progress("the peers' rules, by their own calls and in bulk");
    for peer in [&crio as &dyn Peer, &nftables, &iptables, &netavark] {
        check_bulk(peer);
    }
    let peers: [&dyn Peer; 7] =
        [&hostport, &crio, &nftables, &iptables, &netavark, &portless, &plugin];
    let stations = peers.map(|peer| Station::new(peer, 0));
    let number = bench.pick(150, 10);
    progress(format_args!("one container against the peers: {number} rounds"));
    let limit = bench.pick(Duration::from_secs(150), Duration::from_secs(15));
    let rounds = rounds(&[2; 7], number, limit, |turn, _| match turn % 2 {
        0 => stations[turn / 2].add(),
        _ => stations[turn / 2].remove(),
    });
    progress("their memory and system calls");
    let footprints = stations.iter().map(Station::footprints).collect();
    stations.iter().for_each(Station::check);
    Against { names: peers.iter().map(|peer| peer.name()).collect(), rounds, footprints }
}
