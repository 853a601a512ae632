//! Our tables: there, ours, and as hostport makes them.

use hostport_nft::{Family, Mapping, State};

use crate::diagnose::finding::{Finding, Kind, Severity};
use crate::diagnose::inventory::{Facts, several};

pub fn find(facts: &Facts, findings: &mut Vec<Finding>) {
    for (family, audit) in &facts.audits {
        let table = format!("{family} {}", facts.table);
        match audit.state {
            State::Missing => missing(facts, *family, &table, findings),
            State::Foreign => findings.push(Finding {
                kind: Kind::TableForeign,
                severity: Severity::Broken,
                what: format!("the table {table} was not made by hostport, which leaves it alone"),
                evidence: vec!["its comment does not begin with \"hostport schema\"".to_owned()],
                fix: format!("nft delete table {table}"),
            }),
            State::Ours => {}
        }
        if !audit.differences.is_empty() {
            findings.push(Finding {
                kind: Kind::TableAltered,
                severity: Severity::Broken,
                what: format!("the table {table} is not as hostport makes it"),
                evidence: audit.differences.clone(),
                fix: facts.call("restore"),
            });
        }
        if audit.strangers > 0 {
            findings.push(Finding {
                kind: Kind::ElementForeign,
                severity: Severity::Warning,
                what: format!("the map ports of the table {table} holds what is no mapping"),
                evidence: vec![format!("elements: {}", audit.strangers)],
                fix: facts.call("restore"),
            });
        }
    }
}

/// No table is as it should be while nothing is published.
fn missing(facts: &Facts, family: Family, table: &str, findings: &mut Vec<Finding>) {
    let wanted: Vec<&Mapping> = facts.mappings.iter().filter(|m| m.family() == family).collect();
    if !wanted.is_empty() {
        findings.push(Finding {
            kind: Kind::TableMissing,
            severity: Severity::Broken,
            what: format!("the table {table} is missing, and with it what was published"),
            evidence: vec![format!("the journal has {}", several(wanted))],
            fix: facts.call("restore"),
        });
    }
}
