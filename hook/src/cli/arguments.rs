//! All commands, and the options that they share.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use hostport_nft::TableName;
use tracing::level_filters::LevelFilter;

use crate::cli::explain::ExplainArguments;
use crate::cli::hook::HookArguments;
use crate::cli::install::{InstallArguments, UninstallArguments};
use crate::cli::list::ListArguments;
use crate::cli::ruleset::RulesetArguments;
use crate::cli::values::address;
use crate::journal::DEFAULT_FOLDER;
use crate::output::log;

/// Kubernetes host ports on plain nftables, without a daemon.
#[derive(Debug, Parser)]
#[command(
    name = "hostport",
    version,
    after_help = "Examples:\n  hostport list --wide --watch\n  hostport doctor\n\n\
        Exit status: 0 done, 1 refused or failed (one line on stderr says why), 2 wrong usage.\n\n\
        Without arguments, and with CNI_COMMAND set by a container runtime, it is a CNI plugin."
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,

    #[command(flatten)]
    pub common: CommonArguments,
}

impl Arguments {
    /// Ends the program as clap does if arguments that are valid by themselves do not fit together.
    pub fn checked(self) -> Self {
        let (name, checked) = match &self.command {
            Command::Explain(explain) => ("explain", explain.check()),
            Command::Install(install) => ("install", install.check()),
            Command::Uninstall(uninstall) => ("uninstall", uninstall.place.check()),
            _ => return self,
        };
        if let Err(wrong) = checked {
            let mut command = Arguments::command();
            command.build();
            if let Some(command) = command.find_subcommand_mut(name) {
                command.error(ErrorKind::ValueValidation, wrong).exit();
            }
        }
        self
    }
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct CommonArguments {
    /// Name of the nftables tables, in the families ip and ip6
    #[arg(long, global = true, value_name = "NAME", default_value_t)]
    pub table: TableName,

    /// Folder of the journal, which records the owner of each host port; only root may write to it
    #[arg(long, global = true, value_name = "DIR", default_value = DEFAULT_FOLDER)]
    pub state_dir: PathBuf,

    /// What to log on stderr: off, error, warn, info, debug or trace
    #[arg(long, global = true, value_name = "LEVEL", default_value_t = LevelFilter::INFO)]
    pub log_level: LevelFilter,

    /// How to log: text or json; by default text, or fields for journald if stderr leads to it
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
    /// For node_exporter's textfile collector, which may read the file at any moment: --output replaces the
    /// file as a whole.
    #[command(after_help = "Example:\n  \
        hostport metrics --output /var/lib/prometheus/node-exporter/hostport.prom")]
    Metrics {
        /// Write to this file instead, all of it or nothing; - is standard output
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },

    /// Give the kernel what the journal holds of living containers, in one transaction
    ///
    /// Needed after another program flushed the ruleset or reloaded a firewall. Only what differs from the
    /// journal is changed, and tracked connections continue.
    #[command(after_help = "Example:\n  nft flush ruleset; hostport restore")]
    Restore {
        #[command(flatten)]
        ruleset: RulesetArguments,

        /// Re-create the tables even if they are correct: their chains are then the newest, and run before
        /// those of other programs at the same priority
        #[arg(long)]
        anew: bool,

        /// Print what would change, and change nothing
        #[arg(long, conflicts_with_all = ["anew", "force"])]
        dry_run: bool,

        /// Remove also the host ports of owners that are not in the journal: their containers may run
        #[arg(long)]
        force: bool,
    },

    /// Withdraw what dead containers left behind
    #[command(after_help = "Example:\n  hostport gc --dry-run")]
    Gc {
        /// Print what would be withdrawn, and change nothing
        #[arg(long)]
        dry_run: bool,
    },

    /// Publish what the CNI plugin portmap has published for the pods that run, so that no node has to be drained
    ///
    /// Reads the records that libcni keeps of each pod. Both can stand side by side; portmap's rules come first until
    /// they are removed. Exit status 1 if something could not be adopted.
    #[command(after_help = "Example, once the node's CNI list names hostport:\n  \
            hostport adopt --dry-run && hostport adopt --remove")]
    Adopt {
        /// Print what would be done, and change nothing
        #[arg(long)]
        dry_run: bool,

        /// Then remove all rules of portmap, if each port that they publish is now published by hostport
        #[arg(long)]
        remove: bool,

        /// Folder of libcni's records
        #[arg(long, value_name = "DIR", default_value = "/var/lib/cni/results")]
        results: PathBuf,
    },

    /// Let this node's container runtime call hostport
    ///
    /// Changes the runtime's own files, each whole and at once, and only what is needed. What is not understood is
    /// refused, and stays as it is. hostport uninstall takes all of it back.
    #[command(after_help = "Examples:\n  hostport install --dry-run cni\n  \
            hostport install cni && hostport adopt --remove")]
    Install(InstallArguments),

    /// Take back what hostport install has changed
    ///
    /// Containers that run keep their host ports, and the program must stay until they have ended.
    #[command(after_help = "Example:\n  hostport uninstall --dry-run cni")]
    Uninstall(UninstallArguments),

    /// Find what on this host keeps host ports from working, and how to fix it
    ///
    /// Reads the kernel and the journal, and changes nothing. Exit status 1 if something is broken; with
    /// warnings alone it is 0.
    #[command(
        after_help = "Example:\n  hostport doctor --json | jq -r '.findings[] | \"\\(.kind): \\(.fix)\"'"
    )]
    Doctor {
        /// Print a JSON object instead of text
        #[arg(long)]
        json: bool,
    },

    /// Show what happens on this host to a packet for a port, step by step, and what blocks it
    ///
    /// Reads the kernel, and changes nothing. The last line says whether the port is reachable, or what blocks
    /// it first and how to fix that. Exit status 0 if the packet reaches a container, 1 if it is blocked.
    #[command(after_help = "Examples:\n  hostport explain 9000\n  \
        hostport explain 53/udp --from 192.0.2.7 --to 192.0.2.1\n  \
        hostport explain 9000 --probe --json | jq -r .conclusion")]
    Explain(ExplainArguments),

    /// Keep running, and restore the host ports as soon as another program removes them
    ///
    /// Withdraws the host ports of containers that end without a poststop. Ends with exit status 0 on SIGTERM and
    /// SIGINT. Notifies systemd when it is ready.
    #[command(after_help = "Examples:\n  systemctl enable --now hostport-watch.service\n  \
        hostport watch --metrics-listen 127.0.0.1:9469")]
    Watch {
        #[command(flatten)]
        ruleset: RulesetArguments,

        /// Serve over HTTP, at /metrics, what hostport metrics prints
        #[arg(long, value_name = "IP:PORT", value_parser = address)]
        metrics_listen: Option<SocketAddr>,
    },

    /// Print the ruleset as nft text: what the hook would create, with the host ports published now
    #[command(
        after_help = "Examples:\n  hostport show --exclude 10.96.0.0/12 | nft --check --file -\n  \
            hostport show --json | jq '.nftables[].map | select(. != null) | .elem'"
    )]
    Show {
        #[command(flatten)]
        ruleset: RulesetArguments,

        /// Print JSON, as nft --json would list it
        #[arg(long)]
        json: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::hook::Stage;

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
    fn an_unknown_stage_is_wrong_usage() {
        let error = Arguments::try_parse_from(["hostport", "hook", "startContainer"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }
}
