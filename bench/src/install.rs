//! The peers, from Debian's packages.
//!
//! This machine's release has older ones, so they come from Debian unstable, into a folder of their own:
//! nothing of this machine is changed. Where such a program asks for a newer C library than this machine
//! has, it runs with unstable's, from the same folder.

use std::fs;
use std::path::{Path, PathBuf};

use hostport_vm_tests::Wrong;
use hostport_vm_tests::apt::{Apt, Archive};
use hostport_vm_tests::program::at;

use crate::bench::progress;

const RELEASE: &str = "sid";
/// What is unpacked: the peers, and the C library for those that are linked to it.
const PACKAGES: [&str; 3] = ["containernetworking-plugins", "netavark", "libc6"];

/// A folder with unstable's packages unpacked.
#[derive(Debug)]
pub struct Peers {
    folder: PathBuf,
    versions: Vec<(&'static str, String)>,
}

impl Peers {
    /// Fetches what is not there in unstable's current version.
    pub fn fetch(cache: &Path) -> Result<Peers, Wrong> {
        let apt = Apt::of(cache, Archive::Main, RELEASE)?;
        let mut versions = Vec::new();
        let folder = cache.join("peers");
        for package in PACKAGES {
            let version = apt.version(package)?;
            let place = folder.join(package);
            let stamp = place.join("version");
            if fs::read_to_string(&stamp).unwrap_or_default() != version {
                progress(format_args!("fetching {package} {version} of Debian {RELEASE}"));
                let _ = fs::remove_dir_all(&place);
                apt.unpack(package, &place)?;
                at(&stamp, fs::write(&stamp, &version))?;
            }
            versions.push((package, version));
        }
        Ok(Peers { folder, versions })
    }

    /// The version of a package.
    pub fn version(&self, package: &str) -> &str {
        let found = self.versions.iter().find(|(name, _)| *name == package);
        found.map_or("unknown", |(_, version)| version)
    }

    /// The file of a package, which must be there.
    pub fn file(&self, package: &str, path: &str) -> PathBuf {
        let file = self.folder.join(package).join(path);
        assert!(file.is_file(), "{package} of Debian {RELEASE} has no {path}");
        file
    }
}
