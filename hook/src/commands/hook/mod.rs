//! `hostport hook`: what a container runtime calls when a container comes and when it has gone.

mod owners;
mod publish;
mod withdraw;

use std::io;
use std::time::Instant;

use hostport_nft::{Mapping, Taken};
use thiserror::Error;

use super::Place;
use crate::annotations::ResolveError;
use crate::bundle::ConfigError;
use crate::cli::{HookArguments, Stage};
use crate::counters::{Counters, add};
use crate::journal::JournalError;
use crate::pod::PodError;
use crate::policy::PolicyError;
use crate::state::{State, StateError, Status};

/// Why a container must not start, or what its end left behind.
#[derive(Debug, Error)]
pub enum HookError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Pod(#[from] PodError),
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Ruleset(#[from] hostport_nft::Error),
    #[error(
        "{taken}; the journal does not know its owner: if that has ended, clear it with: {command}"
    )]
    TakenByUnknown { taken: Taken, command: String },
    #[error("the state's status {0:?} tells no stage: name one, as in `hostport hook poststop`")]
    NoStage(String),
}

/// Publishes or withdraws what the container on standard input asks for.
pub fn run(arguments: &HookArguments, place: &Place) -> Result<(), HookError> {
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
        withdraw::run(&state, arguments, place, &mut done)
    } else {
        publish::run(&state, arguments, place, &mut done)
    };
    let conflict = matches!(
        result,
        Err(HookError::TakenByUnknown { .. } | HookError::Ruleset(hostport_nft::Error::Taken(_)))
    );
    // Calls for containers without host ports are many, and nobody asks how long they took.
    if conflict || done.changed {
        Counters::change(&place.state_dir, |counters| {
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

/// What a call has done, to be counted.
#[derive(Debug, Default)]
struct Done {
    /// It came as far as the kernel, and that agreed.
    changed: bool,
    taken_over: u64,
}

/// Mappings for one line of the log.
fn several(mappings: &[Mapping]) -> String {
    const MOST: usize = 8;
    let mut texts: Vec<String> = mappings.iter().take(MOST).map(Mapping::to_string).collect();
    if mappings.len() > MOST {
        texts.push(format!("and {} more", mappings.len() - MOST));
    }
    texts.join(", ")
}
