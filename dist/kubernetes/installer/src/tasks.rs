//! What the commands do.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::cli::{Arguments, Folders, Task};
use crate::error::Error;
use crate::folder::Folder;
use crate::node::{EXECUTABLE, FILE, HOSTPORT, Node, PREVIOUS, owners};
use crate::program;
use crate::say::say;

pub fn run(arguments: &Arguments) -> Result<ExitCode, Error> {
    let folders = &arguments.folders;
    match arguments.task {
        Task::Install => install(&Node::open(folders)?)?,
        Task::Status { check } => return status(&Node::look(folders)?, check),
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
    node.refuse_others()?;
    node.bin.read(PREVIOUS)?;
    let path = node.bin.path(HOSTPORT);
    let calls = node.calls_to_come();
    let fails = |why| Error::HookFails { path: path.clone(), why };
    if node.bin.has(HOSTPORT, &node.program, EXECUTABLE)? {
        // The options may be new although the program is not.
        program::try_hook(&node.bin, &path, &calls).map_err(fails)?;
        say!("{path:?} is up to date");
    } else {
        let new = node.bin.prepare(&node.program, EXECUTABLE)?;
        let works = program::version(&new).and_then(|version| {
            program::try_hook(&node.bin, &new, &calls).map_err(fails)?;
            goes_on(node, &new)?;
            Ok(version)
        });
        let version = works.inspect_err(|_| drop(node.bin.discard()))?;
        let keep = worth_keeping(node)?.then_some(PREVIOUS);
        if options_first(node, &new, keep.is_some())? {
            install_configurations(node)?;
        }
        node.bin.settle(HOSTPORT, keep)?;
        say!("installed {path:?}: {version}");
    }
    install_configurations(node)?;
    if let Some(hooks) = &node.hooks {
        for name in node.stale()? {
            remove(hooks, &name)?;
        }
    }
    if node.containerd.is_some() {
        say!(
            "for containerd, once on each node: in /etc/containerd/config.toml, with version = 3 (containerd 2), \
             add \"/etc/containerd/hostport/config-v3.toml\" to its list of imports; with version = 2, import \
             nothing, but replace the values in the table of config-v2.toml, or append that file if there is no \
             such table; then restart containerd"
        );
    }
    if node.hooks.is_none() && node.containerd.is_none() {
        say!(
            "no runtime will call hostport: neither a folder of hooks nor one for containerd is mounted (--hooks, \
             --containerd)"
        );
    }
    Ok(())
}

fn install_configurations(node: &Node) -> Result<(), Error> {
    for (folder, configuration) in node.configurations() {
        let (name, content) = (&configuration.name, &configuration.content);
        if folder.has(name, content, FILE)? {
            say!("{:?} is up to date", folder.path(name));
        } else {
            folder.prepare(content, FILE)?;
            folder.settle(name, None)?;
            say!("installed {:?}", folder.path(name));
        }
    }
    Ok(())
}

/// Whether the node's options are too new for the program, as in a rollback to an older release. Then the image's
/// options are installed first, so that its program is never called with the others, provided that the present program
/// takes them.
fn options_first(node: &Node, new: &Path, present_runs: bool) -> Result<bool, Error> {
    Ok(present_runs
        && program::try_hook(&node.bin, new, &node.calls_now()?).is_err()
        && program::try_hook(&node.bin, &node.bin.path(HOSTPORT), &node.calls_to_come()).is_ok())
}

/// Refuses a program that fails where the present one works, in calls that no configuration of the image changes.
/// With containerd, no container would start any more, not even the installer's.
fn goes_on(node: &Node, new: &Path) -> Result<(), Error> {
    let path = node.bin.path(HOSTPORT);
    for call in node.calls_that_stay()? {
        let call = [call];
        if let Err(why) = program::try_hook(&node.bin, new, &call)
            && program::try_hook(&node.bin, &path, &call).is_ok()
        {
            return Err(Error::CallStays { path, why });
        }
    }
    Ok(())
}

/// Whether the present program is worth going back to. If not, the one kept before stays.
fn worth_keeping(node: &Node) -> Result<bool, Error> {
    let present = node.bin.read(HOSTPORT)?;
    Ok(present.is_some_and(|present| present != node.program)
        && program::version(&node.bin.path(HOSTPORT)).is_ok())
}

fn status(node: &Node, check: bool) -> Result<ExitCode, Error> {
    let mut whole = node.bin.has(HOSTPORT, &node.program, EXECUTABLE)?;
    for name in [HOSTPORT, PREVIOUS] {
        let path = node.bin.path(name);
        match node.bin.read(name)? {
            None => say!("{path:?}: missing"),
            Some(content) => {
                let what = if content == node.program { "this image's" } else { "another build" };
                let version = program::version(&path);
                whole &= version.is_ok() || name == PREVIOUS;
                say!("{path:?}: {}, {what}", version.unwrap_or_else(|error| error.to_string()));
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
        say!("{:?}: {state}", folder.path(name));
    }
    if let Some(hooks) = &node.hooks {
        for name in node.stale()? {
            whole = false;
            say!("{:?}: of another release", hooks.path(&name));
        }
    }
    Ok(if whole || !check { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn rollback(node: &Node) -> Result<(), Error> {
    let previous = node.bin.path(PREVIOUS);
    if node.bin.read(PREVIOUS)?.is_none() || node.bin.read(HOSTPORT)?.is_none() {
        return Err(Error::NoPrevious(previous));
    }
    let version = program::version(&previous)?;
    program::try_hook(&node.bin, &previous, &node.calls_now()?)
        .map_err(|why| Error::PreviousFails { path: previous, why })?;
    node.bin.exchange(HOSTPORT, PREVIOUS)?;
    say!("{:?} is now the previous one: {version}", node.bin.path(HOSTPORT));
    Ok(())
}

fn uninstall(node: &Node, folders: &Folders, containerd_is_clean: bool) -> Result<(), Error> {
    node.clear()?;
    let mut needed = None;
    if let Some(hooks) = &node.hooks {
        let (ours, operators) = node.hooks_of_ours()?;
        for name in &ours {
            remove(hooks, name)?;
        }
        let names = hooks.names()?;
        for configuration in &node.hook_configurations {
            if names.contains(&configuration.name) && !ours.contains(&configuration.name) {
                say!(
                    "{:?} stays: it does not call {:?}",
                    hooks.path(&configuration.name),
                    node.on_node
                );
            }
        }
        if let Some(name) = operators.first() {
            needed = Some(format!("{:?} calls it: take that away first", hooks.path(name)));
        }
    }
    tighten(&folders.journal)?;
    let journal = match owners(&folders.journal) {
        Ok(Some(0)) => None,
        Ok(Some(count)) => Some(format!(
            "{count} {} in the journal, and it withdraws their host ports when they end (hostport gc withdraws those of \
             dead containers)",
            if count == 1 { "container is" } else { "containers are" }
        )),
        Ok(None) => Some(format!("the journal is not mounted at {:?}", folders.journal)),
        Err(error) => Some(format!(
            "cannot read the journal {:?}, which lists the containers that need it: {error}",
            folders.journal
        )),
    };
    needed = needed.or(journal);
    let plugin = folders.plugins.join(HOSTPORT);
    if fs::read_link(&plugin).is_ok_and(|to| to == Path::new(&node.on_node)) {
        needed = needed.or(Some(format!("the CNI plugin {plugin:?} leads to it")));
    }
    if let Some(containerd) = &node.containerd {
        for configuration in &node.containerd_files {
            if node.is_anothers(containerd, &configuration.name)? {
                say!(
                    "{:?} stays: it does not call {:?}",
                    containerd.path(&configuration.name),
                    node.on_node
                );
            } else if containerd_is_clean {
                remove(containerd, &configuration.name)?;
            } else if containerd.read(&configuration.name)?.is_some() {
                needed = needed.or(Some(
                    "containerd's configuration may name it: take the import out, restart containerd, and call this with \
                     --containerd-is-clean"
                        .to_owned(),
                ));
            }
        }
    }
    match needed {
        Some(why) => say!("{:?} stays: {why}", node.bin.path(HOSTPORT)),
        None => {
            remove(&node.bin, HOSTPORT)?;
            remove(&node.bin, PREVIOUS)?;
        }
    }
    Ok(())
}

fn remove(folder: &Folder, name: &str) -> Result<(), Error> {
    if folder.remove(name)? {
        say!("removed {:?}", folder.path(name));
    }
    Ok(())
}

/// kubelet creates a missing folder for a mount with the mode 0755, which hostport refuses for its journal. The owner
/// needs no capability to change that.
fn tighten(journal: &Path) -> Result<(), Error> {
    match fs::metadata(journal) {
        Ok(found) if found.permissions().mode() & 0o7777 != 0o700 => {
            let private = fs::Permissions::from_mode(0o700);
            fs::set_permissions(journal, private).map_err(Error::io("set the mode of", journal))
        }
        _ => Ok(()),
    }
}

/// Waits for a signal.
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
