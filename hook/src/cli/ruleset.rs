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
}

impl RulesetArguments {
    /// The library's settings for these options.
    pub fn settings(&self, table: TableName) -> Settings {
        Settings { table, exclude: self.exclude.clone(), localhost: !self.no_localhost }
    }
}
