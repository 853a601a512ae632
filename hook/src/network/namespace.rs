//! Network namespaces: network_namespaces(7), setns(2), proc_pid_ns(5).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::LinkNameSpaceType;

use crate::network::rtnetlink::{self, Socket};
use crate::output::escape;

/// The file system of namespace files: NSFS_MAGIC in `linux/magic.h`.
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// The calling thread's own. Not /proc/self: that is the main thread's.
const OWN: &str = "/proc/thread-self/ns/net";

/// An open network namespace. It lives as long as this value does, whatever happens to its path.
///
/// Two are equal when they are the same namespace: a container that equals [`own`](Self::own) is
/// one with the host's network.
#[derive(Debug)]
pub struct NetworkNamespace {
    file: OwnedFd,
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl PartialEq for NetworkNamespace {
    fn eq(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl Eq for NetworkNamespace {}

impl NetworkNamespace {
    /// The one that this thread is in.
    pub fn own() -> Result<Self, Error> {
        Self::open(Path::new(OWN))
    }

    /// The one of a process.
    pub fn of_process(pid: i32) -> Result<Self, Error> {
        Self::open(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    /// The one that is mounted at a path, such as `/run/netns/NAME`.
    ///
    /// O_NONBLOCK, because the path may by mistake name a FIFO, and opening one waits.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |errno| Error::from_errno("open", path, errno);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
        // The sign of f_type depends on the machine; the magic number fits 32 bits.
        let magic = rustix::fs::fstatfs(&file).map_err(failed)?.f_type as u64;
        if magic & 0xffff_ffff != NSFS_MAGIC {
            return Err(Error::NotANetworkNamespace(path.into()));
        }
        let status = rustix::fs::fstat(&file).map_err(failed)?;
        #[allow(clippy::useless_conversion)] // dev_t has another width elsewhere
        let (device, inode) = (u64::from(status.st_dev), u64::from(status.st_ino));
        Ok(Self { file, path: path.into(), device, inode })
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The device and the number of its file, which no other namespace has while this one lives.
    pub fn file(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// An rtnetlink socket inside, which stays inside when the thread is back in `own`.
    pub fn rtnetlink(&self, own: &Self) -> Result<Socket, Error> {
        Ok(self.inside(own, Socket::open)??)
    }

    /// What a piece of work done inside comes to. The thread is back in `own` then.
    ///
    /// The thread itself goes there and back: 20 microseconds, where a thread of its own takes
    /// 100. The way back is tried before the way out, so a process that may enter the container's
    /// namespace but not the host's (CAP_SYS_ADMIN in the container's user namespace alone) is
    /// refused where it stands. After that only a lack of kernel memory can keep it out, which is
    /// [`Error::Stranded`]: the caller must not touch the network any more.
    pub fn inside<T>(&self, own: &Self, work: impl FnOnce() -> T) -> Result<T, Error> {
        own.enter().map_err(|error| match error {
            Error::Permission { action, .. } => {
                Error::Permission { action, path: self.path.clone() }
            }
            other => other,
        })?;
        self.enter()?;
        let result = work();
        own.enter().map_err(|source| Error::Stranded {
            path: self.path.clone(),
            source: Box::new(source),
        })?;
        Ok(result)
    }

    /// setns(2) with CLONE_NEWNET, which refuses namespaces of another kind.
    fn enter(&self) -> Result<(), Error> {
        let kind = Some(LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(self.file.as_fd(), kind)
            .map_err(|errno| Error::from_errno("enter", &self.path, errno))
    }
}

impl AsFd for NetworkNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Why a network namespace could not be opened or entered. The action is `open` or `enter`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is there any more: the process ended or the namespace was deleted.
    #[error(
        "network namespace \"{}\" is gone: its container has ended or it was deleted; \
         start the container again",
        escape::path(.0)
    )]
    Gone(PathBuf),
    /// The caller lacks privilege.
    #[error(
        "no permission to {action} network namespace \"{}\": run as root, or with \
         CAP_SYS_ADMIN and CAP_SYS_PTRACE, in the user namespace that owns it",
        escape::path(path)
    )]
    Permission { action: &'static str, path: PathBuf },
    /// The path names something else; also a namespace path whose mount has gone.
    #[error(
        "\"{}\" is not a network namespace: expected a file such as /run/netns/NAME or \
         /proc/PID/ns/net (an empty file there is one whose namespace was unmounted)",
        escape::path(.0)
    )]
    NotANetworkNamespace(PathBuf),
    /// The system call failed for another reason.
    #[error("cannot {action} network namespace \"{}\": {source}", escape::path(path))]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// This thread is still in the container's namespace and must not go on.
    #[error("cannot come back from network namespace \"{}\": {source}", escape::path(path))]
    Stranded { path: PathBuf, source: Box<Error> },
    /// The thread was inside, but got no socket there.
    #[error(transparent)]
    Socket(#[from] rtnetlink::Error),
}

impl Error {
    fn from_errno(action: &'static str, path: &Path, errno: Errno) -> Self {
        let path = path.to_path_buf();
        match errno {
            // ENOTDIR and ENXIO are no absence: a path through a file, a socket.
            Errno::NOENT | Errno::SRCH => Self::Gone(path),
            Errno::PERM | Errno::ACCESS => Self::Permission { action, path },
            Errno::INVAL | Errno::NXIO | Errno::NOTDIR => Self::NotANetworkNamespace(path),
            _ => Self::Io { action, path, source: errno.into() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_namespace_equals_that_of_this_process() {
        let own = NetworkNamespace::own().unwrap();
        assert_eq!(own, NetworkNamespace::of_process(std::process::id() as i32).unwrap());
        let link = std::fs::read_link("/proc/self/ns/net").unwrap();
        assert_eq!(link.to_str(), Some(format!("net:[{}]", own.inode).as_str()));
    }

    #[test]
    fn a_pid_that_is_gone_is_named() {
        // Above the highest PID_MAX_LIMIT (2^22).
        let error = NetworkNamespace::of_process(99_999_999).unwrap_err();
        assert!(matches!(error, Error::Gone(_)));
        assert!(error.to_string().contains("\"/proc/99999999/ns/net\" is gone"), "{error}");
    }

    #[test]
    fn a_file_a_folder_and_a_device_are_no_namespaces() {
        for path in ["/proc/self/status", "/", "/dev/null", "/etc/passwd/x"] {
            let error = NetworkNamespace::open(Path::new(path)).unwrap_err();
            assert!(matches!(error, Error::NotANetworkNamespace(_)), "{path}: {error}");
        }
    }

    #[test]
    fn a_fifo_does_not_hang() {
        let path = std::env::temp_dir().join(format!("hostport-fifo-{}", std::process::id()));
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
        let opened = NetworkNamespace::open(&path);
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(opened.unwrap_err(), Error::NotANetworkNamespace(_)));
    }

    #[test]
    fn a_namespace_of_another_kind_is_not_our_own() {
        // It opens, being on nsfs; setns refuses it, and before that asks for privilege.
        let own = NetworkNamespace::own().unwrap();
        let other = NetworkNamespace::open(Path::new("/proc/self/ns/uts")).unwrap();
        assert_ne!(own, other);
        let error = other.rtnetlink(&own).unwrap_err();
        assert!(
            matches!(error, Error::NotANetworkNamespace(_) | Error::Permission { .. }),
            "{error}"
        );
        assert_eq!(own, NetworkNamespace::own().unwrap());
    }
}
