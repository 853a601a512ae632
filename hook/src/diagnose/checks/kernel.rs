//! What the kernel does not take of the ruleset.

use crate::diagnose::finding::{Finding, Kind, Severity};
use crate::diagnose::inventory::Facts;

/// A part that nobody knows (ENOENT, EOPNOTSUPP) is in a module that is missing.
pub fn find(facts: &Facts, findings: &mut Vec<Finding>) {
    for lack in &facts.lacks {
        let fix = match lack.modules.as_slice() {
            [] => format!("hostport show --table {} | nft --check --file -", facts.table),
            modules => format!("modprobe --all {}", modules.join(" ")),
        };
        findings.push(Finding {
            kind: Kind::RulesetRefused,
            severity: Severity::Broken,
            what: format!(
                "the kernel refuses {} of the table {} {}",
                lack.part, lack.family, facts.table
            ),
            evidence: vec![format!(
                "tried in a transaction that was not committed: {}",
                lack.error
            )],
            fix,
        });
    }
}

/// Where there is no nf_tables at all, nothing else can be looked at.
pub fn without_nf_tables() -> Finding {
    Finding {
        kind: Kind::RulesetRefused,
        severity: Severity::Broken,
        what: "this kernel has no nf_tables, so nothing can be published".to_owned(),
        evidence: vec!["it refuses any request for the ruleset".to_owned()],
        fix: "modprobe nf_tables".to_owned(),
    }
}
