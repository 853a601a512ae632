//! What must hold of everything that is read, whatever the input: one function a fuzz target (docs/fuzzing.md).
//! Not part of the program: compiled only where cargo-fuzz sets `cfg(fuzzing)`.

#![allow(missing_docs, clippy::missing_panics_doc)]

mod annotations;
mod config;
mod journal;
mod policy;
mod rtnetlink;
mod state;

pub use annotations::annotations;
pub use config::config;
pub use journal::journal;
pub use policy::policy;
pub use rtnetlink::rtnetlink;
pub use state::state;

use std::fmt::Display;

/// A message for an operator is one line of bounded length without anything that a terminal obeys,
/// whatever it quotes.
fn assert_one_line(message: &impl Display) {
    let message = message.to_string();
    assert!(!message.is_empty());
    assert!(!message.contains(char::is_control), "control characters: {message:?}");
    assert!(message.chars().count() < 1000, "{} characters: {message:?}", message.chars().count());
}
