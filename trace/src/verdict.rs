//! What the chains of others do to a packet.

use std::fmt;
use std::net::SocketAddr;

use hostport_nft::Handle;
use hostport_nft::object::Hook;

/// What a chain does to a packet, in the order of the packet's way.
///
/// ```
/// use hostport_trace::Effect;
///
/// assert!(Effect::DropsBefore < Effect::DropsForwarded);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// It takes the packet out of connection tracking, so that nothing is translated.
    Untracks,
    /// It drops the packet before hostport translates it.
    DropsBefore,
    /// It translates the packet before hostport does, or may be called first.
    Translates,
    /// It drops the translated packet in prerouting or output.
    DropsAfter,
    /// It drops the packet in the forward hook.
    DropsForwarded,
    /// It drops the packet in postrouting.
    DropsLeaving,
    /// It rewrites the packet's source, which hides the client from the container.
    Rewrites,
    /// It drops the container's answer.
    DropsAnswer,
    /// It takes the container's answer out of connection tracking, so that it is not translated back.
    UntracksAnswer,
}

/// What a base chain of others does to a packet, or may do.
///
/// ```
/// use hostport_trace::{Cause, Effect, Hook, Verdict};
///
/// let verdict = Verdict {
///     effect: Effect::DropsForwarded,
///     certain: true,
///     table: "inet filter".to_owned(),
///     chain: "forward".to_owned(),
///     hook: Hook::Forward,
///     priority: 0,
///     cause: Cause::Policy,
///     to: None,
/// };
/// let Verdict { table, chain, cause, .. } = verdict;
/// assert_eq!(format!("{table} {chain}: {cause}"), "inet filter forward: its policy");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What it does.
    pub effect: Effect,
    /// Whether it does so in any case; false where that depends on what is not known.
    pub certain: bool,
    /// The chain's table, as nft names it: `ip filter`.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The hook that calls it.
    pub hook: Hook,
    /// Its priority.
    pub priority: i32,
    /// What in the chain decided.
    pub cause: Cause,
    /// Where it sends the packet, if it translates it and that is known.
    pub to: Option<SocketAddr>,
}

impl Verdict {
    pub(crate) fn is_of_chain(&self, other: &Verdict) -> bool {
        (&self.table, &self.chain) == (&other.table, &other.chain)
    }
}

/// What in a chain decided.
///
/// ```
/// use hostport_trace::Cause;
///
/// let handle = hostport_nft::Handle(12);
/// let (chain, comment) = ("DOCKER-USER".to_owned(), String::new());
/// let cause = Cause::Rule { chain, handle, comment };
/// assert_eq!(cause.to_string(), "the rule with handle 12 in DOCKER-USER");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The base chain's policy.
    Policy,
    /// A rule.
    Rule {
        /// The chain that it is in, which another may have jumped to.
        chain: String,
        /// Its handle, as `nft --handle list ruleset` shows it.
        handle: Handle,
        /// The comment that iptables gave it, or nothing.
        comment: String,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Policy => f.write_str("its policy"),
            Cause::Rule { chain, handle, comment } => {
                f.write_str("the rule ")?;
                if !comment.is_empty() {
                    write!(f, "\"{comment}\" ")?;
                }
                write!(f, "with handle {handle} in {chain}")
            }
        }
    }
}
