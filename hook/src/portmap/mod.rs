//! What the CNI plugin portmap has published on this node: the runtime's record of it, and its rules in nf_tables.
//! Pure: no I/O.

mod base64;
mod record;
mod rules;

pub use record::{Record, is_called_by};
pub use rules::Rules;
