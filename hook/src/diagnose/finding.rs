//! What is wrong, how it is known, and what mends it.

use std::fmt;

use serde::Serialize;

use crate::output::escape;

/// One thing that is wrong on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Finding {
    /// What sort of thing it is: an identifier that stays the same from version to version.
    pub kind: Kind,
    /// How bad it is.
    pub severity: Severity,
    /// What does not work, in a sentence without a full stop.
    pub what: String,
    /// What was seen, a fact a line.
    pub evidence: Vec<String>,
    /// A command; where there is none, what to do.
    pub fix: String,
}

impl Finding {
    /// The same with nothing in it that could break or colour a line: names of links, tables and owners
    /// may hold any characters.
    pub fn on_one_line(self) -> Self {
        let plain = |text: String| escape::excerpt(&text, MOST);
        Finding {
            what: plain(self.what),
            evidence: self.evidence.into_iter().map(plain).collect(),
            fix: plain(self.fix),
            ..self
        }
    }
}

/// The longest text, in characters.
const MOST: usize = 2000;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A published host port does not work, or not everywhere where it should.
    Broken,
    /// It may not work, or something else suffers, or only tidying up is needed.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Broken => "broken",
            Severity::Warning => "warning",
        })
    }
}

/// The sorts of findings, in the order in which they are told: the ground first, then what stands
/// on it. docs/doctor.md has them all, with what each means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The kernel refuses a part of the ruleset.
    RulesetRefused,
    /// The kernel forwards nothing of a family.
    ForwardingOff,
    /// The kernel forwards nothing that comes in by one link.
    LinkForwardingOff,
    /// A firewall drops what is translated.
    ForwardDrop,
    /// A chain of another hook drops what is meant for a host port, or the answer to it.
    HookDrop,
    /// A rule takes what is meant for a host port out of connection tracking.
    NotTracked,
    /// Rules that cannot be seen from here are in force.
    IptablesLegacy,
    /// The journal cannot be read, or hooks would refuse it.
    JournalUnreadable,
    /// A file in the journal is not an entry.
    JournalDamaged,
    /// Files that were not entries were set aside.
    JournalSetAside,
    /// The table of our name is another's.
    TableForeign,
    /// There is no table, although there should be.
    TableMissing,
    /// The table is not as hostport makes it.
    TableAltered,
    /// An element that is no mapping, or has no owner.
    ElementForeign,
    /// A host port is not published as the journal says.
    PortMissing,
    /// A host port's owner is not in the journal.
    OwnerUnknown,
    /// A host port's owner is dead.
    OwnerDead,
    /// A pod cannot reach itself by its host ports, for want of an element.
    HairpinMissing,
    /// A host port on an address that is excluded.
    HostIpExcluded,
    /// A host port on an address that the host does not have.
    HostIpMissing,
    /// The link towards an endpoint is down, or the container's own.
    EndpointLinkDown,
    /// The host has no route to an endpoint.
    EndpointUnreachable,
    /// The container does not have the address that its host ports lead to.
    EndpointMoved,
    /// The container has no route back to who calls.
    EndpointWithoutRoute,
    /// Nothing in the container listens on the port that a host port leads to.
    EndpointSilent,
    /// 127.0.0.1 does not lead to an endpoint.
    LocalhostClosed,
    /// A pod cannot reach itself by its host ports, for want of hairpin mode.
    HairpinModeOff,
    /// Pods on one link cannot reach each other by host ports.
    NeighboursUnanswered,
    /// Kubernetes' services lose their traffic to host ports.
    IpvsNotExcluded,
    /// Another table translates the same port first.
    TranslatedBefore,
    /// A process of the host listens on a published port.
    PortShadowed,
    /// Not everything was looked at.
    Unfinished,
}

impl Kind {
    /// Whether it may be a call of the hook under way, or a container that is just ending.
    pub fn may_pass(self) -> bool {
        use Kind::*;
        matches!(
            self,
            TableMissing
                | TableAltered
                | PortMissing
                | OwnerUnknown
                | OwnerDead
                | HairpinMissing
                | NeighboursUnanswered
                | LocalhostClosed
                | HairpinModeOff
                | EndpointUnreachable
                | EndpointLinkDown
                | EndpointSilent
                | EndpointMoved
                | EndpointWithoutRoute
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The same words as in JSON.
        self.serialize(f)
    }
}
