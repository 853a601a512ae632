//! Comments, which are user data of a table or an element.

/// NFTNL_UDATA_SET_ELEM_COMMENT and NFTNL_UDATA_TABLE_COMMENT of libnftnl's `udata.h`: both are 0.
const UDATA_COMMENT: u8 = 0;

/// A comment as user data: type 0, length with the final NUL, text, NUL.
///
/// The callers' texts are at most 125 bytes long, so that all of it fits into 128.
pub(crate) fn encode_comment(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + 3);
    bytes.extend([UDATA_COMMENT, (text.len() + 1) as u8]);
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    bytes
}

/// The comment in user data, if there is one that is text.
pub(crate) fn decode_comment(mut bytes: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = bytes {
        let text = rest.get(..usize::from(*length))?;
        if *kind == UDATA_COMMENT {
            let text = text.strip_suffix(&[0]).unwrap_or(text);
            return std::str::from_utf8(text).ok().map(str::to_owned);
        }
        bytes = &rest[text.len()..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_type_length_text_nul() {
        assert_eq!(encode_comment("5e0f"), b"\x00\x055e0f\x00");
        assert_eq!(decode_comment(b"\x01\x02xy\x00\x055e0f\x00").as_deref(), Some("5e0f"));
        assert_eq!(decode_comment(b"\x00\x09short"), None);
    }
}
