//! Standard output.

use std::io::{self, Write};

use crate::commands::error::CommandError;

/// Prints a command's result. It is no failure if the reader has closed the pipe, as in `| head`.
pub fn print(text: &str) -> Result<(), CommandError> {
    print_more(text).map(|_| ())
}

/// Prints, and says whether anybody still reads.
pub fn print_more(text: &str) -> Result<bool, CommandError> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(CommandError::Output(error)),
    }
}
