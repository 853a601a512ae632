//! How often a test does what only now and then goes wrong.

/// A few rounds in every test run, many in `make endurance` (HOSTPORT_ENDURANCE).
pub fn rounds(few: usize, many: usize) -> usize {
    if is_endurance() { many } else { few }
}

/// Whether this is `make endurance`.
pub fn is_endurance() -> bool {
    std::env::var_os("HOSTPORT_ENDURANCE").is_some()
}
