//! Connection tracking: flows that would miss the endpoint that a host port has now.
//!
//! A UDP sender that keeps its source port, or an SCTP association, stays with the translation that
//! its first packet got (or did not get), however the map changes. So after a mapping is published,
//! the flows towards it that lead elsewhere are forgotten, and after one is withdrawn, those that lead
//! to the endpoint that is gone. The next packet of such a flow is looked up anew. TCP needs none of
//! this: a connection ends with its endpoint.
//!
//! Attribute names are those of `linux/netfilter/nfnetlink_conntrack.h`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED, NLM_F_DUMP, Parseable};
use netlink_packet_netfilter::conntrack::ConntrackMessage;
use rustix::io::Errno;

use crate::kernel::socket::refusal;
use crate::wire::message::Message;
use crate::wire::reply::{Malformed, find};
use crate::{Endpoint, Error, Family, HostPort, HostPorts, Mapping, Port, Protocol};

const IPCTNL_MSG_CT_GET: u8 = 1;
const IPCTNL_MSG_CT_DELETE: u8 = 2;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
/// CTA_FILTER_F_CTA_PROTO_NUM and _DST_PORT of the kernel's `nf_internals.h`, Linux 5.8 and later. An
/// older kernel ignores the filter, so what it sends is looked at again here.
const FILTER_PROTO_NUM: u32 = 1 << 3;
const FILTER_PROTO_DST_PORT: u32 = 1 << 5;

/// A tracked connection: where its first packet went to, and who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flow {
    /// The destination before translation.
    pub(crate) host: HostPort,
    /// The destination after it.
    pub(crate) answers: Endpoint,
    /// The attributes that name the entry to the kernel.
    name: Vec<DefaultNla>,
}

impl HostPorts {
    /// Forgets the UDP and SCTP flows towards mappings just published that lead elsewhere, and returns
    /// how many there were.
    ///
    /// `is_local` tells whether an address is one of this host's own: a flow that the host only
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
        let mut wanted = BTreeMap::new();
        for mapping in mappings {
            wanted.insert(mapping.host(), mapping.endpoint());
        }
        let mut forgotten = 0;
        for flow in self.flows(wanted.keys())? {
            let wildcard = HostPort { host_ip: flow.host.family().wildcard(), ..flow.host };
            let endpoint = match (wanted.get(&flow.host), wanted.get(&wildcard)) {
                (Some(endpoint), _) => endpoint,
                // A specific host IP wins over the wildcard, whoever owns it.
                (None, Some(endpoint)) if self.get(flow.host)?.is_none() => endpoint,
                _ => continue,
            };
            let leads_elsewhere = flow.answers != *endpoint;
            if leads_elsewhere
                && !self.settings.is_excluded(flow.host.host_ip)
                && is_local(flow.host.host_ip)
            {
                forgotten += usize::from(self.forget(&flow)?);
            }
        }
        Ok(forgotten)
    }

    /// Forgets the UDP and SCTP flows that lead to endpoints just withdrawn, and returns how many
    /// there were. What is published again, by whomever, keeps its flows.
    ///
    /// ```no_run
    /// # use std::collections::BTreeSet;
    /// # use hostport_nft::{HostPorts, Mapping, Settings};
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// let withdrawn = host_ports.withdraw(&"5e0f".parse()?, &BTreeSet::new(), &BTreeSet::new())?;
    /// let withdrawn: Vec<Mapping> = withdrawn.iter().map(|published| published.mapping).collect();
    /// host_ports.drop_flows(&withdrawn)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`HostPorts::redirect_flows`].
    pub fn drop_flows(&mut self, withdrawn: &[Mapping]) -> Result<usize, Error> {
        let (mut gone, mut hosts) = (BTreeSet::new(), Vec::new());
        for mapping in withdrawn.iter().filter(|mapping| mapping.host().protocol != Protocol::Tcp) {
            let host = mapping.host();
            // Another may have the same by now, as in a pod whose container was replaced.
            if self.get(host)?.is_none_or(|now| now.mapping != *mapping) {
                gone.insert((host.protocol, host.port, mapping.endpoint()));
                hosts.push(host);
            }
        }
        let mut forgotten = 0;
        for flow in self.flows(hosts.iter())? {
            if gone.contains(&(flow.host.protocol, flow.host.port, flow.answers)) {
                forgotten += usize::from(self.forget(&flow)?);
            }
        }
        Ok(forgotten)
    }

    /// The tracked flows towards the ports of some host ports, whatever their address.
    fn flows<'a>(&mut self, hosts: impl Iterator<Item = &'a HostPort>) -> Result<Vec<Flow>, Error> {
        let mut ports: BTreeMap<(Family, Protocol), BTreeSet<Port>> = BTreeMap::new();
        for host in hosts.filter(|host| host.protocol != Protocol::Tcp) {
            ports.entry((host.family(), host.protocol)).or_default().insert(host.port);
        }
        let mut flows = Vec::new();
        for ((family, protocol), ports) in ports {
            // One walk of the kernel's table, however many the ports.
            let only = ports.first().filter(|_| ports.len() == 1).copied();
            let request = dump_request(family, protocol, only);
            let some = self.socket.dump(&request, self.patience, |attributes, flows| {
                let flow = Flow::decode(family, attributes)?;
                flows.extend(flow.filter(|flow| {
                    flow.host.protocol == protocol && ports.contains(&flow.host.port)
                }));
                Ok(())
            })?;
            flows.extend(some.unwrap_or_default());
        }
        Ok(flows)
    }

    /// Deletes an entry; false if it was gone already.
    fn forget(&mut self, flow: &Flow) -> Result<bool, Error> {
        let body = ConntrackMessage::Other {
            message_type: IPCTNL_MSG_CT_DELETE,
            attributes: flow.name.clone(),
        };
        match self.socket.order(Message::conntrack(flow.host.family(), 0, body))? {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(refusal("to forget a tracked connection", error)),
        }
    }
}

fn dump_request(family: Family, protocol: Protocol, port: Option<Port>) -> Message {
    let mut proto = vec![DefaultNla::new(CTA_PROTO_NUM, vec![protocol.number()])];
    let mut flags = FILTER_PROTO_NUM;
    if let Some(port) = port {
        proto.push(DefaultNla::new(CTA_PROTO_DST_PORT, port.get().to_be_bytes().to_vec()));
        flags |= FILTER_PROTO_DST_PORT;
    }
    let attributes = vec![
        nest(CTA_TUPLE_ORIG, &[nest(CTA_TUPLE_PROTO, &proto)]),
        nest(CTA_FILTER, &[DefaultNla::new(CTA_FILTER_ORIG_FLAGS, flags.to_ne_bytes().to_vec())]),
    ];
    let body = ConntrackMessage::Other { message_type: IPCTNL_MSG_CT_GET, attributes };
    Message::conntrack(family, NLM_F_DUMP, body)
}

fn nest(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    let mut value = vec![0; attributes.buffer_len()];
    attributes.emit(&mut value);
    DefaultNla::new(kind | NLA_F_NESTED, value)
}

impl Flow {
    /// Reads an entry's attributes; none if it is of a protocol that has no host ports.
    pub(crate) fn decode(family: Family, attributes: &[u8]) -> Result<Option<Self>, Malformed> {
        let tuple = |kind| -> Result<Option<Tuple>, Malformed> {
            find(attributes, kind)?.map_or(Ok(None), |tuple| Tuple::decode(family, tuple.value()))
        };
        let (Some(original), Some(reply)) = (tuple(CTA_TUPLE_ORIG)?, tuple(CTA_TUPLE_REPLY)?)
        else {
            return Ok(None);
        };
        let mut name = Vec::new();
        for kind in [CTA_TUPLE_ORIG, CTA_ZONE, CTA_ID] {
            if let Some(attribute) = find(attributes, kind)? {
                name.push(DefaultNla::parse(&attribute).map_err(|_| Malformed)?);
            }
        }
        Ok(Some(Flow {
            host: HostPort {
                host_ip: original.destination.ip,
                port: original.destination.port,
                protocol: original.protocol,
            },
            answers: reply.source,
            name,
        }))
    }
}

/// One direction of a flow.
struct Tuple {
    protocol: Protocol,
    source: Endpoint,
    destination: Endpoint,
}

impl Tuple {
    fn decode(family: Family, attributes: &[u8]) -> Result<Option<Self>, Malformed> {
        let (Some(ip), Some(proto)) =
            (find(attributes, CTA_TUPLE_IP)?, find(attributes, CTA_TUPLE_PROTO)?)
        else {
            return Ok(None);
        };
        let (source, destination) = match family {
            Family::Ip => (CTA_IP_V4_SRC, CTA_IP_V4_DST),
            Family::Ip6 => (CTA_IP_V6_SRC, CTA_IP_V6_DST),
        };
        let number = find(proto.value(), CTA_PROTO_NUM)?.ok_or(Malformed)?;
        let Some(protocol) = number.value().first().copied().and_then(Protocol::from_number) else {
            return Ok(None);
        };
        let endpoint = |address, port| -> Result<Option<Endpoint>, Malformed> {
            let address = find(ip.value(), address)?.ok_or(Malformed)?;
            let port = find(proto.value(), port)?.ok_or(Malformed)?;
            let port = port.value().first_chunk().ok_or(Malformed)?;
            let ip = crate::wire::element::take_address(&mut address.value(), family);
            let port = Port::new(u16::from_be_bytes(*port));
            Ok(port.map(|port| Some(Endpoint { ip: ip?, port })).unwrap_or_default())
        };
        let source = endpoint(source, CTA_PROTO_SRC_PORT)?;
        let destination = endpoint(destination, CTA_PROTO_DST_PORT)?;
        Ok(source.zip(destination).map(|(source, destination)| Tuple {
            protocol,
            source,
            destination,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tuple(kind: u16, source: ([u8; 4], u16), destination: ([u8; 4], u16)) -> DefaultNla {
        let port = |kind, port: u16| DefaultNla::new(kind, port.to_be_bytes().to_vec());
        nest(
            kind,
            &[
                nest(
                    CTA_TUPLE_IP,
                    &[
                        DefaultNla::new(CTA_IP_V4_SRC, source.0.to_vec()),
                        DefaultNla::new(CTA_IP_V4_DST, destination.0.to_vec()),
                    ],
                ),
                nest(
                    CTA_TUPLE_PROTO,
                    &[
                        DefaultNla::new(CTA_PROTO_NUM, vec![17]),
                        port(CTA_PROTO_SRC_PORT, source.1),
                        port(CTA_PROTO_DST_PORT, destination.1),
                    ],
                ),
            ],
        )
    }

    fn bytes(attributes: &[DefaultNla]) -> Vec<u8> {
        let mut bytes = vec![0; attributes.buffer_len()];
        attributes.emit(&mut bytes);
        bytes
    }

    #[test]
    fn a_translated_flow_tells_its_host_port_and_who_answers() {
        let client = ([192, 0, 2, 2], 40000);
        let entry = bytes(&[
            tuple(CTA_TUPLE_ORIG, client, ([192, 0, 2, 1], 9000)),
            tuple(CTA_TUPLE_REPLY, ([10, 85, 0, 11], 8080), client),
            DefaultNla::new(CTA_ID, vec![1, 2, 3, 4]),
        ]);
        let flow = Flow::decode(Family::Ip, &entry).unwrap().unwrap();
        assert_eq!(flow.host.to_string(), "192.0.2.1:9000/udp");
        assert_eq!(flow.answers.to_string(), "10.85.0.11:8080");
        assert_eq!(flow.name.len(), 2);
    }

    #[test]
    fn an_entry_without_ports_is_passed_over() {
        let icmp = nest(CTA_TUPLE_PROTO, &[DefaultNla::new(CTA_PROTO_NUM, vec![1])]);
        let ip = nest(CTA_TUPLE_IP, &[]);
        let entry = bytes(&[nest(CTA_TUPLE_ORIG, &[ip, icmp])]);
        assert_eq!(Flow::decode(Family::Ip, &entry), Ok(None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_flow_or_an_error(
            raw in prop::collection::vec(any::<u8>(), 0..80),
            cut in 0usize..150,
        ) {
            let entry = bytes(&[
                tuple(CTA_TUPLE_ORIG, ([1; 4], 1), ([2; 4], 2)),
                tuple(CTA_TUPLE_REPLY, ([2; 4], 2), ([1; 4], 1)),
            ]);
            let _ = Flow::decode(Family::Ip, &entry[..cut.min(entry.len())]);
            for family in Family::ALL {
                let _ = Flow::decode(family, &raw);
                let _ = Flow::decode(family, &bytes(&[
                    DefaultNla::new(CTA_TUPLE_ORIG, raw.clone()),
                    DefaultNla::new(CTA_TUPLE_REPLY, raw.clone()),
                ]));
            }
        }
    }
}
