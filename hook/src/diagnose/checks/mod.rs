//! What can be wrong on this host, one kind a file. Each check reads the inventory and returns findings.

pub mod drift;
pub mod endpoints;
pub mod forwarding;
pub mod journal;
pub mod kernel;
pub mod listeners;
pub mod reach;
pub mod table;
