//! Tables, chains, rules and sets of anybody, as the kernel lists them: bytes in, values out.
//!
//! Names and numbers are those of `linux/netfilter/nf_tables.h`. What is not needed is passed over.

use std::fmt;

use netlink_packet_core::NlasIterator;

use crate::error::Malformed;
use crate::model::Family;
use crate::wire::element::{content, decode_comment};

/// The attributes in a payload, as type (without NLA_F_NESTED and the like) and value.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), Malformed>> {
    NlasIterator::new(bytes).map(|attribute| {
        let attribute = attribute.map_err(|_| Malformed)?;
        Ok((attribute.kind(), content(&attribute).map_err(|_| Malformed)?))
    })
}

/// The first attribute of a type; an unreadable one counts as absent.
pub fn field(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).flatten().find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A 32-bit attribute, in network byte order.
pub fn number(bytes: &[u8], kind: u16) -> Option<u32> {
    field(bytes, kind)?.try_into().ok().map(u32::from_be_bytes)
}

/// A text attribute, without its NUL. The kernel takes any bytes for a name.
pub fn text(bytes: &[u8], kind: u16) -> Option<String> {
    let value = field(bytes, kind)?;
    let value = value.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(String::from_utf8_lossy(value).into_owned())
}

/// The families of tables that IP packets meet: NFPROTO_* of `linux/netfilter.h`.
///
/// ```
/// use hostport_nft::{Family, object::NfFamily};
///
/// assert_eq!(NfFamily::from(Family::Ip6).to_string(), "ip6");
/// assert_eq!(NfFamily::Inet as u8, 1);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NfFamily {
    /// NFPROTO_INET: both IPv4 and IPv6.
    Inet = 1,
    /// NFPROTO_IPV4.
    Ip = 2,
    /// NFPROTO_IPV6.
    Ip6 = 10,
}

impl NfFamily {
    /// All of them.
    pub const ALL: [NfFamily; 3] = [NfFamily::Inet, NfFamily::Ip, NfFamily::Ip6];
}

impl From<Family> for NfFamily {
    fn from(family: Family) -> Self {
        match family {
            Family::Ip => NfFamily::Ip,
            Family::Ip6 => NfFamily::Ip6,
        }
    }
}

impl fmt::Display for NfFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NfFamily::Inet => "inet",
            NfFamily::Ip => "ip",
            NfFamily::Ip6 => "ip6",
        })
    }
}

/// What names a chain or a set: names are unique within a table only.
///
/// ```
/// use hostport_nft::object::{NfFamily, ObjectId};
///
/// let table = "filter".to_owned();
/// let id = ObjectId { family: NfFamily::Inet, table, name: "forward".to_owned() };
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectId {
    /// The table's family.
    pub family: NfFamily,
    /// The table's name.
    pub table: String,
    /// The name of the chain or set.
    pub name: String,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableObject {
    /// NFTA_TABLE_NAME.
    pub name: String,
    /// NFTA_TABLE_HANDLE: a later table has a greater one.
    pub handle: u64,
    /// NFT_TABLE_F_DORMANT: its chains are called from nowhere.
    pub dormant: bool,
    /// The comment in NFTA_TABLE_USERDATA.
    pub comment: Option<String>,
}

const NFT_TABLE_F_DORMANT: u32 = 1;

impl TableObject {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let handle = field(bytes, 4).and_then(|value| value.try_into().ok());
        Ok(TableObject {
            name: text(bytes, 1).ok_or(Malformed)?,
            handle: handle.map_or(0, u64::from_be_bytes),
            dormant: number(bytes, 2).is_some_and(|flags| flags & NFT_TABLE_F_DORMANT != 0),
            comment: field(bytes, 6).and_then(decode_comment),
        })
    }
}

/// A chain, without its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainObject {
    /// NFTA_CHAIN_TABLE.
    pub table: String,
    /// NFTA_CHAIN_NAME.
    pub name: String,
    /// The hook that calls it; none for a chain that only rules jump to.
    pub base: Option<BaseObject>,
}

/// Where a base chain is called from, and what becomes of packets that reach its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseObject {
    /// `filter`, `nat` or `route`.
    pub kind: String,
    /// `enum nf_inet_hooks`.
    pub hook: u32,
    /// NFTA_HOOK_PRIORITY: a lower one is called first.
    pub priority: i32,
    /// Its policy is NF_DROP, not NF_ACCEPT.
    pub drops: bool,
}

impl ChainObject {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let base = field(bytes, 4).map(|hook| {
            Some(BaseObject {
                kind: text(bytes, 7)?,
                hook: number(hook, 1)?,
                priority: number(hook, 2)? as i32,
                drops: number(bytes, 5) == Some(0),
            })
        });
        Ok(ChainObject {
            table: text(bytes, 1).ok_or(Malformed)?,
            name: text(bytes, 3).ok_or(Malformed)?,
            base: base.map(|base| base.ok_or(Malformed)).transpose()?,
        })
    }
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleObject {
    /// NFTA_RULE_TABLE.
    pub table: String,
    /// NFTA_RULE_CHAIN.
    pub chain: String,
    /// NFTA_RULE_HANDLE, as `nft --handle list ruleset` shows it.
    pub handle: u64,
    /// NFTA_RULE_EXPRESSIONS, in the order in which the kernel evaluates them.
    pub expressions: Vec<ExpressionObject>,
}

/// One step of a rule: its name, and its attributes as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionObject {
    /// NFTA_EXPR_NAME.
    pub name: String,
    /// NFTA_EXPR_DATA: attributes, which [`attributes`] and [`field`] read.
    pub data: Vec<u8>,
}

impl RuleObject {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let handle = field(bytes, 3).and_then(|value| value.try_into().ok());
        Ok(RuleObject {
            table: text(bytes, 1).ok_or(Malformed)?,
            chain: text(bytes, 2).ok_or(Malformed)?,
            handle: handle.map_or(0, u64::from_be_bytes),
            expressions: expressions(field(bytes, 4).unwrap_or_default())?,
        })
    }
}

/// NFTA_RULE_EXPRESSIONS.
pub(crate) fn expressions(list: &[u8]) -> Result<Vec<ExpressionObject>, Malformed> {
    let expression = |entry: Result<(u16, &[u8]), Malformed>| {
        let (_, entry) = entry?;
        let name = text(entry, 1).ok_or(Malformed)?;
        Ok(ExpressionObject { name, data: field(entry, 2).unwrap_or_default().to_vec() })
    };
    attributes(list).map(expression).collect()
}

/// A set or a map, without its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetObject {
    /// NFTA_SET_TABLE.
    pub table: String,
    /// NFTA_SET_NAME.
    pub name: String,
    /// NFT_SET_*.
    pub flags: u32,
    /// NFTA_SET_KEY_TYPE and NFTA_SET_KEY_LEN, NFTA_SET_DATA_TYPE and NFTA_SET_DATA_LEN.
    pub types: [Option<u32>; 4],
    /// How many bytes each field of a joined key has, padding not counted: NFTA_SET_FIELD_LEN. Empty where
    /// the kernel does not tell, which is for keys of one field and sets without intervals.
    pub fields: Vec<u32>,
    /// Each element has a counter: NFTA_SET_EXPR, or NFTA_SET_EXPRESSIONS with one of that name.
    pub counter: bool,
    /// It is a map to objects of this kind (NFT_OBJECT_*): NFTA_SET_OBJ_TYPE.
    pub object: Option<u32>,
    /// How many elements it may have (NFTA_SET_DESC_SIZE), or how long they live (NFTA_SET_TIMEOUT).
    pub limited: bool,
}

impl SetObject {
    /// NFT_SET_INTERVAL, one of the flags.
    pub const INTERVAL: u32 = 4;

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let single = field(bytes, 17);
        let several = field(bytes, 18).and_then(|list| field(list, 1));
        let counter = single.or(several).and_then(|expression| text(expression, 1));
        Ok(SetObject {
            table: text(bytes, 1).ok_or(Malformed)?,
            name: text(bytes, 2).ok_or(Malformed)?,
            flags: number(bytes, 3).unwrap_or(0),
            types: [4, 5, 6, 7].map(|kind| number(bytes, kind)),
            fields: field_lengths(bytes)?,
            counter: counter.as_deref() == Some("counter"),
            object: number(bytes, 15),
            limited: field(bytes, 11).is_some()
                || field(bytes, 9).and_then(|description| number(description, 1)).is_some(),
        })
    }
}

/// NFTA_SET_DESC_CONCAT in NFTA_SET_DESC.
fn field_lengths(set: &[u8]) -> Result<Vec<u32>, Malformed> {
    let list = field(set, 9).and_then(|description| field(description, 2)).unwrap_or_default();
    let length = |entry: Result<(u16, &[u8]), Malformed>| number(entry?.1, 1).ok_or(Malformed);
    attributes(list).map(length).collect()
}

/// An element of a set that may be of any type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ElementObject {
    /// NFTA_SET_ELEM_KEY; empty for the one that catches all others (NFT_SET_ELEM_CATCHALL).
    pub key: Vec<u8>,
    /// NFTA_SET_ELEM_KEY_END: the last value, in a set of joined intervals.
    pub last: Option<Vec<u8>>,
    /// NFT_SET_ELEM_INTERVAL_END: the key is the first value behind an interval.
    pub interval_end: bool,
    /// It lets only some packets go on: a limit, a quota or connlimit, in NFTA_SET_ELEM_EXPR or
    /// NFTA_SET_ELEM_EXPRESSIONS.
    pub counted: bool,
    /// NFTA_SET_ELEM_DATA, in a map.
    pub data: DataObject,
}

/// A value or a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DataObject {
    /// Neither.
    #[default]
    None,
    /// NFTA_DATA_VALUE.
    Value(Vec<u8>),
    /// NFTA_DATA_VERDICT.
    Verdict(VerdictObject),
}

/// A verdict's code, and the chain that it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerdictObject {
    /// NFTA_VERDICT_CODE: `enum nft_verdicts`, or NF_DROP, NF_ACCEPT, NF_QUEUE of `linux/netfilter.h`.
    pub code: i32,
    /// NFTA_VERDICT_CHAIN.
    pub chain: Option<String>,
}

/// `struct nft_data`, as NFTA_DATA_VALUE or NFTA_DATA_VERDICT.
pub fn data(bytes: &[u8]) -> DataObject {
    if let Some(value) = field(bytes, 1) {
        return DataObject::Value(value.to_vec());
    }
    let verdict = field(bytes, 2).and_then(|verdict| {
        Some(VerdictObject { code: number(verdict, 1)? as i32, chain: text(verdict, 2) })
    });
    verdict.map_or(DataObject::None, DataObject::Verdict)
}

const NFT_SET_ELEM_INTERVAL_END: u32 = 1;

/// The elements in one message of a set's list.
pub(crate) fn elements(bytes: &[u8]) -> Result<Vec<ElementObject>, Malformed> {
    let value = |bytes: &[u8]| match data(bytes) {
        DataObject::Value(value) => value,
        _ => Vec::new(),
    };
    let counts = |expression: &[u8]| {
        text(expression, 1)
            .is_some_and(|name| ["limit", "quota", "connlimit"].contains(&name.as_str()))
    };
    let element = |entry: Result<(u16, &[u8]), Malformed>| {
        let (_, entry) = entry?;
        let several = attributes(field(entry, 11).unwrap_or_default()).flatten();
        let mut expressions = several.map(|(_, value)| value).chain(field(entry, 7));
        Ok(ElementObject {
            counted: expressions.any(counts),
            key: field(entry, 1).map(value).unwrap_or_default(),
            last: field(entry, 10).map(value),
            interval_end: number(entry, 3).is_some_and(|f| f & NFT_SET_ELEM_INTERVAL_END != 0),
            data: field(entry, 2).map(data).unwrap_or_default(),
        })
    };
    attributes(field(bytes, 3).unwrap_or_default()).map(element).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    proptest! {
        #[test]
        fn any_bytes_are_objects_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (TableObject::decode(&bytes), ChainObject::decode(&bytes));
            let _ = (RuleObject::decode(&bytes), SetObject::decode(&bytes), elements(&bytes));
        }

        #[test]
        fn the_lengths_of_joined_fields_are_read(lengths in prop::collection::vec(any::<u32>(), 0..8)) {
            let entries = lengths.iter().flat_map(|l| attribute(1, &attribute(1, &l.to_be_bytes())));
            let concat = attribute(2, &entries.collect::<Vec<u8>>());
            let description = [attribute(1, &7u32.to_be_bytes()), concat].concat();
            let set = [attribute(1, b"t\0"), attribute(2, b"s\0"), attribute(9, &description)].concat();
            prop_assert_eq!(SetObject::decode(&set).unwrap().fields, lengths);
        }

        #[test]
        fn any_nested_bytes_are_objects_or_an_error(
            kind in 0u16..20, payload in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            let bytes = attribute(kind, &payload);
            let _ = (ChainObject::decode(&bytes), expressions(&bytes), elements(&bytes));
            let _ = (SetObject::decode(&bytes), field_lengths(&bytes));
        }
    }
}
