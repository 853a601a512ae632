//! Mounts that only a runtime and its hooks see.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::wait_until;

/// Where hostport keeps its journal unless an option names another folder.
const JOURNAL: &str = "/run/hostport";

/// A mount namespace with mounts of its own.
///
/// It lives as long as the process that holds it. Mounts that are made outside, such as those of `ip netns add`, are
/// seen in it too.
#[derive(Debug)]
pub(super) struct Mounts {
    holder: Child,
    made_the_folder: bool,
}

impl Mounts {
    /// cgroup2 on `/sys/fs/cgroup`: crun refuses the hybrid cgroups of other machines.
    pub(super) fn with_cgroup2() -> Mounts {
        Mounts::new("cgroup2", "/sys/fs/cgroup", "rw")
    }

    /// Folders in the place of the machine's own.
    pub(super) fn bound(folders: &[(PathBuf, &str)]) -> Mounts {
        let bind = |(from, to): &(PathBuf, &str)| format!("mount --bind {} {to}", from.display());
        let binds: Vec<String> = folders.iter().map(bind).collect();
        let last = folders.last().expect("a folder").1;
        Mounts::made_by(&binds.join(" && "), &format!(" {last} "))
    }

    /// An empty folder in the place of the machine's own journal.
    pub(super) fn with_journal() -> Mounts {
        let made_the_folder = fs::create_dir(JOURNAL).is_ok();
        let mut mounts = Mounts::new("tmpfs", JOURNAL, "mode=0700");
        mounts.made_the_folder = made_the_folder;
        mounts
    }

    fn new(kind: &str, folder: &str, options: &str) -> Mounts {
        let mount = format!("mount -t {kind} -o {options} none {folder}");
        Mounts::made_by(&mount, &format!(" {folder} {kind} "))
    }

    /// `there` is in a line of /proc/mounts once the last is made.
    fn made_by(mount: &str, there: &str) -> Mounts {
        let script = format!("{mount} && exec sleep 600");
        let holder = Command::new("unshare")
            .args(["--mount", "--propagation=slave", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("unshare (util-linux)");
        let held = Mounts { holder, made_the_folder: false };
        let mounts = format!("/proc/{}/mounts", held.holder.id());
        let mounted = || {
            fs::read_to_string(&mounts)
                .is_ok_and(|mounts| mounts.lines().any(|line| line.contains(there)))
        };
        assert!(wait_until(mounted), "{mount}");
        held
    }

    /// Its file, for nsenter.
    pub(super) fn namespace(&self) -> String {
        format!("/proc/{}/ns/mnt", self.holder.id())
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        if self.made_the_folder {
            // This fails if the machine's own hostport has put something there meanwhile.
            let _ = fs::remove_dir(JOURNAL);
        }
    }
}
