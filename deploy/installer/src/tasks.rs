//! What can be done on a node.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::cli::{Arguments, Folders, Task};
use crate::error::Error;
use crate::folder::Folder;
use crate::node::{EXECUTABLE, FILE, HOSTPORT, Node, PREVIOUS, owners};

/// How long the program may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(5);

pub fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    let folders = &arguments.folders;
    match arguments.task {
        Task::Install => install(&Node::open(folders)?)?,
        Task::Status { check } => return status(&Node::open(folders)?, check),
        Task::Rollback => rollback(&Node::open(folders)?)?,
        Task::Uninstall { containerd_is_clean } => {
            uninstall(&Node::open(folders)?, folders, containerd_is_clean)?;
        }
        Task::Stay => stay().map_err(Error::Wait)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn install(node: &Node) -> Result<(), Error> {
    node.clear()?;
    // Before anything changes.
    for (folder, configuration) in node.configurations() {
        folder.read(&configuration.name)?;
    }
    if node.bin.has(HOSTPORT, &node.program, EXECUTABLE)? {
        println!("{:?} is up to date", node.bin.path(HOSTPORT));
    } else {
        node.bin.read(PREVIOUS)?;
        let new = node.bin.prepare(&node.program, EXECUTABLE)?;
        let version = version(&new).inspect_err(|_| drop(node.bin.discard()))?;
        node.bin.settle(HOSTPORT, Some(PREVIOUS))?;
        println!("installed {:?}: {version}", node.bin.path(HOSTPORT));
    }
    for (folder, configuration) in node.configurations() {
        let (name, content) = (&configuration.name, &configuration.content);
        if folder.has(name, content, FILE)? {
            println!("{:?} is up to date", folder.path(name));
        } else {
            folder.prepare(content, FILE)?;
            folder.settle(name, None)?;
            println!("installed {:?}", folder.path(name));
        }
    }
    if node.containerd.is_some() {
        println!(
            "for containerd, once on each node: imports = [\"/etc/containerd/hostport/config-v3.toml\"] in \
 /etc/containerd/config.toml, and restart it (config-v2.toml for a configuration of version 2)"
        );
    }
    Ok(())
}

fn status(node: &Node, check: bool) -> Result<ExitCode, Error> {
    let mut whole = node.bin.has(HOSTPORT, &node.program, EXECUTABLE)?;
    for name in [HOSTPORT, PREVIOUS] {
        let path = node.bin.path(name);
        match node.bin.read(name)? {
            None => println!("{path:?}: missing"),
            Some(content) => {
                let what = if content == node.program { "this image's" } else { "another build" };
                let version = version(&path).unwrap_or_else(|error| error.to_string());
                println!("{path:?}: {version}, {what}");
            }
        }
    }
    for (folder, configuration) in node.configurations() {
        let (name, content) = (&configuration.name, &configuration.content);
        let state = match folder.read(name)? {
            None => "missing",
            Some(_) if folder.has(name, content, FILE)? => "this image's",
            Some(_) => "another one",
        };
        whole &= state == "this image's";
        println!("{:?}: {state}", folder.path(name));
    }
    Ok(if whole || !check { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn rollback(node: &Node) -> Result<(), Error> {
    let previous = node.bin.path(PREVIOUS);
    if node.bin.read(PREVIOUS)?.is_none() || node.bin.read(HOSTPORT)?.is_none() {
        return Err(Error::NoPrevious(previous));
    }
    let version = version(&previous)?;
    node.bin.exchange(HOSTPORT, PREVIOUS)?;
    println!("{:?} is now the previous one: {version}", node.bin.path(HOSTPORT));
    Ok(())
}

fn uninstall(node: &Node, folders: &Folders, containerd_is_clean: bool) -> Result<(), Error> {
    node.clear()?;
    let remove = |folder: &Folder, name: &str| -> Result<(), Error> {
        if folder.remove(name)? {
            println!("removed {:?}", folder.path(name));
        }
        Ok(())
    };
    if let Some(hooks) = &node.hooks {
        for configuration in &node.hook_configurations {
            remove(hooks, &configuration.name)?;
        }
    }
    tighten(&folders.journal)?;
    let mut needed = match owners(&folders.journal) {
        Some(0) => None,
        Some(count) => Some(format!(
            "{count} {} in the journal, whose host ports it withdraws when they end (hostport gc clears the dead)",
            if count == 1 { "container is" } else { "containers are" }
        )),
        None => Some(format!("the journal is not mounted at {:?}", folders.journal)),
    };
    if let Some(containerd) = &node.containerd {
        for configuration in &node.containerd_files {
            if containerd_is_clean {
                remove(containerd, &configuration.name)?;
            } else if containerd.read(&configuration.name)?.is_some() {
                needed = needed.or(Some(
                    "containerd's configuration may name it: take the import out, restart containerd, and say so \
 with --containerd-is-clean"
                        .to_owned(),
                ));
            }
        }
    }
    match needed {
        Some(why) => println!("{:?} stays: {why}", node.bin.path(HOSTPORT)),
        None => {
            remove(&node.bin, HOSTPORT)?;
            remove(&node.bin, PREVIOUS)?;
        }
    }
    Ok(())
}

/// kubelet makes a folder that is to be mounted and is not there with the mode 0755, which hostport refuses for its
/// journal. As whoever owns it, this needs no capability.
fn tighten(journal: &Path) -> Result<(), Error> {
    match fs::metadata(journal) {
        Ok(found) if found.permissions().mode() & 0o7777 != 0o700 => {
            let private = fs::Permissions::from_mode(0o700);
            fs::set_permissions(journal, private).map_err(Error::io("set the mode of", journal))
        }
        _ => Ok(()),
    }
}

/// What a program says of its version; an error if it does not run.
fn version(path: &Path) -> Result<String, Error> {
    let bad = |why: String| Error::DoesNotRun { path: path.to_owned(), why };
    let mut command = Command::new(path);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| bad(error.to_string()))?;
    let begin = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|error| bad(error.to_string()))? {
            Some(status) => break status,
            None if begin.elapsed() > PATIENCE => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(bad(format!("no answer in {} s", PATIENCE.as_secs())));
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    // A version fits into a pipe; who writes more has been killed above.
    let mut said = String::new();
    if let Some(mut out) = child.stdout.take() {
        let _ = Read::by_ref(&mut out).take(200).read_to_string(&mut said);
    }
    match status.success() && said.starts_with("hostport ") {
        true => Ok(said.trim_end().to_owned()),
        false => Err(bad(format!("it ended with {status}"))),
    }
}

/// Until a signal.
fn stay() -> io::Result<()> {
    let (mut read, write) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(SIGTERM, write.try_clone()?)?;
    signal_hook::low_level::pipe::register(SIGINT, write)?;
    loop {
        match read.read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map(drop),
        }
    }
}
