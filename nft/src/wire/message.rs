//! Single nf_tables messages: what is sent, as values that become bytes.
//!
//! A message is a netlink header (16 bytes), an `nfgenmsg` (family, version 0, resource ID 0; 4 bytes)
//! and attributes. Names and numbers are those of `linux/netfilter/nf_tables.h` and `nfnetlink.h`.

use netlink_packet_core::{
    DefaultNla, Emitable, NLA_F_NESTED, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP,
    NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkSerializable,
};
use netlink_packet_netfilter::conntrack::ConntrackMessage;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, GenMessage, Hook as HookAttribute, HookNumber,
    ListAttribute, NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute, SetElementAttribute,
    SetElementList, SetElementMessage, SetFlags, SetMessage, TableAttribute, TableMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};

use crate::Family;
use crate::model::settings::TableName;
use crate::ruleset::set::{DataType, Set};
use crate::ruleset::table::{Chain, Hook, Table};
use crate::wire::element::{Element, encode_comment};
use crate::wire::expression::{self, counter_value};

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
/// The expression that each new element of a set gets.
const NFTA_SET_EXPR: u16 = 17;
/// The list of elements in a message.
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
/// The largest element takes 268 bytes: key and data of ip6, a comment of 128 bytes, a counter.
const LARGEST_ELEMENT: usize = 272;
const ELEMENTS_IN_A_MESSAGE: usize = 65_535 / LARGEST_ELEMENT;
/// What a host port in ip takes, with an ID of 64 characters.
const USUAL_ELEMENT: usize = 128;
/// NF_ACCEPT of `linux/netfilter.h`.
const NF_ACCEPT: u32 = 1;

impl Message {
    fn new(
        family: NetfilterProtoFamily,
        resource: u16,
        flags: u16,
        body: impl Into<NetfilterMessageInner>,
    ) -> Self {
        let header = NetfilterHeader::new(family, 0, resource);
        Message { flags: NLM_F_REQUEST | flags, content: NetfilterMessage::new(header, body) }
    }

    fn nftables(family: Family, flags: u16, body: NfTablesMessage) -> Self {
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

    pub(crate) fn new_table(table: &Table) -> Self {
        let attributes = vec![
            TableAttribute::Name(table.name.to_string()),
            TableAttribute::UserData(encode_comment(&table.comment)),
        ];
        // Exclusive: two hooks at once must not both append rules to one table.
        Message::nftables(
            table.family,
            NLM_F_CREATE | NLM_F_EXCL,
            NfTablesMessage::NewTable(TableMessage { attributes }),
        )
    }

    pub(crate) fn delete_table(family: Family, table: &TableName) -> Self {
        let attributes = vec![TableAttribute::Name(table.to_string())];
        let body = NfTablesMessage::DeleteTable(TableMessage { attributes });
        Message::nftables(family, 0, body)
    }

    pub(crate) fn get_table(family: Family, table: &TableName) -> Self {
        let attributes = vec![TableAttribute::Name(table.to_string())];
        Message::nftables(family, 0, NfTablesMessage::GetTable(TableMessage { attributes }))
    }

    pub(crate) fn get_chain(family: Family, table: &TableName, chain: &str) -> Self {
        let attributes =
            vec![ChainAttribute::Table(table.to_string()), ChainAttribute::Name(chain.to_owned())];
        Message::nftables(family, 0, NfTablesMessage::GetChain(ChainMessage { attributes }))
    }

    /// `id` tells the sets of one transaction apart.
    pub(crate) fn new_set(table: &Table, set: &Set, id: u32) -> Self {
        let mut flags = SetFlags::empty();
        flags.set(SetFlags::Interval, set.interval);
        flags.set(SetFlags::Map, !set.data.is_empty());
        let mut attributes = vec![
            SetAttribute::Table(table.name.to_string()),
            SetAttribute::Name(set.name.to_owned()),
            SetAttribute::Flags(flags),
            SetAttribute::KeyType(DataType::joined(&set.key)),
            SetAttribute::KeyLen(DataType::joined_length(&set.key)),
        ];
        if !set.data.is_empty() {
            attributes.push(SetAttribute::DataType(DataType::joined(&set.data)));
            attributes.push(SetAttribute::DataLen(DataType::joined_length(&set.data)));
        }
        attributes.push(SetAttribute::Id(id));
        if set.counter {
            let kind = NFTA_SET_EXPR | NLA_F_NESTED;
            attributes.push(SetAttribute::Other(DefaultNla::new(kind, counter_value(None))));
        }
        Message::nftables(
            table.family,
            NLM_F_CREATE,
            NfTablesMessage::NewSet(SetMessage { attributes }),
        )
    }

    pub(crate) fn new_chain(table: &Table, chain: &Chain) -> Self {
        let mut attributes = vec![
            ChainAttribute::Table(table.name.to_string()),
            ChainAttribute::Name(chain.name.to_owned()),
        ];
        if let Some(base) = &chain.base {
            attributes.push(ChainAttribute::Type(base.kind.to_owned()));
            attributes.push(ChainAttribute::Policy(NF_ACCEPT));
            attributes.push(ChainAttribute::Hook(vec![
                HookAttribute::Number(HookNumber::Other(hook_number(base.hook))),
                HookAttribute::Priority(base.priority as u32),
            ]));
        }
        Message::nftables(
            table.family,
            NLM_F_CREATE,
            NfTablesMessage::NewChain(ChainMessage { attributes }),
        )
    }

    pub(crate) fn new_rule(
        table: &Table,
        chain: &Chain,
        rule: &crate::ruleset::rule::Rule,
    ) -> Self {
        let attributes = vec![
            RuleAttribute::Table(table.name.to_string()),
            RuleAttribute::Chain(chain.name.to_owned()),
            RuleAttribute::Expressions(expression::of_rule(rule)),
        ];
        Message::nftables(
            table.family,
            NLM_F_CREATE | NLM_F_APPEND,
            NfTablesMessage::NewRule(RuleMessage { attributes }),
        )
    }

    /// Adds an element; one with the same key and data may be there already.
    pub(crate) fn new_element(
        family: Family,
        table: &TableName,
        set: &str,
        element: &Element,
    ) -> Self {
        let mut list = Vec::with_capacity(LARGEST_ELEMENT);
        element.encode(&mut list);
        Message::element_list_bytes(family, table, set, list)
    }

    /// Adds many elements, as few messages as an attribute's length of 16 bits allows.
    pub(crate) fn new_elements<'a>(
        family: Family,
        table: &'a TableName,
        set: &'a str,
        elements: impl Iterator<Item = Element> + 'a,
    ) -> impl Iterator<Item = Self> + 'a {
        let mut elements = elements.peekable();
        std::iter::from_fn(move || {
            elements.peek()?;
            let chunk = elements.by_ref().take(ELEMENTS_IN_A_MESSAGE);
            let mut list = Vec::with_capacity(ELEMENTS_IN_A_MESSAGE * USUAL_ELEMENT);
            chunk.for_each(|element| element.encode(&mut list));
            Some(Message::element_list_bytes(family, table, set, list))
        })
    }

    /// As bytes at once: kept as values, elements would be measured and copied again at each level that
    /// they are nested in.
    fn element_list_bytes(family: Family, table: &TableName, set: &str, list: Vec<u8>) -> Self {
        let mut body = element_list(table, set, vec![]);
        let kind = NFTA_SET_ELEM_LIST_ELEMENTS | NLA_F_NESTED;
        body.attributes.push(SetElementList::Other(DefaultNla::new(kind, list)));
        Message::nftables(family, NLM_F_CREATE, NfTablesMessage::NewSetElement(body))
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

    pub(crate) fn delete_element(family: Family, table: &TableName, set: &str, key: &[u8]) -> Self {
        let body = element_list(table, set, vec![key_alone(key)]);
        Message::nftables(family, 0, NfTablesMessage::DeleteSetElement(body))
    }

    pub(crate) fn get_element(family: Family, table: &TableName, set: &str, key: &[u8]) -> Self {
        let body = element_list(table, set, vec![key_alone(key)]);
        Message::nftables(family, 0, NfTablesMessage::GetSetElement(body))
    }

    pub(crate) fn dump_elements(family: Family, table: &TableName, set: &str) -> Self {
        let body = element_list(table, set, vec![]);
        Message::nftables(family, NLM_F_DUMP, NfTablesMessage::GetSetElement(body))
    }

    /// The lists of a family's objects, whoever's. The family is an NFPROTO_* of `linux/netfilter.h`.
    pub(crate) fn dump_tables(family: u8) -> Self {
        Message::dump(family, NfTablesMessage::GetTable(TableMessage { attributes: vec![] }))
    }

    pub(crate) fn dump_chains(family: u8) -> Self {
        Message::dump(family, NfTablesMessage::GetChain(ChainMessage { attributes: vec![] }))
    }

    /// Those of one table, if it is named; the kernel leaves the others out (struct nft_rule_dump_ctx).
    pub(crate) fn dump_rules(family: u8, table: Option<&TableName>) -> Self {
        let attributes = table.map(|table| RuleAttribute::Table(table.to_string()));
        let attributes = attributes.into_iter().collect();
        Message::dump(family, NfTablesMessage::GetRule(RuleMessage { attributes }))
    }

    /// As [`Message::dump_rules`].
    pub(crate) fn dump_sets(family: u8, table: Option<&TableName>) -> Self {
        let attributes = table.map(|table| SetAttribute::Table(table.to_string()));
        let attributes = attributes.into_iter().collect();
        Message::dump(family, NfTablesMessage::GetSet(SetMessage { attributes }))
    }

    /// The elements of anybody's set.
    pub(crate) fn dump_any_elements(family: u8, table: &str, set: &str) -> Self {
        let attributes =
            vec![SetElementList::Table(table.to_owned()), SetElementList::Set(set.to_owned())];
        Message::dump(family, NfTablesMessage::GetSetElement(SetElementMessage { attributes }))
    }

    fn dump(family: u8, body: NfTablesMessage) -> Self {
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

pub(crate) fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    }
}

fn key_alone(key: &[u8]) -> ListAttribute<SetElementAttribute> {
    ListAttribute::Element(vec![SetElementAttribute::Key(DataAttribute::Value(key.to_vec()))])
}

fn element_list(
    table: &TableName,
    set: &str,
    elements: Vec<ListAttribute<SetElementAttribute>>,
) -> SetElementMessage {
    let mut attributes =
        vec![SetElementList::Table(table.to_string()), SetElementList::Set(set.to_owned())];
    if !elements.is_empty() {
        attributes.push(SetElementList::Elements(elements));
    }
    SetElementMessage { attributes }
}
