//! The bytes that a process sends to the netfilter netlink, observed from outside with strace.
//!
//! A netlink monitor (nlmon) would see them too, but few kernels have one. A test interface in the library would
//! only show what the library claims to send.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One run of a program under strace.
#[derive(Debug)]
pub struct Capture {
    file: PathBuf,
}

impl Capture {
    /// A capture that keeps its output in a folder.
    pub fn in_folder(folder: &Path) -> Capture {
        Capture { file: folder.join("strace") }
    }

    /// The command that runs a program under strace. The caller runs it to its end.
    pub fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut strace = Command::new("strace");
        let calls = "trace=socket,sendto,sendmsg";
        strace.args(["-f", "-qq", "-e", calls, "-e", "write=all", "-o"]).arg(&self.file);
        strace.arg("--").arg(program).args(arguments);
        strace
    }

    /// What was sent to the netfilter netlink: one item per system call.
    ///
    /// # Panics
    /// If the program was not run, or strace's output cannot be understood.
    pub fn sent(&self) -> Vec<Vec<u8>> {
        let notes = fs::read_to_string(&self.file).expect("the program was run under strace");
        pieces(&notes)
    }

    /// The transactions among them: what begins with NFNL_MSG_BATCH_BEGIN.
    pub fn transactions(&self) -> Vec<Vec<u8>> {
        let mut sent = self.sent();
        sent.retain(|bytes| bytes.get(4..6) == Some(&16u16.to_ne_bytes()));
        sent
    }
}

/// What went into sockets of NETLINK_NETFILTER. `strace -yy` would show a socket's protocol at each call except the
/// first, when the socket is not bound yet.
fn pieces(notes: &str) -> Vec<Vec<u8>> {
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let mut sockets = BTreeSet::new();
    let mut wanted = false;
    for line in notes.lines() {
        if let Some(dump) = line.strip_prefix(" | ") {
            if wanted {
                pieces.last_mut().expect("a call before its dump").extend(bytes(dump));
            }
        } else if let Some((_, arguments)) = line.split_once(" socket(") {
            let descriptor = line.rsplit(' ').next().expect("a result");
            if arguments.contains("NETLINK_NETFILTER") {
                sockets.insert(descriptor);
            } else {
                sockets.remove(descriptor);
            }
        } else if let Some((_, arguments)) = line.split_once(" send") {
            let descriptor = arguments.split(['(', ',']).nth(1).expect("a descriptor");
            wanted = sockets.contains(descriptor);
            if wanted {
                pieces.push(Vec::new());
            }
        }
        // The rest: ` * `, which begins one of several buffers of the same call, and exits.
    }
    pieces
}

/// `00010  00 00 00 00   ....  |`: an offset, sixteen bytes in two groups, and the same as text.
fn bytes(dump: &str) -> Vec<u8> {
    let (_, rest) = dump.split_once("  ").expect("an offset");
    let hex = rest.get(..49).expect("sixteen columns");
    hex.split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).expect("a byte in hexadecimal"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_goes_to_netfilter_is_kept() {
        let notes = "\
7  socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_ROUTE) = 5
7  socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_NETFILTER) = 3
7  sendto(3, [...], 20, 0, NULL, 0) = 20
 | 00000  14 00 00 00 10 0a 01 00  00 00 00 00 00 00 00 00  ................ |
 | 00010  00 00 00 20                                       ....             |
7  sendto(5, [...], 4, 0, NULL, 0) = 4
 | 00000  14 00 00 00                                       ....             |
7  sendmsg(3, {...}, 0) = 2
 * 1 bytes in buffer 0
 | 00000  01                                                .                |
 * 1 bytes in buffer 1
 | 00000  02                                                .                |
7  socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_ROUTE) = 3
7  sendto(3, [...], 4, 0, NULL, 0) = 4
 | 00000  14 00 00 00                                       ....             |
";
        let pieces = pieces(notes);
        assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [20, 2]);
        assert_eq!(pieces[0][19], 0x20);
    }
}
