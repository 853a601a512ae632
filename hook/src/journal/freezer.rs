//! Whether an owner's process is frozen, as by `podman pause`: cgroups(7), `Documentation/admin-guide/cgroup-v1/
//! freezer-subsystem.rst` and `cgroup-v2.rst`.

use std::fs;
use std::path::{Path, PathBuf};

use super::entry::Process;

/// The hierarchies of cgroups that can freeze processes.
#[derive(Debug, Default)]
pub struct Freezers(Vec<Freezer>);

#[derive(Debug)]
struct Freezer {
    /// Of version 2, which is one hierarchy; of version 1 there is one that has the freezer.
    unified: bool,
    /// The cgroup that is at the mount point.
    root: PathBuf,
    mount: PathBuf,
}

impl Freezers {
    /// Those that are mounted here.
    pub fn mounted() -> Self {
        Self::parse(&fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default())
    }

    /// proc_pid_mountinfo(5): behind a hyphen come the type, the source and the options of the file system.
    fn parse(mounts: &str) -> Self {
        let freezer = |line: &str| {
            let (mount, system) = line.split_once(" - ")?;
            let mut system = system.split(' ');
            let (kind, options) = (system.next()?, system.nth(1)?);
            let freezes = kind == "cgroup" && options.split(',').any(|word| word == "freezer");
            if !freezes && kind != "cgroup2" {
                return None;
            }
            let mut fields = mount.split(' ').skip(3).map(PathBuf::from);
            Some(Freezer { unified: !freezes, root: fields.next()?, mount: fields.next()? })
        };
        Freezers(mounts.lines().filter_map(freezer).collect())
    }

    /// The files that say whether a process is frozen, by its cgroups (/proc/PID/cgroup), and the line that says so.
    /// Both versions say it where a cgroup above is frozen, too.
    fn files(&self, cgroups: &str) -> Vec<(PathBuf, &'static str)> {
        let mut files = Vec::new();
        for line in cgroups.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            let (unified, file, line) = match controllers {
                "" => (true, "cgroup.events", "frozen 1"),
                some if some.split(',').any(|one| one == "freezer") => {
                    (false, "freezer.state", "FROZEN")
                }
                _ => continue,
            };
            let of_version = self.0.iter().filter(|freezer| freezer.unified == unified);
            files.extend(of_version.filter_map(|Freezer { root, mount, .. }| {
                let inside = Path::new(path).strip_prefix(root).ok()?;
                Some((mount.join(inside).join(file), line))
            }));
        }
        files
    }

    /// Whether a process of the namespace that `/proc` shows is frozen.
    pub fn freeze(&self, process: &Process) -> bool {
        let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", process.pid));
        let says = |(file, line): &(PathBuf, &str)| {
            fs::read_to_string(file).is_ok_and(|text| text.lines().any(|other| other == *line))
        };
        process.is_seen() && self.files(&cgroups.unwrap_or_default()).iter().any(says)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(mounts: &str, cgroups: &str) -> Vec<String> {
        let files = Freezers::parse(mounts).files(cgroups);
        files.iter().map(|(file, line)| format!("{}: {line}", file.display())).collect()
    }

    const UNIFIED: &str =
        "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";

    #[test]
    fn of_version_2_the_one_hierarchy_says_it() {
        let says =
            ["/sys/fs/cgroup/machine.slice/libpod-1.scope/container/cgroup.events: frozen 1"];
        assert_eq!(files(UNIFIED, "0::/machine.slice/libpod-1.scope/container\n"), says);
    }

    #[test]
    fn of_version_1_the_hierarchy_of_the_freezer_says_it() {
        let mounts = "37 31 0:34 / /sys/fs/cgroup/freezer,pids rw - cgroup cgroup rw,freezer,pids\n\
            36 31 0:33 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let cgroups = "8:devices:/a\n6:freezer,pids:/libpod:1/x\n2:name=systemd:/b\n0::/c\n";
        let says = [
            "/sys/fs/cgroup/freezer,pids/libpod:1/x/freezer.state: FROZEN",
            "/sys/fs/cgroup/unified/c/cgroup.events: frozen 1",
        ];
        assert_eq!(files(mounts, cgroups), says);
    }

    #[test]
    fn a_mount_of_a_part_shows_only_what_is_in_it() {
        let mounts = UNIFIED.replacen(" / ", " /pods ", 1);
        assert_eq!(files(&mounts, "0::/pods/1\n"), ["/sys/fs/cgroup/1/cgroup.events: frozen 1"]);
        assert_eq!(files(&mounts, "0::/system.slice\n"), [""; 0]);
        assert_eq!(files("", "0::/pods/1\n"), [""; 0]);
        assert_eq!(files("nonsense - cgroup2\n-\n", ":\n\n0::"), [""; 0]);
    }
}
