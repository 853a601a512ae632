//! What the tests of several files make packets and rules from.

use hostport_nft::object::ExpressionObject;
use hostport_nft::{Endpoint, HostPort, Protocol};

use crate::{Interface, Origin, Packet};

/// From anywhere to TCP port 9000 of any address, for a container.
pub(crate) fn packet(host_ip: &str, endpoint: &str) -> Packet {
    Packet {
        origin: Origin::Outside,
        in_link: None,
        source: None,
        not_from: Vec::new(),
        host: HostPort {
            host_ip: host_ip.parse().unwrap(),
            port: "9000".parse().unwrap(),
            protocol: Protocol::Tcp,
        },
        endpoint: Some(Endpoint { ip: endpoint.parse().unwrap(), port: "8080".parse().unwrap() }),
        out_link: Some(Interface { index: 4, name: b"cni0".to_vec() }),
    }
}

/// An attribute (`struct nlattr`), padded.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    hostport_netlink::attribute::push(&mut bytes, kind, value);
    bytes
}

/// An expression with attributes by their types.
pub(crate) fn expression(name: &str, attributes: &[(u16, &[u8])]) -> ExpressionObject {
    let data = attributes.iter().flat_map(|(kind, value)| attribute(*kind, value)).collect();
    ExpressionObject { name: name.to_owned(), data }
}
