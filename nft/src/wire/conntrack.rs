//! Tracked connections: how they are asked for, read and deleted.
//!
//! Attribute names are those of `linux/netfilter/nfnetlink_conntrack.h`.

use netlink_packet_core::{
    DefaultNla, Emitable, NLA_F_NESTED, NLM_F_DUMP, NlasIterator, Parseable,
};
use netlink_packet_netfilter::conntrack::ConntrackMessage;

use super::message::Message;
use super::reply::find;
use crate::error::Malformed;
use crate::model::{Endpoint, Family, Flow, HostPort, Port, Protocol};
use crate::ruleset::element::take_address;

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

pub(crate) fn dump_request(family: Family, protocol: Protocol, port: Option<Port>) -> Message {
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

/// Deletes an entry, which its attributes name.
pub(crate) fn delete_request(flow: &Flow) -> Message {
    let name = NlasIterator::new(&flow.name).flatten();
    let attributes = name.filter_map(|attribute| DefaultNla::parse(&attribute).ok()).collect();
    let body = ConntrackMessage::Other { message_type: IPCTNL_MSG_CT_DELETE, attributes };
    Message::conntrack(flow.host.family(), 0, body)
}

fn nest(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    DefaultNla::new(kind | NLA_F_NESTED, bytes_of(attributes))
}

fn bytes_of(attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    bytes
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
            name: bytes_of(&name),
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
            let ip = take_address(&mut address.value(), family);
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

    #[test]
    fn a_translated_flow_tells_its_host_port_and_who_answers() {
        let client = ([192, 0, 2, 2], 40000);
        let entry = bytes_of(&[
            tuple(CTA_TUPLE_ORIG, client, ([192, 0, 2, 1], 9000)),
            tuple(CTA_TUPLE_REPLY, ([10, 85, 0, 11], 8080), client),
            DefaultNla::new(CTA_ID, vec![1, 2, 3, 4]),
        ]);
        let flow = Flow::decode(Family::Ip, &entry).unwrap().unwrap();
        assert_eq!(flow.host.to_string(), "192.0.2.1:9000/udp");
        assert_eq!(flow.answers.to_string(), "10.85.0.11:8080");
        assert_eq!(NlasIterator::new(&flow.name).count(), 2);
    }

    #[test]
    fn an_entry_without_ports_is_passed_over() {
        let icmp = nest(CTA_TUPLE_PROTO, &[DefaultNla::new(CTA_PROTO_NUM, vec![1])]);
        let ip = nest(CTA_TUPLE_IP, &[]);
        let entry = bytes_of(&[nest(CTA_TUPLE_ORIG, &[ip, icmp])]);
        assert_eq!(Flow::decode(Family::Ip, &entry), Ok(None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_flow_or_an_error(
            raw in prop::collection::vec(any::<u8>(), 0..80),
            cut in 0usize..150,
        ) {
            let entry = bytes_of(&[
                tuple(CTA_TUPLE_ORIG, ([1; 4], 1), ([2; 4], 2)),
                tuple(CTA_TUPLE_REPLY, ([2; 4], 2), ([1; 4], 1)),
            ]);
            let _ = Flow::decode(Family::Ip, &entry[..cut.min(entry.len())]);
            for family in Family::ALL {
                let _ = Flow::decode(family, &raw);
                let _ = Flow::decode(family, &bytes_of(&[
                    DefaultNla::new(CTA_TUPLE_ORIG, raw.clone()),
                    DefaultNla::new(CTA_TUPLE_REPLY, raw.clone()),
                ]));
            }
        }
    }
}
