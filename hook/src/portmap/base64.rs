//! Base64 as Go's encoding/json writes bytes: RFC 4648, section 4.

/// The bytes; none if it is not base64.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text.chunks(4) {
        let mut bits = 0;
        for character in group {
            bits = bits << 6 | u32::from(value(*character)?);
        }
        // One character alone holds less than a byte.
        let whole = group.len().checked_sub(1).filter(|whole| *whole > 0)?;
        let [_, group @ ..] = (bits << (6 * (4 - group.len()))).to_be_bytes();
        bytes.extend(group.iter().take(whole));
    }
    Some(bytes)
}

fn value(character: u8) -> Option<u8> {
    Some(match character {
        b'A'..=b'Z' => character - b'A',
        b'a'..=b'z' => character - b'a' + 26,
        b'0'..=b'9' => character - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_specification_are_read() {
        for (text, bytes) in
            [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg==", "foob")]
        {
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        for none in ["Z", "Zm9vZ", "Zm 9", "Zm9=v", "Zm-_"] {
            assert_eq!(decode(none), None, "{none}");
        }
    }
}
