//! Bad input ends the hook with one clear line, in time, and changes nothing.
//!
//! Each test calls the real program as a runtime does, on a node that has something to lose: another program's
//! tables, and another container's published ports (see [`ground`]).

mod annotation;
mod config;
mod ground;
mod kernel;
mod namespace;
mod state;
mod usage;
