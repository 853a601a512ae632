//! Rules, described as nft statements.
//!
//! Each statement has two renderings: nft text, here, and netlink expressions, in
//! [`crate::expression`]. There are only the statements that the ruleset needs.

use std::fmt;

use crate::Family;

/// A value that a rule reads from the packet or from what is known about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    /// The source address.
    Saddr(Family),
    /// The destination address.
    Daddr(Family),
    /// The destination address masked to zero: the wildcard, whatever the address is.
    Wildcard(Family),
    /// The destination port, of any transport protocol.
    Dport,
    /// The transport protocol.
    L4proto,
    /// The link that the packet came in by.
    Iif,
    /// The link that the packet goes out by.
    Oif,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::Saddr(family) => write!(f, "{family} saddr"),
            Field::Daddr(family) => write!(f, "{family} daddr"),
            Field::Wildcard(family) => write!(f, "{family} daddr & {}", family.wildcard()),
            Field::Dport => f.write_str("th dport"),
            Field::L4proto => f.write_str("meta l4proto"),
            Field::Iif => f.write_str("iif"),
            Field::Oif => f.write_str("oif"),
        }
    }
}

/// One step of a rule: a match that must hold for the next step to be taken, or an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Statement {
    /// The destination is an address of this host (RTN_LOCAL).
    LocalDestination,
    /// The fields, joined, are an element of the set.
    Lookup { fields: Vec<Field>, set: &'static str },
    /// The destination was translated and the source was not (IPS_DST_NAT without IPS_SRC_NAT).
    OnlyDestinationTranslated,
    /// The link is not the loopback device.
    NotLoopbackLink(Field),
    /// The address is in 127.0.0.0/8.
    LoopbackAddress(Field),
    /// Translate the destination to what the map holds for the fields; where it holds nothing, the
    /// rule ends here.
    Dnat { family: Family, fields: Vec<Field>, map: &'static str },
    /// Translate the source to the address of the link that the packet goes out by.
    Masquerade,
    /// Count the packet.
    Counter,
    /// Drop the packet.
    Drop,
    /// Go back to the calling chain.
    Return,
    /// Go to a chain and do not come back.
    Goto(&'static str),
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Statement::LocalDestination => f.write_str("fib daddr type local"),
            Statement::Lookup { fields, set } => write!(f, "{} @{set}", joined(fields)),
            Statement::OnlyDestinationTranslated => {
                f.write_str("ct status & (snat | dnat) == dnat")
            }
            Statement::NotLoopbackLink(link) => write!(f, "{link} != \"lo\""),
            Statement::LoopbackAddress(address) => write!(f, "{address} 127.0.0.0/8"),
            Statement::Dnat { family, fields, map } => {
                write!(f, "dnat {family} to {} map @{map}", joined(fields))
            }
            Statement::Masquerade => f.write_str("masquerade"),
            Statement::Counter => f.write_str("counter"),
            Statement::Drop => f.write_str("drop"),
            Statement::Return => f.write_str("return"),
            Statement::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

/// nft's concatenation: the values with ` . ` between them.
fn joined<T: ToString>(values: &[T]) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(" . ")
}

/// The statements of one rule, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule(pub(crate) Vec<Statement>);

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: Vec<_> = self.0.iter().map(Statement::to_string).collect();
        f.write_str(&text.join(" "))
    }
}
