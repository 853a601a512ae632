//! Findings as text, and as JSON.

use std::fmt::Write;

use serde::Serialize;

use crate::diagnose::Finding;
use crate::diagnose::kind::Severity;
use crate::output::{self, count};

/// A finding begins with its severity and kind; below it are its evidence and its fix, indented; at the
/// end one sentence sums them up.
pub fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let _ = writeln!(text, "{}: {}: {}", finding.severity, finding.kind, finding.what);
        for fact in &finding.evidence {
            let _ = writeln!(text, "    {fact}");
        }
        let _ = writeln!(text, "    fix: {}\n", finding.fix);
    }
    let _ = writeln!(text, "{}", summary(findings));
    text
}

fn summary(findings: &[Finding]) -> String {
    let broken = broken(findings);
    let are = if broken == 1 { "is" } else { "are" };
    let things = format!("{} {are} broken", count(broken, "thing"));
    match (broken, findings.len() - broken) {
        (0, 0) => "Nothing on this host keeps host ports from working.".to_owned(),
        (0, warnings) => format!("Nothing is broken; {}.", count(warnings, "warning")),
        (_, 0) => format!("{things}."),
        (_, warnings) => format!("{things}; {}.", count(warnings, "warning")),
    }
}

/// How many findings are more than warnings.
pub fn broken(findings: &[Finding]) -> usize {
    findings.iter().filter(|finding| finding.severity == Severity::Broken).count()
}

#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Report<'a> {
    /// Nothing is broken: there may be warnings. Exit status 0 if true, 1 if false.
    sound: bool,
    findings: &'a [Finding],
}

/// The whole report as one object.
pub fn json(findings: &[Finding]) -> String {
    output::json(&Report { sound: broken(findings) == 0, findings })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::Kind;

    fn finding(severity: Severity) -> Finding {
        let finding = Finding::new(
            Kind::ForwardingOff,
            "this host does not forward IPv4",
            ["net.ipv4.ip_forward is 0"],
            "sysctl -w net.ipv4.ip_forward=1",
        );
        Finding { severity, ..finding }
    }

    #[test]
    fn a_finding_is_a_line_with_its_evidence_and_its_fix_below() {
        assert_eq!(
            text(&[finding(Severity::Broken)]),
            "broken: forwarding-off: this host does not forward IPv4\n    \
             net.ipv4.ip_forward is 0\n    \
             fix: sysctl -w net.ipv4.ip_forward=1\n\n\
             1 thing is broken.\n"
        );
    }

    #[test]
    fn the_last_line_counts() {
        let (broken, warning) = (finding(Severity::Broken), finding(Severity::Warning));
        let last = |findings: &[Finding]| text(findings).lines().last().unwrap().to_owned();
        assert_eq!(last(&[]), "Nothing on this host keeps host ports from working.");
        assert_eq!(last(std::slice::from_ref(&warning)), "Nothing is broken; 1 warning.");
        assert_eq!(
            last(&[broken.clone(), broken, warning.clone(), warning]),
            "2 things are broken; 2 warnings."
        );
    }

    #[test]
    fn json_has_the_documented_shape() {
        let report: serde_json::Value =
            serde_json::from_str(&json(&[finding(Severity::Warning)])).unwrap();
        assert_eq!(
            report,
            serde_json::json!({ "sound": true, "findings": [{
                "kind": "forwarding-off",
                "severity": "warning",
                "what": "this host does not forward IPv4",
                "evidence": ["net.ipv4.ip_forward is 0"],
                "fix": "sysctl -w net.ipv4.ip_forward=1",
            }]})
        );
        assert_eq!(json(&[]), "{\n  \"sound\": true,\n  \"findings\": []\n}\n");
    }
}
