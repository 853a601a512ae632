//! What is told on the way. Nobody may be listening, or the disk behind the log may be full: the node is to be
//! whole all the same, so an output that fails is no error.

/// A line on standard output.
macro_rules! say {
    ($($what:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($what)*);
    }};
}

pub(crate) use say;
