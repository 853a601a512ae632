//! What the tests of hostport use: the network lab, real runtimes, calls of the hook, and calls that fail on
//! purpose.

pub mod cni;
pub mod contention;
pub mod doctor;
pub mod firewalld;
pub mod hook;
pub mod install;
pub mod lab;
pub mod oci;
pub mod page;
pub mod prometheus;
pub mod rounds;
pub mod runtime;
pub mod schema;
pub mod stage;
pub mod strace;
pub mod web;
