//! The program `hostport`. All of it is in the library beside this file.

use std::process::ExitCode;

/// musl's own asks the kernel for a page at a time.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    hostport_hook::run()
}
