//! Metrics for Prometheus. Reads kernel and journal, and changes neither.
//!
//! ```text
//! counters  what hooks count: a file beside the journal
//! text      all metrics, of the kernel, the journal and the counters, as text
//! textfile  that text for the node exporter
//! http      that text over HTTP
//! ```

pub mod counters;
pub mod http;
pub mod text;
pub mod textfile;
