//! Tracked connections: how they are asked for, read and deleted.
//!
//! Attribute names are those of `linux/netfilter/nfnetlink_conntrack.h`.

use hostport_netlink::{NLM_F_DUMP, attribute};

use super::message::{self, Message};
use crate::error::Malformed;
use crate::model::{Endpoint, Family, Flow, HostPort, Port, Protocol};
use crate::ruleset::element::take_address;

const IPCTNL_MSG_CT_GET: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
/// Linux 6.0 and later; an older kernel ignores it.
const CTA_STATUS_MASK: u16 = 26;
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
const IPS_SEEN_REPLY: u32 = 1 << 1;
/// CTA_FILTER_F_CTA_PROTO_NUM and _DST_PORT of the kernel's `nf_internals.h`, Linux 5.8 and later. An
/// older kernel ignores the filter, so what it sends is looked at again here.
const FILTER_PROTO_NUM: u32 = 1 << 3;
const FILTER_PROTO_DST_PORT: u32 = 1 << 5;

/// Asks for the connections of a protocol: of all, or those towards a port; of all, or those without an answer.
pub(crate) fn dump_request(
    family: Family,
    protocol: Protocol,
    port: Option<Port>,
    unanswered: bool,
) -> Message {
    let mut flags = FILTER_PROTO_NUM;
    let request = message::conntrack(IPCTNL_MSG_CT_GET, family, NLM_F_DUMP);
    let request = request.nest(CTA_TUPLE_ORIG, |tuple| {
        attribute::nest(tuple, CTA_TUPLE_PROTO, |proto| {
            attribute::push(proto, CTA_PROTO_NUM, &[protocol.number()]);
            if let Some(port) = port {
                attribute::push(proto, CTA_PROTO_DST_PORT, &port.get().to_be_bytes());
                flags |= FILTER_PROTO_DST_PORT;
            }
        });
    });
    let request = request.nest(CTA_FILTER, |filter| {
        attribute::push(filter, CTA_FILTER_ORIG_FLAGS, &flags.to_ne_bytes());
    });
    Message(match unanswered {
        true => {
            let request = request.bytes(CTA_STATUS, &0u32.to_be_bytes());
            request.bytes(CTA_STATUS_MASK, &IPS_SEEN_REPLY.to_be_bytes())
        }
        false => request,
    })
}

/// Deletes an entry, which its attributes name.
pub(crate) fn delete_request(flow: &Flow) -> Message {
    let request = message::conntrack(IPCTNL_MSG_CT_DELETE, flow.host.family(), 0);
    Message(attribute::all(&flow.name).flatten().fold(request, |request, (kind, value)| {
        // Only the tuple is made of other attributes.
        match kind {
            CTA_TUPLE_ORIG => request.nest(kind, |tuple| tuple.extend_from_slice(value)),
            _ => request.bytes(kind, value),
        }
    }))
}

impl Flow {
    /// Reads an entry's attributes; none if it is of a protocol that has no host ports.
    pub(crate) fn decode(family: Family, attributes: &[u8]) -> Result<Option<Self>, Malformed> {
        let (destination, source) = match family {
            Family::Ip => (CTA_IP_V4_DST, CTA_IP_V4_SRC),
            Family::Ip6 => (CTA_IP_V6_DST, CTA_IP_V6_SRC),
        };
        let original = end(family, attributes, CTA_TUPLE_ORIG, destination, CTA_PROTO_DST_PORT)?;
        let reply = end(family, attributes, CTA_TUPLE_REPLY, source, CTA_PROTO_SRC_PORT)?;
        let (Some((protocol, Endpoint { ip, port })), Some((_, answers))) = (original, reply)
        else {
            return Ok(None);
        };
        let status = attribute::find(attributes, CTA_STATUS)?.and_then(<[u8]>::first_chunk);
        let replied = status.is_none_or(|s| u32::from_be_bytes(*s) & IPS_SEEN_REPLY != 0);
        let mut name = Vec::new();
        for kind in [CTA_TUPLE_ORIG, CTA_ZONE, CTA_ID] {
            if let Some(value) = attribute::find(attributes, kind)? {
                attribute::push(&mut name, kind, value);
            }
        }
        Ok(Some(Flow { host: HostPort { host_ip: ip, port, protocol }, answers, replied, name }))
    }
}

/// The protocol of one direction of an entry, and one end of it; none if it has no ports.
fn end(
    family: Family,
    attributes: &[u8],
    tuple: u16,
    address: u16,
    port: u16,
) -> Result<Option<(Protocol, Endpoint)>, Malformed> {
    let tuple = attribute::find(attributes, tuple)?.unwrap_or_default();
    let ip = attribute::find(tuple, CTA_TUPLE_IP)?;
    let Some((ip, proto)) = ip.zip(attribute::find(tuple, CTA_TUPLE_PROTO)?) else {
        return Ok(None);
    };
    let number = attribute::find(proto, CTA_PROTO_NUM)?.ok_or(Malformed)?;
    let Some(protocol) = number.first().copied().and_then(Protocol::from_number) else {
        return Ok(None);
    };
    let mut address = attribute::find(ip, address)?.ok_or(Malformed)?;
    let port = attribute::find(proto, port)?.and_then(<[u8]>::first_chunk).ok_or(Malformed)?;
    let endpoint = take_address(&mut address, family).zip(Port::new(u16::from_be_bytes(*port)));
    Ok(endpoint.map(|(ip, port)| (protocol, Endpoint { ip, port })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tuple(bytes: &mut Vec<u8>, kind: u16, source: ([u8; 4], u16), destination: ([u8; 4], u16)) {
        attribute::nest(bytes, kind, |bytes| {
            attribute::nest(bytes, CTA_TUPLE_IP, |bytes| {
                attribute::push(bytes, CTA_IP_V4_SRC, &source.0);
                attribute::push(bytes, CTA_IP_V4_DST, &destination.0);
            });
            attribute::nest(bytes, CTA_TUPLE_PROTO, |bytes| {
                attribute::push(bytes, CTA_PROTO_NUM, &[17]);
                attribute::push(bytes, CTA_PROTO_SRC_PORT, &source.1.to_be_bytes());
                attribute::push(bytes, CTA_PROTO_DST_PORT, &destination.1.to_be_bytes());
            });
        });
    }

    #[test]
    fn a_translated_flow_tells_its_host_port_and_its_endpoint() {
        let client = ([192, 0, 2, 2], 40000);
        let mut entry = Vec::new();
        tuple(&mut entry, CTA_TUPLE_ORIG, client, ([192, 0, 2, 1], 9000));
        tuple(&mut entry, CTA_TUPLE_REPLY, ([10, 85, 0, 11], 8080), client);
        attribute::push(&mut entry, CTA_ID, &[1, 2, 3, 4]);
        let flow = Flow::decode(Family::Ip, &entry).unwrap().unwrap();
        assert_eq!(flow.host.to_string(), "192.0.2.1:9000/udp");
        assert_eq!(flow.answers.to_string(), "10.85.0.11:8080");
        assert_eq!(attribute::all(&flow.name).count(), 2);
    }

    #[test]
    fn an_entry_without_ports_is_passed_over() {
        let mut entry = Vec::new();
        attribute::nest(&mut entry, CTA_TUPLE_ORIG, |bytes| {
            attribute::nest(bytes, CTA_TUPLE_IP, |_| {});
            attribute::nest(bytes, CTA_TUPLE_PROTO, |bytes| {
                attribute::push(bytes, CTA_PROTO_NUM, &[1]);
            });
        });
        assert_eq!(Flow::decode(Family::Ip, &entry), Ok(None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_flow_or_an_error(
            raw in prop::collection::vec(any::<u8>(), 0..80),
            cut in 0usize..150,
        ) {
            let mut entry = Vec::new();
            tuple(&mut entry, CTA_TUPLE_ORIG, ([1; 4], 1), ([2; 4], 2));
            tuple(&mut entry, CTA_TUPLE_REPLY, ([2; 4], 2), ([1; 4], 1));
            let _ = Flow::decode(Family::Ip, &entry[..cut.min(entry.len())]);
            let mut both = Vec::new();
            attribute::push(&mut both, CTA_TUPLE_ORIG, &raw);
            attribute::push(&mut both, CTA_TUPLE_REPLY, &raw);
            for family in Family::ALL {
                let _ = (Flow::decode(family, &raw), Flow::decode(family, &both));
            }
        }
    }
}
