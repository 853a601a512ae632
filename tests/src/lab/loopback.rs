//! The packet that a neighbour would send to reach a server bound to 127.0.0.1 (CVE-2020-8558).

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Answer, Client, ClientError, Netns, Protocol};

/// Short, since in most tests the packet must not arrive.
const TIMEOUT: Duration = Duration::from_millis(500);

/// Asks the server on 127.0.0.1 of the host `via`, from a neighbour of that host on `dev`.
///
/// The neighbour gives up its own 127.0.0.0/8 and routes 127.0.0.1 out of the link instead. The
/// host lets such packets in only where the link that receives them has `route_localnet=1`.
/// The namespace's own loopback is of no use afterwards. The time limit is half a second.
pub fn neighbour_reaches_loopback(
    neighbour: &Netns,
    via: Ipv4Addr,
    dev: &str,
    protocol: Protocol,
    port: u16,
) -> Result<Answer, ClientError> {
    neighbour.ip(&format!(
        "addr flush dev lo to 127.0.0.0/8
         route replace 127.0.0.1/32 via {via} dev {dev}"
    ));
    // Otherwise the kernel treats the answer, which comes from 127.0.0.1, as a martian packet.
    neighbour.sysctl(&format!("net.ipv4.conf.{dev}.route_localnet"), "1");
    Client::new(neighbour).timeout(TIMEOUT).ask(protocol, (Ipv4Addr::LOCALHOST, port))
}
