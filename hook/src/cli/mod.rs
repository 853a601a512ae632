//! The command line. Wrong usage ends with exit status 2, by clap.

mod values;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hostport_nft::{Protocol, Settings, TableName};
use ipnet::IpNet;
use tracing::level_filters::LevelFilter;

use crate::diagnose::path::Question;
#[doc(hidden)]
pub use crate::journal::DEFAULT_FOLDER;
use crate::output::log;
use values::{Ports, address, seconds};

/// Kubernetes host ports on plain nftables, without a daemon.
#[derive(Debug, Parser)]
#[command(
    name = "hostport",
    version,
    after_help = "Examples:\n  hostport list --wide --watch\n  hostport doctor\n\n\
        Exit status: 0 done, 1 refused or failed (one line on stderr says why), 2 wrong usage."
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,

    #[command(flatten)]
    pub common: CommonArguments,
}

impl Arguments {
    /// Parses the command line, or ends the program as clap does.
    ///
    /// The hook is called for each container, and a tenth of its time would go into building a parser;
    /// so its arguments are read without one. What is not read so (among it `--help`, and whatever is
    /// wrong) is left to clap.
    pub fn from_command_line() -> Self {
        let words: Vec<OsString> = std::env::args_os().collect();
        Arguments::hook_call(&words).unwrap_or_else(|| Arguments::parse_from(words))
    }

    /// The arguments of a call by a runtime: `hostport hook`.
    fn hook_call(words: &[OsString]) -> Option<Self> {
        let [_, hook, arguments @ ..] = words else { return None };
        let mut words = arguments.iter().map(|word| word.to_str());
        if hook != "hook" {
            return None;
        }
        let (mut table, mut state_dir, mut stage) = (None, None, None);
        let (mut log_level, mut log_format) = (None, None);
        let (mut no_localhost, mut no_hairpin_mode, mut allow_pod_annotation) = (None, None, None);
        let mut exclude = Vec::new();
        while let Some(word) = words.next() {
            let mut value =
                || words.next()?.filter(|word| !word.is_empty() && !word.starts_with('-'));
            // Clap takes each but --exclude once.
            let again = match word? {
                "--exclude" => {
                    exclude.push(value()?.parse().ok()?);
                    false
                }
                "--table" => table.replace(value()?.parse().ok()?).is_some(),
                "--state-dir" => state_dir.replace(PathBuf::from(value()?)).is_some(),
                "--log-level" => log_level.replace(value()?.parse().ok()?).is_some(),
                "--log-format" => {
                    log_format.replace(log::Format::from_str(value()?, false).ok()?).is_some()
                }
                "--no-localhost" => no_localhost.replace(()).is_some(),
                "--no-hairpin-mode" => no_hairpin_mode.replace(()).is_some(),
                "--allow-pod-annotation" => allow_pod_annotation.replace(()).is_some(),
                word => stage.replace(Stage::from_str(word, false).ok()?).is_some(),
            };
            if again {
                return None;
            }
        }
        let no_localhost = no_localhost.is_some();
        Some(Arguments {
            command: Command::Hook(HookArguments {
                stage,
                ruleset: RulesetArguments { exclude, no_localhost },
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
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct CommonArguments {
    /// Name of the nftables tables, in the families ip and ip6
    #[arg(long, global = true, value_name = "NAME", default_value_t)]
    pub table: TableName,

    /// Folder of the journal, which tells who published what; root's alone
    #[arg(long, global = true, value_name = "DIR", default_value = DEFAULT_FOLDER)]
    pub state_dir: PathBuf,

    /// What to log on stderr: off, error, warn, info, debug or trace
    #[arg(long, global = true, value_name = "LEVEL", default_value = "info")]
    pub log_level: LevelFilter,

    /// How to log: text or json; without it text, and fields for journald where stderr leads there
    #[arg(long, global = true, value_name = "FORMAT", hide_possible_values = true)]
    pub log_format: Option<log::Format>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Publish or withdraw a container's host ports; called by the container runtime
    ///
    /// Reads the OCI state on standard input and config.json in the bundle that it names. At
    /// prestart, createRuntime and poststart the ports are published, at poststop withdrawn.
    #[command(after_help = "Example, in a hook configuration:\n  \
        \"hook\": { \"path\": \"/usr/local/bin/hostport\", \
        \"args\": [\"hostport\", \"hook\", \"--exclude\", \"10.96.0.0/12\"] }")]
    Hook(HookArguments),

    /// List the published host ports, with their endpoints, connections and owners
    #[command(after_help = "Examples:\n  hostport list --wide --watch --port 9000-9099\n  \
            hostport list --json | jq '.[] | select(.connections == 0)'")]
    List(ListArguments),

    /// Print metrics in Prometheus' text form
    ///
    /// For node_exporter's textfile collector, which takes the file at any moment: --output writes another
    /// one and puts it in the place of the last.
    #[command(after_help = "Example:\n  \
        hostport metrics --output /var/lib/prometheus/node-exporter/hostport.prom")]
    Metrics {
        /// Write to this file instead, whole or not at all; - is standard output
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },

    /// Make the kernel hold what the journal says of living containers, in one transaction
    ///
    /// For after somebody flushed the ruleset or reloaded a firewall. What differs from the journal is put
    /// right, and what is right is not touched; connections that are tracked already go on.
    #[command(after_help = "Example:\n  nft flush ruleset; hostport restore")]
    Restore {
        #[command(flatten)]
        ruleset: RulesetArguments,

        /// Make the tables anew even if they are as they should be: their chains are then the youngest, and
        /// come before those of other programs at the same priority
        #[arg(long)]
        anew: bool,
    },

    /// Withdraw what dead containers left behind
    #[command(after_help = "Example:\n  hostport gc --dry-run")]
    Gc {
        /// Say what would be withdrawn, and change nothing
        #[arg(long)]
        dry_run: bool,
    },

    /// Say what on this host keeps host ports from working, and what mends it
    ///
    /// Reads the kernel and the journal, and changes nothing. Exit status 1 if something is broken; with
    /// warnings alone it is 0.
    #[command(
        after_help = "Example:\n  hostport doctor --json | jq -r '.findings[] | \"\\(.kind): \\(.fix)\"'"
    )]
    Doctor {
        /// Print one object instead of text
        #[arg(long)]
        json: bool,
    },

    /// Say what happens here to a packet for a port, step by step, and what is in its way
    ///
    /// Reads the kernel, and changes nothing. Ends in one sentence: reachable, or the first thing in the way
    /// and what mends it. Exit status 0 if the packet reaches a container, 1 if something is in the way.
    #[command(after_help = "Examples:\n  hostport explain 9000\n  \
        hostport explain 53/udp --from 192.0.2.7 --to 192.0.2.1\n  \
        hostport explain 9000 --probe --json | jq -r .conclusion")]
    Explain {
        #[command(flatten)]
        question: Question,

        /// Print one object instead of text
        #[arg(long)]
        json: bool,
    },

    /// Stay, and restore the host ports as soon as another program removes them
    ///
    /// Ends with exit status 0 on SIGTERM and SIGINT. Tells systemd when it is ready.
    #[command(after_help = "Examples:\n  systemctl enable --now hostport-watch.service\n  \
        hostport watch --metrics-listen 127.0.0.1:9469")]
    Watch {
        #[command(flatten)]
        ruleset: RulesetArguments,

        /// Serve what hostport metrics prints over HTTP, at /metrics
        #[arg(long, value_name = "IP:PORT", value_parser = address)]
        metrics_listen: Option<SocketAddr>,
    },

    /// Print the ruleset as nft text: what the hook would apply, with what is published now
    #[command(
        after_help = "Examples:\n  hostport show --exclude 10.96.0.0/12 | nft --check --file -\n  \
            hostport show --json | jq '.nftables[].map | select(. != null) | .elem'"
    )]
    Show {
        #[command(flatten)]
        ruleset: RulesetArguments,

        /// Print it as nft --json would list it
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub struct ListArguments {
    /// Print an array of objects instead of a table
    #[arg(long)]
    pub json: bool,

    /// Also the pod, where its runtime told, and how long ago it was published, from the journal
    #[arg(long)]
    pub wide: bool,

    /// Only owners whose ID begins like this
    #[arg(long, value_name = "ID")]
    pub owner: Option<String>,

    /// Only this host port, or these
    #[arg(long, value_name = "PORT[-PORT]")]
    pub port: Option<Ports>,

    /// Only tcp, udp or sctp
    #[arg(long)]
    pub protocol: Option<Protocol>,

    /// Again every so many seconds [default: 2], with connections a second if --wide
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
        value_parser = seconds, conflicts_with = "json")]
    pub watch: Option<u16>,
}

#[derive(Debug, Args)]
pub struct HookArguments {
    /// The hook's stage; without it, the state's status decides
    #[arg(value_enum)]
    pub stage: Option<Stage>,

    #[command(flatten)]
    pub ruleset: RulesetArguments,

    /// Leave the hairpin mode of the pods' bridge ports alone
    ///
    /// With br_netfilter, a pod reaches itself through a host port only if its bridge port is in
    /// hairpin mode, so the hook turns it on there.
    #[arg(long)]
    pub no_hairpin_mode: bool,

    /// Under Kubernetes, obey io.hostport.* annotations too
    ///
    /// Whoever may create pods can then take any host port, past the scheduler and Pod Security.
    #[arg(long)]
    pub allow_pod_annotation: bool,
}

#[derive(Debug, Args)]
pub struct RulesetArguments {
    /// Destinations that keep their own service although they are local (repeatable)
    ///
    /// Name Kubernetes' service ranges here where kube-proxy runs in IPVS mode.
    #[arg(long, value_name = "CIDR")]
    pub exclude: Vec<IpNet>,

    /// Do not publish on 127.0.0.0/8
    #[arg(long)]
    pub no_localhost: bool,
}

impl RulesetArguments {
    /// The library's settings for these options.
    pub fn settings(&self, table: TableName) -> Settings {
        Settings { table, exclude: self.exclude.clone(), localhost: !self.no_localhost }
    }
}

/// A hook's stage, as the OCI runtime specification names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    Prestart,
    #[value(name = "createRuntime", alias = "createruntime")]
    CreateRuntime,
    Poststart,
    Poststop,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_flag_of_the_hook_is_taken_behind_the_stage() {
        let arguments = Arguments::try_parse_from([
            "hostport",
            "hook",
            "createRuntime",
            "--exclude",
            "10.96.0.0/12",
            "--exclude",
            "fd00::/108",
            "--no-localhost",
            "--no-hairpin-mode",
            "--allow-pod-annotation",
            "--log-level",
            "debug",
            "--table",
            "other",
        ])
        .unwrap();
        let Command::Hook(hook) = arguments.command else { panic!() };
        assert_eq!(hook.stage, Some(Stage::CreateRuntime));
        assert_eq!(hook.ruleset.settings(arguments.common.table).exclude.len(), 2);
    }

    #[test]
    fn a_call_by_a_runtime_is_parsed_like_any_other() {
        let calls: [&[&str]; 5] = [
            &[],
            &["poststop"],
            &["--exclude", "10.96.0.0/12", "--no-localhost", "prestart"],
            &["--table", "edge", "--state-dir", "/x", "--log-level", "off"],
            &["--no-hairpin-mode", "--allow-pod-annotation"],
        ];
        for call in calls {
            let words: Vec<OsString> =
                ["hostport", "hook"].iter().chain(call).map(OsString::from).collect();
            let quick = Arguments::hook_call(&words).unwrap();
            let whole = Arguments::try_parse_from(&words).unwrap();
            assert_eq!(format!("{quick:?}"), format!("{whole:?}"));
        }
        for call in [&["hostport", "hook", "--help"][..], &["hostport", "list"], &["hostport"]] {
            let words: Vec<OsString> = call.iter().map(OsString::from).collect();
            assert!(Arguments::hook_call(&words).is_none(), "{call:?}");
        }
    }

    #[test]
    fn an_unknown_stage_is_wrong_usage() {
        let error = Arguments::try_parse_from(["hostport", "hook", "startContainer"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }
}
