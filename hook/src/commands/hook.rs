//! `hostport hook`: what a container runtime calls when a container starts and when it has ended.

use std::collections::BTreeSet;
use std::io;
use std::time::Instant;

use thiserror::Error;
use tracing::{debug, warn};

use crate::cli::{HookArguments, Stage};
use crate::context::Context;
use crate::journal::{JournalSnapshot, Liveness};
use crate::metrics::counters::{Call, Counters};
use crate::oci::podman::PodmanNames;
use crate::oci::request::{self, Options, RequestError, Start};
use crate::oci::state::State;
use crate::output::escape;
use crate::reconcile::publish::publish;
use crate::reconcile::withdraw::{make_way, withdraw};
use crate::reconcile::{self, Node};

/// Why a container must not start, or what its end left behind.
#[derive(Debug, Error)]
pub enum HookError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Operation(#[from] reconcile::Error),
    #[error("cannot infer the stage from status {0}: pass it, as in `hostport hook poststop`")]
    NoStage(String),
}

/// Publishes or withdraws what the container on standard input asks for.
pub fn run(arguments: &HookArguments, context: &Context) -> Result<(), HookError> {
    let begin = Instant::now();
    let state = State::read(io::stdin().lock()).map_err(RequestError::from)?;
    let stopped = match (arguments.stage, state.status.as_str()) {
        (Some(stage), _) => stage == Stage::Poststop,
        (None, "creating" | "created" | "running") => false,
        // runc calls a checkpoint that it is about to restore stopped, too.
        (None, "stopped") => state.pid.and_then(|pid| context.liveness().process(pid)).is_none(),
        (None, status) => return Err(HookError::NoStage(escape::quote(status))),
    };
    let options = || Options {
        settings: arguments.ruleset.settings(context.table.clone()),
        hairpin_mode: !arguments.no_hairpin_mode,
        allow_pod_annotation: arguments.allow_pod_annotation,
    };
    let mut done = match stopped {
        true => end(&state, options(), context),
        false => start(&state, options(), context),
    };
    if let Err(HookError::Operation(reconcile::Error::Taken { owner, .. })) = &mut done {
        PodmanNames::default().complete(owner);
    }
    let conflict = matches!(&done, Err(HookError::Operation(error)) if error.is_conflict());
    if let (false, Err(error)) = (stopped, &done) {
        let why = error.to_string();
        request::of_refused(&state, &options(), conflict, why).keep(&context.state_dir);
    }
    // Calls for containers without host ports are many, and their duration does not matter.
    let taken_over = done.as_ref().ok().copied().flatten();
    if conflict || taken_over.is_some() {
        Counters::of_call(&context.state_dir, &Call { begin, stopped, conflict, taken_over });
    }
    done.map(drop)
}

/// Returns how many host ports were taken over; none if there was nothing to do.
fn start(state: &State, options: Options, context: &Context) -> Result<Option<usize>, HookError> {
    if state.status == "running" && is_published(state, context) {
        debug!("container {} has its host ports since an earlier stage", state.id);
        return Ok(None);
    }
    let settings = options.settings.clone();
    match request::of_start(state, options)? {
        Start::Nothing => Ok(None),
        Start::OnHost(hosts) => {
            // Nothing of ours keeps it from starting.
            if let Err(error) = make_way(context, &hosts, settings) {
                warn!(
                    "{error}; what ended containers have at its ports hides it until hostport gc"
                );
            }
            Ok(None)
        }
        Start::InPod(request, mut pod) => Ok(Some(publish(context, *request, &mut pod)?)),
    }
}

/// Whether the container has host ports of its own, by an earlier stage of the same start. Only at poststart may that be
/// so, and only where prestart found no address is there anything left to do.
fn is_published(state: &State, context: &Context) -> bool {
    let process = state.pid.and_then(|pid| context.liveness().process(pid));
    let entries = JournalSnapshot::of_owners(&context.state_dir, [&state.id]);
    entries.iter().any(|entry| {
        let is_this = process.is_some() && entry.process == process;
        is_this && entry.settings.table == context.table && !entry.mappings.is_empty()
    })
}

fn end(state: &State, options: Options, context: &Context) -> Result<Option<usize>, HookError> {
    let hosts = match request::of_end(state, &options) {
        Ok(hosts) => hosts,
        Err(error) if context.has_entry(&state.id) => {
            warn!("{error}; withdrawing what the journal lists");
            BTreeSet::new()
        }
        Err(error) => return Err(error.into()),
    };
    Ok(withdraw(context, &state.id, hosts, options.settings)?.then_some(0))
}
