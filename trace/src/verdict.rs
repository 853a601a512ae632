//! What is found of a packet's way: which chain of which hook decides, and what in it.

use std::fmt;
use std::net::SocketAddr;

/// Where packets are called for: `enum nf_inet_hooks` of `linux/netfilter.h`.
///
/// ```
/// use hostport_trace::Hook;
///
/// assert_eq!(Hook::Postrouting.to_string(), "postrouting");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// What comes from a link.
    Prerouting = 0,
    /// What is for this host.
    Input = 1,
    /// What is passed on.
    Forward = 2,
    /// What this host sends.
    Output = 3,
    /// What leaves.
    Postrouting = 4,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        })
    }
}

/// Where a packet comes from.
///
/// ```
/// use hostport_trace::Origin;
///
/// // A packet from outside meets other chains than one of this host's own.
/// assert_ne!(Origin::Outside, Origin::Host);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// From a link: the hook prerouting.
    Outside,
    /// From a process of this host: the hook output.
    Host,
}

/// A base chain of others that decides on a packet.
///
/// ```
/// use hostport_trace::{Deed, Hook, Judgement};
///
/// let judgement = Judgement {
///     table: "inet filter".to_owned(),
///     chain: "forward".to_owned(),
///     hook: Hook::Forward,
///     priority: 0,
///     certain: true,
///     by: Deed::Policy,
///     to: None,
/// };
/// let Judgement { table, chain, by, .. } = judgement;
/// assert_eq!(format!("{table} {chain}: {by}"), "inet filter forward: its policy");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The chain's table, as nft names it: `ip filter`.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// What calls it.
    pub hook: Hook,
    /// Its priority.
    pub priority: i32,
    /// Whether it does so in any case; false where it depends on what is not known.
    pub certain: bool,
    /// The rule that does it, or the policy.
    pub by: Deed,
    /// Where it sends the packet, if it translates and that can be told.
    pub to: Option<SocketAddr>,
}

/// What in a chain decided.
///
/// ```
/// use hostport_trace::Deed;
///
/// let deed = Deed::Rule { chain: "DOCKER-USER".to_owned(), handle: 12 };
/// assert_eq!(deed.to_string(), "the rule with handle 12 in DOCKER-USER");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// The base chain's policy.
    Policy,
    /// A rule.
    Rule {
        /// The chain that it is in, which another may have jumped to.
        chain: String,
        /// Its handle, as `nft --handle list ruleset` shows it.
        handle: u64,
    },
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Deed::Policy => f.write_str("its policy"),
            Deed::Rule { chain, handle } => write!(f, "the rule with handle {handle} in {chain}"),
        }
    }
}
