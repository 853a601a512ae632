//! One rtnetlink(7) socket: a request out, its reply in.

use std::io;
use std::iter;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use hostport_netlink::{
    End, Error as NetlinkError, Malformed, NLM_F_DUMP, NetlinkRequest, attribute,
};
use rustix::io::Errno;

use super::object::{
    AF_BRIDGE, AF_INET, AF_INET6, Address, Device, IFLA_BRPORT_MODE, Route, split, u32_of,
};

/// `linux/netlink.h`.
const NETLINK_ROUTE: isize = 0;

/// How often a dump is repeated because something changed while it ran.
const DUMPS: usize = 10;

/// What the kernel fills at most in one go of a dump: as much as is read at a time (netlink_recvmsg, since
/// Linux 4.5). A link takes less than 2 KiB.
const ROOM: usize = 8 * 1024;

// Of `linux/net_namespace.h`.
const NETNSA_NSID: u16 = 1;
const NETNSA_PID: u16 = 2;
const NETNSA_FD: u16 = 3;

// Of `linux/if_link.h` and `linux/if_addr.h`.
const IFLA_TARGET_NETNSID: u16 = 46;
const IFA_TARGET_NETNSID: u16 = 10;

/// A socket in the network namespace that the thread was in when it was opened.
#[derive(Debug)]
pub struct Socket(hostport_netlink::Socket, Option<u32>);

impl Socket {
    /// Opens a socket. It is bound by the first request.
    pub fn open() -> Result<Self, Error> {
        Self::open_for(NETLINK_ROUTE, "NETLINK_ROUTE")
    }

    /// One of another protocol that speaks in the same way.
    pub(super) fn open_for(protocol: isize, name: &'static str) -> Result<Self, Error> {
        let socket = hostport_netlink::Socket::open(protocol);
        Ok(Self(socket.map_err(|error| Error::of(name, error))?, None))
    }

    /// From now on, its links and addresses are those of another namespace, by its number in this one. That needs
    /// CAP_NET_ADMIN in the user namespace which owns the other, and does not enter it.
    pub fn look_into(&mut self, namespace: u32) {
        // Only then does the kernel read which namespace a dump is about.
        self.0.check_strictly();
        self.1 = Some(namespace);
    }

    /// Whether it knows the namespace's routes: they cannot be asked for from outside.
    pub fn knows_routes(&self) -> bool {
        self.1.is_none()
    }

    /// A link by its index, without its counters. None if there is none.
    pub fn link(&mut self, index: u32) -> Result<Option<Device>, Error> {
        let request = NetlinkRequest::new(libc::RTM_GETLINK, 0, &ifinfomsg(0, index))
            .bytes(libc::IFLA_EXT_MASK, &libc::RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
        let request = self.of_namespace(request, IFLA_TARGET_NETNSID);
        match self.get("RTM_GETLINK", &request, libc::RTM_NEWLINK, Device::parse) {
            Err(error) if error.is(&[Errno::NODEV]) => Ok(None),
            link => link.map(Some),
        }
    }

    /// The ports of a bridge, without their counters.
    pub fn ports(&mut self, bridge: u32) -> Result<Vec<Device>, Error> {
        let request = NetlinkRequest::new(libc::RTM_GETLINK, NLM_F_DUMP, &ifinfomsg(0, 0))
            .bytes(libc::IFLA_EXT_MASK, &libc::RTEXT_FILTER_SKIP_STATS.to_ne_bytes())
            .bytes(libc::IFLA_MASTER, &bridge.to_ne_bytes());
        let parse = |payload: &[u8]| {
            Ok(Some(Device::parse(payload)?).filter(|link| link.master == Some(bridge)))
        };
        self.dump("RTM_GETLINK", &request, libc::RTM_NEWLINK, parse)
    }

    /// All addresses of all links, both families, in the kernel's order.
    pub fn addresses(&mut self) -> Result<Vec<Address>, Error> {
        let request = NetlinkRequest::new(libc::RTM_GETADDR, NLM_F_DUMP, &[0; 8]);
        let request = self.of_namespace(request, IFA_TARGET_NETNSID);
        self.dump("RTM_GETADDR", &request, libc::RTM_NEWADDR, Address::parse)
    }

    /// The default routes in the main table, the best first.
    pub fn default_routes(&mut self, ipv6: bool) -> Result<Vec<Route>, Error> {
        // So that the kernel filters the dump. The replies are checked in any case.
        self.0.check_strictly();
        let family = if ipv6 { AF_INET6 } else { AF_INET };
        let fixed = [family, 0, 0, 0, libc::RT_TABLE_MAIN, 0, 0, 0, 0, 0, 0, 0];
        let request = NetlinkRequest::new(libc::RTM_GETROUTE, NLM_F_DUMP, &fixed);
        let wanted = |route: &Route| {
            // A kernel without IPv6 answers with the other families' routes.
            route.family == family
                && route.table == u32::from(libc::RT_TABLE_MAIN)
                && route.is_default
                && route.kind == libc::RTN_UNICAST
        };
        let parse = |payload: &[u8]| Ok(Some(Route::parse(payload)?).filter(wanted));
        let mut routes = match self.dump("RTM_GETROUTE", &request, libc::RTM_NEWROUTE, parse) {
            // The table is made with its first route.
            Err(error) if error.is(&[Errno::NOENT, Errno::OPNOTSUPP]) => Vec::new(),
            routes => routes?,
        };
        routes.sort_by_key(|route| route.metric);
        Ok(routes)
    }

    /// The route that a packet to an address takes: what `ip route get` asks. None if it takes
    /// none, be it that there is no route or one that refuses.
    pub fn route_to(&mut self, ip: IpAddr) -> Result<Option<Route>, Error> {
        let request = route_request(ip, None);
        match self.get("RTM_GETROUTE", &request, libc::RTM_NEWROUTE, Route::parse) {
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
    ) -> Result<Option<Errno>, Error> {
        if ip.is_ipv4() != source.is_ipv4() {
            return Ok(None);
        }
        let request = route_request(ip, Some(source)).bytes(libc::RTA_IIF, &link.to_ne_bytes());
        match self.get("RTM_GETROUTE", &request, libc::RTM_NEWROUTE, Route::parse) {
            Err(Error::Refused { error, .. }) => Ok(Some(error)),
            route => route.map(|_| None),
        }
    }

    /// The number that another namespace has in this one, if it has one. Links name theirs by it.
    pub fn namespace_id(&mut self, namespace: &impl AsFd) -> Result<Option<u32>, Error> {
        self.namespace_id_by(NETNSA_FD, namespace.as_fd().as_raw_fd())
    }

    /// The same for the namespace of a process; none if there is no such process.
    pub fn namespace_id_of(&mut self, pid: i32) -> Result<Option<Option<u32>>, Error> {
        match self.namespace_id_by(NETNSA_PID, pid) {
            Err(error) if error.is(&[Errno::SRCH]) => Ok(None),
            id => id.map(Some),
        }
    }

    fn namespace_id_by(&mut self, attribute: u16, value: i32) -> Result<Option<u32>, Error> {
        // struct rtgenmsg, padded.
        let request = NetlinkRequest::new(libc::RTM_GETNSID, 0, &[0; 4])
            .bytes(attribute, &value.to_ne_bytes());
        self.get("RTM_GETNSID", &request, libc::RTM_NEWNSID, |payload| {
            let (_, rest) = split::<4>(payload)?;
            let id = attribute::find(rest, NETNSA_NSID)?.map(u32_of).transpose()?;
            // NETNSA_NSID_NOT_ASSIGNED is -1.
            Ok(id.filter(|id| *id != u32::MAX))
        })
    }

    /// Turns a bridge port's hairpin mode on: `bridge link set dev PORT hairpin on`.
    pub fn set_hairpin_mode(&mut self, port: u32) -> Result<(), Error> {
        let request = NetlinkRequest::new(libc::RTM_SETLINK, 0, &ifinfomsg(AF_BRIDGE, port))
            .nest(libc::IFLA_PROTINFO, |protinfo| {
                attribute::push(protinfo, IFLA_BRPORT_MODE, &[1])
            });
        self.0.order(&request).map_err(|error| Error::of("RTM_SETLINK", error))
    }

    /// A request about the namespace that is looked into, if it is another.
    fn of_namespace(&self, request: NetlinkRequest, attribute: u16) -> NetlinkRequest {
        match self.1 {
            Some(namespace) => request.bytes(attribute, &namespace.to_ne_bytes()),
            None => request,
        }
    }

    /// One object, of this type. `name` is what the request asks, for error messages.
    fn get<T>(
        &mut self,
        name: &'static str,
        request: &NetlinkRequest,
        kind: u16,
        parse: impl Fn(&[u8]) -> Result<T, Malformed>,
    ) -> Result<T, Error> {
        let object = self.0.get(request, |object| match object.kind == kind {
            true => parse(object.payload),
            false => Err(Malformed),
        });
        object.map_err(|error| Error::of(name, error))
    }

    /// All objects that `parse` wants, as they were at one moment.
    pub(super) fn dump<T>(
        &mut self,
        name: &'static str,
        request: &NetlinkRequest,
        kind: u16,
        parse: impl Fn(&[u8]) -> Result<Option<T>, Malformed>,
    ) -> Result<Vec<T>, Error> {
        for _ in 0..DUMPS {
            let mut found = Vec::new();
            let end = self.0.walk(request, ROOM, |object| {
                if object.kind == kind {
                    found.extend(parse(object.payload)?);
                }
                Ok(true)
            });
            match end.map_err(|error| Error::of(name, error))? {
                End::Complete => return Ok(found),
                End::Interrupted => {}
                End::Broken(errno) => return Err(Error::of(name, NetlinkError::Refused(errno))),
            }
        }
        // NLM_F_DUMP_INTR, each time.
        let problem =
            format!("links or addresses kept changing during {DUMPS} attempts to read them");
        Err(Error::Failed { request: name, problem })
    }
}

/// RTM_GETROUTE for a packet to an address: `struct rtmsg` with the lengths of both addresses in bits.
fn route_request(ip: IpAddr, source: Option<IpAddr>) -> NetlinkRequest {
    let (family, length) = if ip.is_ipv4() { (AF_INET, 32) } else { (AF_INET6, 128) };
    let source_length = if source.is_some() { length } else { 0 };
    let rtmsg = [family, length, source_length, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut request = NetlinkRequest::new(libc::RTM_GETROUTE, 0, &rtmsg);
    for (kind, ip) in
        iter::once((libc::RTA_DST, ip)).chain(source.map(|source| (libc::RTA_SRC, source)))
    {
        request = match ip {
            IpAddr::V4(ip) => request.bytes(kind, &ip.octets()),
            IpAddr::V6(ip) => request.bytes(kind, &ip.octets()),
        };
    }
    request
}

/// `struct ifinfomsg`: family, pad, type (2), index (4), flags (4), change (4).
fn ifinfomsg(family: u8, index: u32) -> [u8; 16] {
    let [a, b, c, d] = index.to_ne_bytes();
    [family, 0, 0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// Why the kernel's links, addresses or routes could not be read or changed. The request is `RTM_GETLINK` or
/// the like.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open a {protocol} socket: {source}")]
    Open { protocol: &'static str, source: io::Error },
    /// The kernel answered with an error.
    #[error("the kernel refused {request}: {error}")]
    Refused { request: &'static str, error: Errno },
    /// No answer, or not the one that it should be.
    #[error("{request}: {problem}")]
    Failed { request: &'static str, problem: String },
}

impl Error {
    fn of(request: &'static str, error: NetlinkError) -> Self {
        let problem = match error {
            NetlinkError::Open(source) => return Self::Open { protocol: request, source },
            NetlinkError::Refused(error) => return Self::Refused { request, error },
            // The kernel answers at once, so this is a fault of the kernel.
            NetlinkError::Io(error) if error.kind() == io::ErrorKind::WouldBlock => {
                "the kernel does not answer".to_owned()
            }
            NetlinkError::Io(error) => error.to_string(),
            NetlinkError::Malformed(malformed) => malformed.to_string(),
        };
        Self::Failed { request, problem }
    }

    /// The kernel's answer was one of these.
    fn is(&self, errors: &[Errno]) -> bool {
        matches!(self, Self::Refused { error, .. } if errors.contains(error))
    }
}
