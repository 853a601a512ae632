//! The arguments of `hostport hook`.

use clap::{Args, ValueEnum};

use crate::cli::ruleset::RulesetArguments;

#[derive(Debug, Args)]
pub struct HookArguments {
    /// The hook's stage; by default it follows from the state's status
    #[arg(value_enum)]
    pub stage: Option<Stage>,

    #[command(flatten)]
    pub ruleset: RulesetArguments,

    /// Do not change the hairpin mode of the pods' bridge ports
    ///
    /// With br_netfilter, a pod reaches itself through a host port only if its bridge port is in
    /// hairpin mode, so the hook turns it on.
    #[arg(long)]
    pub no_hairpin_mode: bool,

    /// Obey io.hostport.* annotations under Kubernetes too
    ///
    /// Everyone who may create pods can then take any host port, bypassing the scheduler and Pod Security.
    #[arg(long)]
    pub allow_pod_annotation: bool,
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
