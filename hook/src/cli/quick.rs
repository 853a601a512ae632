//! The arguments of `hostport hook`, read without clap's parser.
//!
//! To build that parser takes more instructions than the rest of a call, and each container calls the hook
//! twice. Everything else is left to clap: `--help`, `--name=value`, and wrong usage, which it explains.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;

use crate::cli::arguments::{Arguments, Command, CommonArguments};
use crate::cli::hook::{HookArguments, Stage};
use crate::cli::ruleset::RulesetArguments;
use crate::journal::DEFAULT_FOLDER;
use crate::output::log;

/// The arguments of a call by a runtime; none if clap has to read them.
pub fn hook_call(words: &[OsString]) -> Option<Arguments> {
    let [_, command, words @ ..] = words else { return None };
    if command != "hook" {
        return None;
    }
    let (mut stage, mut exclude, mut listen, mut no_localhost) =
        (None, Vec::new(), Vec::new(), None);
    let (mut no_hairpin_mode, mut allow_pod_annotation) = (None, None);
    let (mut table, mut state_dir, mut log_level, mut log_format) = (None, None, None, None);
    let mut words = words.iter().map(|word| word.to_str());
    while let Some(word) = words.next() {
        let mut value = || words.next()?.filter(|word| !word.is_empty() && !word.starts_with('-'));
        match word? {
            "--exclude" => exclude.push(value()?.parse().ok()?),
            "--listen" => listen.push(value()?.parse().ok()?),
            "--no-localhost" => once(&mut no_localhost, ())?,
            "--no-hairpin-mode" => once(&mut no_hairpin_mode, ())?,
            "--allow-pod-annotation" => once(&mut allow_pod_annotation, ())?,
            "--table" => once(&mut table, value()?.parse().ok()?)?,
            "--state-dir" => once(&mut state_dir, PathBuf::from(value()?))?,
            "--log-level" => once(&mut log_level, value()?.parse().ok()?)?,
            "--log-format" => once(&mut log_format, log::Format::from_str(value()?, false).ok()?)?,
            word => once(&mut stage, Stage::from_str(word, false).ok()?)?,
        }
    }
    let ruleset = RulesetArguments { exclude, no_localhost: no_localhost.is_some(), listen };
    Some(Arguments {
        command: Command::Hook(HookArguments {
            stage,
            ruleset,
            no_hairpin_mode: no_hairpin_mode.is_some(),
            allow_pod_annotation: allow_pod_annotation.is_some(),
        }),
        common: CommonArguments {
            table: table.unwrap_or_default(),
            state_dir: state_dir.unwrap_or_else(|| DEFAULT_FOLDER.into()),
            log_level: log_level.unwrap_or(LevelFilter::INFO),
            log_format,
        },
    })
}

/// Sets what may be given once.
fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.is_none().then(|| *place = Some(value))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn a_call_by_a_runtime_is_parsed_like_any_other() {
        let calls: [&[&str]; 5] = [
            &[],
            &["poststop"],
            &[
                "--exclude",
                "10.96.0.0/12",
                "--no-localhost",
                "--listen",
                "192.0.2.1/32",
                "prestart",
            ],
            &["--table", "edge", "--state-dir", "/x", "--log-level", "off"],
            &["--no-hairpin-mode", "--allow-pod-annotation", "--log-format", "json"],
        ];
        for call in calls {
            let words: Vec<OsString> =
                ["hostport", "hook"].iter().chain(call).map(OsString::from).collect();
            let quick = hook_call(&words).unwrap();
            let whole = Arguments::try_parse_from(&words).unwrap();
            assert_eq!(format!("{quick:?}"), format!("{whole:?}"));
        }
        for call in [
            &["hostport", "hook", "--help"][..],
            &["hostport", "hook", "--table", "a", "--table", "b"],
            &["hostport", "hook", "--no-localhost", "--no-localhost"],
            &["hostport", "hook", "--no_localhost"],
            &["hostport", "hook", "prestart", "poststop"],
            &["hostport", "list"],
            &["hostport"],
        ] {
            let words: Vec<OsString> = call.iter().map(OsString::from).collect();
            assert!(hook_call(&words).is_none(), "{call:?}");
        }
    }
}
