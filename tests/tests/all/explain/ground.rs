//! What explain prints, as text and as JSON.

use hostport_tests::doctor::looks;
use hostport_tests::lab::Netns;
use hostport_tests::schema::assert_valid;
use serde_json::Value;

const SCHEMA: &str = include_str!("../../../../docs/schemas/explain.schema.json");

/// What it printed for one packet.
#[derive(Debug)]
pub struct Said {
    pub report: Value,
    /// The text's lines.
    pub lines: Vec<String>,
}

/// Calls explain both ways, and checks that text, JSON, exit status and schema agree.
#[track_caller]
pub fn explain(node: &Netns, arguments: &[&str]) -> Said {
    let call = [&["explain"], arguments].concat();
    let text = looks(node, &call);
    let json = looks(node, &[&call[..], &["--json"]].concat());
    assert_eq!((text.stderr.as_str(), json.stderr.as_str()), ("", ""));
    let report: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_valid(SCHEMA, &report);
    let reachable = report["reachable"].as_bool().unwrap();
    let code = Some(i32::from(!reachable));
    assert_eq!((text.code, json.code), (code, code), "{text:#?} {report:#}");
    let lines: Vec<String> = text.stdout.lines().map(str::to_owned).collect();
    let conclusions = [lines.last().map(String::as_str), report["conclusion"].as_str()];
    let [said, written] = conclusions.map(|text| text.map(without_process));
    assert_eq!(said, written, "{text:#?}");
    let steps = report["steps"].as_array().unwrap();
    assert_eq!(lines.len(), steps.len() + 4, "{text:#?}");
    for (line, step) in lines[2..].iter().zip(steps) {
        let what = step["what"].as_str().unwrap();
        assert!(without_process(line).ends_with(&without_process(what)), "{line}: {step}");
    }
    Said { report, lines }
}

/// A child of another test has this test's sockets too, until it runs its program, and may be named instead.
fn without_process(what: &str) -> String {
    match what.split_once("the process ") {
        Some((before, after)) => {
            let (_, listens) = after.split_once(" listens ").expect("what a process does");
            format!("{before}a process listens {listens}")
        }
        None => what.to_owned(),
    }
}

impl Said {
    /// The kinds of the causes, in their order.
    pub fn causes(&self) -> Vec<&str> {
        let causes = self.report["causes"].as_array().unwrap();
        causes.iter().map(|cause| cause["kind"].as_str().unwrap()).collect()
    }

    pub fn conclusion(&self) -> &str {
        self.report["conclusion"].as_str().unwrap()
    }

    /// What a step prints, after its status.
    #[track_caller]
    pub fn step(&self, name: &str) -> String {
        let mut steps = self.report["steps"].as_array().unwrap().iter();
        let step = steps.find(|step| step["name"] == name);
        let step = step.unwrap_or_else(|| panic!("no step {name}: {:#}", self.report));
        format!("{} {}", step["status"].as_str().unwrap(), step["what"].as_str().unwrap())
    }

    #[track_caller]
    pub fn expect_open(self) -> Said {
        assert!(self.causes().is_empty(), "{self:#?}");
        assert!(self.conclusion().starts_with("Reachable: "), "{self:#?}");
        self
    }
}
