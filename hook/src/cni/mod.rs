//! The CNI plugin's input: what a runtime hands over in the environment and on standard input
//! (<https://github.com/containernetworking/cni/blob/main/SPEC.md>). Pure: no I/O.
//!
//! ```text
//! environment    CNI_COMMAND and the other variables
//! members        the members of a JSON object, as they stand there
//! configuration  the network's configuration, with portmap's own keys
//! previous       the result of the plugins before this one
//! error          errors as the specification writes them (commands/cni/code: which one a failure gets)
//! ```

mod configuration;
mod environment;
mod error;
mod members;
mod previous;
#[cfg(test)]
mod tests;

pub use configuration::Configuration;
pub use environment::{Environment, Operation};
pub use error::{CniError, Code};

/// The versions of configurations that are read, in their order.
pub const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
