//! The docs' own commands, so that tests do what a reader does.

use std::fs;
use std::path::Path;

/// The indented lines of a page in `docs/` from the one on that begins with these words, as one text.
///
/// # Panics
///
/// If the page has none.
#[track_caller]
pub fn block(page: &str, begin: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let page = fs::read_to_string(path).expect("a page");
    let indented = |line: &str| line.starts_with("    ");
    let begins = |line: &&str| indented(line) && line.trim_start().starts_with(begin);
    let lines = page.lines().skip_while(|line| !begins(line)).take_while(|line| indented(line));
    let block: Vec<&str> = lines.map(|line| &line[4..]).collect();
    assert!(!block.is_empty(), "{begin} is not in the page");
    block.join("\n")
}
