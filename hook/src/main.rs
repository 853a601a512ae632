//! The hostport program.
fn main() {}
