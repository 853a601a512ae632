//! A node with a container, and what the doctor reports about it.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::hook::{Bundle, hostport, state_dir};
use crate::lab::{Client, Lab, NODE4, Netns, Pod, PodSpec, Server, Sleeper};
use crate::runtime::Finished;
use crate::schema::assert_valid;
use serde_json::Value;

const SCHEMA: &str = include_str!("../../docs/schemas/doctor.schema.json");

/// A node whose container `web` publishes 9000 in both families.
pub struct Ground {
    /// Client, node and pods.
    pub lab: Lab,
    /// The container's namespace.
    pub web: Pod,
    /// The container as its runtime describes it.
    pub bundle: Bundle,
    init: Option<Sleeper>,
    /// The servers in it, on port 8080: TCP, then UDP.
    pub servers: Vec<Server>,
}

impl Ground {
    /// The container publishes 9000 for its port 8080.
    #[expect(clippy::new_without_default, reason = "a default that takes root would surprise")]
    pub fn new() -> Ground {
        Ground::with("9000:8080", &[])
    }

    /// The same with other ports, and options of the hook.
    pub fn with(ports: &str, options: &[&str]) -> Ground {
        Ground::of(PodSpec::new("web"), ports, options)
    }

    /// The same with another pod.
    pub fn of(pod: PodSpec, ports: &str, options: &[&str]) -> Ground {
        let lab = Lab::new();
        let web = lab.add_pod(pod);
        let servers = web.serve(8080);
        let init = web.sleeper();
        let bundle =
            Bundle::of_process(init.pid()).named("web").annotation("io.hostport.ports", ports);
        bundle.prestart(lab.node(), options).expect_success();
        Ground { lab, web, bundle, init: Some(init), servers: servers.into() }
    }

    /// The node.
    pub fn node(&self) -> &Netns {
        self.lab.node()
    }

    /// Ends the container without a poststop.
    pub fn kill(&mut self) {
        self.init = None;
    }

    /// What the doctor says of the node.
    #[track_caller]
    pub fn doctor(&self) -> Report {
        doctor(self.node())
    }

    /// Whether a client outside reaches the container. The node first forgets what it knows of its neighbours: it
    /// would ask again only after a second for a neighbour that was away, and three times at most.
    pub fn reaches(&self) -> bool {
        self.node().ip("neigh flush all");
        self.answers(Duration::from_secs(2))
    }

    /// Whether the container does not answer a client outside within a short time.
    pub fn is_cut_off(&self) -> bool {
        !self.answers(Duration::from_millis(300))
    }

    /// Whether the container answers a client outside within a time.
    pub fn answers(&self, timeout: Duration) -> bool {
        let client = Client::new(self.lab.client()).timeout(timeout);
        client.tcp((NODE4, 9000)).is_ok_and(|answer| answer.server == "web")
    }

    /// Breaks something, expects the finding, runs the fix that it names, and expects a sound host again.
    #[track_caller]
    pub fn breaks_and_mends(&self, kind: &str, breaking: impl FnOnce(&Ground)) -> Value {
        assert_eq!(self.doctor().kinds(), [""; 0]);
        breaking(self);
        let report = self.doctor();
        assert_eq!(report.kinds(), [kind], "{report:#?}");
        let finding = report.only(kind);
        self.mend(&finding);
        let report = self.doctor();
        assert_eq!(report.kinds(), [""; 0], "{report:#?}");
        finding
    }

    /// Runs the command that a finding names.
    #[track_caller]
    pub fn mend(&self, finding: &Value) {
        let fix = finding["fix"].as_str().unwrap();
        let program = crate::hook::program();
        let fix = match fix.strip_prefix("hostport ") {
            Some(arguments) => format!("{} {arguments}", program.display()),
            None => fix.to_owned(),
        };
        let mut command = Command::new("sh");
        let output = self.node().run(|| command.args(["-c", &fix]).output().unwrap());
        assert!(output.status.success(), "{fix}: {output:?}");
    }
}

/// What the doctor reported.
#[derive(Debug)]
pub struct Report {
    /// The exit status.
    pub code: Option<i32>,
    /// In the order of the report.
    pub findings: Vec<Value>,
}

impl Report {
    /// What `doctor --json` printed; its exit status must fit.
    #[track_caller]
    pub fn of(said: Finished) -> Report {
        let Finished { code, stdout, stderr, .. } = said;
        assert_eq!(stderr, "", "{stdout}");
        let report: Value = serde_json::from_str(&stdout).unwrap();
        assert_valid(SCHEMA, &report);
        let findings = report["findings"].as_array().unwrap().clone();
        let broken = findings.iter().any(|finding| finding["severity"] == "broken");
        assert_eq!(report["sound"], !broken);
        assert_eq!(code, Some(i32::from(broken)), "{findings:#?}");
        Report { code, findings }
    }

    /// The findings' identifiers.
    pub fn kinds(&self) -> Vec<&str> {
        self.findings.iter().map(|finding| finding["kind"].as_str().unwrap()).collect()
    }

    /// The one finding of a kind.
    #[track_caller]
    pub fn only(&self, kind: &str) -> Value {
        let found: Vec<&Value> = self.findings.iter().filter(|f| f["kind"] == kind).collect();
        assert_eq!(found.len(), 1, "{kind}: {self:#?}");
        found[0].clone()
    }
}

/// Calls the doctor, and checks that its exit status fits and that it changed nothing.
#[track_caller]
pub fn doctor(node: &Netns) -> Report {
    Report::of(looks(node, &["doctor", "--json"]))
}

/// Calls a command that only reads, and checks that it changed neither ruleset nor journal.
#[track_caller]
pub fn looks(node: &Netns, arguments: &[&str]) -> Finished {
    let before = (ruleset(node), journal(node));
    let finished = hostport(node, arguments);
    assert_eq!((ruleset(node), journal(node)), before, "{arguments:?} changes nothing");
    finished
}

/// The ruleset with its handles, which show what was re-created, and without the values of counters.
fn ruleset(node: &Netns) -> String {
    let list = || Command::new("nft").args(["-a", "-s", "list", "ruleset"]).output().unwrap();
    String::from_utf8(node.run(list).stdout).unwrap()
}

fn journal(node: &Netns) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(state_dir(node)).into_iter().flatten();
    files
        .map(|file| {
            let file = file.unwrap();
            let name = file.file_name().into_string().unwrap();
            (name, fs::read(file.path()).unwrap_or_default())
        })
        .collect()
}

/// Everything that a finding says, in one text.
pub fn text(finding: &Value) -> String {
    let evidence =
        finding["evidence"].as_array().unwrap().iter().map(|fact| fact.as_str().unwrap());
    let rest = evidence.collect::<Vec<_>>().join("\n");
    format!("{}\n{rest}\n{}", finding["what"].as_str().unwrap(), finding["fix"].as_str().unwrap())
}
