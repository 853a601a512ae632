//! Attributes (`struct nlattr`): length, type, value, and zeros up to a multiple of 4 bytes.
//!
//! ```
//! use hostport_netlink::attribute;
//!
//! let mut bytes = Vec::new();
//! attribute::nest(&mut bytes, 1, |bytes| attribute::push_text(bytes, 2, "eth0"));
//! let inner = attribute::find(&bytes, 1)?.unwrap_or_default();
//! assert_eq!(attribute::find(inner, 2)?.map(attribute::text).as_deref(), Some("eth0"));
//! # Ok::<(), hostport_netlink::Malformed>(())
//! ```

use crate::error::Malformed;

/// The length of `struct nlattr`.
const HEADER: usize = 4;
const NLA_F_NESTED: u16 = 0x8000;
/// NLA_TYPE_MASK: the type without NLA_F_NESTED and NLA_F_NET_BYTEORDER.
const TYPE: u16 = 0x3fff;

/// Appends an attribute. Its length has 16 bits: a value of more than 65,531 bytes does not fit.
pub fn push(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    bytes.extend(length_of(HEADER + value.len()));
    bytes.extend(kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    pad(bytes);
}

/// Appends a text attribute, which ends with a NUL.
pub fn push_text(bytes: &mut Vec<u8>, kind: u16, text: &str) {
    bytes.extend(length_of(HEADER + text.len() + 1));
    bytes.extend(kind.to_ne_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    pad(bytes);
}

/// Appends an attribute that is made of others.
pub fn nest(bytes: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let begin = bytes.len();
    push(bytes, kind | NLA_F_NESTED, &[]);
    fill(bytes);
    let length = length_of(bytes.len() - begin);
    if let Some(place) = bytes.get_mut(begin..).and_then(<[u8]>::first_chunk_mut) {
        *place = length;
    }
}

fn length_of(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes()
}

/// Appends zeros up to a multiple of 4 bytes.
pub(crate) fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// The attributes in some bytes, as type (without its flags) and value.
///
/// # Errors
/// [`Malformed`], at the end, where one overruns the bytes.
pub fn all(mut left: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), Malformed>> + Clone {
    std::iter::from_fn(move || {
        if left.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut left);
        let Some(([l0, l1, t0, t1], _)) = bytes.split_first_chunk::<HEADER>() else {
            return Some(Err(Malformed));
        };
        let length = usize::from(u16::from_ne_bytes([*l0, *l1]));
        let Some(value) = bytes.get(HEADER..length) else { return Some(Err(Malformed)) };
        // The last one may end without its padding.
        left = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok((u16::from_ne_bytes([*t0, *t1]) & TYPE, value)))
    })
}

/// The first attribute of a type.
///
/// # Errors
/// [`Malformed`] where one before it overruns the bytes.
pub fn find(bytes: &[u8], kind: u16) -> Result<Option<&[u8]>, Malformed> {
    for attribute in all(bytes) {
        let (found, value) = attribute?;
        if found == kind {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// A text, up to its NUL. The kernel takes any bytes for a name.
pub fn text(value: &[u8]) -> String {
    let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut bytes = Vec::new();
        push_text(&mut bytes, 3, "eth0");
        nest(&mut bytes, 18, |bytes| push(bytes, 2, &[1]));
        let read: Vec<_> = all(&bytes).collect::<Result<_, _>>().unwrap();
        assert_eq!(read[0], (3, &b"eth0\0"[..]));
        assert_eq!((read[1].0, find(read[1].1, 2)), (18, Ok(Some(&[1][..]))));
        assert_eq!(text(read[0].1), "eth0");
    }

    #[test]
    fn an_attribute_that_overruns_its_bytes_is_malformed() {
        assert_eq!(find(&[9, 0, 1, 0, 0, 0, 0, 0], 1), Err(Malformed));
        assert_eq!(find(&[3, 0, 1, 0], 1), Err(Malformed));
        assert_eq!(find(&[4, 0], 1), Err(Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_come_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(all(&bytes).count() <= bytes.len() / HEADER + 1);
        }
    }
}
