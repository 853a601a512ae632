//! Hooks that run at the same time, against each other and against everything else.

mod crowd;
mod ground;
mod pairs;
mod relay;
