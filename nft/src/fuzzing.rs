//! What must hold for the kernel's answers, whatever the bytes: for the fuzz target `netfilter`
//! (docs/fuzzing.md), which calls the parsers from here. Not part of the library: compiled only
//! where cargo-fuzz sets `cfg(fuzzing)`.

use hostport_netlink::{Replies, Reply};

use crate::model::{Family, Flow, OwnerId, Protocol, Published, TableName};
use crate::ruleset::element::{Element, Hairpin, SameLink};
use crate::wire::event::Transactions;
use crate::wire::message::NFGENMSG_LENGTH;
use crate::wire::{element, table};

/// A datagram from the kernel. Each message is read as the answer to every request that there is.
pub fn replies(datagram: &[u8]) {
    let mut transactions = Transactions::new(TableName::default(), &[]);
    let mut count = 0;
    for answer in Replies::new(datagram) {
        count += 1;
        match answer {
            Ok((_, Reply::Object(found))) => {
                if let Ok((_, attributes)) = found.split::<NFGENMSG_LENGTH>() {
                    object(attributes);
                }
                let _ = transactions.note(found);
            }
            Ok((_, Reply::Failed(error) | Reply::Done { error: Some(error), .. })) => {
                assert!(error.raw_os_error() > 0);
            }
            Ok(_) | Err(_) => {}
        }
    }
    // Each message takes its header at least, but for a last one that is cut.
    assert!(count <= datagram.len() / 16 + 1, "{count} messages in {} bytes", datagram.len());
}

fn object(attributes: &[u8]) {
    let _ = table::facts(attributes);
    for element in element::elements(attributes).iter().flatten() {
        comes_back(element);
        for family in Family::ALL {
            mapping(family, element);
            if let Some(hairpin) = Hairpin::from_element(family, element) {
                assert_eq!(Hairpin::from_element(family, &hairpin.element()), Some(hairpin));
            }
        }
        if let Some(link) = SameLink::from_element(element) {
            assert_eq!(link.element().key, element.key);
        }
    }
    for family in Family::ALL {
        if let Ok(Some(flow)) = Flow::decode(family, attributes) {
            assert_eq!([flow.host.family(), Family::of(flow.answers.ip)], [family; 2]);
            assert_ne!(flow.host.protocol.number(), 0);
            assert!(Protocol::from_number(flow.host.protocol.number()).is_some());
        }
    }
}

/// What is deleted or compared by its key must have the key that it is found under.
fn mapping(family: Family, element: &Element) {
    let Some(published) = Published::from_element(family, element) else { return };
    assert_eq!(published.mapping.family(), family);
    let written = published.element();
    assert_eq!((&written.key, &written.data), (&element.key, &element.data));
    assert_eq!(Published::from_element(family, &written), Some(published));
}

/// An element that could be ours reads the same once it is written again.
fn comes_back(element: &Element) {
    // Those that are foreign, or not of our sets, never are, and are not written.
    let writable = element
        .comment
        .as_ref()
        .is_none_or(|comment| comment.len() <= OwnerId::MAX_LEN && !comment.contains('\0'));
    // An attribute's length has 16 bits.
    let short = |bytes: &[u8]| bytes.len() < 60_000;
    let like_ours = element.verdict.is_none() && !element.counted;
    if !element.foreign
        && like_ours
        && writable
        && short(&element.key)
        && element.last.as_deref().is_none_or(short)
        && element.data.as_deref().is_none_or(short)
    {
        let mut bytes = Vec::new();
        element.encode(&mut bytes);
        // Behind the header of the list's entry.
        assert_eq!(Element::decode(&bytes[4..]).as_ref(), Ok(element));
    }
}
