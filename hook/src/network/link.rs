//! The host's side: which link leads to a container, and what has to be set on it.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use hostport_nft::{Family, LinkName};
use tracing::debug;

use crate::network::object::{Device, LinkKind};
use crate::network::rtnetlink::{self, Socket};
use crate::output::escape;

/// Where a packet to an address goes from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Out of a link.
    Link(OutLink),
    /// The address is the host's own.
    Local,
    /// Nowhere: no route, one that refuses, or an address that is not unicast.
    NoRoute,
}

/// The link that a packet leaves by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutLink {
    /// Its index.
    pub index: u32,
    /// Its name, which need not be UTF-8.
    pub name: OsString,
    /// It is up, and so is what it stands on: a bridge has a port that is up.
    pub carrier: bool,
    /// It is a bridge.
    pub bridge: bool,
    /// The next hop is another router.
    pub gateway: bool,
    /// Two hosts on it reach each other without passing this one's connection tracking: a bridge
    /// that netfilter does not see, or a network that is shared in another way (macvlan, a VLAN).
    pub bypasses: bool,
    /// It is a bridge whose bridged packets pass the hooks of this address's family as well
    /// (br_netfilter), so they are translated like routed ones.
    pub bridge_nf: bool,
}

impl OutLink {
    /// What the ruleset needs to know of the link towards an endpoint of a family.
    pub fn for_ruleset(&self, family: Family) -> Option<hostport_nft::Link> {
        let name = LinkName::new(&self.name)?;
        Some(hostport_nft::Link { family, name, bypasses: self.bypasses })
    }

    /// Whether it is one of these.
    pub fn is_in(&self, names: &BTreeSet<LinkName>) -> bool {
        LinkName::new(&self.name).is_some_and(|name| names.contains(&name))
    }
}

/// Finds the way to an address.
///
/// `known` is a link that was read just now, towards the container's address of the other family.
pub fn towards(
    socket: &mut Socket,
    ip: IpAddr,
    known: &mut Option<Device>,
) -> Result<Way, rtnetlink::Error> {
    let Some(route) = socket.route_to(ip)? else { return Ok(Way::NoRoute) };
    match (route.kind, route.links.first()) {
        (libc::RTN_LOCAL, _) => Ok(Way::Local),
        (libc::RTN_UNICAST, Some(index)) => {
            if known.as_ref().is_none_or(|link| link.index != *index) {
                *known = socket.link(*index)?;
            }
            // None if it has just been removed.
            let Some(link) = known else { return Ok(Way::NoRoute) };
            let is_bridge = link.kind == LinkKind::Bridge;
            let (sysctl, bridge_nf) = match ip {
                IpAddr::V4(_) => (BRIDGE_NF_CALL_IPTABLES, link.nf_call_iptables),
                IpAddr::V6(_) => (BRIDGE_NF_CALL_IP6TABLES, link.nf_call_ip6tables),
            };
            let bridge_nf = is_bridge && calls_iptables(Path::new(sysctl), bridge_nf);
            let shared = link.kind != LinkKind::Pair && !link.point_to_point;
            let (bypasses, name) = (shared && !bridge_nf, link.name.clone());
            Ok(Way::Link(OutLink {
                index: *index,
                name,
                bridge: is_bridge,
                carrier: link.up && link.carrier,
                gateway: route.gateway,
                bypasses,
                bridge_nf,
            }))
        }
        _ => Ok(Way::NoRoute),
    }
}

/// Whether an address is one of the host's own, as `fib daddr type local` has it. The wildcard is
/// not.
pub fn is_local(socket: &mut Socket, ip: IpAddr) -> Result<bool, rtnetlink::Error> {
    // The kernel takes 0.0.0.0 as a destination for 127.0.0.1.
    if ip.is_unspecified() {
        return Ok(false);
    }
    Ok(socket.route_to(ip)?.is_some_and(|route| route.kind == libc::RTN_LOCAL))
}

/// The link whose network an address is the broadcast address of, if it is one.
pub fn broadcast(socket: &mut Socket, ip: IpAddr) -> Result<Option<OsString>, rtnetlink::Error> {
    let route = socket.route_to(ip)?.filter(|route| route.kind == libc::RTN_BROADCAST);
    let Some(index) = route.and_then(|route| route.links.first().copied()) else { return Ok(None) };
    Ok(Some(socket.link(index)?.map(|link| link.name).unwrap_or_default()))
}

const BRIDGE_NF_CALL_IPTABLES: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
const BRIDGE_NF_CALL_IP6TABLES: &str = "/proc/sys/net/bridge/bridge-nf-call-ip6tables";

/// br_nf_pre_routing: the namespace's sysctl or the bridge's own setting. Without the module, which
/// brings the sysctl, the bridge's setting does nothing.
fn calls_iptables(sysctl: &Path, own_setting: bool) -> bool {
    read_flag(sysctl).is_ok_and(|on| on || own_setting)
}

/// Lets a bridge send a packet out of the port that it came in by, which is what a pod's call to
/// itself needs where br_netfilter keeps such a packet on the bridge. Returns whether it was off.
pub fn enable_hairpin_mode(socket: &mut Socket, port: u32) -> Result<bool, rtnetlink::Error> {
    match socket.link(port)?.and_then(|link| link.master.and(link.hairpin_mode)) {
        Some(false) => socket.set_hairpin_mode(port).map(|()| true),
        // It is on, or the link is no port of a bridge, or no link any more.
        _ => Ok(false),
    }
}

/// Lets packets with a source in 127.0.0.0/8 leave by a link if it is a container's own: `route_localnet` in
/// Documentation/networking/ip-sysctl.rst. Returns whether it was off.
///
/// This opens 127.0.0.0/8 to that link's neighbours unless something drops what they send there.
///
/// # Errors
/// Why host ports do not answer on 127.0.0.1.
pub fn open_localhost(
    link: &OsStr,
    is_own: impl FnOnce() -> Result<bool, rtnetlink::Error>,
) -> Result<bool, String> {
    let open = || {
        if ipv4_setting(link, "route_localnet").map_err(|error| cannot_open(link, &error))? {
            return Ok(false);
        }
        let name = escape::path(Path::new(link));
        if !is_own().map_err(|error| error.to_string())? {
            return Err(format!(
                "packets for the container leave by {name}, which is not its own link; use another \
                 address of the node, or --no-localhost"
            ));
        }
        enable_route_localnet(link).map_err(|error| cannot_open(link, &error))?;
        debug!("route_localnet is on for {name}");
        Ok(true)
    };
    open().map_err(|error: String| format!("host ports do not answer on 127.0.0.1: {error}"))
}

fn enable_route_localnet(link: &OsStr) -> io::Result<()> {
    let path = setting_path("ipv4", link, "route_localnet")?;
    // Not fs::write, which would create what is missing.
    OpenOptions::new().write(true).open(path)?.write_all(b"1")
}

fn cannot_open(link: &OsStr, error: &io::Error) -> String {
    format!(
        "cannot set net.ipv4.conf.{}.route_localnet, without which 127.0.0.0/8 does not reach the \
             container: {error}; make /proc/sys writable here, set it beforehand, or use --no-localhost",
        escape::path(Path::new(link))
    )
}

/// Whether a setting of IPv4 is on for a link (`net.ipv4.conf.LINK.SETTING`), as the link itself has it.
pub fn ipv4_setting(link: &OsStr, setting: &str) -> io::Result<bool> {
    read_flag(&setting_path("ipv4", link, setting)?)
}

/// Whether a link takes routes from router advertisements only as long as this host does not forward:
/// `net.ipv6.conf.LINK.accept_ra` is 1.
pub fn hears_routers_as_a_host(link: &OsStr) -> io::Result<bool> {
    Ok(read_byte(&setting_path("ipv6", link, "accept_ra")?)? == b'1')
}

/// A link's name is any text without `/` and white space, so it may have dots, which
/// sysctl(8) would take for separators but a path does not. `all` and `default` are no links there.
fn setting_path(family: &str, link: &OsStr, setting: &str) -> io::Result<PathBuf> {
    let bytes = link.as_encoded_bytes();
    let reserved: [&[u8]; 5] = [b"", b".", b"..", b"all", b"default"];
    if reserved.contains(&bytes) || bytes.contains(&b'/') || bytes.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the name of a link"));
    }
    Ok(Path::new("/proc/sys/net").join(family).join("conf").join(link).join(setting))
}

/// A sysctl that is 0 or not.
pub fn read_flag(path: &Path) -> io::Result<bool> {
    Ok(read_byte(path)? != b'0')
}

fn read_byte(path: &Path) -> io::Result<u8> {
    let mut byte = [0];
    File::open(path)?.read_exact(&mut byte)?;
    let [byte] = byte;
    Ok(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_in_a_links_name_stay_part_of_the_name() {
        let path = setting_path("ipv4", OsStr::new("br.0.100"), "route_localnet").unwrap();
        assert_eq!(path, Path::new("/proc/sys/net/ipv4/conf/br.0.100/route_localnet"));
    }

    #[test]
    fn no_name_leads_out_of_the_links_own_folder() {
        for name in ["", ".", "..", "a/b", "/", "../../kernel", "all", "default", "a\0b"] {
            let error = setting_path("ipv4", OsStr::new(name), "route_localnet").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}");
        }
    }

    #[test]
    fn a_link_that_is_gone_is_named() {
        let link = OsStr::new("nosuchlink.0");
        let error = cannot_open(link, &enable_route_localnet(link).unwrap_err());
        assert!(error.contains("net.ipv4.conf.nosuchlink.0.route_localnet"), "{error}");
    }

    #[test]
    fn a_links_name_cannot_clear_the_screen() {
        // The kernel takes any byte but `/`, `:` and white space.
        let link = OsStr::new("\u{1b}c");
        let error = cannot_open(link, &enable_route_localnet(link).unwrap_err());
        assert!(error.contains(r"conf.\u{1b}c.route_localnet"), "{error}");
    }

    #[test]
    fn a_bridges_own_setting_counts_only_where_br_netfilter_is_loaded() {
        let file = |text: &str| {
            let name = format!("hostport-sysctl-{}-{}", std::process::id(), text.trim());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (on, off) = (file("1\n"), file("0\n"));
        assert!(calls_iptables(&on, false) && calls_iptables(&on, true));
        assert!(!calls_iptables(&off, false) && calls_iptables(&off, true));
        let absent = Path::new("/nonexistent/bridge-nf-call-iptables");
        assert!(!calls_iptables(absent, true));
        std::fs::remove_file(on).and(std::fs::remove_file(off)).unwrap();
    }
}
