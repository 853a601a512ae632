//! The arguments of `hostport list`.

use clap::Args;
use hostport_nft::Protocol;

use crate::cli::values::{Ports, seconds};

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
