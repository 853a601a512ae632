//! Calls the program: does it run on this node, and does it work as the hook that is called for each container?

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::configuration::Call;
use crate::error::Error;
use crate::folder::Folder;

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The version that a program prints. An error if it does not run.
pub fn version(path: &Path) -> Result<String, Error> {
    let bad = |why: String| Error::DoesNotRun { path: path.to_owned(), why };
    let ended = call(path, &["--version".to_owned()], b"").map_err(bad)?;
    match ended.status.success() && ended.said.starts_with("hostport ") {
        true => Ok(ended.said.trim_end().to_owned()),
        false => Err(bad(format!("it ended with {}", ended.status))),
    }
}

/// Calls the program as runtimes will, for a container without host ports: this publishes nothing, needs no rights and
/// touches only the folder's trial bundle. If it fails, no container could start.
pub fn try_hook(folder: &Folder, path: &Path, calls: &[Call]) -> Result<(), String> {
    let bundle = folder.make_trial().map_err(|error| error.to_string())?;
    let result = try_each(path, &bundle, calls);
    folder.clear_trial().map_err(|error| error.to_string())?;
    result
}

fn try_each(path: &Path, bundle: &Path, calls: &[Call]) -> Result<(), String> {
    for each in calls {
        let mut arguments: Vec<String> = each.arguments.iter().skip(1).cloned().collect();
        let line = arguments.join(" ");
        // The option is refused if given twice. For a container without ports the folder is not opened anyway.
        if !arguments.iter().any(|a| a == "--state-dir" || a.starts_with("--state-dir=")) {
            arguments
                .extend(["--state-dir".to_owned(), bundle.join("journal").display().to_string()]);
        }
        for status in ["created", "stopped"] {
            let state = serde_json::json!({
                "ociVersion": "1.0.2",
                "id": "hostport-install-trial",
                "status": status,
                "bundle": bundle.to_string_lossy(),
            });
            let ended = call(path, &arguments, state.to_string().as_bytes())
                .map_err(|why| format!("`{line}` for a container without ports: {why}"))?;
            if !ended.status.success() {
                let said = ended.complained.lines().next().unwrap_or("it said nothing").to_owned();
                return Err(format!(
                    "`{line}` for a {status} container without ports ended with {}: {said}",
                    ended.status
                ));
            }
        }
    }
    Ok(())
}

struct Ended {
    status: ExitStatus,
    said: String,
    complained: String,
}

fn call(path: &Path, arguments: &[String], input: &[u8]) -> Result<Ended, String> {
    let mut command = Command::new(path);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    // So little fits into the pipe at once. A program that does not read it is judged by how it ends.
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(input);
    }
    let begin = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None if begin.elapsed() > PATIENCE => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("no answer in {} s", PATIENCE.as_secs()));
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    // All it wrote is in the pipes: a program that writes more than fits was killed above.
    Ok(Ended {
        status,
        said: child.stdout.take().map(|pipe| present(pipe.into())).unwrap_or_default(),
        complained: child.stderr.take().map(|pipe| present(pipe.into())).unwrap_or_default(),
    })
}

/// What is in a pipe now. It is not read to its end: a process that the program left behind may keep it open.
fn present(pipe: OwnedFd) -> String {
    let flags = rustix::fs::fcntl_getfl(pipe.as_fd()).unwrap_or(OFlags::empty());
    if rustix::fs::fcntl_setfl(pipe.as_fd(), flags | OFlags::NONBLOCK).is_err() {
        return String::new();
    }
    let mut bytes = vec![0; 400];
    let count = File::from(pipe).read(&mut bytes).unwrap_or_default();
    bytes.truncate(count);
    // It has to fit into one line of an error.
    let text = String::from_utf8_lossy(&bytes);
    text.chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}
