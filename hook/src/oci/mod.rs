//! What an OCI runtime gives its hooks: the container's state on standard input, config.json in the bundle.
//! Read leniently: a field that this program does not use never keeps a container from starting.

pub mod bundle;
pub mod state;
