//! Connections that are there already: small packets, and many bytes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::clock::{Clock, Slice};
use super::road::Road;

/// What one exchange is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// A request and an answer of a byte each: two packets, and what acknowledges them.
    Packets,
    /// 32 KiB and an answer of a byte.
    Bytes,
}

/// How much [`Load::Bytes`] sends at once.
pub const BYTES: usize = 32 << 10;
/// How much is sent before the timed part, so that TCP's windows are open.
const WARMING: usize = 100;

/// Sends to and fro over one connection for a while.
pub fn measure(road: &Road, clock: Clock, length: Duration, load: Load) -> Slice {
    road.run(|| {
        // In the middle of the table.
        let target = road.target(u64::from(road.ports / 2));
        let mut client = TcpStream::connect(target).expect("the pod accepts connections");
        let (mut server, _) = road.listener.accept().unwrap();
        for end in [&client, &server] {
            end.set_nodelay(true).unwrap();
        }
        let size = if load == Load::Bytes { BYTES } else { 1 };
        let mut bytes = vec![7; size];
        let mut exchange = || {
            client.write_all(&bytes).unwrap();
            server.read_exact(&mut bytes).unwrap();
            server.write_all(&bytes[..1]).unwrap();
            client.read_exact(&mut bytes[..1]).unwrap();
        };
        (0..WARMING).for_each(|_| exchange());
        clock.slice(length, 16, exchange)
    })
}
