//! Metrics for Prometheus: counters in a file, and their text, in a file or over HTTP.
//! Reads kernel and journal, and changes neither.

pub mod counters;
pub mod http;
pub mod text;
pub mod textfile;
