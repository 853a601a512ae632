//! A node that has something to lose, calls of the hook with a time limit, and checks of the hook's output.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hostport_tests::hook::{Bundle, program, state_dir};
use hostport_tests::lab::{Families, Lab, Netns, Network, Pod, PodSpec};
use hostport_tests::runtime::{Finished, Scratch, wait_within};
use serde_json::Value;

/// The user's annotation.
pub const PORTS: &str = "io.hostport.ports";
/// A hook that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(10);
/// Kubernetes accepts 1,024 bytes in the note of an event (NoteLengthLimit in its validation).
const LONGEST_LINE: usize = 1000;

/// A node with another program's tables, with a neighbour that has published ports, and with a pod that wants to
/// publish.
pub struct Ground {
    pub lab: Lab,
    pub pod: Pod,
    _neighbour: (Pod, Bundle),
    before: Vec<String>,
}

impl Ground {
    pub fn new() -> Ground {
        Ground::with(Families::Both)
    }

    /// With a pod of these families.
    pub fn with(families: Families) -> Ground {
        let lab = Lab::new();
        lab.bridge_nf(true);
        lab.node().nft(
            "table inet other {
                chain input { type filter hook input priority 0; tcp dport 22 counter accept; }
                set hostport { type inet_service; elements = { 80, 443 }; }
            }
            table ip hostport-of-another {
                map ports { type inet_service : ipv4_addr; }
            }",
        );
        // On a link of its own, so that nothing is set on the bridge yet.
        let neighbour = lab.add_pod(PodSpec::new("neighbour").network(Network::Routed));
        let published = Bundle::of(&neighbour).annotation(PORTS, "7000:7000,7001:7001/udp");
        published.start(lab.node());
        let pod = lab.add_pod(PodSpec::new("web").families(families));
        let mut ground =
            Ground { lab, pod, _neighbour: (neighbour, published), before: Vec::new() };
        ground.before = ground.now();
        ground
    }

    pub fn node(&self) -> &Netns {
        self.lab.node()
    }

    /// A container in the pod, which asks for nothing yet.
    pub fn bundle(&self) -> Bundle {
        Bundle::of(&self.pod)
    }

    /// A container in the pod that asks for ports.
    pub fn asking(&self, ports: &str) -> Bundle {
        self.bundle().annotation(PORTS, ports)
    }

    /// Everything that a hook may change: the ruleset with its handles and counters, and the settings of the bridge
    /// and of the pod's port on it.
    fn now(&self) -> Vec<String> {
        let said = |mut command: Command| {
            let output = command.output().expect("nft and bridge are installed");
            assert!(output.status.success(), "{command:?}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let (mut nft, mut bridge) = (self.node().command("nft"), self.node().command("bridge"));
        nft.args(["-a", "list", "ruleset"]);
        bridge.args(["-d", "link", "show", "dev", self.pod.host_link()]);
        let route_localnet = self.node().read_sysctl("net.ipv4.conf.br0.route_localnet");
        vec![said(nft), said(bridge), route_localnet]
    }

    /// From now on, this is the state to compare with.
    pub fn changed_on_purpose(&mut self) {
        self.before = self.now();
    }

    #[track_caller]
    pub fn assert_unchanged(&self, why: &str) {
        let now = self.now();
        for (before, now) in self.before.iter().zip(&now) {
            assert_eq!(before, now, "changed by: {why}");
        }
    }

    /// `hostport hook ARGUMENTS`, not called yet.
    pub fn hook(&self, arguments: &[&str], input: impl Into<Vec<u8>>) -> Call<'_> {
        let journal = state_dir(self.lab.node());
        let mut hook = vec!["hook", "--state-dir", journal.to_str().unwrap()];
        hook.extend(arguments);
        self.hostport(&hook, input)
    }

    /// `hostport ARGUMENTS`, not called yet.
    pub fn hostport(&self, arguments: &[&str], input: impl Into<Vec<u8>>) -> Call<'_> {
        Call {
            ground: self,
            wrapper: Vec::new(),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            input: Input::Bytes(input.into()),
            stderr: None,
        }
    }

    /// The hook at prestart, with a new config.json.
    pub fn prestart(&self, bundle: &Bundle) -> Call<'_> {
        write_config(bundle, bundle.config().to_string());
        self.hook(&["prestart"], bundle.state("created").to_string())
    }

    /// The hook at poststop, with the bundle as it is.
    pub fn poststop(&self, bundle: &Bundle) -> Call<'_> {
        self.hook(&["poststop"], bundle.state("stopped").to_string())
    }
}

/// Writes a bundle's config.json.
pub fn write_config(bundle: &Bundle, text: impl AsRef<[u8]>) {
    fs::write(bundle.folder().join("config.json"), text).unwrap();
}

/// A state with one field replaced, or without it.
pub fn state_with(bundle: &Bundle, field: &str, value: Option<Value>) -> String {
    let mut state = bundle.state("created");
    match value {
        Some(value) => state[field] = value,
        None => drop(state.as_object_mut().unwrap().remove(field)),
    }
    state.to_string()
}

/// What a call finds on its standard input.
enum Input {
    Bytes(Vec<u8>),
    File(PathBuf),
    Closed,
}

/// One call of the program in the node's namespace, with an empty environment.
pub struct Call<'a> {
    ground: &'a Ground,
    wrapper: Vec<String>,
    arguments: Vec<String>,
    input: Input,
    stderr: Option<Stdio>,
}

impl Call<'_> {
    /// Through another program: its path and arguments.
    pub fn through(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// With more options.
    pub fn with_flags(mut self, flags: &[&str]) -> Self {
        self.arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// With this file or folder as standard input.
    pub fn reading(self, path: impl AsRef<Path>) -> Self {
        Call { input: Input::File(path.as_ref().into()), ..self }
    }

    /// With standard input closed.
    pub fn without_input(self) -> Self {
        Call { input: Input::Closed, ..self }
    }

    /// With this as standard error.
    pub fn complaining_to(self, stderr: Stdio) -> Self {
        Call { stderr: Some(stderr), ..self }
    }

    /// Makes the call.
    ///
    /// # Panics
    ///
    /// If it has not ended in time.
    #[track_caller]
    pub fn run(self) -> Finished {
        let scratch = Scratch::new("call");
        let file = |name: &str| File::create(scratch.path().join(name)).unwrap();
        let mut words = self.wrapper;
        words.push(program().to_str().unwrap().to_owned());
        words.extend(self.arguments);
        if matches!(self.input, Input::Closed) {
            // Only a shell can start a program with a closed descriptor.
            words.splice(0..0, ["/bin/sh", "-c", "exec \"$@\" <&-", "sh"].map(String::from));
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().current_dir("/");
        command.stdin(match &self.input {
            Input::Bytes(_) => Stdio::piped(),
            Input::File(path) => File::open(path).unwrap().into(),
            Input::Closed => Stdio::null(),
        });
        command.stdout(file("stdout"));
        command.stderr(self.stderr.unwrap_or_else(|| file("stderr").into()));
        let mut child = self.ground.node().run(|| command.spawn()).expect("a program to start");
        let mut code = None;
        let ended = std::thread::scope(|scope| {
            if let (Some(mut stdin), Input::Bytes(bytes)) = (child.stdin.take(), &self.input) {
                // The program may have read enough and closed its end.
                scope.spawn(move || drop(stdin.write_all(bytes)));
            }
            let ended = wait_within(LIMIT, || {
                code = child.try_wait().unwrap();
                code.is_some()
            });
            if !ended {
                child.kill().unwrap();
                child.wait().unwrap();
            }
            ended
        });
        assert!(ended, "{command:?} has not ended after {LIMIT:?}");
        let said = |name: &str| fs::read(scratch.path().join(name)).unwrap_or_default();
        Finished {
            command: format!("{command:?}").chars().take(300).collect(),
            code: code.and_then(|status| status.code()),
            stdout: String::from_utf8(said("stdout")).expect("UTF-8 on standard output"),
            stderr: String::from_utf8(said("stderr")).expect("UTF-8 on standard error"),
        }
    }

    /// The call must fail with one line that contains all these parts, and change nothing.
    #[track_caller]
    pub fn refused(self, parts: &[&str]) {
        let ground = self.ground;
        let finished = self.run();
        let why = format!("{}\n{}", finished.command, finished.stderr);
        assert_eq!(finished.code, Some(1), "{why}");
        let line = one_line(&finished);
        for part in parts {
            assert!(line.contains(part), "lacks {part:?}: {why}");
        }
        ground.assert_unchanged(&why);
    }

    /// The call must succeed without a change, and with one warning that contains all these parts, or without
    /// output.
    #[track_caller]
    pub fn ignored(self, parts: &[&str]) {
        let ground = self.ground;
        let finished = self.run().expect_success();
        assert_readable(&finished);
        assert_eq!(
            finished.stderr.lines().count(),
            usize::from(!parts.is_empty()),
            "{finished:#?}"
        );
        for part in parts {
            assert!(finished.stderr.contains(part), "lacks {part:?}: {}", finished.stderr);
        }
        ground.assert_unchanged(&finished.stderr);
    }
}

/// The one line with the reason, apart from what was logged before.
#[track_caller]
fn one_line(finished: &Finished) -> String {
    assert_readable(finished);
    let is_log =
        |line: &&str| ["WARN ", "INFO "].iter().any(|level| line.trim().starts_with(level));
    let lines: Vec<&str> = finished.stderr.lines().filter(|line| !is_log(line)).collect();
    let [line] = lines[..] else { panic!("not one line: {finished:#?}") };
    assert!(line.starts_with("hostport: "), "{finished:#?}");
    line.to_owned()
}

/// Nothing on standard output; and lines on standard error that neither flood nor colour a terminal.
#[track_caller]
fn assert_readable(finished: &Finished) {
    assert_eq!(finished.stdout, "", "{finished:#?}");
    for line in finished.stderr.lines() {
        let length = line.chars().count();
        assert!(length < LONGEST_LINE, "{length} characters: {line}");
        // Including those that change the direction of writing.
        let is_hidden = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(!line.contains(is_hidden), "{line:?}");
    }
}

#[test]
fn whatever_a_hook_changes_is_noticed() {
    let ground = Ground::new();
    ground.prestart(&ground.asking("9000:8080")).run().expect_success();
    for (before, now) in ground.before.iter().zip(ground.now()) {
        assert_ne!(*before, now);
    }
}
