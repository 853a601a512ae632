//! What is in a packet's way: the doctor's findings in facts that hold this packet alone, and what only one
//! packet has.

use hostport_nft::Family;
use hostport_trace::{Judgement, Origin, Stage};

use crate::commands::CommandError;
use crate::context::Context;
use crate::diagnose::checks::listeners;
use crate::diagnose::context::Scene;
use crate::diagnose::finding::{Finding, Kind};
use crate::diagnose::firewall::{Asked, Harm, Met};
use crate::diagnose::inventory::Facts;
use crate::diagnose::path::obstacle::{self, Cause};
use crate::diagnose::{self, firewall};

/// The steps that rules of others belong to.
pub const OTHER_RULES: &str = "other rules";
pub const LISTENERS: &str = "listeners";
pub const TRANSLATION: &str = "translation";
pub const FIREWALL: &str = "firewall";
pub const SOURCE: &str = "source";

/// All that the doctor finds about this packet.
pub fn find(
    scene: &Scene,
    facts: &mut Facts,
    context: &Context,
) -> Result<Vec<Finding>, CommandError> {
    let mut findings = diagnose::find(facts, &context.state_dir)?;
    // Told only to whom it concerns.
    let services = facts.services.contains(&scene.to);
    findings.retain(|finding| services || finding.kind != Kind::IpvsNotExcluded);
    if scene.mapping.is_none() {
        return Ok(findings);
    }
    firewall::legacy(&mut findings);
    listeners::find(facts, &mut findings);
    let other_family = |finding: &Finding| {
        finding.kind == Kind::IptablesLegacy
            && finding.what.contains("ip6tables") != (scene.family == Family::Ip6)
    };
    findings.retain(|finding| !other_family(finding));
    Ok(findings)
}

/// What rules of others do with this packet, and the step where they do so; and who hides the client.
pub fn rules_of_others(
    scene: &Scene,
    facts: &mut Facts,
) -> (Vec<(&'static str, Cause)>, Vec<Judgement>) {
    let met = match scene.sent() {
        Some(sent) => firewall::meets(facts, &sent, scene.origin, || true),
        None => firewall::before(facts, Asked { host: scene.host(), mapping: None }, scene.origin),
    };
    let step = |met: &Met| match (met.harm, scene.origin) {
        (Harm::Untracks | Harm::Translates | Harm::Drops(Stage::Before), _) => OTHER_RULES,
        (Harm::Drops(Stage::After), _) => TRANSLATION,
        (Harm::Forward, _) | (Harm::Answer | Harm::UntracksAnswer, Origin::Outside) => FIREWALL,
        (Harm::Drops(Stage::Leaving) | Harm::Answer | Harm::UntracksAnswer, _) => SOURCE,
    };
    let met = met.iter().map(|met| (step(met), Cause::from(met))).collect();
    let sent = scene.sent();
    (met, sent.map_or_else(Vec::new, |sent| firewall::rewrites(facts, &sent, scene.origin)))
}

/// Whether the kernel routes it, by its source and the link that it comes in by. Where forwarding is off, it
/// never does, which is told by itself; as is what there is no way to at all.
pub fn not_routed(
    scene: &Scene,
    facts: &mut Facts,
    told: &[Finding],
) -> Result<Option<Cause>, CommandError> {
    let kinds = [
        Kind::ForwardingOff,
        Kind::LinkForwardingOff,
        Kind::EndpointUnreachable,
        Kind::EndpointLinkDown,
    ];
    let (Some(mapping), Some(from), Some(link)) = (scene.mapping, scene.from, &scene.in_link)
    else {
        return Ok(None);
    };
    if told.iter().any(|finding| kinds.contains(&finding.kind)) || scene.entrance_down {
        return Ok(None);
    }
    let endpoint = mapping.endpoint().ip;
    let refusal = facts.socket.refusal(endpoint, from, link.index)?;
    let name = scene.entrance().unwrap_or_default();
    Ok(refusal.map(|error| obstacle::not_routed(endpoint, from, &name, &error)))
}

/// Of a port on every address: programs that wait on another one than the packet's. They are not in its way,
/// and perhaps in that of the packet which was meant.
pub fn elsewhere(
    scene: &Scene,
    facts: &mut Facts,
    told: &[Finding],
) -> impl Iterator<Item = Cause> + use<> {
    let mut findings = Vec::new();
    let own = std::mem::replace(&mut facts.mappings, scene.mapping.into_iter().collect());
    listeners::find(facts, &mut findings);
    facts.mappings = own;
    findings.retain(|finding| !told.iter().any(|other| other.what == finding.what));
    findings.into_iter().map(|finding| Cause { certain: false, ..Cause::from(finding) })
}
