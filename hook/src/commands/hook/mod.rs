//! `hostport hook`: what a container runtime calls when a container comes and when it has gone.

mod publish;
mod withdraw;

use std::io;

use hostport_nft::{Mapping, Taken};
use thiserror::Error;

use super::Place;
use crate::annotations::ResolveError;
use crate::bundle::ConfigError;
use crate::cli::{HookArguments, Stage};
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
    let state = State::read(io::stdin().lock())?;
    let stopped = match (arguments.stage, &state.status) {
        (Some(stage), _) => stage == Stage::Poststop,
        (None, Status::Creating | Status::Created | Status::Running) => false,
        (None, Status::Stopped) => true,
        (None, Status::Other(status)) => return Err(HookError::NoStage(status.clone())),
    };
    if stopped {
        withdraw::run(&state, arguments, place)
    } else {
        publish::run(&state, arguments, place)
    }
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
