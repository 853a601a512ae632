//! `hostport doctor`: each finding is produced by breaking that very thing, and a sound host has none.
//!
//! Not here, since it needs another kernel: a module that is missing (`tests/all/modules.rs`). That the kernel refuses
//! a part of the ruleset, ruleset-refused, is produced in another way.

mod agreement;
mod firewalls;
mod journal;
mod kernel;
mod sound;
mod table;
mod translations;
