//! New connections: each has a request and an answer, as in netperf's TCP_CRR.

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use hostport_tests::lab::CLIENT4;
use rustix::net::sockopt::{set_socket_linger, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use super::clock::{Clock, Slice};
use super::random::Random;
use super::road::Road;

/// The length of a request, and of an answer.
const BYTES: usize = 64;

/// What a slice of connections took.
#[derive(Clone, Debug)]
pub struct Connections {
    /// All of it.
    pub slice: Slice,
    /// What connect(2) took, in microseconds, in order.
    connects: Vec<f64>,
}

impl Connections {
    /// What connect(2) took on the wall, from SYN to SYN-ACK: a part of all connections took less.
    pub fn connect(&self, part: f64) -> f64 {
        let last = self.connects.len() - 1;
        self.connects[(last as f64 * part).round() as usize]
    }
}

/// Opens connections for a while, one after the other, to ports at random.
pub fn measure(road: &Road, clock: Clock, length: Duration, seed: usize) -> Connections {
    let mut random = Random::new(seed);
    let mut source = Source::default();
    let mut connects = Vec::with_capacity(4_096);
    let slice = road.run(|| {
        clock.slice(length, 4, || {
            let target = road.target(random.next());
            connects.push(exchange(road, source.next(), target).as_secs_f64() * 1e6);
        })
    });
    connects.sort_by(f64::total_cmp);
    Connections { slice, connects }
}

/// One connection from beginning to end; returns the time of connect(2).
///
/// The client ends it by a reset (SO_LINGER of zero), so that neither side remembers it (TIME_WAIT).
fn exchange(road: &Road, source: SocketAddrV4, target: SocketAddrV4) -> Duration {
    let family = AddressFamily::INET;
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    set_socket_reuseaddr(&socket, true).unwrap();
    set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
    bind(&socket, &source).unwrap();
    let start = Instant::now();
    connect(&socket, &target).expect("the pod accepts connections");
    let connected = start.elapsed();
    let mut client = TcpStream::from(socket);
    let mut bytes = [7; BYTES];
    client.write_all(&bytes).unwrap();
    let (mut server, _) = road.listener.accept().unwrap();
    server.read_exact(&mut bytes).unwrap();
    server.write_all(&bytes).unwrap();
    client.read_exact(&mut bytes).unwrap();
    drop(client);
    connected
}

/// The client's ports in turn. Left to choose, the kernel would take one port for two connections to
/// different host ports, which lead to one endpoint: then the node has to find another.
#[derive(Default)]
struct Source(u16);

impl Source {
    fn next(&mut self) -> SocketAddrV4 {
        self.0 = self.0.checked_add(1).unwrap_or_default().max(1_024);
        SocketAddrV4::new(CLIENT4, self.0)
    }
}
