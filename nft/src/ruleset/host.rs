//! Elements that say more of a host port: `kept`, `restricted` and `sources`.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use super::element::{Element, port_key, push_address, take_address, take_host};
use crate::model::{Family, HostPort, OwnerId};

/// An address with a port that the wildcard leaves alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kept(pub(crate) HostPort);

/// A host port that only some sources may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Restricted {
    pub(crate) host: HostPort,
    pub(crate) owner: Option<OwnerId>,
}

/// Sources that may reach a restricted host port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) host: HostPort,
    pub(crate) net: IpNet,
    pub(crate) owner: Option<OwnerId>,
}

impl Kept {
    pub(crate) fn element(&self) -> Element {
        Element { key: port_key(self.0), ..Element::default() }
    }

    pub(crate) fn from_element(family: Family, element: &Element) -> Option<Self> {
        alone(family, element).map(Kept)
    }
}

impl Restricted {
    pub(crate) fn element(&self) -> Element {
        let comment = self.owner.as_ref().map(OwnerId::to_string);
        Element { key: port_key(self.host), comment, ..Element::default() }
    }

    pub(crate) fn from_element(family: Family, element: &Element) -> Option<Self> {
        Some(Restricted { host: alone(family, element)?, owner: owner(element) })
    }
}

impl Source {
    /// A range of joined keys: all fields but the last are the same at both ends.
    pub(crate) fn element(&self) -> Element {
        let key = |address| {
            let mut key = port_key(self.host);
            push_address(&mut key, address);
            key
        };
        let comment = self.owner.as_ref().map(OwnerId::to_string);
        let last = Some(key(self.net.broadcast()));
        Element { key: key(self.net.network()), last, comment, ..Element::default() }
    }

    pub(crate) fn from_element(family: Family, element: &Element) -> Option<Self> {
        let (host, first) = host_and_address(family, &element.key)?;
        // A range of one key may come without an end.
        let last = element.last.as_deref().unwrap_or(&element.key);
        let (same, last) = host_and_address(family, last)?;
        let mut nets: Vec<IpNet> = match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                Ipv4Subnets::new(first, last, 0).take(2).map(IpNet::V4).collect()
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                Ipv6Subnets::new(first, last, 0).take(2).map(IpNet::V6).collect()
            }
            _ => return None,
        };
        // Ranges that are no prefix are not ours.
        let net = nets.pop().filter(|_| nets.is_empty() && host == same)?;
        Some(Source { host, net, owner: owner(element) })
    }
}

fn owner(element: &Element) -> Option<OwnerId> {
    element.comment.as_deref().and_then(|comment| comment.parse().ok())
}

/// The host port of a key that holds nothing else.
fn alone(family: Family, element: &Element) -> Option<HostPort> {
    let mut key = element.key.as_slice();
    take_host(&mut key, family).filter(|_| key.is_empty())
}

fn host_and_address(family: Family, mut key: &[u8]) -> Option<(HostPort, IpAddr)> {
    let host = take_host(&mut key, family)?;
    let address = take_address(&mut key, family)?;
    key.is_empty().then_some((host, address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Port, Protocol};

    #[test]
    fn sources_are_a_range_whose_ends_differ_in_the_address_alone() {
        let port = Port::new(9000).unwrap();
        for (host_ip, net, length) in [
            (Family::Ip.wildcard(), "192.0.2.0/24", 16),
            (Family::Ip.wildcard(), "0.0.0.0/0", 16),
            (Family::Ip6.wildcard(), "2001:db8::7/128", 40),
        ] {
            let host = HostPort { host_ip, port, protocol: Protocol::Udp };
            let owner = "5e0f".parse().ok();
            let source = Source { host, net: net.parse().unwrap(), owner };
            let element = source.element();
            let last = element.last.clone().unwrap();
            assert_eq!((element.key.len(), last.len()), (length, length), "{net}");
            assert_eq!(Source::from_element(host.family(), &element), Some(source), "{net}");
        }
    }

    #[test]
    fn a_range_that_is_no_prefix_is_not_ours() {
        let port = Port::new(9000).unwrap();
        let host = HostPort { host_ip: Family::Ip.wildcard(), port, protocol: Protocol::Tcp };
        let source = Source { host, net: "192.0.2.0/24".parse().unwrap(), owner: None };
        let read = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut element = source.element();
            element.last.as_mut().map(change).unwrap();
            Source::from_element(Family::Ip, &element)
        };
        assert!(read(&|_| {}).is_some());
        assert!(read(&|last| last[15] = 7).is_some(), "192.0.2.0/29");
        assert_eq!(read(&|last| last[15] = 6), None);
        assert_eq!(read(&|last| last[5] = 1), None, "another port");
        assert_eq!(read(&|last| last[12] = 191), None, "the end before the beginning");
    }
}
