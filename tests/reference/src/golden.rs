//! Golden files: texts in `tests/golden/`, reviewed like code.
//!
//! After an intended change, write them again and review the difference:
//!
//! ```text
//! HOSTPORT_BLESS=1 cargo test -p hostport-tests --test all -- golden:: libnftnl::
//! git diff tests/golden
//! ```

use std::path::PathBuf;
use std::{env, fs};

fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../golden")).join(name)
}

/// The text of a golden file.
///
/// # Panics
/// If there is none.
#[track_caller]
pub fn read(name: &str) -> String {
    let path = path(name);
    fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; write it with HOSTPORT_BLESS=1", path.display())
    })
}

/// Compares a text with a golden file; with `HOSTPORT_BLESS` set, writes the file instead.
///
/// # Panics
/// With both texts, if they differ.
#[track_caller]
pub fn check(name: &str, text: &str) {
    if env::var_os("HOSTPORT_BLESS").is_some() {
        fs::write(path(name), text).expect("a golden file to write");
        return;
    }
    let golden = read(name);
    assert!(
        golden == text,
        "{name} is not what it was. If that is meant, run again with HOSTPORT_BLESS=1 and review \
         the difference.\n--- golden\n{golden}\n--- now\n{text}"
    );
}
