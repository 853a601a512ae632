//! What can be wrong on this host, a file for each part of it. Each check reads the inventory, as far as the
//! scope asks, and returns findings. The rules of other programs are in [`firewall`](super::firewall).

mod drift;
mod endpoints;
mod forwarding;
mod journal;
mod kernel;
pub mod listeners;
mod reach;
mod table;

pub use kernel::without_nf_tables;

use crate::diagnose::{Finding, Inventory, Scope};

/// All but [`listeners`], which takes long and finds nothing that passes by itself.
const CHECKS: [fn(&Inventory, &Scope) -> Vec<Finding>; 7] = [
    kernel::find,
    forwarding::find,
    journal::find,
    table::find,
    drift::find,
    reach::find,
    endpoints::find,
];

/// What can be found quickly.
pub fn find(inventory: &Inventory, scope: &Scope) -> Vec<Finding> {
    CHECKS.iter().flat_map(|check| check(inventory, scope)).collect()
}
