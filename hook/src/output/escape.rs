//! Text from others, made safe to print: on one line, in plain characters, and short.
//!
//! IDs, paths and annotations are written by those who ask for a container. A line break in one of them could
//! forge a line of the log, an escape sequence could colour or clear a screen, and a megabyte could fill both.

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

/// All of a text that has quotes of its own.
pub fn line(text: &str) -> String {
    excerpt(text, usize::MAX)
}

/// The beginning of a path.
pub fn path(path: &Path) -> String {
    shorten(&path.to_string_lossy(), MOST_OF_A_PATH, &['\''])
}

/// The beginning of a text in a table. Characters beyond ASCII are escaped: some are two columns wide, some none,
/// and some reverse the text beside them.
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

/// Whether a text stands for itself in a command, as one word or several.
pub fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./:@%+,= ".contains(&b))
}

/// A text as one word of a shell command.
pub fn word(text: &str) -> String {
    // Only a NUL has no form, and no name or path has one.
    shlex::try_quote(text).map_or_else(|_| quote(text), |word| word.into_owned())
}

/// As many of a text's characters as fit into `most`, escaped except for those to `keep`; then an ellipsis if
/// there are more.
fn shorten(text: &str, most: usize, keep: &[char]) -> String {
    let (mut short, mut length) = (String::with_capacity(text.len().min(most)), 0);
    for c in text.chars() {
        let is_plain = match c {
            '\'' | '"' | '\\' => keep.contains(&c),
            _ => matches!(c, ' '..='~'),
        };
        length += if is_plain { 1 } else { c.escape_debug().count() };
        if length > most {
            short.push('…');
            break;
        }
        match is_plain {
            true => short.push(c),
            false => short.extend(c.escape_debug()),
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
