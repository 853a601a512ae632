//! The cgroups that crun wants.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::wait_until;

/// A mount namespace in which `/sys/fs/cgroup` is cgroup2, which crun insists on.
///
/// It lives as long as the process that holds it. Mounts made outside, such as those of
/// `ip netns add`, come through.
#[derive(Debug)]
pub(super) struct CgroupsV2 {
    holder: Child,
}

impl CgroupsV2 {
    /// Makes one.
    pub(super) fn mount() -> CgroupsV2 {
        let script = "mount -t cgroup2 none /sys/fs/cgroup && exec sleep 600";
        let holder = Command::new("unshare")
            .args(["--mount", "--propagation=slave", "sh", "-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("unshare (util-linux)");
        let held = CgroupsV2 { holder };
        let mounts = format!("/proc/{}/mounts", held.holder.id());
        let mounted = || {
            fs::read_to_string(&mounts).is_ok_and(|mounts| {
                mounts.lines().any(|line| line.contains(" /sys/fs/cgroup cgroup2 "))
            })
        };
        assert!(wait_until(Duration::from_secs(5), mounted), "cgroup2 on /sys/fs/cgroup");
        held
    }

    /// Its file, for nsenter.
    pub(super) fn namespace(&self) -> String {
        format!("/proc/{}/ns/mnt", self.holder.id())
    }
}

impl Drop for CgroupsV2 {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
