//! The arguments of `hostport list`.

use clap::Args;
use hostport_nft::Protocol;

use crate::cli::values::{Ports, seconds};

#[derive(Debug, Args)]
pub struct ListArguments {
    /// Print a JSON array of objects instead of a table
    #[arg(long)]
    pub json: bool,

    /// Also show the time since publication, from the journal
    #[arg(long)]
    pub wide: bool,

    /// Only owners whose ID begins with this, or the name of the container or its pod
    #[arg(long, value_name = "ID|NAME")]
    pub owner: Option<String>,

    /// Only the pod of this name
    #[arg(long, value_name = "NAME")]
    pub pod: Option<String>,

    /// Only pods in this Kubernetes namespace
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,

    /// Only this host port, or this range
    #[arg(long, value_name = "PORT[-PORT]")]
    pub port: Option<Ports>,

    /// Only tcp, udp or sctp
    #[arg(long)]
    pub protocol: Option<Protocol>,

    /// Repeat every so many seconds [default: 2]; with --wide, also show connections per second
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
        value_parser = seconds, conflicts_with = "json")]
    pub watch: Option<u16>,
}
