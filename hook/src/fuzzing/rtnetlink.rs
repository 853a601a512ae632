//! What rtnetlink answers: links, addresses, routes.

use hostport_netlink::{Replies, Reply, attribute};

use crate::network::object::{Address, Device, Route};

/// A datagram, and the same bytes as what follows a message's header.
pub fn rtnetlink(data: &[u8]) {
    let mut messages = 0;
    for message in Replies::new(data) {
        messages += 1;
        match message {
            Ok((_, Reply::Object(object))) => objects(object.payload),
            Ok((_, Reply::Failed(error) | Reply::Done { error: Some(error), .. })) => {
                assert!(error.raw_os_error() > 0);
            }
            Ok(_) | Err(_) => {}
        }
    }
    // Each message takes its header at least, but for a last one that is cut.
    assert!(messages <= data.len() / 16 + 1, "{messages} messages in {} bytes", data.len());
    objects(data);
}

fn objects(payload: &[u8]) {
    attributes_come_back(payload);
    if let Ok(link) = Device::parse(payload) {
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
    let Ok(read) = attribute::all(bytes).collect::<Result<Vec<_>, _>>() else { return };
    let mut written = Vec::new();
    read.iter().for_each(|(kind, value)| attribute::push(&mut written, *kind, value));
    let again: Vec<_> = attribute::all(&written).collect::<Result<_, _>>().expect("we wrote it");
    assert_eq!(again, read);
}
