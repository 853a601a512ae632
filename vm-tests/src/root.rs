//! The guest's root file system: this machine's own packages, as far as the tests need them.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cli::Options;
use crate::program::{at, run};
use crate::{Wrong, apt, image};

/// What the tests call, and a shell for a person who looks around.
const PACKAGES: [&str; 16] = [
    "base-files",
    "bash",
    "bsdutils",
    "busybox-static",
    "conntrack",
    "coreutils",
    "dash",
    "ipvsadm",
    "iproute2",
    "kmod",
    "mount",
    "netbase",
    "nftables",
    "procps",
    "strace",
    "util-linux",
];
/// What no test reads.
const LEFT_OUT: [&str; 6] = [
    "/usr/share/doc/",
    "/usr/share/man/",
    "/usr/share/locale/",
    "/usr/share/info/",
    "/usr/share/zoneinfo/",
    "/usr/lib/x86_64-linux-gnu/perl",
];
/// Files that no package owns.
const CONFIGURATION: [&str; 5] =
    ["/bin/sh", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/hosts"];
/// Space for what tests write, in MiB.
const FREE: u64 = 512;

/// The guest's root.
pub enum Root {
    /// A disk image.
    Disk(PathBuf),
    /// The initramfs, which the guest has anyway.
    Initramfs,
}

/// The user's root, or one made from this machine's packages.
pub fn of(options: &Options) -> Result<Root, Wrong> {
    if let Some(image) = &options.root {
        at(image, fs::metadata(image))?;
        return Ok(Root::Disk(image.clone()));
    }
    if options.initramfs.is_some() {
        return Ok(Root::Initramfs);
    }
    let installed = run(Command::new("dpkg-query").args([
        "--show",
        "--showformat",
        "${Package} ${Version} ${db:Status-Status}\\n",
    ]))?;
    let version = |package: &str| {
        let mut lines = installed.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        lines
            .find(|line| line[0] == package && line[2] == "installed")
            .map(|line| line[1].to_owned())
    };
    if let Some(missing) = PACKAGES.iter().find(|name| version(name).is_none()) {
        return Err(format!("the package {missing} is not installed: xtask/install-packages vm"));
    }
    let mut apt_cache = Command::new("apt-cache");
    apt_cache.arg("--installed");
    let closure: Vec<(String, String)> = apt::closure(&mut apt_cache, &PACKAGES)?
        .into_iter()
        .filter_map(|package| version(&package).map(|version| (package, version)))
        .collect();
    let mut state = DefaultHasher::new();
    (&closure, PACKAGES, LEFT_OUT, FREE).hash(&mut state);
    let image = options.cache().join(format!("root-{:016x}.img", state.finish()));
    if !image.is_file() {
        eprintln!("vm-tests: making the guest's root from {} packages", closure.len());
        forget_others(&options.cache());
        make(&closure, &options.cache().join("root"), &image)?;
    }
    Ok(Root::Disk(image))
}

fn make(packages: &[(String, String)], folder: &Path, image: &Path) -> Result<(), Wrong> {
    let _ = fs::remove_dir_all(folder);
    at(folder, fs::create_dir_all(folder))?;
    // If /bin is a link to /usr/bin, no package contains the link.
    for name in ["bin", "sbin", "lib", "lib64"] {
        if let Ok(target) = fs::read_link(Path::new("/").join(name)) {
            at(folder, fs::create_dir_all(folder.join(&target)))?;
            at(folder, symlink(target, folder.join(name)))?;
        }
    }
    let owned = run(Command::new("dpkg-query")
        .arg("--listfiles")
        .args(packages.iter().map(|(name, _)| name)))?;
    let wanted = |path: &str| {
        path.starts_with('/')
            && !LEFT_OUT.iter().any(|left_out| path.starts_with(left_out))
            && Path::new(path).symlink_metadata().is_ok()
    };
    let mut files: Vec<String> =
        owned.lines().filter(|path| wanted(path)).map(str::to_owned).collect();
    files.extend(CONFIGURATION.map(str::to_owned));
    files.extend(alternatives(&files));
    copy(&files, folder)?;
    run(Command::new("ldconfig").arg("-r").arg(folder))?;
    image::make(folder, image, FREE)?;
    at(folder, fs::remove_dir_all(folder))
}

/// Removes the images of other packages.
fn forget_others(cache: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("root-") && name.ends_with(".img") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The links of update-alternatives(1) that lead to one of the files.
fn alternatives(files: &[String]) -> Vec<String> {
    let mut links = Vec::new();
    for folder in ["/usr/bin", "/usr/sbin"] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(middle) = fs::read_link(entry.path()) else { continue };
            let Ok(end) = fs::read_link(&middle) else { continue };
            let chosen = files.iter().any(|file| Path::new(file) == end);
            if middle.starts_with("/etc/alternatives") && chosen {
                links.push(entry.path().to_string_lossy().into_owned());
                links.push(middle.to_string_lossy().into_owned());
            }
        }
    }
    links
}

fn copy(files: &[String], folder: &Path) -> Result<(), Wrong> {
    let tar = || -> std::io::Result<bool> {
        let mut pack = Command::new("tar")
            .args(["--create", "--no-recursion", "--absolute-names", "--null", "--files-from", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (input, output) = (pack.stdin.take(), pack.stdout.take());
        let unpack = Command::new("tar")
            .args(["--extract", "--keep-directory-symlink", "--directory"])
            .arg(folder)
            .stdin(output.map_or_else(Stdio::null, Stdio::from))
            .stderr(Stdio::null())
            .spawn()?;
        if let Some(mut input) = input {
            input.write_all(files.join("\0").as_bytes())?;
        }
        Ok(pack.wait()?.success() && unpack.wait_with_output()?.status.success())
    };
    match at(folder, tar())? {
        true => Ok(()),
        false => Err(format!("cannot copy this machine's files to {folder:?}")),
    }
}
