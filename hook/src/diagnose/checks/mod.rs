//! What can be wrong on this host. Each check reads the inventory, as far as the scope asks, and returns findings.
//! The rules of other programs are in [`firewall`](super::firewall).
//!
//! ```text
//! kernel      what the kernel does not take of the ruleset
//! table       our tables: whether they are there, ours, and as hostport makes them
//! installation whether the runtimes call hostport, and containers that ask for host ports in vain
//! drift       whether the kernel holds what the journal says
//! journal     the journal's folder and files
//! listeners   processes of the host that listen on a published port
//! forwarding  whether the kernel forwards at all
//! conntrack   whether connections can still be tracked
//! portmap     rules of portmap beside hostport's plugin
//! reach       the host's addresses and links: 127.0.0.1, hairpin mode, neighbours
//! paused      containers that are frozen
//! endpoints   the other end: the way to it, its links, and what listens there
//! refusals    containers that could not start
//! ```

mod conntrack;
mod drift;
mod endpoints;
mod forwarding;
mod installation;
mod journal;
mod kernel;
pub mod listeners;
mod paused;
mod portmap;
mod reach;
mod refusals;
mod table;

pub use kernel::without_nf_tables;

use crate::diagnose::{Finding, Inventory, Scope};

/// All but [`listeners`], which takes long and finds nothing that passes by itself.
const CHECKS: &[fn(&Inventory, &Scope) -> Vec<Finding>] = &[
    kernel::find,
    forwarding::find,
    conntrack::find,
    journal::find,
    installation::find,
    table::find,
    drift::find,
    portmap::find,
    reach::find,
    endpoints::find,
    paused::find,
    refusals::find,
];

/// What can be found quickly.
pub fn find(inventory: &Inventory, scope: &Scope) -> Vec<Finding> {
    CHECKS.iter().flat_map(|check| check(inventory, scope)).collect()
}
