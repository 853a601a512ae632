//! What the kernel answers: bytes in, values out.
//!
//! A datagram holds one or more messages.

use rustix::io::Errno;

use crate::error::Malformed;
use crate::header::NLMSGHDR_LENGTH;

const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;

/// What the kernel says in answer to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    /// NLMSG_ERROR with code 0: an acknowledgement.
    Acknowledged,
    /// NLMSG_ERROR.
    Failed(Errno),
    /// NLMSG_DONE: the end of a dump.
    Done {
        /// NLM_F_DUMP_INTR.
        interrupted: bool,
        /// The error that ended it early.
        error: Option<Errno>,
    },
    /// A message of the protocol's own.
    Object(Object<'a>),
}

/// A message that describes an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object<'a> {
    /// The message type.
    pub kind: u16,
    /// What follows the header: the family's fixed part and the attributes.
    pub payload: &'a [u8],
    /// NLM_F_DUMP_INTR: what is listed changed since the dump began.
    pub interrupted: bool,
}

impl<'a> Object<'a> {
    /// The fixed part, and the attributes behind it.
    ///
    /// # Errors
    /// [`Malformed`] if the message is shorter than that.
    pub fn split<const N: usize>(&self) -> Result<(&'a [u8; N], &'a [u8]), Malformed> {
        let (fixed, rest) = self.payload.split_first_chunk().ok_or(Malformed)?;
        Ok((fixed, rest.get(N.next_multiple_of(4) - N..).unwrap_or_default()))
    }
}

/// The messages of a datagram, in order, each with the sequence number of the message that it answers.
///
/// ```
/// use hostport_netlink::{Replies, Reply};
///
/// // NLMSG_ERROR (2) in answer to message 7, with code 0.
/// let mut datagram = [0; 36];
/// datagram[..4].copy_from_slice(&36u32.to_ne_bytes());
/// datagram[4..6].copy_from_slice(&2u16.to_ne_bytes());
/// datagram[8..12].copy_from_slice(&7u32.to_ne_bytes());
/// assert_eq!(Replies::new(&datagram).next(), Some(Ok((7, Reply::Acknowledged))));
/// ```
#[derive(Debug, Clone)]
pub struct Replies<'a>(&'a [u8]);

impl<'a> Replies<'a> {
    /// Those of a datagram.
    pub fn new(datagram: &'a [u8]) -> Self {
        Replies(datagram)
    }

    fn take(&mut self) -> Result<Option<(u32, Reply<'a>)>, Malformed> {
        let header = self.0.first_chunk::<NLMSGHDR_LENGTH>().ok_or(Malformed)?;
        let [l0, l1, l2, l3, t0, t1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let kind = u16::from_ne_bytes([t0, t1]);
        let interrupted = u16::from_ne_bytes([f0, f1]) & NLM_F_DUMP_INTR != 0;
        let sequence = u32::from_ne_bytes([s0, s1, s2, s3]);
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
            _ => Reply::Object(Object { kind, payload, interrupted }),
        };
        Ok(Some((sequence, reply)))
    }
}

fn error_of(code: i32) -> Option<Errno> {
    let errno = code.checked_neg().filter(|errno| (1..4096).contains(errno));
    // A code out of range does not come from a kernel; it must not read as success.
    (code != 0).then(|| errno.map_or(Errno::IO, Errno::from_raw_os_error))
}

impl<'a> Iterator for Replies<'a> {
    type Item = Result<(u32, Reply<'a>), Malformed>;

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

#[cfg(test)]
mod tests {
    use super::*;
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

    #[test]
    fn a_request_reads_back_as_it_was_written() {
        let bytes = crate::NetlinkRequest::new(18, 0x300, &[1, 2, 3, 4]).text(3, "eth0").encode(7);
        let Some(Ok((7, Reply::Object(object)))) = Replies::new(&bytes).next() else { panic!() };
        assert_eq!((object.kind, object.split::<4>().unwrap().0), (18, &[1, 2, 3, 4]));
    }

    proptest! {
        #[test]
        fn any_datagram_is_replies_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Replies::new(&bytes).count() <= bytes.len() / NLMSGHDR_LENGTH + 1);
        }

        #[test]
        fn any_code_but_zero_is_a_failure(code: i32) {
            let datagram = message(NLMSG_ERROR, 0, 1, &code.to_ne_bytes());
            let (_, reply) = Replies::new(&datagram).next().unwrap().unwrap();
            prop_assert_eq!(reply == Reply::Acknowledged, code == 0);
        }
    }
}
