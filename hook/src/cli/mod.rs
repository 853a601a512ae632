//! The command line, declared for clap. Wrong usage ends with exit status 2.
//! Nothing here does what a command asks for.

mod arguments;
mod explain;
mod hook;
mod install;
mod list;
mod quick;
mod ruleset;
mod values;

use std::ffi::OsString;

use clap::Parser;

#[doc(hidden)]
pub use crate::journal::DEFAULT_FOLDER;
pub use arguments::{Arguments, Command, CommonArguments};
pub use explain::ExplainArguments;
pub use hook::{HookArguments, Stage};
pub use install::{Face, InstallArguments, PlaceArguments, UninstallArguments};
pub use list::ListArguments;
pub use ruleset::RulesetArguments;

/// Parses the command line, or ends the program as clap does.
pub fn parse() -> Arguments {
    let words: Vec<OsString> = std::env::args_os().collect();
    quick::hook_call(&words).unwrap_or_else(|| Arguments::parse_from(words).checked())
}
