//! Whether an endpoint answers: one connection from this host, with a short limit.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use hostport_nft::{Endpoint, Family, Protocol};

const CONNECT: Duration = Duration::from_secs(1);
/// A refusal comes at once, by ICMP; silence may be a server's right.
const REFUSAL: Duration = Duration::from_millis(300);

/// What came of it, and what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The endpoint answers, or accepts the connection.
    Yes(String),
    /// It does not answer, or refuses.
    No(String),
    /// Neither of the two.
    Unknown(String),
    /// There is no way to try.
    Untried(String),
}

/// Connects to an endpoint.
pub fn connect(endpoint: Endpoint, protocol: Protocol) -> Answer {
    match protocol {
        Protocol::Tcp => tcp(endpoint),
        Protocol::Udp => udp(endpoint),
        Protocol::Sctp => Answer::Untried("not tried: --probe does not know sctp".to_owned()),
    }
}

fn tcp(endpoint: Endpoint) -> Answer {
    let address = SocketAddr::new(endpoint.ip, endpoint.port.get());
    match TcpStream::connect_timeout(&address, CONNECT) {
        Ok(_) => Answer::Yes(format!("{endpoint} accepts connections")),
        Err(error) => Answer::No(match error.kind() {
            ErrorKind::ConnectionRefused => format!("{endpoint} refuses connections"),
            ErrorKind::TimedOut => format!("{endpoint} does not answer within a second"),
            _ => format!("connecting to {endpoint} fails: {error}"),
        }),
    }
}

fn udp(endpoint: Endpoint) -> Answer {
    let any = SocketAddr::new(Family::of(endpoint.ip).wildcard(), 0);
    let address = SocketAddr::new(endpoint.ip, endpoint.port.get());
    let attempt = || {
        let socket = UdpSocket::bind(any)?;
        socket.connect(address)?;
        socket.set_read_timeout(Some(REFUSAL))?;
        socket.send(&[])?;
        socket.recv(&mut [0])
    };
    match attempt() {
        Ok(_) => Answer::Yes(format!("{endpoint} answers")),
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Answer::Unknown(format!(
                "{endpoint} neither answers an empty datagram nor refuses it"
            )),
            ErrorKind::ConnectionRefused => Answer::No(format!("{endpoint} refuses datagrams")),
            _ => Answer::No(format!("sending to {endpoint} fails: {error}")),
        },
    }
}
