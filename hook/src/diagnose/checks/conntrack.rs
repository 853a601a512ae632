//! Whether connections can still be tracked, without which nothing is translated.

use crate::diagnose::kind::{Kind, Severity};
use crate::diagnose::{Finding, Inventory, Scope};
use crate::network::conntrack::Usage;

pub fn find(_: &Inventory, _: &Scope) -> Vec<Finding> {
    Usage::read().and_then(|usage| finding(&usage)).into_iter().collect()
}

fn finding(usage: &Usage) -> Option<Finding> {
    let Usage { count, max, dropped } = usage;
    let (what, severity) = match (usage.is_full(), usage.is_nearly_full()) {
        (true, _) => ("is full, so the packets of new connections are dropped", Severity::Broken),
        (false, true) => ("is nearly full", Severity::Warning),
        (false, false) => return None,
    };
    let seen = format!(
        "{count} of {max} connections: net.netfilter.nf_conntrack_count and nf_conntrack_max"
    );
    let dropped =
        dropped.map(|dropped| format!("packets dropped at connection tracking so far: {dropped}"));
    let finding = Finding::new(
        Kind::ConntrackFull,
        format!("the table of connection tracking {what}"),
        [seen].into_iter().chain(dropped),
        format!("sysctl -w net.netfilter.nf_conntrack_max={}", max.saturating_mul(2)),
    );
    Some(Finding { severity, ..finding })
}
