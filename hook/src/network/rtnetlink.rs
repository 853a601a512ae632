//! One rtnetlink(7) socket: a request out, its reply in.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLA_F_NESTED, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
};
use netlink_sys::SocketAddr;
use netlink_sys::protocols::NETLINK_ROUTE;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::network::object::{
    AF_BRIDGE, AF_INET, AF_INET6, Address, Link, RT_TABLE_MAIN, RTN_UNICAST, Route, ifla, rta,
};
use crate::network::wire::{self, Malformed, Message, Messages, Request, attributes};

/// The kernel queues its reply while it handles the request, so this is never waited for.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How often a dump is repeated because something changed while it ran.
const DUMPS: usize = 10;

/// What the kernel fills at most in one go of a dump: as much as is read at a time (netlink_recvmsg, since
/// Linux 4.5). A link takes less than 2 KiB.
const BUFFER: usize = 8 * 1024;

/// RTEXT_FILTER_SKIP_STATS: leaves the counters out of a link.
const SKIP_STATS: u32 = 1 << 3;

mod rtm {
    pub const NEWLINK: u16 = 16;
    pub const GETLINK: u16 = 18;
    pub const SETLINK: u16 = 19;
    pub const NEWADDR: u16 = 20;
    pub const GETADDR: u16 = 22;
    pub const NEWROUTE: u16 = 24;
    pub const GETROUTE: u16 = 26;
    pub const NEWNSID: u16 = 88;
    pub const GETNSID: u16 = 90;
}

/// `NETNSA_*` in `linux/net_namespace.h`.
mod netnsa {
    pub const NSID: u16 = 1;
    pub const FD: u16 = 3;
}

/// A socket in the network namespace that the thread was in when it was opened.
#[derive(Debug)]
pub struct Socket {
    socket: netlink_sys::Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket. It is bound by the first request.
    pub fn open() -> Result<Self, Error> {
        Self::open_for(NETLINK_ROUTE, "NETLINK_ROUTE")
    }

    /// One of another protocol that speaks in the same way.
    pub(super) fn open_for(protocol: isize, name: &'static str) -> Result<Self, Error> {
        let failed = |source| Error::Open { name, source };
        let socket = netlink_sys::Socket::new(protocol).map_err(failed)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(TIMEOUT))
            .map_err(|errno| failed(errno.into()))?;
        // So that dumps of routes are filtered by the kernel. Before Linux 4.20 there is no such
        // option; the replies are checked in any case.
        let _ = socket.set_netlink_get_strict_chk(true);
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER) })
    }

    /// A link by its index. None if there is none.
    pub fn link(&mut self, index: u32) -> Result<Option<Link>, Error> {
        let request =
            Request::new("RTM_GETLINK", rtm::GETLINK, NLM_F_REQUEST, &ifinfomsg(0, index))
                .attribute(ifla::EXT_MASK, &SKIP_STATS.to_ne_bytes());
        match self.get(request, rtm::NEWLINK, Link::parse) {
            Err(error) if error.is(&[Errno::NODEV]) => Ok(None),
            link => link.map(Some),
        }
    }

    /// All addresses of all links, both families, in the kernel's order.
    pub fn addresses(&mut self) -> Result<Vec<Address>, Error> {
        let request =
            Request::new("RTM_GETADDR", rtm::GETADDR, NLM_F_REQUEST | NLM_F_DUMP, &[0; 8]);
        self.dump(request, rtm::NEWADDR, Address::parse)
    }

    /// The default routes of the main table.
    pub fn default_routes(&mut self, ipv6: bool) -> Result<Vec<Route>, Error> {
        let family = if ipv6 { AF_INET6 } else { AF_INET };
        let fixed = [family, 0, 0, 0, RT_TABLE_MAIN, 0, 0, 0, 0, 0, 0, 0];
        let flags = NLM_F_REQUEST | NLM_F_DUMP;
        let request = Request::new("RTM_GETROUTE", rtm::GETROUTE, flags, &fixed);
        let wanted = |route: &Route| {
            // A kernel without IPv6 answers with the other families' routes.
            route.family == family
                && route.table == u32::from(RT_TABLE_MAIN)
                && route.is_default
                && route.kind == RTN_UNICAST
        };
        let parse = |payload: &[u8]| Ok(Some(Route::parse(payload)?).filter(wanted));
        match self.dump(request, rtm::NEWROUTE, parse) {
            // The table is made with its first route.
            Err(error) if error.is(&[Errno::NOENT, Errno::OPNOTSUPP]) => Ok(Vec::new()),
            routes => routes,
        }
    }

    /// The route that a packet to an address takes: what `ip route get` asks. None if it takes
    /// none, be it that there is no route or one that refuses.
    pub fn route_to(&mut self, ip: IpAddr) -> Result<Option<Route>, Error> {
        let request = |family, length| {
            let fixed = [family, length, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            Request::new("RTM_GETROUTE", rtm::GETROUTE, NLM_F_REQUEST, &fixed)
        };
        let request = match ip {
            IpAddr::V4(ip) => request(AF_INET, 32).attribute(rta::DST, &ip.octets()),
            IpAddr::V6(ip) => request(AF_INET6, 128).attribute(rta::DST, &ip.octets()),
        };
        match self.get(request, rtm::NEWROUTE, Route::parse) {
            Err(error)
                if error.is(&[
                    Errno::NETUNREACH,
                    Errno::HOSTUNREACH, // RTN_UNREACHABLE
                    Errno::ACCESS,      // RTN_PROHIBIT
                    Errno::INVAL,       // RTN_BLACKHOLE
                    Errno::OPNOTSUPP,   // no IPv6 in this kernel
                ]) =>
            {
                Ok(None)
            }
            route => route.map(Some),
        }
    }

    /// Why a packet that comes in by a link is not passed on to an address, if so: `ip route get ADDRESS from
    /// SOURCE iif LINK`. The kernel asks its rules, routes and rp_filter as for a real one.
    pub fn refusal(
        &mut self,
        ip: IpAddr,
        source: IpAddr,
        link: u32,
    ) -> Result<Option<io::Error>, Error> {
        let request = |family, length| {
            let fixed = [family, length, length, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            Request::new("RTM_GETROUTE", rtm::GETROUTE, NLM_F_REQUEST, &fixed)
        };
        let request = match (ip, source) {
            (IpAddr::V4(ip), IpAddr::V4(source)) => request(AF_INET, 32)
                .attribute(rta::DST, &ip.octets())
                .attribute(rta::SRC, &source.octets()),
            (IpAddr::V6(ip), IpAddr::V6(source)) => request(AF_INET6, 128)
                .attribute(rta::DST, &ip.octets())
                .attribute(rta::SRC, &source.octets()),
            _ => return Ok(None),
        };
        let request = request.attribute(rta::IIF, &link.to_ne_bytes());
        match self.get(request, rtm::NEWROUTE, Route::parse) {
            Err(Error::Refused { source, .. }) => Ok(Some(source)),
            route => route.map(|_| None),
        }
    }

    /// The number that another namespace has in this one, if it has one. Links name theirs by it.
    pub fn namespace_id(&mut self, namespace: &impl AsFd) -> Result<Option<u32>, Error> {
        let fd = namespace.as_fd().as_raw_fd();
        // struct rtgenmsg, padded.
        let request = Request::new("RTM_GETNSID", rtm::GETNSID, NLM_F_REQUEST, &[0; 4])
            .attribute(netnsa::FD, &fd.to_ne_bytes());
        self.get(request, rtm::NEWNSID, |payload| {
            let (_, rest) = wire::split::<4>(payload, "rtgenmsg")?;
            for attribute in attributes(rest) {
                if let (netnsa::NSID, value) = attribute? {
                    // NETNSA_NSID_NOT_ASSIGNED is -1.
                    let id = wire::u32_of(value, "NETNSA_NSID")?;
                    return Ok(Some(id).filter(|id| *id != u32::MAX));
                }
            }
            Ok(None)
        })
    }

    /// Turns a bridge port's hairpin mode on: `bridge link set dev PORT hairpin on`.
    pub fn set_hairpin_mode(&mut self, port: u32) -> Result<(), Error> {
        let mut protinfo = Vec::with_capacity(8);
        wire::attribute(&mut protinfo, ifla::BRPORT_MODE, &[1]);
        let flags = NLM_F_REQUEST | NLM_F_ACK;
        let request = Request::new("RTM_SETLINK", rtm::SETLINK, flags, &ifinfomsg(AF_BRIDGE, port))
            .attribute(ifla::PROTINFO | NLA_F_NESTED, &protinfo);
        self.exchange(request, |_| Ok(()))
    }

    /// One object.
    fn get<T>(
        &mut self,
        request: Request,
        kind: u16,
        parse: impl Fn(&[u8]) -> Result<T, Malformed>,
    ) -> Result<T, Error> {
        let name = request.name;
        let mut found = None;
        self.exchange(request, |message| {
            if message.kind == kind {
                found = Some(parse(message.payload)?);
            }
            Ok(())
        })?;
        found.ok_or(Error::Malformed { request: name, source: Malformed("reply: no object") })
    }

    /// All objects that `parse` wants, as they were at one moment.
    pub(super) fn dump<T>(
        &mut self,
        request: Request,
        kind: u16,
        parse: impl Fn(&[u8]) -> Result<Option<T>, Malformed>,
    ) -> Result<Vec<T>, Error> {
        let name = request.name;
        for _ in 0..DUMPS {
            let (mut found, mut interrupted) = (Vec::new(), false);
            self.exchange(request.clone(), |message| {
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                if message.kind == kind {
                    found.extend(parse(message.payload)?);
                }
                Ok(())
            })?;
            if !interrupted {
                return Ok(found);
            }
        }
        Err(Error::Unsteady { request: name })
    }

    /// Sends a request and hands over the messages that answer it: one for a plain request, all up
    /// to NLMSG_DONE for a dump, none for a change, which is only acknowledged.
    fn exchange(
        &mut self,
        mut request: Request,
        mut each: impl FnMut(&Message<'_>) -> Result<(), Malformed>,
    ) -> Result<(), Error> {
        let name = request.name;
        let deadline = Instant::now() + TIMEOUT;
        let failed = |source| Error::Io { request: name, source };
        let malformed = |source| Error::Malformed { request: name, source };
        self.sequence = self.sequence.wrapping_add(1);
        let is_get = request.flags() & (NLM_F_DUMP | NLM_F_ACK) == 0;
        let bytes = request.finish(self.sequence);
        let sent = loop {
            match self.socket.send_to(bytes, &SocketAddr::new(0, 0), 0) {
                Err(error) if is_interrupted(&error) && Instant::now() < deadline => {}
                sent => break sent,
            }
        };
        sent.map_err(failed)?;
        while Instant::now() < deadline {
            self.buffer.clear();
            // With MSG_TRUNC, recv(2) returns the whole length even if it did not fit.
            let flags = RecvFlags::TRUNC.bits() as i32;
            let (length, sender) = match self.socket.recv_from(&mut self.buffer, flags) {
                Err(error) if is_interrupted(&error) => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                received => received.map_err(failed)?,
            };
            if sender.port_number() != 0 {
                continue; // from another process, not from the kernel
            }
            if length > self.buffer.len() {
                return Err(malformed(Malformed("reply: larger than the buffer")));
            }
            for message in Messages::new(&self.buffer) {
                let message = message.map_err(malformed)?;
                if message.sequence != self.sequence {
                    continue; // a late answer to a request that timed out
                }
                each(&message).map_err(malformed)?;
                if matches!(message.kind, NLMSG_ERROR | NLMSG_DONE) {
                    return match message.errno().map_err(malformed)? {
                        0 => Ok(()),
                        errno => {
                            let source = io::Error::from_raw_os_error(errno);
                            Err(Error::Refused { request: name, source })
                        }
                    };
                }
                if is_get {
                    return Ok(());
                }
            }
        }
        Err(Error::TimedOut { request: name })
    }
}

/// `struct ifinfomsg`: family, pad, type (2), index (4), flags (4), change (4).
fn ifinfomsg(family: u8, index: u32) -> [u8; 16] {
    let [a, b, c, d] = index.to_ne_bytes();
    [family, 0, 0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// By a signal, which is no reason to give up.
fn is_interrupted(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
}

/// Why the kernel's links, addresses or routes could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No socket.
    #[error("cannot open a {name} socket: {source}")]
    Open {
        /// The netlink protocol.
        name: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// Sending or receiving failed.
    #[error("{request}: {source}")]
    Io {
        /// The request: `RTM_GETLINK` and the like.
        request: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// The kernel answered with an error.
    #[error("the kernel refused {request}: {source}")]
    Refused {
        /// The request.
        request: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// No answer. The kernel answers at once, so this is a fault of the kernel.
    #[error("{request}: no answer within {} seconds", TIMEOUT.as_secs())]
    TimedOut {
        /// The request.
        request: &'static str,
    },
    /// The list kept changing while it was read (NLM_F_DUMP_INTR).
    #[error("{request}: links or addresses kept changing during {DUMPS} attempts to read them")]
    Unsteady {
        /// The request.
        request: &'static str,
    },
    /// The reply is not what it should be.
    #[error("{request}: {source}")]
    Malformed {
        /// The request.
        request: &'static str,
        /// What is wrong with it.
        source: Malformed,
    },
}

impl Error {
    /// The kernel's answer was one of these.
    fn is(&self, errnos: &[Errno]) -> bool {
        match self {
            Self::Refused { source, .. } => source
                .raw_os_error()
                .is_some_and(|code| errnos.iter().any(|errno| errno.raw_os_error() == code)),
            _ => false,
        }
    }
}
