//! A packet's path through the kernel, step by step, and what is in its way.

mod connect;
mod obstacle;
mod steps;
mod unpublished;

use std::net::IpAddr;

use hostport_trace::{Origin, Verdict};

use crate::context::Context;
use crate::diagnose::checks::listeners;
use crate::diagnose::context::PacketContext;
use crate::diagnose::error::DiagnoseError;
use crate::diagnose::examination::Examination;
use crate::diagnose::firewall;
use crate::diagnose::kind::{Kind, Severity, Step};
use crate::diagnose::question::{Question, Target};
use crate::diagnose::{Finding, Scope};
use crate::network::rtnetlink;
use connect::connect;
pub use obstacle::Obstacle;
use steps::Steps;
pub use steps::{Status, StepReport};
pub use unpublished::ANSWERED_ELSEWHERE;

/// The steps of the path, and what is in the way.
pub struct Path {
    pub target: Target,
    pub from: Option<IpAddr>,
    pub to: IpAddr,
    /// The packet in a few words.
    pub packet: String,
    pub steps: Vec<StepReport>,
    /// In the order of the steps.
    pub obstacles: Vec<Obstacle>,
    /// Where it leads in the end.
    pub leads: String,
}

impl Path {
    /// Follows a packet; `connects` also tries the endpoint.
    pub fn of(
        question: &Question,
        connects: bool,
        context: &Context,
    ) -> Result<Self, DiagnoseError> {
        let ask = |inventory: &_, socket: &mut _| {
            let packet = PacketContext::of(question, inventory, socket)?;
            Ok((Scope::of(Some(packet.clone()), inventory, socket)?, packet))
        };
        let (mut examination, packet) = Examination::of(context, ask)?;
        let Examination { inventory, scope, rules, .. } = &mut examination;
        let rewrites = firewall::rewrites(rules, inventory, scope);
        let alike = firewall::alike(rules, inventory, scope);
        hide_client(&mut examination.findings, &rewrites);
        let mut obstacles = of_this_packet(question, &packet, &mut examination)?;
        let endpoint = packet.mapping.map(|mapping| mapping.endpoint());
        let answer = endpoint.filter(|_| connects).map(|endpoint| {
            let answer = connect(endpoint, packet.target.protocol);
            obstacle::answered(&mut obstacles, endpoint, &answer);
            answer
        });
        let Examination { inventory, scope, .. } = &examination;
        let (rewrites, alike) = (&rewrites[..], alike.as_ref());
        let steps = Steps { packet: &packet, inventory, scope, rewrites, alike, answer };
        let mut path = Path {
            target: packet.target,
            from: packet.from,
            to: packet.to,
            packet: steps.packet(),
            steps: Vec::new(),
            obstacles: Vec::new(),
            leads: steps.leads(),
        };
        for step in Step::ALL {
            let here: Vec<Obstacle> = obstacles.extract_if(.., |o| o.step == step).collect();
            let worst = here.iter().find(|obstacle| obstacle.certain).or(here.first());
            let report = worst.map(|obstacle| obstacle.at_step()).or_else(|| steps.open(step));
            path.steps.extend(report.map(|(status, what)| StepReport {
                hook: step.hook(packet.origin),
                name: step,
                status,
                what,
            }));
            path.obstacles.extend(here);
            if step == Step::Element && packet.mapping.is_none() {
                break;
            }
        }
        Ok(path)
    }

    /// The first thing that is in the way in any case.
    pub fn obstacle(&self) -> Option<&Obstacle> {
        self.obstacles.iter().find(|obstacle| obstacle.certain)
    }

    /// Nothing is in the way in any case.
    pub fn is_open(&self) -> bool {
        self.obstacle().is_none()
    }
}

/// A container needs no route to a client whose address another program replaces.
fn hide_client(findings: &mut Vec<Finding>, rewrites: &[Verdict]) {
    let hidden = rewrites.iter().any(|verdict| verdict.certain);
    findings.retain(|finding| !hidden || finding.kind != Kind::EndpointWithoutRoute);
    let of_route = findings.iter_mut().filter(|f| f.kind == Kind::EndpointWithoutRoute);
    for finding in of_route.filter(|_| !rewrites.is_empty()) {
        finding.severity = Severity::Warning;
    }
}

/// What is in the way of a packet: what was found, and what only this packet has.
fn of_this_packet(
    question: &Question,
    packet: &PacketContext,
    examination: &mut Examination,
) -> Result<Vec<Obstacle>, rtnetlink::Error> {
    let refusal = not_routed(packet, examination)?;
    let Examination { inventory, scope, findings, rules, .. } = examination;
    let mut obstacles: Vec<Obstacle> = findings.iter().filter_map(Obstacle::of).collect();
    obstacles.extend(packet.from.filter(|_| packet.no_way_back).map(obstacle::no_way_back));
    obstacles.extend(obstacle::stays_put(packet));
    obstacles.extend(obstacle::not_allowed(packet, inventory));
    // Another program's address, such as a service's.
    let rule = match packet.mapping {
        None => firewall::answering(rules, inventory, scope),
        Some(_) => None,
    };
    let is_translated = rule.as_ref().is_some_and(|rule| rule.certain);
    let astray = if packet.to.is_loopback() && packet.origin == Origin::Outside {
        Some(obstacle::loopback_from_outside(packet))
    } else if !packet.to_is_local && !packet.is_specific() && !is_translated {
        Some(obstacle::not_local(packet, inventory))
    } else {
        let link = packet.in_link_name().filter(|_| packet.in_link_is_down);
        obstacles.extend(link.map(|link| obstacle::in_link_down(&link)));
        None
    };
    if let Some(astray) = astray {
        obstacles.retain(|obstacle| obstacle.step != Step::Destination);
        obstacles.push(astray);
    }
    obstacles.extend(refusal);
    match packet.mapping {
        None => {
            let to = Some(packet.host()).filter(|_| packet.to_is_local);
            let process = to.and_then(listeners::answering);
            let in_vain = findings.iter().any(|finding| finding.kind == Kind::PortsUnpublished);
            let elsewhere = !packet.to_is_local && !packet.same_number.is_empty();
            if !in_vain && !elsewhere || rule.is_some() || process.is_some() {
                obstacles.push(unpublished::not_published(
                    packet,
                    inventory,
                    rule.as_ref(),
                    process,
                ));
            }
        }
        // Programs that listen on another address of the port: not in the way of this packet, and perhaps of
        // the packet that was meant.
        Some(mapping) if question.to.is_none() => {
            let mut elsewhere =
                listeners::shadowed(inventory, [mapping.host()].into_iter()).unwrap_or_default();
            elsewhere.retain(|finding| findings.iter().all(|other| other.what != finding.what));
            let elsewhere = elsewhere.iter().filter_map(Obstacle::of);
            obstacles.extend(elsewhere.map(|obstacle| Obstacle { certain: false, ..obstacle }));
        }
        Some(_) => {}
    }
    Ok(obstacles)
}

/// Whether the kernel routes it, by its source and the link that it comes in by. It never does where forwarding
/// is off or there is no way at all, which are findings of their own.
fn not_routed(
    packet: &PacketContext,
    examination: &mut Examination,
) -> Result<Option<Obstacle>, rtnetlink::Error> {
    let known = [
        Kind::ForwardingOff,
        Kind::LinkForwardingOff,
        Kind::EndpointUnreachable,
        Kind::EndpointLinkDown,
    ];
    let is_known = examination.findings.iter().any(|finding| known.contains(&finding.kind));
    let (Some(mapping), Some(from), Some(link)) = (packet.mapping, packet.from, &packet.in_link)
    else {
        return Ok(None);
    };
    if is_known || packet.in_link_is_down {
        return Ok(None);
    }
    let endpoint = mapping.endpoint().ip;
    let refusal = examination.socket.refusal(endpoint, from, link.index)?;
    let name = packet.in_link_name().unwrap_or_default();
    Ok(refusal.map(|error| obstacle::not_routed(endpoint, from, &name, error)))
}
