//! Tables, chains, rules and sets of all programs, as the kernel lists them: bytes in, values out.
//!
//! Attributes that are not needed are passed over.

use hostport_netlink::attribute;

use super::comment::decode_comment;
use super::constants::*;
use crate::error::Malformed;
pub use crate::model::{Handle, Hook, NfFamily};
pub use crate::ruleset::element::{Element, VerdictObject};

pub(crate) use attribute::all as attributes;

/// The first attribute of a type; an unreadable one counts as absent.
pub(crate) fn field(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attribute::find(bytes, kind).ok().flatten()
}

/// A 32-bit attribute, in network byte order.
pub(crate) fn number(bytes: &[u8], kind: u16) -> Option<u32> {
    field(bytes, kind)?.try_into().ok().map(u32::from_be_bytes)
}

/// A 32-bit attribute that must be there.
pub(crate) fn required(bytes: &[u8], kind: u16) -> Result<u32, Malformed> {
    number(bytes, kind).ok_or(Malformed)
}

/// A text attribute, without its NUL. The kernel takes any bytes for a name.
pub(crate) fn text(bytes: &[u8], kind: u16) -> Option<String> {
    field(bytes, kind).map(attribute::text)
}

/// A 64-bit attribute, zero where it is absent.
fn handle(bytes: &[u8], kind: u16) -> Handle {
    let value = field(bytes, kind).and_then(|value| value.try_into().ok());
    Handle(value.map_or(0, u64::from_be_bytes))
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
    pub handle: Handle,
    /// NFT_TABLE_F_DORMANT: its chains are called from nowhere.
    pub dormant: bool,
    /// NFTA_TABLE_OWNER: the port of the netlink socket that alone may change it; none for most tables.
    pub owner: Option<u32>,
    /// The comment in NFTA_TABLE_USERDATA; empty if it has none.
    pub comment: String,
}

impl TableObject {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let flags = number(bytes, NFTA_TABLE_FLAGS).unwrap_or(0);
        Ok(TableObject {
            name: text(bytes, NFTA_TABLE_NAME).ok_or(Malformed)?,
            handle: handle(bytes, NFTA_TABLE_HANDLE),
            dormant: flags & NFT_TABLE_F_DORMANT != 0,
            owner: number(bytes, NFTA_TABLE_OWNER),
            comment: field(bytes, NFTA_TABLE_USERDATA).and_then(decode_comment).unwrap_or_default(),
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
        let base = field(bytes, NFTA_CHAIN_HOOK).map(|hook| {
            Some(BaseObject {
                kind: text(bytes, NFTA_CHAIN_TYPE)?,
                hook: number(hook, NFTA_HOOK_HOOKNUM)?,
                priority: number(hook, NFTA_HOOK_PRIORITY)? as i32,
                drops: number(bytes, NFTA_CHAIN_POLICY) == Some(NF_DROP),
            })
        });
        Ok(ChainObject {
            table: text(bytes, NFTA_CHAIN_TABLE).ok_or(Malformed)?,
            name: text(bytes, NFTA_CHAIN_NAME).ok_or(Malformed)?,
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
    pub handle: Handle,
    /// NFTA_RULE_EXPRESSIONS, in the order in which the kernel evaluates them.
    pub expressions: Vec<ExpressionObject>,
}

/// One step of a rule: its name, and its attributes as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionObject {
    /// NFTA_EXPR_NAME.
    pub name: String,
    /// NFTA_EXPR_DATA: attributes, as the kernel sends them.
    pub data: Vec<u8>,
}

impl ExpressionObject {
    /// The value of the first attribute of a type; none if there is none that can be read.
    pub fn bytes(&self, kind: u16) -> Option<&[u8]> {
        field(&self.data, kind)
    }

    /// An attribute with a number of 32 bits, which is in network byte order.
    pub fn number(&self, kind: u16) -> Option<u32> {
        number(&self.data, kind)
    }

    /// An attribute with text, without its NUL.
    pub fn text(&self, kind: u16) -> Option<String> {
        text(&self.data, kind)
    }

    /// An attribute with a value (NFTA_DATA_VALUE).
    pub fn value(&self, kind: u16) -> Option<&[u8]> {
        field(self.bytes(kind)?, NFTA_DATA_VALUE)
    }

    /// An attribute with a verdict (NFTA_DATA_VERDICT).
    pub fn verdict(&self, kind: u16) -> Option<VerdictObject> {
        verdict(self.bytes(kind)?)
    }
}

impl RuleObject {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        Ok(RuleObject {
            table: text(bytes, NFTA_RULE_TABLE).ok_or(Malformed)?,
            chain: text(bytes, NFTA_RULE_CHAIN).ok_or(Malformed)?,
            handle: handle(bytes, NFTA_RULE_HANDLE),
            expressions: expressions(bytes)?,
        })
    }
}

/// NFTA_RULE_EXPRESSIONS of a rule.
pub(crate) fn expressions(rule: &[u8]) -> Result<Vec<ExpressionObject>, Malformed> {
    let expression = |entry: Result<(u16, &[u8]), Malformed>| {
        let (_, entry) = entry?;
        let name = text(entry, NFTA_EXPR_NAME).ok_or(Malformed)?;
        let data = field(entry, NFTA_EXPR_DATA).unwrap_or_default();
        Ok(ExpressionObject { name, data: data.to_vec() })
    };
    attributes(field(rule, NFTA_RULE_EXPRESSIONS).unwrap_or_default()).map(expression).collect()
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
    /// the kernel does not report it: for keys of one field and sets without intervals.
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
    pub const INTERVAL: u32 = NFT_SET_INTERVAL;

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let single = field(bytes, NFTA_SET_EXPR);
        let several =
            field(bytes, NFTA_SET_EXPRESSIONS).and_then(|list| field(list, NFTA_LIST_ELEM));
        let counter = single.or(several).and_then(|expression| text(expression, NFTA_EXPR_NAME));
        let types = [NFTA_SET_KEY_TYPE, NFTA_SET_KEY_LEN, NFTA_SET_DATA_TYPE, NFTA_SET_DATA_LEN];
        let description = field(bytes, NFTA_SET_DESC).unwrap_or_default();
        Ok(SetObject {
            table: text(bytes, NFTA_SET_TABLE).ok_or(Malformed)?,
            name: text(bytes, NFTA_SET_NAME).ok_or(Malformed)?,
            flags: number(bytes, NFTA_SET_FLAGS).unwrap_or(0),
            types: types.map(|kind| number(bytes, kind)),
            fields: attributes(field(description, NFTA_SET_DESC_CONCAT).unwrap_or_default())
                .map(|entry| required(entry?.1, NFTA_SET_FIELD_LEN))
                .collect::<Result<_, _>>()?,
            counter: counter.as_deref() == Some("counter"),
            object: number(bytes, NFTA_SET_OBJ_TYPE),
            limited: field(bytes, NFTA_SET_TIMEOUT).is_some()
                || number(description, NFTA_SET_DESC_SIZE).is_some(),
        })
    }
}

/// The verdict in a `struct nft_data` (NFTA_DATA_VERDICT); none if it holds a value.
pub(crate) fn verdict(data: &[u8]) -> Option<VerdictObject> {
    let verdict = field(data, NFTA_DATA_VERDICT)?;
    let code = number(verdict, NFTA_VERDICT_CODE)? as i32;
    Some(VerdictObject { code, chain: text(verdict, NFTA_VERDICT_CHAIN) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        hostport_netlink::attribute::push(&mut bytes, kind, value);
        bytes
    }

    proptest! {
        #[test]
        fn any_bytes_are_objects_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (TableObject::decode(&bytes), ChainObject::decode(&bytes));
            let _ = (RuleObject::decode(&bytes), SetObject::decode(&bytes), verdict(&bytes));
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
            let _ = (ChainObject::decode(&bytes), expressions(&bytes), verdict(&bytes));
            let _ = SetObject::decode(&bytes);
        }
    }
}
