//! The contenders, and how each is called.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use hostport_tests::hook;
use rustix::fs::{Advice, fadvise};

/// The product's own flags (STATIC_FLAGS in the Makefile, and the workspace's release profile), so
/// that what is compared is what the programs do.
const STATIC_FLAGS: &str = "-C target-feature=+crt-static -C relocation-model=static";
const RELEASE: [&str; 10] = [
    "-C",
    "opt-level=3",
    "-C",
    "lto=fat",
    "-C",
    "codegen-units=1",
    "-C",
    "panic=abort",
    "-C",
    "strip=symbols",
];

/// A process that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// A static Rust program that does nothing: what any program of this kind costs.
    Empty,
    /// A static C program that does nothing.
    EmptyC,
    /// The hook for a container that asks for no host port: the commonest call by far.
    Portless,
    /// The hook that publishes a port of a dual-stack pod.
    Prestart,
    /// The hook that withdraws it.
    Poststop,
    /// `nft add element`, of one family.
    NftAdd,
    /// `nft delete element`.
    NftDelete,
}

impl Program {
    /// All of them, in the order of a report.
    pub const ALL: [Program; 7] = [
        Program::Empty,
        Program::EmptyC,
        Program::Portless,
        Program::Prestart,
        Program::Poststop,
        Program::NftAdd,
        Program::NftDelete,
    ];

    /// What a round measures, in groups: a group leaves the node as it found it.
    pub const GROUPS: [&[Program]; 5] = [
        &[Program::Empty],
        &[Program::Prestart, Program::Poststop],
        &[Program::EmptyC],
        &[Program::NftAdd, Program::NftDelete],
        &[Program::Portless],
    ];

    /// As a report names it.
    pub fn title(self) -> &'static str {
        match self {
            Program::Empty => "a static program that does nothing (Rust)",
            Program::EmptyC => "a static program that does nothing (C)",
            Program::Portless => "hook, container without host ports",
            Program::Prestart => "hook, prestart",
            Program::Poststop => "hook, poststop",
            Program::NftAdd => "nft add element",
            Program::NftDelete => "nft delete element",
        }
    }
}

/// Where the programs are.
pub struct Programs {
    empty: PathBuf,
    empty_c: PathBuf,
    hostport: PathBuf,
    nft: PathBuf,
}

impl Programs {
    /// Compiles those that do nothing into a folder, copies the product there, and finds nft.
    pub fn build(folder: &Path) -> Programs {
        let (source, empty) = (folder.join("empty.rs"), folder.join("empty"));
        fs::write(&source, "fn main() {}\n").unwrap();
        let flags = std::env::var("STATIC_FLAGS").unwrap_or_else(|_| STATIC_FLAGS.to_owned());
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        compile(&rustc, RELEASE.into_iter().chain(flags.split_whitespace()), &source, &empty);

        let (source, empty_c) = (folder.join("empty.c"), folder.join("empty-c"));
        fs::write(&source, "int main(void) { return 0; }\n").unwrap();
        compile(OsStr::new("gcc"), ["-O2", "-static", "-s"].into_iter(), &source, &empty_c);

        let hostport = folder.join("hostport");
        fs::copy(hook::program(), &hostport).unwrap();
        for file in [&empty, &empty_c, &hostport] {
            forget(file);
        }
        Programs { empty, empty_c, hostport, nft: find("nft") }
    }

    /// A copy of the program that the hook is.
    pub fn hostport(&self) -> &Path {
        &self.hostport
    }

    /// The file of a contender.
    pub fn path(&self, program: Program) -> &Path {
        match program {
            Program::Empty => &self.empty,
            Program::EmptyC => &self.empty_c,
            Program::Portless | Program::Prestart | Program::Poststop => &self.hostport,
            Program::NftAdd | Program::NftDelete => &self.nft,
        }
    }
}

fn compile<'a>(
    compiler: &OsStr,
    flags: impl Iterator<Item = &'a str>,
    source: &Path,
    binary: &Path,
) {
    let status = Command::new(compiler).args(flags).arg(source).arg("-o").arg(binary).status();
    let status = status.unwrap_or_else(|error| panic!("cannot start {compiler:?}: {error}"));
    assert!(status.success(), "{compiler:?} cannot compile {source:?}");
}

/// Leaves a file to the disk alone. What a process pays for each page of its program depends on how
/// the page came into memory: the least where the file was just written, more where it was read
/// when somebody started it, as on a host that has booted since.
fn forget(file: &Path) {
    let file = File::open(file).unwrap();
    file.sync_all().unwrap();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
}

/// A program's file, so that no time goes into looking through PATH.
fn find(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: `make bench` installs it"))
}
