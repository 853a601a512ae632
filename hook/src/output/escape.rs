//! What a message quotes of a text that somebody else wrote: short, on one line, in plain characters.
//!
//! Ids, paths and annotations come from whoever asks for a container. A line break in one of them
//! could forge a line of the log, an escape sequence could colour or clear a screen, and a megabyte
//! could fill both.

use std::path::Path;

/// The longest quote of a text, in characters.
const MOST: usize = 40;
/// The longest quote of a path. Real ones have about 120 characters.
const MOST_OF_A_PATH: usize = 250;

/// The beginning of a text, in double quotes.
pub fn quote(text: &str) -> String {
    format!("\"{}\"", shorten(text, MOST, &['\'']))
}

/// The beginning of a text that has quotes of its own, such as JSON or an error's message.
pub fn excerpt(text: &str, most: usize) -> String {
    shorten(text, most, &['\'', '"', '\\'])
}

/// The beginning of a path.
pub fn path(path: &Path) -> String {
    shorten(&path.to_string_lossy(), MOST_OF_A_PATH, &['\''])
}

/// A text in a column of a table, at most so many characters wide. Characters beyond ASCII are escaped: some
/// are two columns wide, some none, and some turn around what stands beside them.
pub fn cell(text: &str, most: usize) -> String {
    let mut plain = String::new();
    for c in text.chars() {
        match c {
            ' '..='~' | '…' => plain.push(c),
            _ => plain.extend(c.escape_unicode()),
        }
    }
    match plain.char_indices().nth(most) {
        None => plain,
        Some(_) => plain.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// Whether a text means itself in a command, as a word or several.
pub fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./:@%+,= ".contains(&b))
}

/// A text as one word of a command for the shell.
pub fn word(text: &str) -> String {
    match is_plain(text) && !text.contains(' ') {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// As many of a text's characters as have room in `most`, escaped but for those to `keep`; then an
/// ellipsis for the others.
fn shorten(text: &str, most: usize, keep: &[char]) -> String {
    let (mut short, mut length) = (String::new(), 0);
    for c in text.chars() {
        let end = short.len();
        if keep.contains(&c) {
            short.push(c);
        } else {
            short.extend(c.escape_debug());
        }
        length += short.get(end..).map_or(0, |escaped| escaped.chars().count());
        if length > most {
            short.truncate(end);
            short.push('…');
            break;
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_could_break_or_colour_a_line_is_escaped() {
        assert_eq!(quote("a\u{1b}[31m\r\n\0\u{202e}"), r#""a\u{1b}[31m\r\n\0\u{202e}""#);
        assert_eq!(quote(r#"say "80" \n"#), r#""say \"80\" \\n""#);
        assert_eq!(path(Path::new("/tmp/a b\n")), r"/tmp/a b\n");
    }

    #[test]
    fn json_keeps_its_own_quotes() {
        assert_eq!(excerpt(r#"{"a":"\n"}"#, 80), r#"{"a":"\n"}"#);
        assert_eq!(excerpt("it's\u{7f}", 80), r"it's\u{7f}");
    }

    #[test]
    fn a_text_is_cut_between_its_characters() {
        assert_eq!(excerpt("abcde", 5), "abcde");
        assert_eq!(excerpt("abcdef", 5), "abcde…");
        assert_eq!(excerpt("abc\u{1b}", 5), "abc…");
    }

    #[test]
    fn a_cell_is_as_wide_as_it_has_characters() {
        assert_eq!(cell("shop/web-0…", 50), "shop/web-0…");
        assert_eq!(
            cell("a\u{5d0}\u{202e}\u{200b}\u{3042}\n", 50),
            r"a\u{5d0}\u{202e}\u{200b}\u{3042}\u{a}"
        );
        assert_eq!(cell("abcdef", 6), "abcdef");
        assert_eq!(cell("abcdefg", 6), "abcde…");
    }

    proptest! {
        #[test]
        fn a_quote_is_one_short_line(text in "(?s).{0,80}") {
            let quoted = [quote(&text), excerpt(&text, MOST), path(Path::new(&text))];
            for quoted in quoted {
                prop_assert!(!quoted.contains(char::is_control), "{:?}", quoted);
                prop_assert!(quoted.chars().count() <= MOST_OF_A_PATH + 1);
            }
            prop_assert!(quote(&text).chars().count() <= MOST + 3);
        }
    }
}
