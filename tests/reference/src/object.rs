//! Objects of nf_tables as libnftnl understood them, in a form for comparing and printing.

use std::collections::BTreeMap;
use std::fmt;

/// What a message asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// NFT_MSG_NEW...
    New,
    /// NFT_MSG_GET...
    Get,
    /// NFT_MSG_DEL...
    Delete,
    /// NFNL_MSG_BATCH_BEGIN
    Begin,
    /// NFNL_MSG_BATCH_END
    End,
}

/// One netlink message. The begin and end of a batch, and a request for the generation, name no object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it asks for.
    pub verb: Verb,
    /// The flags of the netlink header.
    pub flags: u16,
    /// Its objects; an element message may name several elements.
    pub objects: Vec<Object>,
}

/// A table, chain, set, element or rule, with no more than the message holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// `table`, `chain`, `set`, `element` or `rule`.
    pub kind: &'static str,
    /// Family, table, and the name of the chain or set that it is or belongs to.
    pub path: String,
    /// libnftnl's attributes. Bytes are in hexadecimal.
    pub attributes: BTreeMap<&'static str, String>,
    /// The expressions of a rule, or those that a set gives its elements, as libnftnl prints them.
    pub expressions: Vec<String>,
}

impl Object {
    /// The object without some of its attributes.
    pub fn without(mut self, attributes: &[&str]) -> Object {
        self.attributes.retain(|name, _| !attributes.contains(name));
        self
    }
}

/// The object on one line, followed by its expressions, one per line.
impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.path)?;
        for (name, value) in &self.attributes {
            write!(f, ", {name} {value}")?;
        }
        for expression in &self.expressions {
            write!(f, "\n  {expression}")?;
        }
        Ok(())
    }
}
