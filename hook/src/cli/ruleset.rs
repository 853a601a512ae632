//! The arguments of all commands that may make the tables.

use clap::Args;
use hostport_nft::{Settings, TableName};
use ipnet::IpNet;

#[derive(Debug, Default, Args)]
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
