//! Progress on standard output. A failed write is not an error: the installation goes on even if nobody reads the log
//! or its disk is full.

/// A line on standard output.
macro_rules! say {
    ($($what:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($what)*);
    }};
}

pub(crate) use say;
