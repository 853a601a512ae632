//! Rules of portmap on a node whose pods hostport publishes in its place.

use hostport_nft::Mapping;

use crate::diagnose::{Finding, Inventory, Kind, Scope};
use crate::output::several;

pub fn find(inventory: &Inventory, scope: &Scope) -> Vec<Finding> {
    let mappings = inventory.portmap.iter().filter(|mapping| scope.covers(mapping.family()));
    let (both, alone): (Vec<&Mapping>, Vec<_>) =
        mappings.partition(|mapping| inventory.mappings.contains(mapping));
    // Without the plugin, portmap may be the one that publishes here.
    let by_plugin = inventory.entries().any(|entry| entry.attachment.is_some());
    if !by_plugin || both.is_empty() && alone.is_empty() {
        return Vec::new();
    }
    let evidence = [
        (both, "published by hostport too"),
        (alone, "by portmap alone, for a pod that runs or that has ended"),
    ];
    let evidence = evidence.into_iter().filter(|(mappings, _)| !mappings.is_empty());
    vec![Finding::new(
        Kind::PortmapLeft,
        "the CNI plugin portmap has rules here, which stay when their pods end",
        evidence.map(|(mappings, what)| format!("{what}: {}", several(mappings))),
        "hostport adopt --remove",
    )]
}
