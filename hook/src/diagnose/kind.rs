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
    /// The table of connection tracking is full, or nearly so.
    ConntrackFull,
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
    /// A runtime does not call hostport, or calls it without the ports.
    RuntimeHindered,
    /// A CNI list names hostport, and the runtime does not find it.
    PluginMissing,
    /// A runtime reports the end of a container late, and nothing else does.
    EndsUnwatched,
    /// A running container asks for host ports and has none.
    PortsUnpublished,
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
    /// The container has no address yet that its host ports could lead to, or another container has one of these.
    EndpointAwaited,
    /// The container has no route back to the client.
    EndpointWithoutRoute,
    /// Nothing in the container listens on the port that a host port leads to.
    EndpointSilent,
    /// The container is paused.
    ContainerPaused,
    /// 127.0.0.1 does not lead to an endpoint.
    LocalhostClosed,
    /// 127.0.0.1 is open on a link that is no container's own.
    LocalhostExposed,
    /// A pod cannot reach itself by its host ports: its bridge port is not in hairpin mode.
    HairpinModeOff,
    /// Pods on one link cannot reach each other by host ports.
    NeighboursUnanswered,
    /// Host ports take the traffic of Kubernetes services.
    IpvsNotExcluded,
    /// Another table translates the same port first.
    TranslatedBefore,
    /// portmap has rules on a node where hostport has its place.
    PortmapLeft,
    /// A process of the host listens on a published port.
    PortShadowed,
    /// A container could not start, since hostport refused what it asks for.
    ContainerRefused,
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
        // The same words as in JSON.
        self.serialize(f)
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

/// What a kind means, unless the case decides.
#[derive(Debug, Clone, Copy)]
pub struct Meaning {
    pub severity: Severity,
    /// Whether a hook that is at work, or a container that is just ending, may cause it for a moment.
    pub may_pass: bool,
    /// Where a packet meets it; none for what no packet meets.
    pub on_path: Option<OnPath>,
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

fn broken(step: Step, plain: &'static str) -> Meaning {
    let on_path = Some(OnPath { step, plain, stops: false });
    Meaning { on_path, ..off_path(Severity::Broken) }
}

fn warning(step: Step, plain: &'static str) -> Meaning {
    Meaning { severity: Severity::Warning, ..broken(step, plain) }
}

/// A warning, but it stops the packets that meet it.
fn stopping(step: Step, plain: &'static str) -> Meaning {
    let on_path = Some(OnPath { step, plain, stops: true });
    Meaning { on_path, ..off_path(Severity::Warning) }
}

/// The kernel does not read the journal, and of one packet all rules are evaluated.
fn off_path(severity: Severity) -> Meaning {
    Meaning { severity, may_pass: false, on_path: None }
}

/// What is looked at again before it is reported.
fn passing(meaning: Meaning) -> Meaning {
    Meaning { may_pass: true, ..meaning }
}

impl Kind {
    /// What is said of each kind.
    pub fn meaning(self) -> Meaning {
        use Kind::*;
        use Step::*;
        match self {
            RulesetRefused => broken(Table, "this kernel lacks a part that hostport needs"),
            ForwardingOff => broken(Forwarding, "this host does not forward packets to containers"),
            LinkForwardingOff => broken(
                Forwarding,
                "this host does not forward packets that arrive on one of its links",
            ),
            ConntrackFull => passing(broken(
                OtherRules,
                "this host tracks as many connections as it may, and drops the packets of new ones",
            )),
            // For rules of other programs, `firewall::rules` names the exact step by the chain's hook.
            ForwardDrop => broken(Firewall, "a firewall on this host drops the packet"),
            HookDrop => broken(OtherRules, "a firewall on this host drops the packet"),
            NotTracked => {
                broken(OtherRules, "a firewall on this host keeps the packet from being translated")
            }
            IptablesLegacy => {
                warning(Firewall, "there may be firewall rules that hostport cannot see")
            }
            JournalUnreadable | PluginMissing => off_path(Severity::Broken),
            JournalDamaged | JournalSetAside | Unfinished => off_path(Severity::Warning),
            RuntimeHindered | EndsUnwatched | PortmapLeft => off_path(Severity::Warning),
            PortsUnpublished => passing(broken(
                Element,
                "a container asks for this port, but its runtime did not have it published",
            )),
            TableForeign => broken(Table, "another program has a table of hostport's name"),
            TableMissing => passing(broken(Table, "hostport's rules are gone from the kernel")),
            TableAltered => passing(broken(Table, "hostport's rules in the kernel were changed")),
            ElementForeign => {
                warning(Owner, "this port was added to hostport's table, but not by hostport")
            }
            PortMissing => passing(broken(
                Element,
                "the kernel does not have the port as its container asked for it",
            )),
            OwnerUnknown => passing(warning(
                Owner,
                "the journal has no entry for the container that has the port",
            )),
            OwnerDead => passing(warning(
                Owner,
                "the container that has the port has ended, and the port leads to whoever has its address now",
            )),
            HairpinMissing => passing(broken(Source, CALLS_ITSELF)),
            HostIpExcluded => broken(Excluded, "this address is excluded from host ports"),
            HostIpMissing => broken(Destination, "the address does not belong to this host"),
            EndpointLinkDown => passing(broken(Route, "a network link of the container is down")),
            EndpointUnreachable => {
                passing(broken(Route, "this host has no route to the container"))
            }
            EndpointMoved => passing(stopping(Endpoint, "the container's address has changed")),
            EndpointAwaited => passing(stopping(
                Element,
                "the container that asks for this port had no address when it started",
            )),
            EndpointWithoutRoute => {
                passing(warning(Route, "the container cannot answer the client"))
            }
            EndpointSilent => {
                passing(stopping(Endpoint, "no program in the container listens on that port"))
            }
            ContainerPaused => {
                passing(stopping(Endpoint, "the container is paused, and nothing in it answers"))
            }
            LocalhostClosed => {
                passing(broken(Source, "packets for 127.0.0.1 do not get through to the container"))
            }
            LocalhostExposed => off_path(Severity::Broken),
            HairpinModeOff => passing(stopping(Source, CALLS_ITSELF)),
            NeighboursUnanswered => passing(broken(
                Source,
                "containers on the same link cannot reach each other by host ports",
            )),
            IpvsNotExcluded => stopping(
                Destination,
                "the address is that of a Kubernetes service, and the host port takes its traffic",
            ),
            TranslatedBefore => broken(
                OtherRules,
                "another program sends the packet elsewhere before hostport sees it",
            ),
            ContainerRefused => {
                warning(Owner, "another container asks for the port, and could not start")
            }
            PortShadowed => stopping(
                Listeners,
                "a program on this host listens on the same port, and the container gets its connections",
            ),
        }
    }
}

const CALLS_ITSELF: &str = "a container cannot call itself by its host port";
