//! Archives for an initramfs, in the format "newc" (Documentation/driver-api/early-userspace/
//! buffer-format.rst of the kernel). The kernel unpacks several one behind the other.

/// An archive in the making. Folders must come before what is in them.
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

/// S_IFDIR, S_IFREG and S_IFCHR of `linux/stat.h`.
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const DEVICE: u32 = 0o020_000;

impl Archive {
    /// An archive with a console and a null device, which a first process needs to begin.
    pub fn new() -> Archive {
        let mut archive = Archive { bytes: Vec::new(), entries: 0 };
        archive.folder("dev");
        archive.add("dev/console", DEVICE | 0o600, (5, 1), &[]);
        archive.add("dev/null", DEVICE | 0o666, (1, 3), &[]);
        archive
    }

    /// Adds a folder.
    pub fn folder(&mut self, path: &str) {
        self.add(path, FOLDER | 0o755, (0, 0), &[]);
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, executable: bool, content: &[u8]) {
        self.add(path, FILE | if executable { 0o755 } else { 0o644 }, (0, 0), content);
    }

    /// The finished archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self.bytes
    }

    fn add(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        let path = path.trim_start_matches('/');
        self.entries += 1;
        let links = if mode & FOLDER == FOLDER { 2 } else { 1 };
        let (size, name) = (content.len() as u32, path.len() as u32 + 1);
        let (major, minor) = device;
        // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        let fields = [self.entries, mode, 0, 0, links, 0, size, 0, 0, major, minor, name, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(path.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn busybox_unpacks_what_was_packed() {
        let mut archive = Archive::new();
        archive.folder("folder");
        archive.file("/folder/odd", false, b"five!");
        archive.file("program", true, b"");
        let mut cpio = Command::new("busybox")
            .args(["cpio", "-tv"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("busybox (package busybox-static)");
        cpio.stdin.take().unwrap().write_all(&archive.finish()).unwrap();
        let listed = String::from_utf8(cpio.wait_with_output().unwrap().stdout).unwrap();
        let entries: Vec<(&str, &str)> = listed
            .lines()
            .map(|line| (&line[..10], line.split_whitespace().last().unwrap()))
            .collect();
        assert_eq!(
            entries,
            [
                ("drwxr-xr-x", "dev"),
                ("crw-------", "dev/console"),
                ("crw-rw-rw-", "dev/null"),
                ("drwxr-xr-x", "folder"),
                ("-rw-r--r--", "folder/odd"),
                ("-rwxr-xr-x", "program"),
            ],
            "{listed}"
        );
    }
}
