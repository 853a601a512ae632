//! `hostport install` and `hostport uninstall`: a node's runtime calls hostport, or no longer does.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use tracing::{error, info, warn};

use super::cni::can_publish;
use super::print;
use super::watch::stop_signals;
use crate::cli::{Face, InstallArguments, PlaceArguments, UninstallArguments};
use crate::commands::CommandError;
use crate::context::Context;
use crate::diagnose::installation::{CRIO, PODMAN, Runtime};
use crate::install::{Follower, InstallError, Node, Plan, cni, containerd, hooks};

/// Plans, shows or makes the changes.
pub fn run(arguments: &InstallArguments, context: &Context) -> Result<ExitCode, CommandError> {
    let place = &arguments.place;
    let node = node(place)?;
    // On a node where the plugin cannot work, no pod would start. Another root is another node, such as an image.
    if place.face == Face::Cni && (place.root.as_os_str() == "/" || arguments.follow) {
        can_publish(context)?;
    }
    if arguments.follow {
        return follow(&node, place).map(|()| ExitCode::SUCCESS);
    }
    let plan = plan(&node, place)?;
    finish(&plan, place.dry_run || arguments.check)?;
    if arguments.check {
        return Ok(ExitCode::from(u8::from(!plan.changes.is_empty())));
    }
    let runtime = match place.face {
        Face::Cni => return Ok(ExitCode::SUCCESS),
        Face::Containerd => Runtime::Containerd,
        Face::Crio => Runtime::Crio,
        Face::Podman => Runtime::Podman,
    };
    match runtime.hindrance(&node.root).filter(|_| !place.dry_run) {
        None => Ok(ExitCode::SUCCESS),
        Some(left) => Err(CommandError::Hindered {
            runtime: runtime.name(),
            why: left.evidence.join("; "),
            fix: left.fix,
        }),
    }
}

/// Takes back what [`run`] does.
pub fn undo(arguments: &UninstallArguments) -> Result<(), CommandError> {
    let UninstallArguments { place, results } = arguments;
    let node = node(place)?;
    let plan = match place.face {
        Face::Cni => cni::uninstall(&node, &folders(place), results)?,
        Face::Containerd => containerd::uninstall(&node)?,
        Face::Crio => hooks::uninstall(&node, &CRIO)?,
        Face::Podman => hooks::uninstall(&node, &PODMAN)?,
    };
    finish(&plan, place.dry_run)
}

fn node(place: &PlaceArguments) -> Result<Node, InstallError> {
    Node::new(&place.root, place.program.as_deref())
}

fn folders(place: &PlaceArguments) -> cni::Folders {
    cni::Folders { lists: place.lists.clone(), plugins: place.plugins.clone() }
}

fn plan(node: &Node, place: &PlaceArguments) -> Result<Plan, InstallError> {
    match place.face {
        Face::Cni => cni::install(node, &folders(place)),
        Face::Containerd => containerd::install(node),
        Face::Crio => hooks::install(node, &CRIO),
        Face::Podman => hooks::install(node, &PODMAN),
    }
}

fn finish(plan: &Plan, dry_run: bool) -> Result<(), CommandError> {
    if plan.changes.is_empty() {
        print("nothing to change\n")?;
    }
    for change in &plan.changes {
        if !dry_run {
            change.make()?;
        }
        print(&if dry_run { change.diff() } else { change.done() + "\n" })?;
    }
    let then: String = plan.then.iter().map(|line| format!("then: {line}\n")).collect();
    print(&then)
}

/// How often in [`SPAN`] lists are changed at once; then their owner and this program may be at odds.
const MOST: usize = 5;
const SPAN: Duration = Duration::from_secs(60);

/// Changes the lists now, and then whenever another program has written one, until a signal.
fn follow(node: &Node, place: &PlaceArguments) -> Result<(), CommandError> {
    let stop = stop_signals().map_err(CommandError::Wait)?;
    // Listen first: what happens during the first change must not be missed.
    let follower = Follower::new(node.below(&place.lists))?;
    let (mut changed, mut said) = (Vec::<Instant>::new(), String::new());
    loop {
        let made = plan(node, place).and_then(|plan| {
            for change in &plan.changes {
                change.make()?;
                info!("{}", change.done());
            }
            Ok(!plan.changes.is_empty())
        });
        changed.extend(matches!(made, Ok(true)).then(Instant::now));
        match made {
            Ok(_) => said.clear(),
            // A list may come later, and one may be half written.
            Err(error) if error.to_string() != said => {
                said = error.to_string();
                error!("{said}");
            }
            Err(_) => {}
        }
        changed.retain(|time| time.elapsed() < SPAN);
        if changed.len() >= MOST {
            warn!(
                "another program writes portmap again and again: waiting for {} s; let it write hostport",
                SPAN.as_secs()
            );
            if wait(&[PollFd::new(&stop, PollFlags::IN)], Some(SPAN))? {
                return Ok(());
            }
            changed.clear();
        } else {
            let both = [PollFd::new(&stop, PollFlags::IN), PollFd::new(&follower, PollFlags::IN)];
            wait(&both, None)?;
            if wait(&both[..1], Some(Duration::ZERO))? {
                return Ok(());
            }
        }
        follower.hear()?;
    }
}

/// Waits until one can be read, for some time at most; whether one can.
fn wait(fds: &[PollFd<'_>], at_most: Option<Duration>) -> Result<bool, CommandError> {
    let timeout = at_most.and_then(|limit| Timespec::try_from(limit).ok());
    let mut fds = fds.to_vec();
    let ready = retry_on_intr(|| poll(&mut fds, timeout.as_ref()));
    Ok(ready.map_err(|error| CommandError::Wait(error.into()))? > 0)
}
