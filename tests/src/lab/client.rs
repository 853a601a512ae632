//! Clients that ask a [`Server`](super::Server) for its name and for the address that it sees.

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{set_socket_reuseaddr, socket_error};
use rustix::net::{
    AddressFamily, RecvFlags, SocketFlags, SocketType, bind, connect, ipproto, recv, socket_with,
};

use super::Netns;

/// A transport protocol that the lab speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP, one-to-one style (RFC 6458 section 4). Not every kernel has it.
    Sctp,
}

impl Protocol {
    /// What socket(2) takes to make a stream socket of the protocol.
    pub(super) fn of_stream(self) -> Option<rustix::net::Protocol> {
        (self == Protocol::Sctp).then_some(ipproto::SCTP)
    }
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The server's name.
    pub server: String,
    /// The client's address as the server saw it.
    pub peer: IpAddr,
}

impl Answer {
    fn parse(text: &str) -> Result<Self, ClientError> {
        text.split_once(' ')
            .and_then(|(server, peer)| {
                Some(Self { server: server.to_owned(), peer: peer.parse().ok()? })
            })
            .ok_or_else(|| ClientError::Other(format!("not an answer: {text:?}")))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.server, self.peer)
    }
}

/// Why there was no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// Refused at once: a TCP reset, or an ICMP port unreachable.
    Refused,
    /// Silence until the time limit.
    TimedOut,
    /// Anything else, such as no route.
    Other(String),
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            // recv(2) reports the end of SO_RCVTIMEO as EAGAIN.
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::TimedOut,
            _ => Self::Other(error.to_string()),
        }
    }
}

impl From<Errno> for ClientError {
    fn from(error: Errno) -> Self {
        io::Error::from(error).into()
    }
}

/// Asks once over TCP, with a time limit of two seconds.
pub fn tcp(netns: &Netns, server: impl Into<SocketAddr>) -> Result<Answer, ClientError> {
    Client::new(netns).tcp(server)
}

/// Asks once over UDP, with a time limit of two seconds.
pub fn udp(netns: &Netns, server: impl Into<SocketAddr>) -> Result<Answer, ClientError> {
    Client::new(netns).udp(server)
}

/// A client in a namespace.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    netns: &'a Netns,
    source: Option<SocketAddr>,
    timeout: Duration,
}

impl<'a> Client<'a> {
    /// A client that lets the kernel choose its address, and waits for two seconds.
    pub fn new(netns: &'a Netns) -> Self {
        Self { netns, source: None, timeout: Duration::from_secs(2) }
    }

    /// Sends from this address; port 0 lets the kernel choose one.
    pub fn source(self, source: impl Into<SocketAddr>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// Waits this long for the connection and again for the answer; not zero.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Asks once over the protocol.
    pub fn ask(
        self,
        protocol: Protocol,
        server: impl Into<SocketAddr>,
    ) -> Result<Answer, ClientError> {
        match protocol {
            Protocol::Tcp | Protocol::Sctp => self.stream(protocol, server.into()),
            Protocol::Udp => self.udp(server),
        }
    }

    /// Asks once over TCP.
    pub fn tcp(self, server: impl Into<SocketAddr>) -> Result<Answer, ClientError> {
        self.stream(Protocol::Tcp, server.into())
    }

    /// A TCP connection or an SCTP association; std reads both in the same way.
    fn stream(self, protocol: Protocol, server: SocketAddr) -> Result<Answer, ClientError> {
        let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let kind = protocol.of_stream();
        let socket = self.netns.run(|| socket_with(family, SocketType::STREAM, flags, kind))?;
        if let Some(source) = self.source {
            set_socket_reuseaddr(&socket, true)?;
            bind(&socket, &source)?;
        }
        match connect(&socket, &server) {
            Err(Errno::INPROGRESS) => {
                let mut ready = [PollFd::new(&socket, PollFlags::OUT)];
                let limit = Timespec::try_from(self.timeout).unwrap();
                if retry_on_intr(|| poll(&mut ready, Some(&limit)))? == 0 {
                    return Err(ClientError::TimedOut);
                }
                socket_error(&socket)??;
            }
            result => result?,
        }
        let mut stream = TcpStream::from(socket);
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(self.timeout))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Answer::parse(&text)
    }

    /// Asks once over UDP.
    pub fn udp(self, server: impl Into<SocketAddr>) -> Result<Answer, ClientError> {
        self.flow(server)?.send()
    }

    /// Opens a UDP socket that asks the same server again and again from one port.
    pub fn flow(self, server: impl Into<SocketAddr>) -> Result<UdpFlow, ClientError> {
        let server = server.into();
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = self.netns.run(|| UdpSocket::bind(self.source.unwrap_or(any)))?;
        socket.set_read_timeout(Some(self.timeout))?;
        // A connected socket receives ICMP errors, and accepts an answer only from the address that it asked.
        socket.connect(server)?;
        Ok(UdpFlow(socket))
    }
}

/// A UDP client that keeps its source port, and so its connection tracking entries.
#[derive(Debug)]
pub struct UdpFlow(UdpSocket);

impl UdpFlow {
    /// Opens a flow that waits 300 ms for each answer; see [`Client::flow`] for more choice.
    ///
    /// # Panics
    ///
    /// If the server's address has no route.
    pub fn open(netns: &Netns, server: impl Into<SocketAddr>) -> Self {
        Client::new(netns).timeout(Duration::from_millis(300)).flow(server).unwrap()
    }

    /// Sends one datagram and waits for its answer. None if there is none in time, or if the server's host refuses
    /// it.
    pub fn ask(&self) -> Option<Answer> {
        self.send().ok()
    }

    /// Like [`UdpFlow::ask`], with the reason.
    pub fn send(&self) -> Result<Answer, ClientError> {
        // A late answer or error to the last datagram does not count as one to this datagram.
        self.0.set_nonblocking(true)?;
        let mut text = [0; 512];
        for _ in 0..100 {
            match self.0.recv(&mut text) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                _ => {}
            }
        }
        self.0.set_nonblocking(false)?;
        self.0.send(b"who?")?;
        let (_, length) = retry_on_intr(|| recv(&self.0, &mut text[..], RecvFlags::empty()))?;
        Answer::parse(&String::from_utf8_lossy(&text[..length]))
    }

    /// The address and port that it sends from.
    pub fn source(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }
}
