//! `docs/benchmarks.md`, of which each benchmark writes its own part.

use std::fs;
use std::path::Path;

/// Where the second part begins, that of the journal; the first is that of the hook call.
const JOURNAL: &str = "## Withdraw, restore and watch\n";

/// Replaces a part, which its first line tells, and leaves the other one as it is.
///
/// # Panics
///
/// If the page cannot be written.
pub fn write(part: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks.md");
    let before = fs::read_to_string(&file).unwrap_or_default();
    let (hook_call, journal) = before.split_at(before.find(JOURNAL).unwrap_or(before.len()));
    let (hook_call, journal) =
        if part.starts_with(JOURNAL) { (hook_call, part) } else { (part, journal) };
    let page = format!("{}\n\n{}", hook_call.trim_end(), journal.trim_end());
    fs::write(&file, page.trim_end().to_owned() + "\n").expect("docs/benchmarks.md can be written");
    println!("\nwritten to docs/benchmarks.md");
}
