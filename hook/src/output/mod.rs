//! What people and log collectors read: escaped text, times, log lines, progress.
//! Nothing here knows host ports.

pub mod escape;
pub mod log;
pub mod progress;
pub mod timestamp;
