//! `hostport explain`: what happens here to a packet for a port, step by step, and what is in its way.
//!
//! The way is the kernel's, and so is what is read. What is wrong is found by the doctor's own finders, in
//! facts that hold this one packet alone; so the two find the same. What the doctor calls broken is in the
//! packet's way here. So is some of what the doctor only warns of, such as a container in which nothing
//! listens (`cause::is_in_the_way`).

pub mod render;

use std::process::ExitCode;
use std::thread;

use crate::diagnose::path::Walk;
use crate::diagnose::question::Question;

use crate::commands::{CommandError, print};
use crate::context::Context;
use crate::diagnose::{LOOKS, PAUSE};

/// Prints the way. Exit status 1 if something is in it.
pub fn run(question: &Question, json: bool, context: &Context) -> Result<ExitCode, CommandError> {
    question.check();
    let mut walk = Walk::of(question, false, context)?;
    // It may be a hook's work under way.
    for _ in 1..LOOKS {
        if !walk.may_pass() {
            break;
        }
        thread::sleep(PAUSE);
        walk = Walk::of(question, false, context)?;
    }
    if question.probe {
        walk = Walk::of(question, true, context)?;
    }
    print(&if json { render::json(&walk) } else { render::text(&walk) })?;
    Ok(if walk.is_open() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
