//! The command line.

use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum, value_parser};

use crate::Wrong;

/// Runs the tests of hostport on other kernels, each in a virtual machine.
///
/// Without --kernel the kernels are Debian's own, fetched with apt from the mirror that this machine uses.
/// Run it from a checkout, as root: the tests are built from it.
#[derive(Debug, Parser)]
#[command(name = "vm-tests", after_help = EXAMPLES)]
pub struct Options {
    /// Debian's kernels to run on: 5.10, 6.1, 6.12, sid [default: all of them]
    pub kernels: Vec<String>,

    /// A kernel of your own: a bzImage
    #[arg(long, value_name = "FILE", conflicts_with = "kernels")]
    pub kernel: Option<PathBuf>,

    /// The folder with that kernel's lib/modules (as of make modules_install INSTALL_MOD_PATH=DIR)
    #[arg(long, value_name = "DIR", requires = "kernel")]
    pub modules: Option<PathBuf>,

    /// A root file system of your own, as a disk image of a file system that the kernel knows
    ///
    /// It is never written to.
    #[arg(long, value_name = "FILE", conflicts_with = "initramfs")]
    pub root: Option<PathBuf>,

    /// A root file system of your own, as an initramfs: a cpio archive, compressed or not
    #[arg(long, value_name = "FILE")]
    pub initramfs: Option<PathBuf>,

    /// Only tests whose SUBJECT::TEST contains this; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub test: Vec<String>,

    /// Only list the tests that would run
    #[arg(long)]
    pub list: bool,

    /// How the guest's processor is made. auto tries kvm for ten seconds, and remembers the result
    #[arg(long, value_enum, default_value = "auto")]
    pub accel: Accel,

    /// How many machines run at once
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = value_parser!(u8).range(1..))]
    pub machines: u8,

    /// Processors of a machine, and tests that run at once in it
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = value_parser!(u8).range(1..))]
    pub cpus: u8,

    /// Memory of a machine, in MiB, at least 256
    #[arg(long, value_name = "MIB", default_value_t = 2048, value_parser = value_parser!(u32).range(256..))]
    pub memory: u32,

    /// The most that one machine may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1500, value_parser = value_parser!(u64).range(1..))]
    pub limit: u64,

    /// Where kernels and images are kept [default: target/vm-tests]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,

    /// The program under test, linked statically [default: what `make build` has built]
    #[arg(long, value_name = "FILE")]
    hostport: Option<PathBuf>,

    /// The guest's first process, linked statically [default: what `make vm-test` has built]
    #[arg(long, value_name = "FILE")]
    guest: Option<PathBuf>,
}

impl Options {
    /// What is wrong with the files that the user names, or that `make vm-test` should have built.
    pub fn check(&self) -> Result<(), Wrong> {
        let (hostport, guest) = (self.hostport(), self.guest());
        let files = [
            ("--kernel", self.kernel.as_deref(), "a bzImage"),
            ("--root", self.root.as_deref(), "an image of a file system"),
            ("--initramfs", self.initramfs.as_deref(), "a cpio archive"),
            ("--hostport", Some(&*hostport), "a static program: make build makes it"),
            ("--guest", Some(&*guest), "a static program: make vm-test makes it"),
        ];
        for (option, file, what) in files {
            if let Some(file) = file.filter(|file| !is_data(file)) {
                return Err(format!("{option} {}: no such file (it is {what})", file.display()));
            }
        }
        match &self.modules {
            Some(folder) if !folder.join("lib/modules").is_dir() => Err(format!(
                "--modules {}: no lib/modules in it (make modules_install INSTALL_MOD_PATH={0})",
                folder.display()
            )),
            _ => Ok(()),
        }
    }

    /// Where kernels and images are kept.
    pub fn cache(&self) -> PathBuf {
        self.cache.clone().unwrap_or_else(|| repository().join("target/vm-tests"))
    }

    /// The program under test.
    pub fn hostport(&self) -> PathBuf {
        self.hostport.clone().unwrap_or_else(|| static_program("hostport"))
    }

    /// The guest's first process.
    pub fn guest(&self) -> PathBuf {
        self.guest.clone().unwrap_or_else(|| static_program("vm-guest"))
    }
}

/// Whether this is something to read, and not a folder.
fn is_data(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| !file.is_dir())
}

const EXAMPLES: &str = "\
Examples:
  make vm-test                                all of Debian's kernels
  make vm-test KERNELS=\"5.10 6.1\"             two of them
  make vm-test ARGS=\"--test reachable:: 6.1\"  one subject on one kernel
  make vm-test ARGS=\"--kernel bzImage --root rootfs.ext4\"
  make vm-test ARGS=\"--kernel bzImage --modules staging --initramfs initrd.img\"";

/// How QEMU makes the guest's processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Accel {
    /// kvm where it works, else tcg.
    Auto,
    /// The machine's own processor.
    Kvm,
    /// Translation.
    Tcg,
}

/// The checkout that this was built from.
pub fn repository() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// A static program where the Makefile builds it.
fn static_program(name: &str) -> PathBuf {
    repository().join("target/static").join(name)
}
