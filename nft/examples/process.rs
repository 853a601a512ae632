//! Publishes a port for a process in a network namespace of its own, and withdraws it when the process has ended.
//!
//! The process's IPv4 address must be reachable from here. As root, for what listens on port 8080 there:
//! `cargo run --example process -- PID 9000 8080`.

use std::collections::BTreeSet;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::thread;
use std::time::Duration;

use hostport_nft::{
    Claim, Endpoint, Family, HostPort, HostPorts, Mapping, Protocol, Publication, Settings,
};

/// The first address of the process's namespace that is not a loopback one: /proc/PID/net/fib_trie has a line
/// `/32 host LOCAL` below each local address.
fn address(pid: u32) -> Result<IpAddr, Box<dyn Error>> {
    let trie = std::fs::read_to_string(format!("/proc/{pid}/net/fib_trie"))?;
    let mut last: Option<Ipv4Addr> = None;
    for line in trie.lines() {
        if let Some((_, text)) = line.split_once("|-- ") {
            last = text.parse().ok();
        } else if line.contains("/32 host LOCAL")
            && let Some(ip) = last.filter(|ip| !ip.is_loopback())
        {
            return Ok(ip.into());
        }
    }
    Err(format!("process {pid} has no IPv4 address").into())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [pid, host_port, port] = arguments.as_slice() else {
        return Err("usage: process PID HOST_PORT PORT".into());
    };
    let pid: u32 = pid.parse()?;
    let host = HostPort {
        host_ip: Family::Ip.wildcard(),
        port: host_port.parse()?,
        protocol: Protocol::Tcp,
    };
    let endpoint = Endpoint { ip: address(pid)?, port: port.parse()? };
    let owner: hostport_nft::OwnerId = format!("process-{pid}").parse()?;

    let mut host_ports = HostPorts::open(Settings::default())?;
    let claims = vec![Claim { owner: owner.clone(), mapping: Mapping::new(host, endpoint)? }];
    let publication = Publication { claims, ..Publication::default() };
    // Another owner keeps what it has: then this is an error that names it.
    host_ports.publish(&publication, |_taken| false)?;
    println!("{host} leads to {endpoint} while process {pid} runs");

    while Path::new(&format!("/proc/{pid}")).exists() {
        thread::sleep(Duration::from_millis(100));
    }
    let pods = BTreeSet::from([endpoint.ip]);
    host_ports.withdraw(&owner, &BTreeSet::from([host]), &pods)?;
    println!("{host} is withdrawn");
    Ok(())
}
