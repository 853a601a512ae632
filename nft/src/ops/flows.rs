//! Flows that would miss the endpoint that a host port has now.
//!
//! A UDP sender that keeps its source port, or an SCTP association, stays with the translation that
//! its first packet got (or did not get), however the map changes. So after a mapping is published,
//! the flows towards it that lead elsewhere are forgotten, and after one is withdrawn, those that lead
//! to the endpoint that is gone. The next packet of such a flow is translated by the present map. A TCP connection
//! ends with its endpoint; but a client that the endpoint never answered repeats its SYN with the same source port, and
//! an endpoint that is dead ends nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::host_ports::HostPorts;
use crate::error::Error;
use crate::kernel::Kernel;
use crate::kernel::walk::{PATIENCE, complete};
use crate::model::{Family, Flow, Gather, HostPort, Mapping, Port, Protocol};

/// Which TCP connections are forgotten with the flows of other protocols.
///
/// ```
/// assert_ne!(hostport_nft::TcpFlows::Unanswered, hostport_nft::TcpFlows::All);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpFlows {
    /// Those that the endpoint has not answered.
    Unanswered,
    /// All, since the endpoint is dead.
    All,
}

impl<K: Kernel> HostPorts<K> {
    /// Forgets the UDP and SCTP flows towards mappings just published that lead elsewhere, and returns
    /// how many there were.
    ///
    /// `is_local` returns whether an address is one of this host's own: a flow that the host only
    /// forwards has the same port by chance.
    ///
    /// ```no_run
    /// # use hostport_nft::{Endpoint, Family, HostPort, HostPorts, Mapping, Protocol, Settings};
    /// # let host_ip = Family::Ip.wildcard();
    /// # let host = HostPort { host_ip, port: "9000".parse()?, protocol: Protocol::Tcp };
    /// # let endpoint = Endpoint { ip: "10.85.0.11".parse()?, port: "8080".parse()? };
    /// let mapping = Mapping::new(host, endpoint)?;
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// // Here 192.0.2.1 is this host's only address.
    /// let own = std::net::Ipv4Addr::new(192, 0, 2, 1);
    /// let forgotten = host_ports.redirect_flows(&[mapping], |address| address == own)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotPermitted`], [`Error::Transport`] or [`Error::Refused`]; some flows may then be
    /// forgotten and others not.
    pub fn redirect_flows(
        &mut self,
        mappings: &[Mapping],
        mut is_local: impl FnMut(IpAddr) -> bool,
    ) -> Result<usize, Error> {
        let wanted: BTreeMap<_, _> = mappings.iter().map(|m| (m.host(), m.endpoint())).gather();
        let mut forgotten = 0;
        let hosts = wanted.keys().filter(|host| host.protocol != Protocol::Tcp);
        for flow in self.flows_towards(hosts, TcpFlows::All)? {
            let wildcard = HostPort { host_ip: flow.host.family().wildcard(), ..flow.host };
            let endpoint = match (wanted.get(&flow.host), wanted.get(&wildcard)) {
                (Some(endpoint), _) => endpoint,
                // A specific host IP wins over the wildcard, whatever its owner.
                (None, Some(endpoint)) if self.get(flow.host)?.is_none() => endpoint,
                _ => continue,
            };
            if flow.answers != *endpoint
                && !self.settings.is_excluded(flow.host.host_ip)
                && is_local(flow.host.host_ip)
            {
                forgotten += usize::from(self.kernel.forget(&flow)?);
            }
        }
        Ok(forgotten)
    }

    /// Forgets the UDP and SCTP flows that lead to endpoints just withdrawn, and TCP connections there, and returns how
    /// many there were. A mapping that is published again keeps its flows, whatever its owner.
    ///
    /// ```no_run
    /// # use std::collections::BTreeSet;
    /// # use hostport_nft::{HostPorts, Mapping, Settings, TcpFlows};
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// let withdrawn = host_ports.withdraw(&"5e0f".parse()?, &BTreeSet::new(), &BTreeSet::new())?;
    /// let withdrawn: Vec<Mapping> = withdrawn.iter().map(|published| published.mapping).collect();
    /// host_ports.drop_flows(&withdrawn, TcpFlows::Unanswered)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`HostPorts::redirect_flows`].
    pub fn drop_flows(&mut self, withdrawn: &[Mapping], tcp: TcpFlows) -> Result<usize, Error> {
        let (mut gone, mut hosts) = (BTreeSet::new(), Vec::new());
        for mapping in withdrawn {
            let host = mapping.host();
            // Another owner may have the same mapping by now, as in a pod whose container was replaced.
            if self.get(host)?.is_none_or(|now| now.mapping != *mapping) {
                gone.insert((host.protocol, host.port, mapping.endpoint()));
                hosts.push(host);
            }
        }
        let mut forgotten = 0;
        for flow in self.flows_towards(hosts.iter(), tcp)? {
            if gone.contains(&(flow.host.protocol, flow.host.port, flow.answers)) {
                forgotten += usize::from(self.kernel.forget(&flow)?);
            }
        }
        Ok(forgotten)
    }

    /// The tracked flows towards the ports of some host ports, whatever their address.
    fn flows_towards<'a>(
        &mut self,
        hosts: impl Iterator<Item = &'a HostPort>,
        tcp: TcpFlows,
    ) -> Result<Vec<Flow>, Error> {
        let mut ports: BTreeMap<(Family, Protocol), BTreeSet<Port>> = BTreeMap::new();
        for host in hosts {
            ports.entry((host.family(), host.protocol)).or_default().insert(host.port);
        }
        let mut flows = Vec::new();
        for ((family, protocol), ports) in ports {
            // One walk of the kernel's table, however many the ports.
            let only = ports.first().filter(|_| ports.len() == 1).copied();
            let unanswered = protocol == Protocol::Tcp && tcp == TcpFlows::Unanswered;
            let walk = |kernel: &mut K| kernel.flows(family, protocol, only, unanswered);
            let some = complete(&mut self.kernel, PATIENCE, walk)?.unwrap_or_default();
            flows.extend(some.into_iter().filter(|flow| ports.contains(&flow.host.port)));
        }
        Ok(flows)
    }
}
