//! What the tests of hostport stand on: the network lab, real runtimes, and calls of the hook.

pub mod hook;
pub mod lab;
pub mod runtime;
