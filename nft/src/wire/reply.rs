//! What the kernel answers: bytes in, values out.
//!
//! A datagram holds one or more netlink messages. Nothing here trusts a length: what overruns its
//! buffer is a [`Malformed`] and never a panic.

use netlink_packet_core::{NlaBuffer, NlasIterator};
use rustix::io::Errno;

use crate::error::Malformed;

/// One message of a datagram, with the sequence number of the message that it answers.
pub(crate) type Answer<'a> = (u32, Reply<'a>);

/// What the kernel says of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply<'a> {
    /// NLMSG_ERROR with code 0: an acknowledgement.
    Acknowledged,
    /// NLMSG_ERROR.
    Failed(Errno),
    /// NLMSG_DONE: the end of a dump, with the error that ended it early.
    Done { interrupted: bool, error: Option<Errno> },
    /// An object: its message type, and the attributes behind the `nfgenmsg`; of that, `res_id`, in
    /// which nf_tables gives the lower half of the ruleset's generation.
    Object { kind: u16, attributes: &'a [u8], generation: u16, interrupted: bool },
}

pub(crate) const NLMSGHDR_LENGTH: usize = 16;
pub(crate) const NFGENMSG_LENGTH: usize = 4;
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;

/// The messages of a datagram, in order.
pub(crate) struct Replies<'a>(&'a [u8]);

impl<'a> Replies<'a> {
    pub(crate) fn new(datagram: &'a [u8]) -> Self {
        Replies(datagram)
    }

    fn take(&mut self) -> Result<Option<Answer<'a>>, Malformed> {
        let header = self.0.first_chunk::<NLMSGHDR_LENGTH>().ok_or(Malformed)?;
        let [l0, l1, l2, l3, t0, t1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let kind = u16::from_ne_bytes([t0, t1]);
        let interrupted = u16::from_ne_bytes([f0, f1]) & NLM_F_DUMP_INTR != 0;
        let sequence = u32::from_ne_bytes([s0, s1, s2, s3]);
        if length < NLMSGHDR_LENGTH {
            return Err(Malformed);
        }
        // An error repeats the message that it is about, which may not fit into our buffer: its code
        // stands in front, so a cut one is good enough.
        let end = if kind == NLMSG_ERROR { length.min(self.0.len()) } else { length };
        let payload = self.0.get(NLMSGHDR_LENGTH..end).ok_or(Malformed)?;
        self.0 = self.0.get(end.next_multiple_of(4)..).unwrap_or_default();
        let code = || payload.first_chunk::<4>().map(|code| i32::from_ne_bytes(*code));
        let reply = match kind {
            NLMSG_NOOP => return Ok(None),
            NLMSG_ERROR => {
                error_of(code().ok_or(Malformed)?).map_or(Reply::Acknowledged, Reply::Failed)
            }
            NLMSG_DONE => Reply::Done { interrupted, error: code().and_then(error_of) },
            _ => {
                let (nfgenmsg, attributes) =
                    payload.split_first_chunk::<NFGENMSG_LENGTH>().ok_or(Malformed)?;
                let [_family, _version, g0, g1] = *nfgenmsg;
                let generation = u16::from_be_bytes([g0, g1]);
                Reply::Object { kind, attributes, generation, interrupted }
            }
        };
        Ok(Some((sequence, reply)))
    }
}

fn error_of(code: i32) -> Option<Errno> {
    match code {
        0 => None,
        // A code out of range does not come from a kernel; it must not read as success.
        _ => Some(
            code.checked_neg()
                .filter(|errno| (1..4096).contains(errno))
                .map_or(Errno::IO, Errno::from_raw_os_error),
        ),
    }
}

impl<'a> Iterator for Replies<'a> {
    type Item = Result<Answer<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            match self.take() {
                Ok(None) => {}
                Ok(Some(reply)) => return Some(Ok(reply)),
                Err(malformed) => {
                    self.0 = &[];
                    return Some(Err(malformed));
                }
            }
        }
        None
    }
}

/// A 32-bit attribute in network byte order.
pub(crate) fn number(attributes: &[u8], kind: u16) -> Result<u32, Malformed> {
    let attribute = find(attributes, kind)?.ok_or(Malformed)?;
    attribute.value().try_into().map(u32::from_be_bytes).map_err(|_| Malformed)
}

/// The first attribute of a kind.
pub(crate) fn find(attributes: &[u8], kind: u16) -> Result<Option<NlaBuffer<&[u8]>>, Malformed> {
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.map_err(|_| Malformed)?;
        if attribute.kind() == kind {
            return Ok(Some(attribute));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::element::elements;
    use crate::wire::table::{chain_uses, facts, generation};
    use proptest::prelude::*;

    fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = ((NLMSGHDR_LENGTH + payload.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn an_error_names_the_message_that_it_is_about() {
        let mut datagram = message(NLMSG_ERROR, 0, 7, &(-17i32).to_ne_bytes());
        datagram.extend(message(NLMSG_ERROR, 0, 9, &0i32.to_ne_bytes()));
        let replies: Vec<_> = Replies::new(&datagram).map(Result::unwrap).collect();
        assert_eq!(replies, [(7, Reply::Failed(Errno::EXIST)), (9, Reply::Acknowledged)]);
    }

    #[test]
    fn an_error_is_read_although_the_message_that_it_repeats_is_cut() {
        let mut datagram = message(NLMSG_ERROR, 0, 7, &(-1i32).to_ne_bytes());
        datagram[..4].copy_from_slice(&60_000u32.to_ne_bytes());
        let replies: Vec<_> = Replies::new(&datagram).map(Result::unwrap).collect();
        assert_eq!(replies, [(7, Reply::Failed(Errno::PERM))]);
    }

    #[test]
    fn an_interrupted_dump_says_so() {
        let datagram = message(NLMSG_DONE, NLM_F_DUMP_INTR, 1, &0i32.to_ne_bytes());
        let replies: Vec<_> = Replies::new(&datagram).map(Result::unwrap).collect();
        assert_eq!(replies, [(1, Reply::Done { interrupted: true, error: None })]);
    }

    proptest! {
        #[test]
        fn any_datagram_is_replies_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for reply in Replies::new(&bytes) {
                if let Ok((_, Reply::Object { attributes, .. })) = reply {
                    let _ = (facts(attributes), chain_uses(attributes), generation(attributes), elements(attributes));
                }
            }
        }

        #[test]
        fn any_attributes_are_objects_or_an_error(
            kind in 0u16..8, payload in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            let mut attributes = ((payload.len() + 4) as u16).to_ne_bytes().to_vec();
            attributes.extend(kind.to_ne_bytes());
            attributes.extend(&payload);
            let _ = (facts(&attributes), chain_uses(&attributes), generation(&attributes), elements(&attributes));
        }

        #[test]
        fn any_code_but_zero_is_a_failure(code: i32) {
            let datagram = message(NLMSG_ERROR, 0, 1, &code.to_ne_bytes());
            let (_, reply) = Replies::new(&datagram).next().unwrap().unwrap();
            prop_assert_eq!(reply == Reply::Acknowledged, code == 0);
        }
    }
}
