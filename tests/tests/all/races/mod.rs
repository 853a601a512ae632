//! Hooks that run at the same time, against each other and against all other commands.

mod crowd;
mod ground;
mod pairs;
mod relay;
