//! What must hold of everything that is read, whatever the input: one function a fuzz target (docs/fuzzing.md).
//! Not part of the program: compiled only where cargo-fuzz sets `cfg(fuzzing)`.

#![allow(missing_docs, clippy::missing_panics_doc)]

mod annotations;
mod cni;
mod config;
mod journal;
mod list;
mod message;
mod policy;
mod record;
mod rtnetlink;
mod state;

pub use annotations::annotations;
pub use cni::cni;
pub use config::config;
pub use journal::journal;
pub use list::list;
pub use policy::policy;
pub use record::record;
pub use rtnetlink::rtnetlink;
pub use state::state;
