//! Single nf_tables messages: what is sent, as values that become bytes.
//!
//! A message is a netlink header (16 bytes), an `nfgenmsg` (family, version 0, resource ID 0; 4 bytes)
//! and attributes. Names and numbers are those of `linux/netfilter/nf_tables.h` and `nfnetlink.h`.

use netlink_packet_core::{
    DefaultNla, Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader,
    NetlinkSerializable,
};
use netlink_packet_netfilter::conntrack::ConntrackMessage;
use netlink_packet_netfilter::nftables::{GenMessage, NfTablesMessage};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};

use super::reply::{NFGENMSG_LENGTH, NLMSGHDR_LENGTH};
use crate::model::Family;

/// One message to the kernel, without the sequence number that it gets when it is sent.
///
/// ```
/// use hostport_nft::{Family, Settings, Table};
///
/// for (sequence, message) in Table::new(Family::Ip, &Settings::default()).messages().iter().enumerate() {
///     let bytes = message.encode(sequence as u32);
///     // A header in the machine's byte order begins with the length (struct nlmsghdr in linux/netlink.h).
///     let [a, b, c, d, ..] = bytes[..] else { panic!() };
///     assert_eq!(u32::from_ne_bytes([a, b, c, d]) as usize, bytes.len());
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    flags: u16,
    content: NetfilterMessage,
}

/// The family in an `nfgenmsg` (NFPROTO_IPV4, NFPROTO_IPV6).
pub(crate) fn protocol_family(family: Family) -> NetfilterProtoFamily {
    match family {
        Family::Ip => NetfilterProtoFamily::IPv4,
        Family::Ip6 => NetfilterProtoFamily::IPv6,
    }
}

/// NFNL_SUBSYS_NFTABLES: the resource ID of a batch for nf_tables.
const NFNL_SUBSYS_NFTABLES: u16 = 10;
/// The type of NFNL_MSG_BATCH_BEGIN.
const NFNL_MSG_BATCH_BEGIN: u8 = 16;
/// The attribute of a batch's beginning that makes it a compare-and-swap: a generation, 32 bits in
/// network byte order.
const NFNL_BATCH_GENID: u16 = 1;
impl Message {
    pub(super) fn new(
        family: NetfilterProtoFamily,
        resource: u16,
        flags: u16,
        body: impl Into<NetfilterMessageInner>,
    ) -> Self {
        let header = NetfilterHeader::new(family, 0, resource);
        Message { flags: NLM_F_REQUEST | flags, content: NetfilterMessage::new(header, body) }
    }

    pub(super) fn nftables(family: Family, flags: u16, body: NfTablesMessage) -> Self {
        Message::new(protocol_family(family), 0, flags, body)
    }

    /// A request to the connection tracking (ctnetlink).
    pub(crate) fn conntrack(family: Family, flags: u16, body: ConntrackMessage) -> Self {
        Message::new(protocol_family(family), 0, flags, body)
    }

    /// The beginning of a batch; with a generation it fails with ERESTART if the ruleset is of another.
    pub(crate) fn batch_begin(generation: Option<u32>) -> Self {
        let body = match generation {
            None => ControlMessage::BatchBegin,
            Some(generation) => ControlMessage::Other {
                message_type: NFNL_MSG_BATCH_BEGIN,
                attributes: vec![DefaultNla::new(
                    NFNL_BATCH_GENID,
                    generation.to_be_bytes().to_vec(),
                )],
            },
        };
        Message::batch_edge(body)
    }

    /// The end of a batch, at which the kernel commits it.
    pub(crate) fn batch_end() -> Self {
        Message::batch_edge(ControlMessage::BatchEnd)
    }

    fn batch_edge(body: ControlMessage) -> Self {
        Message::new(NetfilterProtoFamily::Unspec, NFNL_SUBSYS_NFTABLES, 0, body)
    }

    /// The same message, which fails with EEXIST where the key is taken.
    pub(crate) fn exclusive(mut self) -> Self {
        self.flags |= NLM_F_EXCL;
        self
    }

    /// The same message, to be acknowledged by the kernel.
    pub(crate) fn acknowledged(mut self) -> Self {
        self.flags |= NLM_F_ACK;
        self
    }

    pub(super) fn dump(family: u8, body: NfTablesMessage) -> Self {
        Message::new(family.into(), 0, NLM_F_DUMP, body)
    }

    pub(crate) fn get_generation() -> Self {
        let body = NfTablesMessage::GetGen(GenMessage { attributes: vec![] });
        Message::new(NetfilterProtoFamily::Unspec, 0, 0, body)
    }

    /// The message that removes what this one makes.
    #[cfg(feature = "nftnl")]
    pub(crate) fn deleting(&self) -> Self {
        use NfTablesMessage::*;
        let body = match self.content.inner.clone() {
            NetfilterMessageInner::NfTables(body) => NetfilterMessageInner::NfTables(match body {
                NewTable(table) => DeleteTable(table),
                NewChain(chain) => DeleteChain(chain),
                NewRule(rule) => DeleteRule(rule),
                NewSet(set) => DeleteSet(set),
                NewSetElement(elements) => DeleteSetElement(elements),
                other => other,
            }),
            other => other,
        };
        let content = NetfilterMessage::new(self.content.header.clone(), body);
        Message { flags: NLM_F_REQUEST, content }
    }

    /// The bytes to send.
    ///
    /// ```
    /// # use hostport_nft::{Family, Settings, Table};
    /// let messages = Table::new(Family::Ip, &Settings::default()).messages();
    /// let bytes = messages[0].encode(7);
    /// assert_eq!(bytes[8..12], 7u32.to_ne_bytes());
    /// ```
    pub fn encode(&self, sequence: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.append(&mut bytes, sequence, 0);
        bytes
    }

    /// The attributes: what follows `nlmsghdr` and `nfgenmsg`.
    pub(crate) fn attributes(&self) -> Vec<u8> {
        self.encode(0).split_off(NLMSGHDR_LENGTH + NFGENMSG_LENGTH)
    }

    /// Appends the bytes to send to those of other messages, with these flags besides its own.
    pub(crate) fn append(&self, bytes: &mut Vec<u8>, sequence: u32, flags: u16) {
        let mut header = NetlinkHeader::default();
        let (begin, length) =
            (bytes.len(), header.buffer_len() + Emitable::buffer_len(&self.content));
        header.length = length as u32;
        header.message_type = self.content.message_type();
        header.flags = self.flags | flags;
        header.sequence_number = sequence;
        bytes.resize(begin + length, 0);
        if let Some(place) = bytes.get_mut(begin..) {
            header.emit(place);
            if let Some(place) = place.get_mut(header.buffer_len()..) {
                self.content.serialize(place);
            }
        }
    }
}
