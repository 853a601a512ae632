//! Our tables: whether they are there, ours, and as hostport makes them.

use hostport_nft::{Mapping, TableOwner};

use crate::diagnose::{Finding, Inventory, Kind, Scope};
use crate::output::several;

pub fn find(inventory: &Inventory, scope: &Scope) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (family, audit) in inventory.audits.iter().filter(|(family, _)| scope.covers(**family)) {
        let table = format!("{family} {}", inventory.table);
        let wanted: Vec<&Mapping> =
            scope.mappings.iter().filter(|mapping| mapping.family() == *family).collect();
        // While nothing is published, there need not be a table.
        if audit.state == TableOwner::Missing && !wanted.is_empty() {
            findings.push(Finding::new(
                Kind::TableMissing,
                format!("the table {table} is missing, and so are its host ports"),
                [format!("the journal has {}", several(wanted))],
                inventory.call("restore"),
            ));
        }
        if audit.state == TableOwner::Foreign {
            findings.push(Finding::new(
                Kind::TableForeign,
                format!("the table {table} was not created by hostport, which does not change it"),
                ["its comment does not begin with \"hostport schema\""],
                format!("nft delete table {table}"),
            ));
        }
        if !audit.differences.is_empty() {
            findings.push(Finding::new(
                Kind::TableAltered,
                format!("the table {table} is not as hostport creates it"),
                &audit.differences,
                inventory.call("restore"),
            ));
        }
        if audit.strangers > 0 {
            findings.push(Finding::new(
                Kind::ElementForeign,
                format!("the map ports of the table {table} has elements that are not mappings"),
                [format!("elements: {}", audit.strangers)],
                inventory.call("restore"),
            ));
        }
    }
    findings
}
