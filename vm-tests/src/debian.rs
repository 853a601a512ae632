//! Debian's kernels.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::Wrong;
use crate::apt::{Apt, Archive};
use crate::kernel::Kernel;
use crate::program::at;

/// A kernel that Debian packages.
pub struct Series {
    /// What a user calls it.
    pub name: &'static str,
    release: &'static str,
    archive: Archive,
}

/// From the oldest kernel that hostport supports to the newest that Debian has.
pub const SERIES: [Series; 4] = [
    Series { name: "5.10", release: "bullseye-security", archive: Archive::Security },
    Series { name: "6.1", release: "bookworm-security", archive: Archive::Security },
    Series { name: "6.12", release: "trixie-security", archive: Archive::Security },
    Series { name: "sid", release: "sid", archive: Archive::Main },
];

/// Debian's kernel for virtual machines. It has all network modules of the generic kernel.
const PACKAGE: &str = "linux-image-cloud-amd64";

/// The kernel of a series, from the cache or fetched.
pub fn fetch(series: &Series, cache: &Path) -> Result<Kernel, Wrong> {
    let apt = Apt::of(cache, series.archive, series.release)?;
    // The package depends on the image; since 7.x this is split into a binary and its modules.
    let parts = ["linux-image-", "linux-binary-", "linux-modules-"];
    let packages: Vec<String> = apt
        .closure(PACKAGE)?
        .into_iter()
        .filter(|name| parts.iter().any(|part| versioned(name, part)))
        .collect();
    let image = packages
        .iter()
        .find(|name| versioned(name, parts[0]))
        .ok_or_else(|| format!("{} has no {PACKAGE}", series.release))?;
    let folder = cache.join("kernels").join(format!("{image}_{}", apt.version(image)?));
    if !folder.is_dir() {
        let unfinished = cache.join("kernels/unfinished").join(series.name);
        let _ = fs::remove_dir_all(&unfinished);
        at(&unfinished, fs::create_dir_all(&unfinished))?;
        eprintln!("vm-tests: fetching {image}");
        for package in &packages {
            apt.unpack(package, &unfinished)?;
        }
        if !unfinished.join("lib/modules").exists() {
            at(&unfinished, symlink("usr/lib", unfinished.join("lib")))?;
        }
        at(&folder, fs::rename(&unfinished, &folder))?;
    }
    let image = find_image(&folder)?;
    Kernel::new(series.name, image, Some(&folder), cache)
}

fn versioned(package: &str, part: &str) -> bool {
    package.strip_prefix(part).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// `/boot/vmlinuz-RELEASE`, or since 7.x `/usr/lib/modules/RELEASE/vmlinuz`.
fn find_image(folder: &Path) -> Result<PathBuf, Wrong> {
    let entries = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten();
    let in_boot = entries(folder.join("boot")).map(|file| file.path());
    let in_modules = entries(folder.join("lib/modules")).map(|entry| entry.path().join("vmlinuz"));
    let is_image = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        name.starts_with(b"vmlinuz") && path.is_file()
    };
    in_boot.chain(in_modules).find(is_image).ok_or_else(|| format!("{folder:?} has no vmlinuz"))
}
