//! The journal's folder and files.

use std::path::Path;

use super::facts::{Facts, several};
use super::finding::{Finding, Kind, Severity};
use crate::journal::JournalError;
use crate::quote;

pub fn find(facts: &Facts, folder: &Path, findings: &mut Vec<Finding>) {
    let path = quote::word(&folder.to_string_lossy());
    let look = match &facts.journal {
        Ok(look) => look,
        Err(error) => {
            let fix = match error {
                JournalError::NotPrivate(_) => {
                    format!("chown root:root {path} && chmod 0700 {path}")
                }
                JournalError::Locked { .. } => format!("fuser -v {path}"),
                _ => format!("ls -ld {path}"),
            };
            findings.push(Finding {
                kind: Kind::JournalUnreadable,
                severity: Severity::Broken,
                what: format!("the journal {path} cannot be used, so hooks fail"),
                evidence: vec![error.to_string()],
                fix,
            });
            return;
        }
    };
    for (name, why) in &look.damaged {
        findings.push(Finding {
            kind: Kind::JournalDamaged,
            severity: Severity::Warning,
            what: format!("the journal's file {name} is no entry, so its owner is not known"),
            evidence: vec![why.clone()],
            fix: "start the container again; the next call of hostport sets the file aside"
                .to_owned(),
        });
    }
    if !look.set_aside.is_empty() {
        let names = look.set_aside.iter();
        findings.push(Finding {
            kind: Kind::JournalSetAside,
            severity: Severity::Warning,
            what: "files of the journal were set aside, since they were no entries".to_owned(),
            evidence: vec![several(names.clone())],
            fix: format!("look at them, then: rm {path}/*.set-aside*"),
        });
    }
}
