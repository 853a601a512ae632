//! Rules, described as nft statements.
//!
//! Each statement has two renderings: nft text, in `text`, and netlink expressions, in
//! [`crate::wire::expression`]. There are only the statements that the ruleset needs.

use super::set::SetName;
use crate::model::Family;

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
    /// The same, as connection tracking has it. In a key with ranges, nft 1.0.6 turns the byte order of `L4proto`,
    /// which Linux 6.12.118 refuses; this it leaves alone.
    CtProtocol,
    /// The link that the packet came in by.
    Iif,
    /// The link that the packet goes out by.
    Oif,
    /// The name of the link that the packet came in by.
    Iifname,
    /// The name of the link that the packet goes out by.
    Oifname,
}

/// One step of a rule: a match that must hold for the next step to be taken, or an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Statement {
    /// The destination is an address of this host (RTN_LOCAL).
    LocalDestination,
    /// The fields, joined, are an element of the set.
    Lookup { fields: Vec<Field>, set: SetName },
    /// The fields, joined, are no element of the set.
    NoLookup { fields: Vec<Field>, set: SetName },
    /// The destination was translated and the source was not (IPS_DST_NAT without IPS_SRC_NAT).
    OnlyDestinationTranslated,
    /// The link is not the loopback device.
    NotLoopbackLink(Field),
    /// The address is in 127.0.0.0/8.
    LoopbackAddress(Field),
    /// Translate the destination to what the map holds for the fields; where it holds nothing, the
    /// rule ends here.
    Dnat { family: Family, fields: Vec<Field>, map: SetName },
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

/// The statements of one rule, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule(pub(crate) Vec<Statement>);
