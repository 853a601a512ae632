//! A hook that records how it was called.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Hook, Scratch, write_program};

/// One call of the recording hook.
#[derive(Clone, Debug)]
pub struct Call {
    /// The arguments, without the first, the program's own name.
    pub args: Vec<String>,
    /// Standard input, verbatim: the OCI state.
    pub state_text: String,
    /// The OCI state.
    pub state: Value,
    /// The bundle's config.json as it was at that time, verbatim; empty if there was none.
    pub config_text: String,
    /// The environment as it was given, `NAME=value`.
    pub env: Vec<String>,
    /// The working directory.
    pub cwd: PathBuf,
    /// Open file descriptors and where they lead, as `0 -> pipe:[1]`. 10 and above are the shell's.
    pub fds: Vec<String>,
    /// The program that called: `runc`, `podman`.
    pub caller: String,
    /// The network namespace it ran in, as `net:[4026531833]`.
    pub netns: String,
}

impl Call {
    /// The status in the state: `creating`, `created`, `stopped`.
    pub fn status(&self) -> &str {
        self.state["status"].as_str().unwrap_or_default()
    }

    /// The config.json.
    pub fn config(&self) -> Value {
        serde_json::from_str(&self.config_text).unwrap_or_default()
    }
}

/// Makes hooks that record their calls.
#[derive(Debug)]
pub struct Recorder {
    scratch: Scratch,
}

impl Recorder {
    /// A recorder without calls.
    pub fn new() -> Recorder {
        let scratch = Scratch::new("recorder");
        write_program(&scratch.path().join("record"), script(&scratch.folder("calls")));
        Recorder { scratch }
    }

    /// The program to call, for a hook configuration.
    pub fn program(&self) -> PathBuf {
        self.scratch.path().join("record")
    }

    /// A hook whose arguments distinguish it from others.
    pub fn hook(&self, args: &[&str]) -> Hook {
        Hook::new(self.program(), args)
    }

    /// A folder for hook configurations, with one that calls this recorder for every container.
    pub fn hooks_dir(&self, stages: &[&str]) -> PathBuf {
        let folder = self.scratch.folder("hooks.d");
        let configuration = self.hook(&[]).always(stages);
        fs::write(folder.join("record.json"), configuration.to_string()).expect("a configuration");
        folder
    }

    /// The calls so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        let mut folders: Vec<PathBuf> = fs::read_dir(self.scratch.path().join("calls"))
            .expect("the calls")
            .map(|entry| entry.expect("a call").path())
            .filter(|path| path.join("done").exists())
            .collect();
        folders.sort();
        folders.iter().map(|folder| read_call(folder)).collect()
    }
}

impl Default for Recorder {
    fn default() -> Recorder {
        Recorder::new()
    }
}

fn read_call(folder: &Path) -> Call {
    let text = |name: &str| {
        String::from_utf8_lossy(&fs::read(folder.join(name)).unwrap_or_default()).into_owned()
    };
    let lines = |name: &str| text(name).lines().map(str::to_owned).collect::<Vec<_>>();
    let zeros =
        |name: &str| text(name).split_terminator('\0').map(str::to_owned).collect::<Vec<String>>();
    let state_text = text("state.json");
    Call {
        args: lines("args"),
        state: serde_json::from_str(&state_text).unwrap_or_default(),
        state_text,
        config_text: text("config.json"),
        env: zeros("env"),
        cwd: PathBuf::from(text("cwd").trim_end()),
        fds: lines("fds"),
        caller: text("caller").trim_end().to_owned(),
        netns: text("netns").trim_end().to_owned(),
    }
}

/// The hook, in shell. It must work without PATH, which some runtimes do not set.
fn script(calls: &Path) -> String {
    format!(
        r#"#!/bin/sh
b=/bin/busybox
# The shell has no exclusive counter but mkdir.
n=1000
until $b mkdir {calls}/$n 2>/dev/null || [ $n -gt 1999 ]; do n=$((n + 1)); done
cd_was=$(pwd)
d={calls}/$n
$b cat >$d/state.json
bundle=$($b sed -n 's/.*"bundle": *"\([^"]*\)".*/\1/p' $d/state.json)
[ -f "$bundle/config.json" ] && $b cp "$bundle/config.json" $d/config.json
[ $# -gt 0 ] && printf '%s\n' "$@" >$d/args
$b cat /proc/$$/environ >$d/env
echo "$cd_was" >$d/cwd
$b ls -l /proc/$$/fd | $b sed -n 's/.* \([0-9]* -> .*\)/\1/p' >$d/fds
$b cat /proc/$PPID/comm >$d/caller
$b readlink /proc/$$/ns/net >$d/netns
: >$d/done
"#,
        calls = calls.display(),
    )
}
