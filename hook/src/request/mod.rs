//! What a container asks for: the annotations' grammar, and whose annotation counts.
//! Pure: no I/O.

pub mod annotations;
pub mod policy;
