//! Fuzz targets for everything that hostport reads and did not write itself: docs/fuzzing.md.
//!
//! `hostport`'s modules that read are compiled into
//! this crate from where they are. What they use of the crate's root (`crate::quote`) is there under
//! the same name. What the library `hostport-nft` keeps to itself is reached through its module
//! `fuzzing`, which exists only where cargo-fuzz sets `cfg(fuzzing)`.
//!
//! A target is one function of [`check`]: it reads its input and asserts what must hold of the result.

#![allow(dead_code, missing_docs, unused_imports)] // The program uses what no target does.

#[path = "../../hook/src/annotations/mod.rs"]
mod annotations;
#[path = "../../hook/src/bundle.rs"]
mod bundle;
#[path = "../../hook/src/journal/mod.rs"]
mod journal;
mod network;
#[path = "../../hook/src/policy.rs"]
#[rustfmt::skip]
mod policy;
#[path = "../../hook/src/quote.rs"]
mod quote;
#[path = "../../hook/src/state.rs"]
mod state;

pub mod check;
