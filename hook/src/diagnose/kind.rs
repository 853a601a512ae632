//! The kinds of findings, and the step of a packet's path that each belongs to.

use std::fmt;

use hostport_trace::Origin;
use serde::Serialize;

/// What kind of thing is wrong, in the order of the report: the kernel first, then what depends on it.
/// docs/doctor.md lists them all, with what each means.
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
    /// A forward chain drops the translated packet, or the answer to it.
    ForwardDrop,
    /// A chain of another hook drops the packet for a host port, or the answer to it.
    HookDrop,
    /// A rule takes the packet for a host port out of connection tracking.
    NotTracked,
    /// There may be rules that netlink does not show.
    IptablesLegacy,
    /// The journal cannot be read, or hooks would refuse it.
    JournalUnreadable,
    /// A file in the journal is not an entry.
    JournalDamaged,
    /// Files that were not entries were set aside.
    JournalSetAside,
    /// Another program has a table of our name.
    TableForeign,
    /// There is no table, although there should be.
    TableMissing,
    /// The table is not as hostport makes it.
    TableAltered,
    /// An element that is not a mapping, or has no owner.
    ElementForeign,
    /// A host port is not published as the journal says.
    PortMissing,
    /// A host port's owner is not in the journal.
    OwnerUnknown,
    /// A host port's owner is dead.
    OwnerDead,
    /// A pod cannot reach itself by its host ports: its element is missing.
    HairpinMissing,
    /// A host port on an address that is excluded.
    HostIpExcluded,
    /// A host port on an address that the host does not have.
    HostIpMissing,
    /// A link towards an endpoint is down, or the container's own link is.
    EndpointLinkDown,
    /// The host has no route to an endpoint.
    EndpointUnreachable,
    /// The container does not have the address that its host ports lead to.
    EndpointMoved,
    /// The container has no route back to the client.
    EndpointWithoutRoute,
    /// Nothing in the container listens on the port that a host port leads to.
    EndpointSilent,
    /// 127.0.0.1 does not lead to an endpoint.
    LocalhostClosed,
    /// A pod cannot reach itself by its host ports: its bridge port is not in hairpin mode.
    HairpinModeOff,
    /// Pods on one link cannot reach each other by host ports.
    NeighboursUnanswered,
    /// Host ports take the traffic of Kubernetes services.
    IpvsNotExcluded,
    /// Another table translates the same port first.
    TranslatedBefore,
    /// A process of the host listens on a published port.
    PortShadowed,
    /// Not everything was checked.
    Unfinished,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The same words as in JSON.
        self.serialize(f)
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A published host port does not work, or not everywhere where it should.
    Broken,
    /// It may not work, something else suffers, or there is something to tidy up.
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

/// A step of a packet's path through the kernel, in the order of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Step {
    Client,
    Destination,
    #[serde(rename = "other rules")]
    OtherRules,
    Table,
    Excluded,
    Element,
    Owner,
    Listeners,
    Translation,
    Route,
    Forwarding,
    Firewall,
    Source,
    Endpoint,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The same words as in JSON.
        self.serialize(f)
    }
}

impl Step {
    pub const ALL: [Step; 14] = {
        use Step::*;
        [
            Client,
            Destination,
            OtherRules,
            Table,
            Excluded,
            Element,
            Owner,
            Listeners,
            Translation,
            Route,
            Forwarding,
            Firewall,
            Source,
            Endpoint,
        ]
    };

    /// The kernel's hook, or what comes between two hooks.
    pub fn hook(self, origin: Origin) -> &'static str {
        match (self, origin) {
            (Step::Route, _) => "routing",
            (Step::Forwarding | Step::Firewall, _) => "forward",
            (Step::Source, _) => "postrouting",
            (Step::Endpoint, _) => "container",
            (_, Origin::Outside) => "prerouting",
            (_, Origin::Host) => "output",
        }
    }
}

/// What `explain` makes of a finding: where it reports it, and in what words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnPath {
    pub step: Step,
    /// What it comes to, for a reader who does not know the field's terms.
    pub plain: &'static str,
    /// Whether it stops the packet even where the doctor only warns, since for other packets it may do no harm.
    pub stops: bool,
}

impl Kind {
    /// Where a packet meets it; none for what no packet meets.
    pub fn on_path(self) -> Option<OnPath> {
        use Kind::*;
        use Step::*;
        let (step, plain) = match self {
            RulesetRefused => (Table, "this kernel lacks a part that hostport needs"),
            ForwardingOff => (Forwarding, "this host does not forward packets to containers"),
            LinkForwardingOff => {
                (Forwarding, "this host does not forward packets that arrive on one of its links")
            }
            // For rules of other programs, `firewall::rules` names the exact step by the chain's hook.
            ForwardDrop => (Firewall, "a firewall on this host drops the packet"),
            HookDrop => (OtherRules, "a firewall on this host drops the packet"),
            NotTracked => {
                (OtherRules, "a firewall on this host keeps the packet from being translated")
            }
            TranslatedBefore => {
                (OtherRules, "another program sends the packet elsewhere before hostport sees it")
            }
            IptablesLegacy => (Firewall, "there may be firewall rules that hostport cannot see"),
            TableForeign => (Table, "another program has a table of hostport's name"),
            TableMissing => (Table, "hostport's rules are gone from the kernel"),
            TableAltered => (Table, "hostport's rules in the kernel were changed"),
            ElementForeign => {
                (Owner, "this port was added to hostport's table, but not by hostport")
            }
            PortMissing => {
                (Element, "the kernel does not have the port as its container asked for it")
            }
            OwnerUnknown => (Owner, "the journal has no entry for the container that has the port"),
            OwnerDead => (Owner, "the container that has the port has ended"),
            HairpinMissing | HairpinModeOff => {
                (Source, "a container cannot call itself by its host port")
            }
            HostIpExcluded => (Excluded, "this address is excluded from host ports"),
            HostIpMissing => (Destination, "the address does not belong to this host"),
            EndpointLinkDown => (Route, "a network link of the container is down"),
            EndpointUnreachable => (Route, "this host has no route to the container"),
            EndpointWithoutRoute => (Route, "the container cannot answer the client"),
            EndpointMoved => (Endpoint, "the container's address has changed"),
            EndpointSilent => {
                (Endpoint, "the container runs, but no program in it listens on that port")
            }
            LocalhostClosed => {
                (Source, "packets for 127.0.0.1 do not get through to the container")
            }
            NeighboursUnanswered => {
                (Source, "containers on the same link cannot reach each other by host ports")
            }
            IpvsNotExcluded => (
                Destination,
                "the address is that of a Kubernetes service, and the host port takes its traffic",
            ),
            PortShadowed => (
                Listeners,
                "a program on this host listens on the same port, and the container gets its connections",
            ),
            // The kernel does not read the journal, and of one packet all rules are looked at.
            JournalUnreadable | JournalDamaged | JournalSetAside | Unfinished => return None,
        };
        let stops = matches!(
            self,
            OwnerDead
                | EndpointSilent
                | EndpointMoved
                | IpvsNotExcluded
                | PortShadowed
                | HairpinModeOff
        );
        Some(OnPath { step, plain, stops })
    }

    /// How bad it is, unless the case decides.
    pub fn severity(self) -> Severity {
        use Kind::*;
        match self {
            IptablesLegacy | JournalDamaged | JournalSetAside | ElementForeign | OwnerUnknown
            | OwnerDead | EndpointMoved | EndpointWithoutRoute | EndpointSilent
            | HairpinModeOff | IpvsNotExcluded | PortShadowed | Unfinished => Severity::Warning,
            _ => Severity::Broken,
        }
    }

    /// Whether a hook that is at work, or a container that is just ending, may cause it for a moment.
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
