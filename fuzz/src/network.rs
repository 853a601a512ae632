//! The part of hook/src/network that does no I/O.

#[path = "../../hook/src/network/object.rs"]
pub mod object;
#[path = "../../hook/src/network/wire.rs"]
pub mod wire;
