//! The process that has a socket.

use std::fs;

/// In words, by the links in /proc/PID/fd.
pub fn of_socket(inode: u32) -> String {
    named(inode).map_or("a process".to_owned(), |(pid, name)| format!("the process {pid} ({name})"))
}

/// The process with the netlink socket of a port, by its number and its name: netlink(7). A port is often, but not
/// always, the number of the process.
pub fn of_netlink_port(port: u32) -> Option<(u32, String)> {
    const NETLINK_NETFILTER: &str = "12";
    let sockets = fs::read_to_string("/proc/thread-self/net/netlink").ok()?;
    let inode = sockets.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        match fields.as_slice() {
            [_, NETLINK_NETFILTER, pid, .., inode] if *pid == port.to_string() => {
                inode.parse().ok()
            }
            _ => None,
        }
    });
    named(inode?)
}

fn named(inode: u32) -> Option<(u32, String)> {
    let socket = format!("socket:[{inode}]");
    let has = |pid: u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.into_iter().any(|file| {
            fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == socket.as_str())
        })
    };
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pid = processes
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .find(|pid| has(*pid))?;
    let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some((pid, String::from_utf8_lossy(&name).trim_end().to_owned()))
}
