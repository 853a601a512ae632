//! The program `hostport`. All of it is in the library beside this file.

use std::process::ExitCode;

fn main() -> ExitCode {
    hostport_hook::run()
}
