//! The face of an OCI hook: the state on standard input and the bundle's config.json, read leniently,
//! become a [`Request`](crate::request::Request).

pub mod bundle;
mod json;
pub mod podman;
pub mod request;
pub mod running;
pub mod state;
