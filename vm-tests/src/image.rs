//! Disk images.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use crate::Wrong;
use crate::program::{at, run};

/// Makes an image of a folder, with free space in MiB.
///
/// ext2, which every kernel with ext4 reads, however old either is.
pub fn make(folder: &Path, image: &Path, free: u64) -> Result<(), Wrong> {
    let kibibytes = run(Command::new("du").args(["-sk", "--apparent-size"]).arg(folder))?;
    let used: u64 = kibibytes
        .split_whitespace()
        .next()
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| format!("du says {kibibytes:?}"))?;
    let entries = run(Command::new("find").arg(folder).args(["-printf", "."]))?.len() as u64;
    // Each file ends in a half-full block on average, and has an inode of 256 bytes.
    let size = (used + entries * 3) * 1024 * 11 / 10 + (free + 8) * 1024 * 1024;
    // The image appears only when it is complete, since an existing image is used.
    let unfinished = image.with_extension("unfinished");
    let file = at(&unfinished, File::create(&unfinished))?;
    at(&unfinished, file.set_len(size))?;
    run(Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext2", "-m", "0", "-E", "root_owner=0:0"])
        .args(["-N", &(entries + 20_000).to_string(), "-d"])
        .arg(folder)
        .arg(&unfinished))?;
    at(image, fs::rename(&unfinished, image))
}
