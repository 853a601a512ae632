//! What the tests of hostport stand on: the network lab.

pub mod lab;
