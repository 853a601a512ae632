//! What one expression of a rule does with a packet of which only a part is known.

use std::net::SocketAddr;

/// Whether an expression lets the packet go on to the next one; none where that depends on what is not known.
pub(crate) type Matched = Option<bool>;

/// Whether each of two lets it go on.
pub(crate) fn both(one: Matched, other: Matched) -> Matched {
    match (one, other) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        _ => one.and(other),
    }
}

/// How a rule ends for a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// The packet goes on to the next rule.
    Next,
    /// It goes back to the calling chain.
    Return,
    /// It goes to another chain, and comes back from there after a jump, not after a goto.
    Call {
        chain: String,
        jump: bool,
    },
    /// It is accepted, or something else without harm ends its way through the hook.
    Accept,
    Drop,
    /// Its destination is translated; to where, if that is known.
    Translate(Option<SocketAddr>),
    /// Its source is rewritten.
    Rewrite,
}

/// What an expression does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Match(Matched),
    /// It takes the packet out of connection tracking, and the rule goes on.
    Untrack,
    /// It may set the packet's mark, and the rule goes on.
    Mark,
    /// It ends the rule in one of these ways.
    End(Vec<Action>),
}

impl Step {
    /// A program or a proxy decides.
    pub(crate) fn decided_elsewhere() -> Self {
        Step::End(vec![Action::Accept, Action::Drop])
    }

    /// Anything may become of the packet.
    pub(crate) fn anything() -> Self {
        Step::End(vec![Action::Accept, Action::Drop, Action::Next])
    }
}
