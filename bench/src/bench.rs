//! What every part of the benchmarks is given.

use std::path::{Path, PathBuf};

use hostport_tests::hook;
use hostport_tests::runtime::Scratch;
use hostport_vm_tests::Wrong;

use crate::install::Peers;
use crate::peers::crio::Crio;
use crate::peers::hostport::Hostport;
use crate::peers::netavark::Netavark;
use crate::peers::nothing;
use crate::peers::plugin::Plugin;
use crate::peers::portmap::{Backend, Portmap};

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Everything, for docs/benchmarks.md.
    Full,
    /// What tells in three minutes whether something has changed.
    Quick,
}

/// What every part is given.
#[derive(Debug)]
pub struct Bench {
    /// How much is measured.
    pub pace: Pace,
    /// The peers' packages.
    pub packages: Peers,
    /// The programs that are called.
    pub programs: Programs,
    _scratch: Scratch,
}

/// The programs that are called, each on a file system of a disk, read from it as after a boot.
#[derive(Debug)]
pub struct Programs {
    /// The product.
    pub hostport: PathBuf,
    /// A static Rust program that does nothing, built with the product's flags.
    pub nothing: PathBuf,
    /// A static C program that does nothing.
    pub nothing_c: PathBuf,
    /// nft, as it is installed here.
    pub nft: PathBuf,
    portmap: PathBuf,
    netavark: PathBuf,
    linker: PathBuf,
}

impl Programs {
    /// hostport's hook.
    pub fn hostport(&self) -> Hostport {
        Hostport::new(&self.hostport)
    }

    /// hostport as a CNI plugin.
    pub fn plugin(&self) -> Plugin {
        Plugin::new(&self.hostport)
    }

    /// The file of portmap.
    pub fn portmap_file(&self) -> &Path {
        &self.portmap
    }

    /// The file of netavark.
    pub fn netavark_file(&self) -> &Path {
        &self.netavark
    }

    /// portmap with one of its backends.
    pub fn portmap(&self, backend: Backend) -> Portmap {
        Portmap::new(&self.portmap, backend)
    }

    /// CRI-O's way.
    pub fn crio(&self) -> Crio {
        Crio::new(&self.nft)
    }

    /// netavark.
    pub fn netavark(&self) -> Netavark {
        Netavark::new(&self.netavark, &self.linker)
    }
}

/// Where the repository is.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

impl Bench {
    /// Makes ready what the parts have in common.
    pub fn prepare(pace: Pace) -> Result<Bench, Wrong> {
        let packages = Peers::fetch(&repository().join("target/bench"))?;
        let scratch = Scratch::new("programs");
        let folder = scratch.path();
        let programs = Programs {
            hostport: nothing::copy(&hook::program(), folder),
            nothing: nothing::rust(folder),
            nothing_c: nothing::c(folder),
            nft: "/usr/sbin/nft".into(),
            portmap: packages.file("containernetworking-plugins", "usr/lib/cni/portmap"),
            netavark: packages.file("netavark", "usr/lib/podman/netavark"),
            linker: packages.file("libc6", "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"),
        };
        Ok(Bench { pace, packages, programs, _scratch: scratch })
    }

    /// One of two numbers (of rounds, of ports), as the pace asks.
    pub fn pick<T>(&self, full: T, quick: T) -> T {
        match self.pace {
            Pace::Full => full,
            Pace::Quick => quick,
        }
    }
}

/// Tells on stderr what is under way.
pub fn progress(what: impl std::fmt::Display) {
    use std::sync::LazyLock;
    use std::time::Instant;
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let seconds = START.elapsed().as_secs();
    eprintln!("{:2}:{:02} {what}", seconds / 60, seconds % 60);
}
