//! Netlink messages as bytes (`linux/netlink.h`), in the machine's own byte order.
//!
//! What is read here came from the kernel. It is still never trusted to be well formed: every
//! function returns [`Malformed`] rather than panic, whatever the bytes.

use netlink_packet_core::{NLA_HEADER_SIZE, NLMSG_ERROR, NetlinkBuffer, NlasIterator};

/// What a reply should have been and was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct Malformed(pub &'static str);

/// `struct nlmsghdr`.
const HEADER: usize = 16;

/// A request under construction: header, fixed part, attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    bytes: Vec<u8>,
    /// What it asks, for error messages: `RTM_GETLINK` and the like.
    pub name: &'static str,
}

impl Request {
    /// Starts a message of type `kind`. `fixed` is the family's structure, such as
    /// `struct ifinfomsg`.
    pub fn new(name: &'static str, kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(&[0; 4]); // nlmsg_len
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]); // nlmsg_seq, nlmsg_pid
        bytes.extend_from_slice(fixed);
        pad(&mut bytes);
        Self { bytes, name }
    }

    /// Adds an attribute. Those used here hold at most a handful of bytes.
    #[must_use]
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        attribute(&mut self.bytes, kind, value);
        self
    }

    /// The flags of the header.
    pub fn flags(&self) -> u16 {
        self.bytes.get(6..8).and_then(|b| b.try_into().ok()).map_or(0, u16::from_ne_bytes)
    }

    /// The message under a sequence number, ready to be sent.
    pub fn finish(&mut self, sequence: u32) -> &[u8] {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        if let Some(header) = self.bytes.first_chunk_mut::<HEADER>() {
            header[0..4].copy_from_slice(&length.to_ne_bytes());
            header[8..12].copy_from_slice(&sequence.to_ne_bytes());
        }
        &self.bytes
    }
}

/// Appends one `struct nlattr` with its value and padding.
pub fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(NLA_HEADER_SIZE + value.len()).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    pad(bytes);
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// One message of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// nlmsg_type
    pub kind: u16,
    /// nlmsg_flags
    pub flags: u16,
    /// nlmsg_seq: that of the request
    pub sequence: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl Message<'_> {
    /// The errno, positive, that NLMSG_ERROR and NLMSG_DONE carry first; 0 is success. A DONE
    /// without one is success too.
    pub fn errno(&self) -> Result<i32, Malformed> {
        match self.payload.first_chunk() {
            Some(bytes) => Ok(i32::from_ne_bytes(*bytes).saturating_neg().max(0)),
            None if self.kind == NLMSG_ERROR => Err(Malformed("NLMSG_ERROR")),
            None => Ok(0),
        }
    }
}

/// The messages in one datagram.
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// Over what one recv(2) returned.
    pub fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Ok(buffer) = NetlinkBuffer::new_checked(self.rest) else {
            self.rest = &[];
            return Some(Err(Malformed("netlink message")));
        };
        // new_checked made sure of the header and that length() lies within it and the datagram.
        let length = (buffer.length() as usize).next_multiple_of(4);
        self.rest = self.rest.get(length..).unwrap_or_default();
        Some(Ok(Message {
            kind: buffer.message_type(),
            flags: buffer.flags(),
            sequence: buffer.sequence_number(),
            payload: buffer.payload(),
        }))
    }
}

/// The attributes in a payload, as type (without NLA_F_NESTED and the like) and value.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), Malformed>> {
    NlasIterator::new(bytes).map(|nla| {
        let nla = nla.map_err(|_| Malformed("netlink attribute"))?;
        // into_inner reaches to the end of the payload; the iterator checked the length.
        let value = nla.into_inner().get(NLA_HEADER_SIZE..usize::from(nla.length()));
        Ok((nla.kind(), value.unwrap_or_default()))
    })
}

/// The first `N` bytes of a fixed part or an attribute, and what follows them.
pub fn split<'a, const N: usize>(
    bytes: &'a [u8],
    what: &'static str,
) -> Result<(&'a [u8; N], &'a [u8]), Malformed> {
    bytes.split_first_chunk().ok_or(Malformed(what))
}

/// An attribute that holds a number of 32 bits in the machine's byte order.
pub fn u32_of(bytes: &[u8], what: &'static str) -> Result<u32, Malformed> {
    split(bytes, what).map(|(number, _)| u32::from_ne_bytes(*number))
}

/// An attribute that holds one byte as a truth value.
pub fn bool_of(bytes: &[u8], what: &'static str) -> Result<bool, Malformed> {
    split(bytes, what).map(|([byte], _)| *byte != 0)
}

/// An attribute that holds text, without the NUL that ends it.
pub fn text_of(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{NLA_F_NESTED, NLMSG_DONE};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_reads_back_as_it_was_written() {
        let mut request = Request::new("test", 18, 0x301, &[1, 2, 3, 4])
            .attribute(3, b"eth0\0")
            .attribute(18 | NLA_F_NESTED, &[]);
        assert_eq!(request.flags(), 0x301);
        let bytes = request.finish(7).to_vec();
        let message = Messages::new(&bytes).next().unwrap().unwrap();
        assert_eq!((message.kind, message.flags, message.sequence), (18, 0x301, 7));
        let (fixed, rest) = split::<4>(message.payload, "").unwrap();
        assert_eq!(fixed, &[1, 2, 3, 4]);
        let read: Vec<_> = attributes(rest).collect::<Result<_, _>>().unwrap();
        assert_eq!(read, [(3, &b"eth0\0"[..]), (18, &[][..])]);
        assert_eq!(text_of(read[0].1), b"eth0");
    }

    #[test]
    fn an_error_code_is_read_as_a_positive_errno() {
        let errno = |kind, payload: &[u8]| Message { kind, flags: 0, sequence: 0, payload }.errno();
        assert_eq!(errno(NLMSG_ERROR, &(-19i32).to_ne_bytes()), Ok(19));
        assert_eq!(errno(NLMSG_ERROR, &i32::MIN.to_ne_bytes()), Ok(i32::MAX));
        assert_eq!(errno(NLMSG_DONE, &[0; 4]), Ok(0));
        assert_eq!(errno(NLMSG_DONE, &[]), Ok(0));
        assert!(errno(NLMSG_ERROR, &[]).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_always_end(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for message in Messages::new(&bytes).take(bytes.len() + 1).flatten() {
                let _ = message.errno();
            }
            prop_assert!(Messages::new(&bytes).count() <= bytes.len());
            prop_assert!(attributes(&bytes).count() <= bytes.len());
        }
    }
}
