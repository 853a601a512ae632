//! Single messages to netfilter, as values that become bytes.
//!
//! A message is a netlink header (16 bytes), an `nfgenmsg` (family, version 0, resource ID 0; 4 bytes)
//! and attributes.

use hostport_netlink::{NetlinkRequest, attribute};

use super::constants::*;
use crate::model::{Family, Generation, NfFamily, TableName};

/// The length of `struct nfgenmsg`.
pub(crate) const NFGENMSG_LENGTH: usize = 4;

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
pub struct Message(pub(crate) NetlinkRequest);

/// A message to nf_tables about a table or what is in it: the first attribute of every object is its table's name.
pub(super) fn nftables(kind: u16, flags: u16, family: Family, table: &TableName) -> NetlinkRequest {
    nftables_of_family(kind, flags, family.into()).text(NFTA_TABLE_NAME, table.as_str())
}

/// A message to nf_tables about all tables of a family.
pub(super) fn nftables_of_family(kind: u16, flags: u16, family: NfFamily) -> NetlinkRequest {
    NetlinkRequest::new(NFNL_SUBSYS_NFTABLES << 8 | kind, flags, &[family as u8, 0, 0, 0])
}

/// A message to the connection tracking (ctnetlink).
pub(super) fn conntrack(kind: u16, family: Family, flags: u16) -> NetlinkRequest {
    let family = NfFamily::from(family) as u8;
    NetlinkRequest::new(NFNL_SUBSYS_CTNETLINK << 8 | kind, flags, &[family, 0, 0, 0])
}

/// NFPROTO_UNSPEC.
const UNSPECIFIED: u8 = 0;

/// The beginning or the end of a batch. Its resource ID names the subsystem that the batch is for.
fn batch_edge(kind: u16) -> NetlinkRequest {
    let [high, low] = NFNL_SUBSYS_NFTABLES.to_be_bytes();
    NetlinkRequest::new(kind, 0, &[UNSPECIFIED, 0, high, low])
}

/// Appends a 32-bit attribute; nf_tables has them all in network byte order.
pub(super) fn push_number(bytes: &mut Vec<u8>, kind: u16, value: u32) {
    attribute::push(bytes, kind, &value.to_be_bytes());
}

/// Appends a key or a datum: `struct nft_data` with a value.
pub(super) fn push_value(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    attribute::nest(bytes, kind, |bytes| attribute::push(bytes, NFTA_DATA_VALUE, value));
}

impl Message {
    /// The beginning of a batch; with a generation it fails with ERESTART if the ruleset is of another.
    pub(crate) fn batch_begin(generation: Option<Generation>) -> Self {
        let begin = batch_edge(NFNL_MSG_BATCH_BEGIN);
        Message(match generation {
            None => begin,
            Some(generation) => begin.bytes(NFNL_BATCH_GENID, &generation.0.to_be_bytes()),
        })
    }

    /// The end of a batch, at which the kernel commits it.
    pub(crate) fn batch_end() -> Self {
        Message(batch_edge(NFNL_MSG_BATCH_END))
    }

    pub(crate) fn get_generation() -> Self {
        let kind = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN;
        Message(NetlinkRequest::new(kind, 0, &[UNSPECIFIED, 0, 0, 0]))
    }

    /// The message that removes what this one makes: each NFT_MSG_DEL* is two behind its NFT_MSG_NEW*.
    #[cfg(feature = "nftnl")]
    pub(crate) fn deleting(&self) -> Self {
        let kind = self.0.kind + (NFT_MSG_DELTABLE - NFT_MSG_NEWTABLE);
        Message(NetlinkRequest { kind, flags: 0, body: self.0.body.clone() })
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
        self.0.encode(sequence)
    }

    /// The attributes: what follows `nlmsghdr` and `nfgenmsg`.
    pub(crate) fn attributes(&self) -> &[u8] {
        self.0.body.get(NFGENMSG_LENGTH..).unwrap_or_default()
    }
}
