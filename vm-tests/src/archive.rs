//! Archives for an initramfs, in cpio's format "newc" (Documentation/driver-api/early-userspace/ buffer-format.rst
//! of the kernel). The kernel unpacks several that follow each other.

use std::io::{self, Cursor};

use cpio::NewcBuilder;
use cpio::newc::ModeFileType;

/// A file, folder or device, and its content.
pub type Entry = (NewcBuilder, Cursor<Vec<u8>>);

/// A folder. It must come before what is in it.
pub fn folder(path: &str) -> Entry {
    entry(path, 0o755, ModeFileType::Directory, Vec::new())
}

/// A file.
pub fn file(path: &str, executable: bool, content: Vec<u8>) -> Entry {
    let mode = if executable { 0o755 } else { 0o644 };
    entry(path, mode, ModeFileType::Regular, content)
}

/// An archive of these entries, after a console and a null device, which the first process needs.
pub fn pack(entries: impl IntoIterator<Item = Entry>) -> io::Result<Vec<u8>> {
    let devices =
        [folder("dev"), device("dev/console", 0o600, (5, 1)), device("dev/null", 0o666, (1, 3))];
    let mut bytes = cpio::write_cpio(devices.into_iter().chain(entries), Vec::new())?;
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    Ok(bytes)
}

fn device(path: &str, mode: u32, (major, minor): (u32, u32)) -> Entry {
    let (device, content) = entry(path, mode, ModeFileType::Char, Vec::new());
    (device.rdev_major(major).rdev_minor(minor), content)
}

fn entry(path: &str, mode: u32, kind: ModeFileType, content: Vec<u8>) -> Entry {
    let builder = NewcBuilder::new(path.trim_start_matches('/'));
    (builder.mode(mode).set_mode_file_type(kind), Cursor::new(content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn busybox_unpacks_what_was_packed() {
        let entries = [
            folder("folder"),
            file("/folder/odd", false, b"five!".to_vec()),
            file("program", true, Vec::new()),
        ];
        let mut cpio = Command::new("busybox")
            .args(["cpio", "-tv"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("busybox (package busybox-static)");
        cpio.stdin.take().unwrap().write_all(&pack(entries).unwrap()).unwrap();
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
