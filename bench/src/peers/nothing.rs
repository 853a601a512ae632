//! Programs that do nothing: what any process costs.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Advice, fadvise};

/// The product's own flags (STATIC_FLAGS in the Makefile, and the workspace's release profile), so
/// that what is compared is what the programs do.
const STATIC_FLAGS: &str = "-C target-feature=+crt-static -C relocation-model=static";
const RELEASE: &str =
    "-C opt-level=s -C lto=fat -C codegen-units=1 -C panic=abort -C strip=symbols";

/// The flags that make the product static.
pub fn static_flags() -> String {
    std::env::var("STATIC_FLAGS").unwrap_or_else(|_| STATIC_FLAGS.to_owned())
}

/// A static Rust program that does nothing, in a folder.
pub fn rust(folder: &Path) -> PathBuf {
    let (source, program) = (folder.join("empty.rs"), folder.join("empty"));
    fs::write(&source, "fn main() {}\n").unwrap();
    let flags = static_flags();
    let flags = RELEASE.split(' ').chain(flags.split_whitespace());
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    compile(&rustc, flags, &source, &program);
    program
}

/// A static C program that does nothing, in a folder.
pub fn c(folder: &Path) -> PathBuf {
    let (source, program) = (folder.join("empty.c"), folder.join("empty-c"));
    fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    compile(OsStr::new("gcc"), ["-O2", "-static", "-s"].into_iter(), &source, &program);
    program
}

fn compile<'a>(
    compiler: &OsStr,
    flags: impl Iterator<Item = &'a str>,
    source: &Path,
    program: &Path,
) {
    let status = Command::new(compiler).args(flags).arg(source).arg("-o").arg(program).status();
    let status = status.unwrap_or_else(|error| panic!("cannot start {compiler:?}: {error}"));
    assert!(status.success(), "{compiler:?} cannot compile {source:?}");
    forget(program);
}

/// A copy of a program in a folder, as the disk has it.
pub fn copy(program: &Path, folder: &Path) -> PathBuf {
    let copy = folder.join(program.file_name().expect("a file"));
    fs::copy(program, &copy).unwrap_or_else(|error| panic!("{program:?}: {error}"));
    forget(&copy);
    copy
}

/// Leaves a file to the disk alone. What a process pays for each page of its program depends on how
/// the page came into memory: the least where the file was just written, more where it was read
/// when somebody started it, as on a host that has booted since.
fn forget(file: &Path) {
    let file = File::open(file).unwrap();
    file.sync_all().unwrap();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
}
