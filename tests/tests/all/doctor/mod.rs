//! `hostport doctor`: each finding is produced by breaking exactly that, and a sound host has none.
//!
//! A missing module needs another kernel and is not here, but in `tests/all/modules.rs`. A part of the ruleset that
//! the kernel refuses, ruleset-refused, is produced in another way.

mod advertisements;
mod agreement;
mod conntrack;
mod firewalls;
mod installation;
mod journal;
mod keepers;
mod kernel;
mod paused;
mod sound;
mod table;
mod translations;
