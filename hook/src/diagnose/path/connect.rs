//! Whether an endpoint answers: one connection from this host, with a short limit.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use hostport_nft::{Endpoint, Family, Protocol};

use super::steps::Status;

const CONNECT: Duration = Duration::from_secs(1);
/// A refusal comes at once, by ICMP; silence may be a server's right.
const REFUSAL: Duration = Duration::from_millis(300);

/// Connects to an endpoint. Returns whether it answers, and what was seen.
pub fn connect(endpoint: Endpoint, protocol: Protocol) -> (Status, String) {
    match protocol {
        Protocol::Tcp => tcp(endpoint),
        Protocol::Udp => udp(endpoint),
        Protocol::Sctp => (Status::Skipped, "not tried: --probe does not know sctp".to_owned()),
    }
}

fn tcp(endpoint: Endpoint) -> (Status, String) {
    let address = SocketAddr::new(endpoint.ip, endpoint.port.get());
    let Err(error) = TcpStream::connect_timeout(&address, CONNECT) else {
        return (Status::Ok, format!("{endpoint} accepts connections"));
    };
    let what = match error.kind() {
        ErrorKind::ConnectionRefused => format!("{endpoint} refuses connections"),
        ErrorKind::TimedOut => format!("{endpoint} does not answer within a second"),
        _ => format!("connecting to {endpoint} fails: {error}"),
    };
    (Status::Blocked, what)
}

fn udp(endpoint: Endpoint) -> (Status, String) {
    let any = SocketAddr::new(Family::of(endpoint.ip).wildcard(), 0);
    let address = SocketAddr::new(endpoint.ip, endpoint.port.get());
    let attempt = || {
        let socket = UdpSocket::bind(any)?;
        socket.connect(address)?;
        socket.set_read_timeout(Some(REFUSAL))?;
        socket.send(&[])?;
        socket.recv(&mut [0])
    };
    let Err(error) = attempt() else { return (Status::Ok, format!("{endpoint} answers")) };
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            (Status::Unsure, format!("{endpoint} neither answers an empty datagram nor refuses it"))
        }
        ErrorKind::ConnectionRefused => (Status::Blocked, format!("{endpoint} refuses datagrams")),
        _ => (Status::Blocked, format!("sending to {endpoint} fails: {error}")),
    }
}
