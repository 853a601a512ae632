//! Requests: a header, the family's fixed part, and attributes.

use crate::attribute;

/// The length of `struct nlmsghdr`.
pub const NLMSGHDR_LENGTH: usize = 16;
const NLM_F_REQUEST: u16 = 1;
/// The kernel acknowledges the request although it succeeds.
pub const NLM_F_ACK: u16 = 4;
/// The kernel lists all objects.
pub const NLM_F_DUMP: u16 = 0x300;
/// The request fails with EEXIST where the object exists.
pub const NLM_F_EXCL: u16 = 0x200;
/// The object is made where it does not exist.
pub const NLM_F_CREATE: u16 = 0x400;
/// The object is put behind the others.
pub const NLM_F_APPEND: u16 = 0x800;

/// A message to the kernel, without the sequence number that it gets when it is sent.
///
/// ```
/// use hostport_netlink::NetlinkRequest;
///
/// let bytes = NetlinkRequest::new(18, 0, &[0; 16]).text(3, "eth0").encode(7);
/// assert_eq!(bytes.len(), 16 + 16 + 12);
/// // struct nlmsghdr in the machine's byte order: length, type, flags, sequence number, port.
/// assert_eq!(bytes[..4], 44u32.to_ne_bytes());
/// assert_eq!(bytes[8..12], 7u32.to_ne_bytes());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetlinkRequest {
    /// The message type.
    pub kind: u16,
    /// NLM_F_*; NLM_F_REQUEST is set in any case.
    pub flags: u16,
    /// What follows the header: the fixed part and the attributes.
    pub body: Vec<u8>,
}

impl NetlinkRequest {
    /// A request of a type. `fixed` is the family's structure, such as `struct ifinfomsg`.
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut body = Vec::with_capacity(64);
        body.extend_from_slice(fixed);
        attribute::pad(&mut body);
        NetlinkRequest { kind, flags, body }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        attribute::push(&mut self.body, kind, value);
        self
    }

    /// Adds a text attribute, which ends with a NUL.
    #[must_use]
    pub fn text(mut self, kind: u16, value: &str) -> Self {
        attribute::push_text(&mut self.body, kind, value);
        self
    }

    /// Adds an attribute that is made of others (NLA_F_NESTED).
    #[must_use]
    pub fn nest(mut self, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) -> Self {
        attribute::nest(&mut self.body, kind, fill);
        self
    }

    /// The bytes to send.
    pub fn encode(&self, sequence: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(NLMSGHDR_LENGTH + self.body.len());
        self.append(&mut bytes, sequence, 0);
        bytes
    }

    /// Appends the bytes to send to those of other messages, with more flags.
    pub fn append(&self, bytes: &mut Vec<u8>, sequence: u32, flags: u16) {
        let length = (NLMSGHDR_LENGTH + self.body.len()) as u32;
        bytes.extend(length.to_ne_bytes());
        bytes.extend(self.kind.to_ne_bytes());
        bytes.extend((self.flags | flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        // The port: the kernel knows the sender.
        bytes.extend([0; 4]);
        bytes.extend_from_slice(&self.body);
    }
}
