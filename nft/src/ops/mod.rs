//! What users call: publish, withdraw, restore, audit, check.

pub(crate) mod audit;
pub(crate) mod check;
pub(crate) mod host_ports;
pub(crate) mod publish;
pub(crate) mod restore;
pub(crate) mod withdraw;
