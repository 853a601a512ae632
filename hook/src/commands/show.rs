//! `hostport show`: the ruleset as nft text, or as nft's JSON.

use hostport_nft::{HostPorts, Settings, Table};
use serde_json::{Value, json};
use tracing::warn;

use crate::commands::{CommandError, print};

/// Prints what the hook would apply with these settings, together with what is published now.
pub fn run(settings: Settings, as_json: bool) -> Result<(), CommandError> {
    let mut host_ports = HostPorts::open(settings)?;
    if !host_ports.is_current()? {
        warn!(
            "the tables in the kernel were made with other settings or by another version; \
             the next hook call with the options given here will replace them"
        );
    }
    let tables = host_ports.tables()?;
    if as_json {
        let objects: Vec<Value> = tables.iter().flat_map(Table::json).collect();
        // nft warns if the schema's version is missing (libnftables-json(5), METAINFO OBJECT).
        let all = [vec![json!({"metainfo": {"json_schema_version": 1}})], objects].concat();
        return print(&format!("{:#}\n", json!({"nftables": all})));
    }
    let texts: Vec<String> = tables.iter().map(Table::to_string).collect();
    print(&texts.join("\n"))
}
