//! Values: ports, owners, mappings, settings. Nothing here knows nf_tables or does I/O.

pub(crate) mod mapping;
pub(crate) mod owner;
pub(crate) mod port;
pub(crate) mod settings;
