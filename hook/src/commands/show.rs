//! `hostport show`: the ruleset as nft text.

use hostport_nft::{HostPorts, Settings, Table};
use tracing::warn;

use super::{CommandError, print};

/// Prints what the hook would apply with these settings, together with what is published now.
pub fn run(settings: Settings) -> Result<(), CommandError> {
    let mut host_ports = HostPorts::open(settings)?;
    if !host_ports.is_current()? {
        warn!(
            "the tables in the kernel were made with other settings or by another version; \
             the next hook call with the options given here will replace them"
        );
    }
    let texts: Vec<String> = host_ports.tables()?.iter().map(Table::to_string).collect();
    print(&texts.join("\n"))
}
