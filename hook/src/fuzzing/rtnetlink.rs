//! What rtnetlink answers: links, addresses, routes.

use netlink_packet_core::NLMSG_ERROR;

use crate::network::object::{Address, Link, Route};
use crate::network::wire::{Messages, attribute, attributes};

/// A datagram, and the same bytes as what follows a message's header.
pub fn rtnetlink(data: &[u8]) {
    let mut messages = 0;
    for message in Messages::new(data) {
        messages += 1;
        let Ok(message) = message else { continue };
        let errno = message.errno();
        assert!(errno.is_ok_and(|errno| errno >= 0) || message.kind == NLMSG_ERROR);
        objects(message.payload);
    }
    // Each message takes its header at least, but for a last one that is cut.
    assert!(messages <= data.len() / 16 + 1, "{messages} messages in {} bytes", data.len());
    objects(data);
}

fn objects(payload: &[u8]) {
    attributes_come_back(payload);
    if let Ok(link) = Link::parse(payload) {
        assert!(!link.name.as_encoded_bytes().contains(&0), "{link:?}");
    }
    if let Ok(Some(address)) = Address::parse(payload) {
        assert_eq!(address.ip.is_ipv4(), payload.first() == Some(&2), "{address:?}");
    }
    if let Ok(route) = Route::parse(payload) {
        assert!(route.links.len() <= payload.len() / 8, "{route:?}");
    }
}

/// What was read and is written again reads the same.
fn attributes_come_back(bytes: &[u8]) {
    let Ok(read) = attributes(bytes).collect::<Result<Vec<_>, _>>() else { return };
    let mut written = Vec::new();
    read.iter().for_each(|(kind, value)| attribute(&mut written, *kind, value));
    let again: Vec<_> = attributes(&written).collect::<Result<_, _>>().expect("we wrote it");
    assert_eq!(again, read);
}
