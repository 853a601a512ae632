//! The arguments of `hostport hook`, read without clap's parser.
//!
//! To build that parser takes more instructions than the rest of a call, and each container calls the hook
//! twice. What clap derives its parser from is read here by the same fields' names and types. Everything
//! else is left to clap: `--help`, `--name=value`, and wrong usage, which it explains.

use std::ffi::OsString;
use std::path::PathBuf;
use std::slice::Iter;

use clap::ValueEnum;
use hostport_nft::TableName;
use ipnet::IpNet;
use tracing::level_filters::LevelFilter;

use crate::cli::arguments::{Arguments, Command, CommonArguments};
use crate::cli::hook::{HookArguments, Stage};
use crate::cli::ruleset::RulesetArguments;
use crate::output::log;

/// The arguments of a call by a runtime; none if clap has to read them.
pub fn hook_call(words: &[OsString]) -> Option<Arguments> {
    let [_, command, words @ ..] = words else { return None };
    if command != "hook" {
        return None;
    }
    let (mut hook, mut common) = (HookArguments::default(), CommonArguments::default());
    let mut words = Words { rest: words.iter(), seen: Vec::new() };
    while let Some(word) = words.rest.next() {
        let word = word.to_str()?;
        if !hook.offer("", word, &mut words)? && !common.offer("", word, &mut words)? {
            return None;
        }
    }
    Some(Arguments { command: Command::Hook(hook), common })
}

struct Words<'a> {
    rest: Iter<'a, OsString>,
    /// The fields that have a value, of those that take one.
    seen: Vec<&'static str>,
}

impl Words<'_> {
    fn once(&mut self, field: &'static str) -> Option<()> {
        (!self.seen.contains(&field)).then(|| self.seen.push(field))
    }

    fn value<T: Value>(&mut self) -> Option<T> {
        let word = self.rest.next()?.to_str()?;
        T::read(word).filter(|_| !word.is_empty() && !word.starts_with('-'))
    }
}

/// A field of the arguments.
trait Field {
    /// Takes a word if it is this field's, with the value behind it. None if only clap can tell what it is.
    fn offer(&mut self, name: &'static str, word: &str, words: &mut Words<'_>) -> Option<bool>;
}

/// Whether a word is a field's option: `--no-localhost` for `no_localhost`.
fn is_option(word: &str, name: &str) -> bool {
    let bytes = word.strip_prefix("--").unwrap_or_default().bytes();
    bytes.map(|byte| if byte == b'-' { b'_' } else { byte }).eq(name.bytes())
}

impl Field for bool {
    fn offer(&mut self, name: &'static str, word: &str, words: &mut Words<'_>) -> Option<bool> {
        let is_own = is_option(word, name);
        if is_own {
            words.once(name)?;
            *self = true;
        }
        Some(is_own)
    }
}

impl<T: Value> Field for T {
    fn offer(&mut self, name: &'static str, word: &str, words: &mut Words<'_>) -> Option<bool> {
        let is_own = is_option(word, name);
        if is_own {
            words.once(name)?;
            *self = words.value()?;
        }
        Some(is_own)
    }
}

impl<T: Value> Field for Vec<T> {
    fn offer(&mut self, name: &'static str, word: &str, words: &mut Words<'_>) -> Option<bool> {
        let is_own = is_option(word, name);
        if is_own {
            self.push(words.value()?);
        }
        Some(is_own)
    }
}

/// A word without an option.
impl Field for Option<Stage> {
    fn offer(&mut self, name: &'static str, word: &str, words: &mut Words<'_>) -> Option<bool> {
        let is_own = !word.starts_with('-');
        if is_own {
            words.once(name)?;
            *self = Some(Stage::from_str(word, false).ok()?);
        }
        Some(is_own)
    }
}

/// The fields of some arguments, all of them: a missing one does not compile.
macro_rules! fields {
    ($arguments:ident { $first:ident $(, $field:ident)* }) => {
        impl Field for $arguments {
            fn offer(&mut self, _: &'static str, word: &str, words: &mut Words<'_>) -> Option<bool> {
                let $arguments { $first $(, $field)* } = self;
                Some(
                    $first.offer(stringify!($first), word, words)?
                        $(|| $field.offer(stringify!($field), word, words)?)*,
                )
            }
        }
    };
}

fields!(HookArguments { stage, ruleset, no_hairpin_mode, allow_pod_annotation });
fields!(RulesetArguments { exclude, no_localhost });
fields!(CommonArguments { table, state_dir, log_level, log_format });

/// What an option's value is read as.
trait Value: Sized {
    fn read(word: &str) -> Option<Self>;
}

macro_rules! parsed {
    ($($type:ty),*) => {
        $(impl Value for $type {
            fn read(word: &str) -> Option<Self> {
                word.parse().ok()
            }
        })*
    };
}

parsed!(IpNet, LevelFilter, PathBuf, TableName);

impl Value for Option<log::Format> {
    fn read(word: &str) -> Option<Self> {
        log::Format::from_str(word, false).ok().map(Some)
    }
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
            &["--exclude", "10.96.0.0/12", "--no-localhost", "prestart"],
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
            &["hostport", "hook", "prestart", "poststop"],
            &["hostport", "list"],
            &["hostport"],
        ] {
            let words: Vec<OsString> = call.iter().map(OsString::from).collect();
            assert!(hook_call(&words).is_none(), "{call:?}");
        }
    }
}
