//! The arguments of each command that may create the tables.

use clap::Args;
use hostport_nft::{Settings, TableName};
use ipnet::IpNet;

#[derive(Debug, Args)]
pub struct RulesetArguments {
    /// Local addresses on which nothing is published (repeatable)
    ///
    /// Give Kubernetes' service ranges here if kube-proxy runs in IPVS mode, which makes them local.
    #[arg(long, value_name = "CIDR")]
    pub exclude: Vec<IpNet>,

    /// Do not publish on 127.0.0.0/8
    #[arg(long)]
    pub no_localhost: bool,

    /// Publish ports without a host IP only on these addresses of the node (repeatable)
    ///
    /// Without it, they are published on all of them. 127.0.0.0/8 is one of them only if it is given too.
    #[arg(long, value_name = "CIDR")]
    pub listen: Vec<IpNet>,
}

impl RulesetArguments {
    /// The library's settings for these options.
    pub fn settings(&self, table: TableName) -> Settings {
        Settings {
            table,
            exclude: self.exclude.clone(),
            localhost: !self.no_localhost,
            listen: self.listen.clone(),
        }
    }

    /// Whether any of them is given.
    pub fn is_given(&self) -> bool {
        !(self.exclude.is_empty() && self.listen.is_empty()) || self.no_localhost
    }
}
