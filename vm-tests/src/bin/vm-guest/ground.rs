//! What the tests need from the machine: file systems and modules.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use hostport_vm_tests::{FOLDER, Plan, TESTS, disk};
use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind, mount_move};
use rustix::process::{chdir, chroot};
use rustix::system::finit_module;

use crate::Wrong;

/// Where the new root is mounted before it becomes the root.
const NEW_ROOT: &str = "/hostport-vm/root";

/// Mounts the kernel's file systems in a root.
pub fn mount_kernel(root: &str) -> Result<(), Wrong> {
    let flags = MountFlags::NOSUID;
    for (kind, folder) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        mount_new(kind, kind, Path::new(&format!("{root}{folder}")), flags)?;
    }
    Ok(())
}

/// Moves from the initramfs to a root with everything in the plan.
pub fn prepare(plan: &Plan, release: &str) -> Result<(), Wrong> {
    for module in &plan.boot_modules {
        let path = Path::new(FOLDER).join(module);
        let file = File::open(&path).map_err(|error| format!("{path:?}: {error}"))?;
        match finit_module(&file, c"", 0) {
            // ENODEV: the module is for other processors.
            Ok(()) | Err(Errno::EXIST | Errno::NODEV) => {}
            Err(error) => return Err(format!("cannot load {path:?}: {error}")),
        }
    }
    if plan.root_disk {
        enter_root()?;
    }
    for (folder, mode) in [("/run", 0o755), ("/tmp", 0o1777), ("/dev/shm", 0o1777)] {
        mount_new("tmpfs", "tmpfs", Path::new(folder), MountFlags::empty())?;
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(folder, permissions).map_err(|error| format!("{folder}: {error}"))?;
    }
    mount_new("devpts", "devpts", Path::new("/dev/pts"), MountFlags::empty())?;
    for (link, target) in [("/dev/fd", "/proc/self/fd"), ("/dev/stderr", "/proc/self/fd/2")] {
        let _ = symlink(target, link);
    }
    // Some tests start containers. If a kernel has no control groups, these tests show it.
    let _ = mount_new("cgroup2", "cgroup2", Path::new("/sys/fs/cgroup"), MountFlags::empty());
    if plan.modules_disk {
        let folder = Path::new("/lib/modules");
        mount_disk(disk::MODULES, folder, MountFlags::RDONLY)?;
        if !folder.join(release).is_dir() {
            return Err(format!("there are no modules for the running kernel, {release}"));
        }
    }
    mount_disk(disk::TESTS, Path::new(TESTS), MountFlags::RDONLY)?;
    // The tests expect their data at its path on the build machine.
    let data = Path::new(TESTS).join("repository");
    fs::create_dir_all(&plan.repository)
        .map_err(|error| format!("{:?}: {error}", plan.repository))?;
    mount_bind(&data, &plan.repository)
        .map_err(|error| format!("{:?}: {error}", plan.repository))?;
    Ok(())
}

/// Loads modules by name, as far as they exist.
pub fn load(modules: &[String]) {
    let quiet = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        let _ = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    };
    for module in modules {
        quiet("modprobe", &[module]);
    }
}

/// Makes the root disk the root. If it cannot be written, what is written goes to memory.
fn enter_root() -> Result<(), Wrong> {
    let root = Path::new(NEW_ROOT);
    mount_disk(disk::ROOT, root, MountFlags::empty())?;
    // A read-only file system is mounted read-only without an option.
    let about = statvfs(root).map_err(|error| format!("{root:?}: {error}"))?;
    if about.f_flag.contains(StatVfsMountFlags::RDONLY) {
        cover_with_memory(root)?;
    }
    mount_kernel(NEW_ROOT)?;
    // As switch_root(8) does. The helpers that the kernel starts, such as modprobe, follow, since they
    // share their root with the first process.
    chdir(root)
        .and_then(|()| mount_move(".", "/"))
        .and_then(|()| chroot("."))
        .and_then(|()| chdir("/"))
        .map_err(|error| format!("cannot enter the root disk: {error}"))
}

/// Covers a read-only file system with memory.
fn cover_with_memory(root: &Path) -> Result<(), Wrong> {
    let memory = Path::new(FOLDER).join("memory");
    mount_new("tmpfs", "tmpfs", &memory, MountFlags::empty())?;
    let [upper, work] = ["upper", "work"].map(|name| memory.join(name));
    for folder in [&upper, &work] {
        fs::create_dir_all(folder).map_err(|error| format!("{folder:?}: {error}"))?;
    }
    let (root_text, upper, work) = (root.display(), upper.display(), work.display());
    let options = format!("lowerdir={root_text},upperdir={upper},workdir={work}");
    let options = CString::new(options).map_err(|error| error.to_string())?;
    mount("overlay", root, "overlay", MountFlags::empty(), &*options)
        .map_err(|error| format!("the root is read-only, and cannot get an overlay: {error}"))
}

/// Mounts a disk with any file system that the kernel knows.
fn mount_disk(serial: &str, folder: &Path, flags: MountFlags) -> Result<(), Wrong> {
    let device = find_disk(serial)?;
    fs::create_dir_all(folder).map_err(|error| format!("{folder:?}: {error}"))?;
    let known = fs::read_to_string("/proc/filesystems").map_err(|error| error.to_string())?;
    let mut last = "the kernel knows no file system".to_owned();
    for kind in known.lines().filter_map(|line| line.strip_prefix('\t')) {
        match mount(&device, folder, kind, flags, None) {
            Ok(()) => return Ok(()),
            Err(error) => last = format!("{kind}: {error}"),
        }
    }
    Err(format!("cannot mount the disk \"{serial}\" ({}) on {folder:?}: {last}", device.display()))
}

/// Finds a disk by its serial number; it may appear after a moment.
fn find_disk(serial: &str) -> Result<PathBuf, Wrong> {
    for _ in 0..100 {
        for disk in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            let found = fs::read_to_string(disk.path().join("serial")).unwrap_or_default();
            let device = Path::new("/dev").join(disk.file_name());
            if found.trim() == serial && device.exists() {
                return Ok(device);
            }
        }
        sleep(Duration::from_millis(50));
    }
    Err(format!(
        "there is no disk with the serial number \"{serial}\": does the kernel have virtio_pci and \
         virtio_blk, built in or in --modules?"
    ))
}

fn mount_new(source: &str, kind: &str, folder: &Path, flags: MountFlags) -> Result<(), Wrong> {
    fs::create_dir_all(folder).map_err(|error| format!("{folder:?}: {error}"))?;
    match mount(source, folder, kind, flags, None) {
        // EBUSY: the kernel has mounted it (CONFIG_DEVTMPFS_MOUNT).
        Ok(()) | Err(Errno::BUSY) => Ok(()),
        Err(error) => Err(format!("cannot mount {kind} on {folder:?}: {error}")),
    }
}

/// Writes a program that can be started.
pub fn write_program(mut source: File, path: &str) -> Result<(), Wrong> {
    let mut write = || {
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes)?;
        let mut file = File::create(path)?;
        file.write_all(&bytes)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
    };
    let done: std::io::Result<()> = write();
    done.map_err(|error| format!("{path}: {error}"))
}
