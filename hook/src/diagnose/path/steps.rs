//! The steps of a packet's path, and what they say where nothing is in the way.

use std::net::IpAddr;

use hostport_nft::{OwnerId, TableOwner};
use hostport_trace::{Origin, Verdict};
use ipnet::IpNet;
use serde::Serialize;

use crate::diagnose::context::PacketContext;
use crate::diagnose::kind::Step;
use crate::diagnose::{Inventory, Scope};
use crate::output::{several, timestamp};
use crate::request::policy::MASQUERADE;

/// What happens at one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StepReport {
    /// The kernel's hook, or what comes between two.
    pub hook: &'static str,
    pub name: Step,
    pub status: Status,
    /// For people: may change.
    pub what: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing is in the way.
    Ok,
    /// Something is in the way.
    Blocked,
    /// Something may be in the way.
    Unsure,
    /// The packet does not come here, or this was not checked.
    Skipped,
}

/// What the steps are read from.
pub struct Steps<'a> {
    pub packet: &'a PacketContext,
    pub inventory: &'a Inventory,
    pub scope: &'a Scope,
    /// The chains of other programs that replace the client's address, or may do so.
    pub rewrites: &'a [Verdict],
    /// A rule of another program that leads the packet to the same endpoint first.
    pub alike: Option<&'a Verdict>,
    /// What trying the endpoint showed, if it was asked for.
    pub answer: Option<(Status, String)>,
}

impl Steps<'_> {
    /// What a step says where nothing is in the way; none for a step that is shown only if something is.
    pub fn open(&self, step: Step) -> Option<(Status, String)> {
        let Steps { packet, inventory, .. } = self;
        let table = format!("{} {}", packet.family, inventory.table);
        let endpoint = packet.mapping.map(|mapping| mapping.endpoint());
        let what = match step {
            Step::Client => return None,
            Step::Destination if !packet.to_is_local && !packet.is_specific() => {
                format!("{} is not an address of this host", packet.to)
            }
            Step::Destination => format!("{} is an address of this host", packet.to),
            Step::OtherRules => self.other_rules(),
            Step::Table if inventory.state(packet.family) == TableOwner::Missing => {
                let what = format!("there is no {table} yet: nothing is published");
                return Some((Status::Skipped, what));
            }
            Step::Table => format!("{table} is as hostport creates it"),
            Step::Excluded if inventory.settings.is_excluded(packet.to) => {
                format!("{} is excluded: hostport does not translate it", packet.to)
            }
            Step::Excluded if !inventory.settings.covers(packet.to) => {
                format!("only ports on exactly {} answer there (--listen)", packet.to)
            }
            Step::Excluded if packet.is_kept => {
                format!("a program on this host keeps {}", packet.host())
            }
            Step::Excluded => format!("{} is not excluded", packet.to),
            Step::Element => self.element()?,
            Step::Owner => self.owner_since(),
            Step::Listeners => "no program on this host listens on the port too".to_owned(),
            Step::Translation => format!("the destination becomes {}", endpoint?),
            Step::Route => format!("{} is reached by {}", endpoint?.ip, self.out_link()),
            Step::Forwarding | Step::Firewall if packet.origin == Origin::Host => {
                let why = "it comes from this host itself, so it is not forwarded";
                return Some((Status::Skipped, why.to_owned()));
            }
            Step::Forwarding => "this host forwards it".to_owned(),
            Step::Firewall => "no forward chain drops it or the answer".to_owned(),
            Step::Source => self.source(endpoint?.ip),
            Step::Endpoint => {
                let untried = || (Status::Skipped, "not tried: --probe connects to it".to_owned());
                return Some(self.answer.clone().unwrap_or_else(untried));
            }
        };
        Some((Status::Ok, what))
    }

    fn other_rules(&self) -> String {
        let Some(Verdict { table, chain, cause, certain, .. }) = self.alike else {
            return "no rule of another program takes it before hostport".to_owned();
        };
        let translates = if *certain { "translates" } else { "may translate" };
        format!(
            "the chain {chain} of the table {table} {translates} it first, to the same endpoint ({cause}), \
             and then hostport does not count it"
        )
    }

    fn element(&self) -> Option<String> {
        let host = self.packet.mapping?.host();
        let which = match host.host_ip.is_unspecified() {
            true => format!("{host}, on every address"),
            false => format!("{host}, on that address only"),
        };
        Some(match &self.packet.element {
            Some(element) => {
                let allowed = self.allowed().map(|nets| format!("; only from {}", several(nets)));
                let count = element.counter.packets;
                format!("{which}{}; connections so far: {count}", allowed.unwrap_or_default())
            }
            None => format!("none for {which}"),
        })
    }

    /// The sources that may reach the host port, if not all may.
    fn allowed(&self) -> Option<&[IpNet]> {
        let audit = self.inventory.audits.get(&self.packet.family)?;
        let host = self.packet.element.as_ref()?.mapping.host();
        audit.conditions.sources.get(&host).map(Vec::as_slice)
    }

    /// The owner in the kernel, or else by the journal.
    fn owner(&self) -> Option<&OwnerId> {
        match &self.packet.element {
            Some(element) => element.owner.as_ref(),
            None => {
                let mut entries = self.scope.entries.iter();
                entries.find(|entry| !entry.mappings.is_empty()).map(|entry| &entry.owner)
            }
        }
    }

    /// The owner as people know it.
    fn called(&self) -> String {
        self.owner().map_or("nobody".to_owned(), |owner| self.scope.called(owner).to_string())
    }

    fn owner_since(&self) -> String {
        let (owner, called) = (self.owner(), self.called());
        let mut entries = self.scope.entries.iter().filter(|entry| !entry.mappings.is_empty());
        let Some(entry) = entries.find(|entry| Some(&entry.owner) == owner) else { return called };
        let dead = match self.inventory.dead.contains(&entry.owner) {
            true => "; it has ended, and its pod goes on",
            false => "",
        };
        format!("{called}, since {}{dead}", timestamp::utc(entry.since_ms))
    }

    /// Where it leads in the end.
    pub fn leads(&self) -> String {
        let PacketContext { target, to, mapping, .. } = self.packet;
        mapping.map_or_else(String::new, |mapping| {
            format!("{target} on {to} leads to {} of {}", mapping.endpoint(), self.called())
        })
    }

    /// The name of the link towards the endpoint.
    fn out_link(&self) -> String {
        let endpoint = self.packet.mapping.map(|mapping| mapping.endpoint().ip);
        let link = endpoint.and_then(|ip| self.inventory.link_towards(ip));
        link.map_or_else(
            || "an unknown link".to_owned(),
            |link| link.name.to_string_lossy().into_owned(),
        )
    }

    /// The client's address as the container sees it.
    fn source(&self, endpoint: IpAddr) -> String {
        let (packet, out) = (self.packet, self.out_link());
        if let Some(source) = packet.source().filter(IpAddr::is_loopback) {
            return format!(
                "rewritten to this host's address on {out}, since only this host can answer {source}"
            );
        }
        if packet.from == Some(endpoint) {
            return "rewritten to this host's address: the container calls itself, and its answer would not leave it"
                .to_owned();
        }
        let comes_by = packet.in_link.as_ref().map(|link| link.index);
        let way = self.inventory.link_towards(endpoint);
        let same_link = way.filter(|way| Some(way.index) == comes_by);
        let audit = self.inventory.audits.get(&packet.family);
        if same_link.zip(audit).is_some_and(|(link, audit)| link.is_in(&audit.links)) {
            return format!(
                "rewritten to this host's address: client and container are both on {out}, and the \
                 answer would bypass this host"
            );
        }
        if audit.is_some_and(|audit| audit.conditions.masqueraded.contains(&endpoint)) {
            return format!(
                "rewritten to this host's address on {out}: the container's answers would not come back \
                 this way, or {MASQUERADE} asks for it"
            );
        }
        let client =
            packet.from.map_or_else(|| "the client's address".to_owned(), |ip| ip.to_string());
        let certain = self.rewrites.iter().find(|verdict| verdict.certain);
        match certain.or(self.rewrites.first()) {
            None => format!("{client} is not rewritten: the container sees the client"),
            Some(Verdict { table, chain, certain: true, cause, .. }) => format!(
                "{client} is rewritten by the chain {chain} of the table {table} ({cause}): the container does \
                 not see the client"
            ),
            Some(Verdict { table, chain, cause, .. }) => format!(
                "{client} may be rewritten by the chain {chain} of the table {table} ({cause}); if not, the \
                 container sees the client"
            ),
        }
    }

    /// The packet in a few words.
    pub fn packet(&self) -> String {
        let PacketContext { target, to, from, .. } = self.packet;
        let to = if to.is_ipv6() { format!("[{to}]:{target}") } else { format!("{to}:{target}") };
        let whence = match (self.packet.origin, from) {
            (Origin::Host, Some(from)) => format!("{from}, this host itself"),
            (Origin::Host, None) => "this host itself".to_owned(),
            (Origin::Outside, from) => {
                let client =
                    from.map_or_else(|| "a client outside".to_owned(), |ip| ip.to_string());
                let probably = if self.packet.in_link_is_guessed { "probably " } else { "" };
                let by = self.packet.in_link_name().map(|link| format!(", {probably}by {link}"));
                format!("{client}{}", by.unwrap_or_default())
            }
        };
        let other = self.packet.other_to.map(|other| {
            format!("; for {}: --to {other}", if other.is_ipv6() { "IPv6" } else { "IPv4" })
        });
        format!("A packet to {to}, from {whence}{}", other.unwrap_or_default())
    }
}
