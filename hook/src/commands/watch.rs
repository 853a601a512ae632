//! `hostport watch`: keeps running, restores what another program removes, and withdraws from owners that end.

use std::fmt::Display;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use hostport_nft::{Error, Event, Events, Gather};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use signal_hook::consts::{SIGINT, SIGTERM};
use tracing::{error, info, warn};

use crate::cli::RulesetArguments;
use crate::commands::CommandError;
use crate::commands::restore::{How, counts, restore};
use crate::commands::surroundings::Look;
use crate::context::Context;
use crate::journal::{Ends, JournalError};
use crate::metrics::http;
use crate::network::listener::{Listener, listeners};
use crate::reconcile::withdraw::withdraw_ended;
use crate::reconcile::{self, Node};

/// The kernel's name for the hooks' processes: nothing that they do needs a restore.
const HOOK: &str = "hostport";
/// How often sockets that listen, containers' addresses and their links are looked at: the kernel does not tell of them.
const LOOK: Duration = Duration::from_secs(10);
/// After a restore that failed: another program may be in the middle of a reload.
const RETRY: Duration = Duration::from_secs(1);

/// Restores now, and then at each removal, until a signal.
pub fn run(
    ruleset: &RulesetArguments,
    metrics_listen: Option<SocketAddr>,
    context: &Context,
) -> Result<(), CommandError> {
    let mut stop = stop_signals().map_err(CommandError::Wait)?;
    // Listen first: what happens during the first restore must not be missed.
    let mut events =
        Events::listen(context.table.clone(), &[HOOK.to_owned(), own_name()]).map_err(plain)?;
    // A restore that fails is tried again, but waiting does not help a user without the rights.
    let [mut restoring, mut waiting, mut withdrawing, mut keeping, mut looking] =
        [(); 5].map(|()| Log::default());
    let mut restored = match restore_and_log(ruleset, context) {
        Err(problem) if problem.may_need_root() => return Err(problem),
        restored => restoring.take(restored).is_some(),
    };
    if let Some(address) = metrics_listen {
        http::serve(address, context.clone());
    }
    // Fails where no systemd waits for it.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    info!("watching the tables {}", context.table);

    let mut ends = waiting.take(begin_ends(context));
    let (mut looked, mut addresses) = (Instant::now(), Look::default());
    loop {
        let retry = (!restored || ends.is_none()).then_some(RETRY);
        let look = Some(LOOK.saturating_sub(looked.elapsed()));
        let due = ends.as_ref().and_then(Ends::until_due);
        let at_most = [retry, look, due, addresses.until_next()].into_iter().flatten().min();
        let ready = wait(&stop, &events, ends.as_ref(), at_most).map_err(CommandError::Wait)?;
        let [stops, changes, ended] = ready;
        if stops {
            let _ = stop.read(&mut [0; 16]);
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
            info!("ending");
            return Ok(());
        }
        if ended && ends.as_mut().is_some_and(|ends| ends.hear().is_err()) {
            // The journal may be moved and replaced: its new folder is not made in between.
            ends = None;
            continue;
        }
        if ends.is_none() {
            ends = waiting.take(begin_ends(context));
        }
        if let Some(ends) = &mut ends {
            let due = ends.due();
            let settings = ruleset.settings(context.table.clone());
            withdrawing.take(withdraw_ended(context, &due, settings));
        }
        let mut is_time = addresses.has_found(ends.as_ref().map(Ends::without_address), context);
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            keeping.take(keep(ruleset, context));
            ends = ends.filter(Ends::is_current);
            is_time = true;
        }
        if is_time && restored {
            restored = looking.take(addresses.is_right(ruleset, context)).unwrap_or(true);
        }
        if changes {
            match events.hear()? {
                Event::Nothing => continue,
                Event::Removed { by } => warn!("{by:?} removed host ports: restoring them"),
                Event::Lost => warn!("too many changes at once to follow: restoring"),
            }
        } else if restored {
            continue;
        }
        restored = restoring.take(restore_and_log(ruleset, context)).is_some();
    }
}

/// Leaves the addresses alone on which programs of the node listen by now.
fn keep(ruleset: &RulesetArguments, context: &Context) -> Result<(), CommandError> {
    let listening = listeners()?.iter().filter_map(Listener::on_one_address).gather();
    let settings = ruleset.settings(context.table.clone());
    if context.host_ports(settings).map_err(reconcile::Error::from)?.keep(&listening)? {
        info!("programs that listen on one address alone keep it, or no longer do");
    }
    Ok(())
}

/// Waits for owners to end.
fn begin_ends(context: &Context) -> Result<Ends, JournalError> {
    context.folder()?;
    Ends::of(&context.state_dir, &context.table)
}

fn restore_and_log(ruleset: &RulesetArguments, context: &Context) -> Result<(), CommandError> {
    let (restored, mended) = match restore(ruleset, How::default(), context) {
        // Trying again does not help.
        Err(CommandError::Operation(problem @ reconcile::Error::NoEntries(_))) => {
            error!("{problem}");
            return Ok(());
        }
        restored => restored?,
    };
    for family in &restored.tables {
        info!("re-created table {family} {}", context.table);
    }
    mended.iter().for_each(|line| info!("{line}"));
    info!("{}", counts(&restored));
    Ok(())
}

/// The log of work that is tried again and again: an error that repeats is logged once.
#[derive(Default)]
struct Log(String);

impl Log {
    fn take<T>(&mut self, result: Result<T, impl Display>) -> Option<T> {
        let problem = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
        if problem != self.0 && !problem.is_empty() {
            error!("{problem}");
        }
        self.0 = problem;
        result.ok()
    }
}

/// A user who may not listen to changes may not make them either.
fn plain(error: Error) -> Error {
    match error {
        Error::Open(source) if source.kind() == io::ErrorKind::PermissionDenied => {
            Error::NotPermitted
        }
        other => other,
    }
}

/// The kernel's name for this process: the program may be installed under another name.
fn own_name() -> String {
    let name = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
    name.trim_end_matches('\n').to_owned()
}

/// A stream that becomes readable when a signal asks the program to end.
pub fn stop_signals() -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(SIGTERM, write.try_clone()?)?;
    signal_hook::low_level::pipe::register(SIGINT, write)?;
    Ok(read)
}

/// Waits for one of the three, for some time at most. Returns which of them can be read.
fn wait(
    stop: &UnixStream,
    events: &impl AsFd,
    ends: Option<&Ends>,
    at_most: Option<Duration>,
) -> io::Result<[bool; 3]> {
    let timeout = at_most.and_then(|limit| Timespec::try_from(limit).ok());
    let all = [Some(stop.as_fd()), Some(events.as_fd()), ends.map(AsFd::as_fd)];
    let mut fds: Vec<PollFd> =
        all.iter().flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    retry_on_intr(|| poll(&mut fds, timeout.as_ref()))?;
    Ok([0, 1, 2].map(|at| fds.get(at).is_some_and(|fd| !fd.revents().is_empty())))
}
