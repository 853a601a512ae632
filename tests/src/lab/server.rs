//! Servers that answer with their name and with the client's address.

use std::io::{self, PipeReader, PipeWriter, Write, pipe};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, bind, socket_with};

use super::{Netns, Protocol, Sleeper};

/// The longest life of a server that a test forgot.
const LIFETIME: Duration = Duration::from_secs(3600);
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// A server that answers each connection or datagram with `<name> <address of the peer>`. Dropping it stops it and
/// frees its port.
///
/// Bound to the wildcard, UDP answers from the address that the route back suggests, as most UDP servers do. If a
/// host has several addresses and the client cares, bind to the right one.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server in a namespace; it is reachable when this returns. `[::]` serves both families; port 0 takes
    /// a free one.
    ///
    /// # Panics
    ///
    /// If the address cannot be bound.
    pub fn start(
        netns: &Netns,
        protocol: Protocol,
        name: &str,
        address: impl Into<SocketAddr>,
    ) -> Self {
        let address = address.into();
        let (stopped, stop) = pipe().unwrap();
        let name = name.to_owned();
        // A socket stays in the namespace where it was opened, so its thread may be elsewhere.
        let bound = match protocol {
            Protocol::Tcp | Protocol::Sctp => {
                netns.run(|| listen(protocol, address)).and_then(|listener| {
                    listener.set_nonblocking(true)?;
                    let address = listener.local_addr()?;
                    Ok((address, thread::spawn(move || serve_tcp(&listener, &name, &stopped))))
                })
            }
            Protocol::Udp => netns.run(|| UdpSocket::bind(address)).and_then(|socket| {
                socket.set_nonblocking(true)?;
                let address = socket.local_addr()?;
                Ok((address, thread::spawn(move || serve_udp(&socket, &name, &stopped))))
            }),
        };
        let (address, thread) =
            bound.unwrap_or_else(|error| panic!("{protocol:?} server on {address}: {error}"));
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    /// A TCP server.
    pub fn tcp(netns: &Netns, name: &str, address: impl Into<SocketAddr>) -> Self {
        Self::start(netns, Protocol::Tcp, name, address)
    }

    /// An SCTP server.
    pub fn sctp(netns: &Netns, name: &str, address: impl Into<SocketAddr>) -> Self {
        Self::start(netns, Protocol::Sctp, name, address)
    }

    /// A UDP server.
    pub fn udp(netns: &Netns, name: &str, address: impl Into<SocketAddr>) -> Self {
        Self::start(netns, Protocol::Udp, name, address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A process that listens on a port and never answers; its socket is open when this returns.
///
/// # Panics
///
/// If the address cannot be bound.
pub fn idle_listener(netns: &Netns, protocol: Protocol, address: impl Into<SocketAddr>) -> Sleeper {
    let address = address.into();
    let socket = netns.run(|| match protocol {
        Protocol::Tcp | Protocol::Sctp => listen(protocol, address).map(OwnedFd::from),
        Protocol::Udp => UdpSocket::bind(address).map(OwnedFd::from),
    });
    let socket = socket.unwrap_or_else(|error| panic!("{protocol:?} on {address}: {error}"));
    netns.holder(socket)
}

/// A listener for TCP or SCTP; std accepts from both in the same way.
fn listen(protocol: Protocol, address: SocketAddr) -> io::Result<TcpListener> {
    if protocol == Protocol::Tcp {
        return TcpListener::bind(address);
    }
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = protocol.of_stream();
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, kind)?;
    set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    net::listen(&socket, 16)?;
    Ok(socket.into())
}

fn serve_tcp(listener: &TcpListener, name: &str, stopped: &PipeReader) {
    let end = Instant::now() + LIFETIME;
    while wait(listener, stopped, end) {
        // If this fails, the client notices.
        if let Ok((mut stream, peer)) = listener.accept() {
            let _ = stream.set_write_timeout(Some(WRITE_TIMEOUT));
            let _ = stream.write_all(greeting(name, peer).as_bytes());
        }
    }
}

fn serve_udp(socket: &UdpSocket, name: &str, stopped: &PipeReader) {
    let end = Instant::now() + LIFETIME;
    while wait(socket, stopped, end) {
        if let Ok((_, peer)) = socket.recv_from(&mut [0; 512]) {
            let _ = socket.send_to(greeting(name, peer).as_bytes(), peer);
        }
    }
}

fn greeting(name: &str, peer: SocketAddr) -> String {
    format!("{name} {}", peer.ip().to_canonical())
}

/// Waits for something to serve; returns false when the server must stop.
fn wait(socket: &impl AsFd, stopped: &PipeReader, end: Instant) -> bool {
    let mut sources = [PollFd::new(socket, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
    let left = end.saturating_duration_since(Instant::now());
    let timeout = Timespec::try_from(left).unwrap();
    matches!(retry_on_intr(|| poll(&mut sources, Some(&timeout))), Ok(1..))
        && sources[1].revents().is_empty()
}
