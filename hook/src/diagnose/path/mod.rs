//! The packet's way through the kernel, hook by hook.

mod connect;
mod obstacle;
mod search;

use std::net::IpAddr;

use hostport_trace::{Judgement, Origin};
use serde::Serialize;

use crate::commands::CommandError;
use crate::context::Context;
use crate::diagnose::context::Scene;
use crate::diagnose::finding::{Finding, Kind, Severity};
use crate::diagnose::inventory::Facts;
use crate::diagnose::path::connect::{Answer, probe};
pub use crate::diagnose::path::obstacle::Cause;
use crate::diagnose::path::obstacle::not_published;
use crate::diagnose::path::search::{
    FIREWALL, LISTENERS, OTHER_RULES, SOURCE, TRANSLATION, elsewhere, find, not_routed,
    rules_of_others,
};
use crate::diagnose::question::{Question, Target};
use crate::network::link::Way;
use crate::output::timestamp;

/// The steps of the way, and what is in it.
pub struct Walk {
    pub target: Target,
    pub from: Option<IpAddr>,
    pub to: IpAddr,
    /// The packet in a few words.
    pub packet: String,
    pub steps: Vec<Step>,
    /// In the order of the steps.
    pub causes: Vec<Cause>,
    /// Where it leads in the end.
    pub leads: String,
    /// What was found and does not belong to a step yet.
    pool: Vec<Finding>,
    /// Chains of others in the way, by the step where they are.
    met: Vec<(&'static str, Cause)>,
    /// Chains of others that hide the client, or may do so.
    rewrites: Vec<Judgement>,
    may_pass: bool,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Step {
    /// The kernel's hook, or what comes between two.
    pub hook: &'static str,
    pub name: &'static str,
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
    /// The packet does not come here, or nobody looked.
    Skipped,
}

impl Walk {
    /// Looks at this host; `probe` also tries the endpoint.
    pub fn of(question: &Question, probe: bool, context: &Context) -> Result<Self, CommandError> {
        let mut facts = Facts::gather(context)?;
        let scene = Scene::of(question, &mut facts)?;
        scene.restrict(&mut facts);
        let mut pool = find(&scene, &mut facts, context)?;
        let (mut met, rewrites) = rules_of_others(&scene, &mut facts);
        met.extend(not_routed(&scene, &mut facts, &pool)?.map(|cause| ("route", cause)));
        if question.to.is_none() {
            met.extend(elsewhere(&scene, &mut facts, &pool).map(|cause| (LISTENERS, cause)));
        }
        answered_to_another(&mut pool, &rewrites);
        let mut walk = Walk {
            target: scene.target,
            from: scene.from,
            to: scene.to,
            packet: packet(&scene),
            steps: Vec::new(),
            causes: Vec::new(),
            leads: String::new(),
            may_pass: pool.iter().any(|finding| finding.kind.may_pass()),
            pool,
            met,
            rewrites,
        };
        walk.arrive(&scene);
        if walk.look_up(&scene, &facts) {
            walk.onward(&scene, &facts);
            walk.end(&scene, probe);
        }
        Ok(walk)
    }

    /// The first thing that is in the way in any case.
    pub fn cause(&self) -> Option<&Cause> {
        self.causes.iter().find(|cause| cause.certain)
    }

    /// Nothing is in the way in any case.
    pub fn is_open(&self) -> bool {
        self.cause().is_none()
    }

    /// Something in the way may be gone in a moment.
    pub fn may_pass(&self) -> bool {
        self.may_pass
    }

    /// Adds a step: `fine`, unless something of these kinds was found.
    fn step(&mut self, hook: &'static str, name: &'static str, kinds: &[Kind], fine: String) {
        let of_kind = |finding: &mut Finding| kinds.contains(&finding.kind);
        let mut causes: Vec<Cause> = self.pool.extract_if(.., of_kind).map(Cause::from).collect();
        causes.extend(self.met.extract_if(.., |(step, _)| *step == name).map(|(_, cause)| cause));
        self.add(hook, name, causes, fine);
    }

    fn add(&mut self, hook: &'static str, name: &'static str, causes: Vec<Cause>, fine: String) {
        let worst = causes.iter().find(|cause| cause.certain).or(causes.first());
        let (status, what) = match worst {
            None => (Status::Ok, fine),
            Some(cause) => {
                let status = if cause.certain { Status::Blocked } else { Status::Unsure };
                (
                    status,
                    [&cause.what]
                        .into_iter()
                        .chain(cause.evidence.first())
                        .cloned()
                        .collect::<Vec<_>>()
                        .join("; "),
                )
            }
        };
        self.steps.push(Step { hook, name, status, what });
        self.causes.extend(causes);
    }

    fn skip(&mut self, hook: &'static str, name: &'static str, why: &str) {
        self.steps.push(Step { hook, name, status: Status::Skipped, what: why.to_owned() });
    }

    /// Up to hostport's own chains.
    fn arrive(&mut self, scene: &Scene) {
        let hook = hook(scene);
        let to = scene.to;
        if scene.no_way_back {
            let from = scene.from.map_or_else(String::new, |from| from.to_string());
            let cause = Cause::new(
                "no-way-back",
                "answers would not find their way to the client",
                format!("no route leads to {from}"),
                format!(
                    "give this host a route: ip route add {from} via GATEWAY; who knows it: ip route"
                ),
            );
            self.add(hook, "client", vec![cause], String::new());
        }
        let local = format!("{to} is an address of this host");
        if let Some(cause) = obstacle::stays_put(scene) {
            self.add(hook, "client", vec![cause], String::new());
        }
        if let Some(link) = scene.entrance().filter(|_| scene.entrance_down) {
            self.met.push(("destination", obstacle::entrance_down(&link)));
        }
        if to.is_loopback() && scene.origin == Origin::Outside {
            self.add(hook, "destination", vec![obstacle::loopback(scene)], String::new());
        } else if !scene.to_is_local && !scene.is_specific() {
            self.add(hook, "destination", vec![obstacle::not_local(scene)], String::new());
        } else {
            self.step(hook, "destination", &[Kind::HostIpMissing, Kind::IpvsNotExcluded], local);
        }
        let fine = "no other program's rule takes it before hostport".to_owned();
        self.step(hook, OTHER_RULES, &[], fine);
    }

    /// In hostport's own chains. False if that is where its way ends.
    fn look_up(&mut self, scene: &Scene, facts: &Facts) -> bool {
        let hook = hook(scene);
        let table = format!("{} {}", scene.family, facts.table);
        // Where one stands, the kernel took it.
        let kinds = match facts.state(scene.family) {
            hostport_nft::State::Ours => &[Kind::TableAltered][..],
            _ => &[Kind::RulesetRefused, Kind::TableForeign, Kind::TableMissing],
        };
        let is_none = facts.state(scene.family) == hostport_nft::State::Missing;
        if is_none && !self.pool.iter().any(|finding| kinds.contains(&finding.kind)) {
            self.skip(hook, "table", &format!("there is no {table} yet: nothing is published"));
        } else {
            self.step(hook, "table", kinds, format!("{table} is as hostport makes it"));
        }
        let fine = match facts.settings.is_excluded(scene.to) {
            true => format!("{} is excluded: hostport leaves it alone", scene.to),
            false => format!("{} is not excluded", scene.to),
        };
        self.step(hook, "excluded", &[Kind::HostIpExcluded], fine);
        let Some(mapping) = scene.mapping else {
            self.add(hook, "element", vec![not_published(scene)], String::new());
            return false;
        };
        let host = mapping.host();
        let which = match host.host_ip.is_unspecified() {
            true => format!("{host}, on every address"),
            false => format!("{host}, on that address alone"),
        };
        match &scene.element {
            Some(element) => {
                let count = element.counter.packets;
                let fine = format!("{which}; connections so far: {count}");
                self.step(hook, "element", &[Kind::PortMissing], fine);
            }
            None => self.step(hook, "element", &[Kind::PortMissing], format!("none for {which}")),
        }
        self.owner(scene, facts);
        let fine = "no program of this host waits on the port as well".to_owned();
        self.step(hook, LISTENERS, &[Kind::PortShadowed], fine);
        let endpoint = mapping.endpoint();
        self.step(hook, TRANSLATION, &[], format!("the destination becomes {endpoint}"));
        true
    }

    fn owner(&mut self, scene: &Scene, facts: &Facts) {
        let entries = facts.journal.iter().flat_map(|look| &look.entries);
        let mut entries = entries.filter(|entry| !entry.mappings.is_empty());
        let owner = match &scene.element {
            Some(element) => element.owner.clone(),
            None => entries.clone().next().map(|entry| entry.owner.clone()),
        };
        let owner = owner.map_or_else(|| "nobody".to_owned(), |owner| owner.to_string());
        let since = entries.find(|entry| entry.owner.as_str() == owner);
        let since = since.map_or_else(String::new, |entry| {
            format!(", since {}", timestamp::utc(entry.since_ms))
        });
        let kinds = [Kind::ElementForeign, Kind::OwnerUnknown, Kind::OwnerDead];
        self.step(hook(scene), "owner", &kinds, format!("{owner}{since}"));
        if let Some(mapping) = scene.mapping {
            let endpoint = mapping.endpoint();
            self.leads = format!("{} on {} leads to {endpoint} of {owner}", scene.target, scene.to);
        }
    }

    /// From the routing decision to the last hook.
    fn onward(&mut self, scene: &Scene, facts: &Facts) {
        let Some(endpoint) = scene.mapping.map(|mapping| mapping.endpoint()) else { return };
        let link = match facts.ways.get(&endpoint.ip) {
            Some(Way::Link(link)) => Some(link),
            _ => None,
        };
        let name = link.map(|link| link.name.to_string_lossy().into_owned());
        let out = name.as_deref().unwrap_or("a link that is not known");
        let kinds = [Kind::EndpointLinkDown, Kind::EndpointUnreachable, Kind::EndpointWithoutRoute];
        self.step("routing", "route", &kinds, format!("{} goes out of {out}", endpoint.ip));
        if scene.origin == Origin::Host {
            let why = "it begins on this host, so it is not forwarded";
            self.skip("forward", "forwarding", why);
            self.skip("forward", FIREWALL, why);
        } else {
            let kinds = [Kind::ForwardingOff, Kind::LinkForwardingOff];
            self.step("forward", "forwarding", &kinds, "this host forwards it".to_owned());
            let fine = "no forward chain drops it, nor the answer".to_owned();
            self.step("forward", FIREWALL, &[Kind::IptablesLegacy], fine);
        }
        let same_link =
            scene.in_link.as_ref().is_some_and(|l| Some(l.index) == link.map(|link| link.index));
        let itself = scene.from == Some(endpoint.ip);
        let audit = facts.audits.get(&scene.family);
        let bypasses = same_link
            && link.is_some_and(|l| audit.is_some_and(|audit| audit.links.contains(&l.index)));
        let (kinds, fine): (&[Kind], String) = if let Some(source) =
            facts.source.filter(IpAddr::is_loopback)
        {
            (
                &[Kind::LocalhostClosed],
                format!(
                    "rewritten to this host's address on {out}: nobody else can answer {source}"
                ),
            )
        } else if itself {
            (
                &[Kind::HairpinMissing, Kind::HairpinModeOff, Kind::NeighboursUnanswered],
                "rewritten to this host's address: the container calls itself, and would answer \
 itself"
                    .to_owned(),
            )
        } else if bypasses {
            (
                &[Kind::NeighboursUnanswered],
                format!(
                    "rewritten to this host's address: client and container are both on {out}, and \
 the answer would not come by here"
                ),
            )
        } else {
            let kinds: &[Kind] = if same_link { &[Kind::NeighboursUnanswered] } else { &[] };
            let who =
                scene.from.map_or_else(|| "the client's address".to_owned(), |ip| ip.to_string());
            (kinds, seen(&who, &self.rewrites))
        };
        self.step("postrouting", SOURCE, kinds, fine);
    }

    /// At the endpoint.
    fn end(&mut self, scene: &Scene, try_it: bool) {
        let Some(endpoint) = scene.mapping.map(|mapping| mapping.endpoint()) else { return };
        let (hook, name) = ("container", "endpoint");
        let kinds = [Kind::EndpointSilent, Kind::EndpointMoved];
        let seen = |finding: &&Finding| kinds.contains(&finding.kind);
        let is_silent = self.pool.iter().any(|finding| seen(&finding));
        let silent = |walk: &mut Walk| walk.step(hook, name, &kinds, String::new());
        if !try_it {
            if is_silent {
                return silent(self);
            }
            return self.skip(hook, name, "whether it answers was not tried: --probe does");
        }
        match probe(endpoint, scene.target.protocol) {
            // A program elsewhere may answer for it, such as in a virtual machine.
            Answer::Yes(what) => self.add(hook, name, Vec::new(), what),
            Answer::Unknown(_) | Answer::Untried(_) if is_silent => silent(self),
            Answer::Unknown(what) => {
                self.steps.push(Step { hook, name, status: Status::Unsure, what });
            }
            Answer::Untried(why) => self.skip(hook, name, &why),
            Answer::No(what) => {
                let found = self.pool.iter().find(seen);
                let mut cause = found.cloned().map(Cause::from).unwrap_or_else(|| {
                    Cause::new(
                        "endpoint-unanswered",
                        "the container does not answer",
                        format!("a connection from this host to {endpoint} failed"),
                        format!(
                            "see whether the program in the container runs, and listens on \
 {endpoint}"
                        ),
                    )
                });
                cause.evidence.insert(0, what);
                self.add(hook, name, vec![cause], String::new());
            }
        }
    }
}

fn hook(scene: &Scene) -> &'static str {
    match scene.origin {
        Origin::Outside => "prerouting",
        Origin::Host => "output",
    }
}

fn packet(scene: &Scene) -> String {
    let Scene { target, to, from, .. } = scene;
    let to = if to.is_ipv6() { format!("[{to}]:{target}") } else { format!("{to}:{target}") };
    let whence = match (scene.origin, from) {
        (Origin::Host, Some(from)) => format!("{from}, this host itself"),
        (Origin::Host, None) => "this host itself".to_owned(),
        (Origin::Outside, from) => {
            let who = from.map_or_else(|| "somebody outside".to_owned(), |from| from.to_string());
            let probably = if scene.guessed { "probably " } else { "" };
            let by = scene.entrance().map(|link| format!(", {probably}by {link}"));
            format!("{who}{}", by.unwrap_or_default())
        }
    };
    let other = scene.other_to.map(|other| {
        format!("; for {}: --to {other}", if other.is_ipv6() { "IPv6" } else { "IPv4" })
    });
    format!("A packet to {to}, from {whence}{}", other.unwrap_or_default())
}

/// Who is hidden from the container by others needs no route there.
fn answered_to_another(pool: &mut Vec<Finding>, rewrites: &[Judgement]) {
    let hidden = rewrites.iter().any(|judgement| judgement.certain);
    pool.retain(|finding| !hidden || finding.kind != Kind::EndpointWithoutRoute);
    let of_route = pool.iter_mut().filter(|finding| finding.kind == Kind::EndpointWithoutRoute);
    for finding in of_route.filter(|_| !rewrites.is_empty()) {
        finding.severity = Severity::Warning;
    }
}

/// Whom the container sees, where hostport itself rewrites nothing.
fn seen(who: &str, rewrites: &[Judgement]) -> String {
    let first = rewrites.iter().find(|judgement| judgement.certain).or(rewrites.first());
    match first {
        None => format!("{who} stays: the container sees who calls"),
        Some(Judgement { table, chain, certain: true, by, .. }) => format!(
            "{who} is rewritten by the chain {chain} of the table {table} ({by}): the container does not \
             see who calls"
        ),
        Some(Judgement { table, chain, by, .. }) => format!(
            "{who} may be rewritten by the chain {chain} of the table {table} ({by}); if not, the container \
             sees who calls"
        ),
    }
}
