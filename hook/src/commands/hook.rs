//! `hostport hook`: what a container runtime calls when a container comes and when it has gone.

use std::io;
use std::time::Instant;

use crate::cli::{HookArguments, Stage};
use crate::context::Context;
use crate::metrics::counters::{Counters, add};
use crate::oci::state::{State, Status};
use crate::reconcile::{Done, HookError, publish, withdraw};

/// Publishes or withdraws what the container on standard input asks for.
pub fn run(arguments: &HookArguments, context: &Context) -> Result<(), HookError> {
    let begin = Instant::now();
    let state = State::read(io::stdin().lock())?;
    let stopped = match (arguments.stage, &state.status) {
        (Some(stage), _) => stage == Stage::Poststop,
        (None, Status::Creating | Status::Created | Status::Running) => false,
        (None, Status::Stopped) => true,
        (None, Status::Other(status)) => return Err(HookError::NoStage(status.clone())),
    };
    let mut done = Done::default();
    let result = if stopped {
        withdraw::run(&state, arguments, context, &mut done)
    } else {
        publish::run(&state, arguments, context, &mut done)
    };
    let conflict = matches!(
        result,
        Err(HookError::TakenByUnknown { .. } | HookError::Ruleset(hostport_nft::Error::Taken(_)))
    );
    // Calls for containers without host ports are many, and nobody asks how long they took.
    if conflict || done.changed {
        Counters::change(&context.state_dir, |counters| {
            add(&mut counters.conflicts, u64::from(conflict));
            add(&mut counters.takeovers, done.taken_over);
            if done.changed {
                let all = if stopped { &mut counters.withdraw } else { &mut counters.publish };
                all.observe(begin.elapsed());
            }
        });
    }
    result
}
