//! The strings in a TOML file, as far as the configurations of container runtimes need it: tables, keys, strings and
//! lists of strings. What is no string counts as the text that it is; nothing is refused.

use std::iter::Peekable;
use std::str::Chars;

/// A key with its tables, joined by dots and without quotes, and its strings.
pub type Setting = (String, Vec<String>);

/// The settings of a file, in its order.
pub fn settings(text: &str) -> Vec<Setting> {
    let (mut text, mut table, mut all) = (text.chars().peekable(), String::new(), Vec::new());
    while let Some(first) = text.peek().copied() {
        match first {
            '#' => drop(until(&mut text, &['\n'])),
            '[' => table = header(&until(&mut text, &['\n'])).unwrap_or_default(),
            _ if first.is_whitespace() => drop(text.next()),
            _ => {
                let key = name(&until(&mut text, &['=', '\n']));
                if text.next_if_eq(&'=').is_some() {
                    let key = if table.is_empty() { key } else { format!("{table}.{key}") };
                    all.push((key, value(&mut text)));
                }
            }
        }
    }
    all
}

/// The table that a line begins.
pub fn header(line: &str) -> Option<String> {
    let (header, _) = line.split_once('#').unwrap_or((line, ""));
    let header = header.trim();
    header.starts_with('[').then(|| name(header.trim_matches(['[', ']'])))
}

fn name(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace() && !['"', '\''].contains(c)).collect()
}

fn until(text: &mut Peekable<Chars>, ends: &[char]) -> String {
    let mut taken = String::new();
    while let Some(c) = text.next_if(|c| !ends.contains(c)) {
        taken.push(c);
    }
    taken
}

/// Up to the end of the line, or of the list or inline table that begins there.
fn value(text: &mut Peekable<Chars>) -> Vec<String> {
    let (mut strings, mut depth) = (Vec::new(), 0usize);
    while let Some(c) = text.next_if(|c| depth > 0 || *c != '\n') {
        match c {
            '#' => drop(until(text, &['\n'])),
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            '"' | '\'' => strings.push(string(text, c)),
            ',' | '=' => {}
            _ if c.is_whitespace() => {}
            _ => {
                let rest = until(text, &[',', ']', '}', '#', '\n', ' ', '=']);
                strings.push(format!("{c}{rest}"));
            }
        }
    }
    strings
}

fn string(text: &mut Peekable<Chars>, quote: char) -> String {
    let mut string = String::new();
    while let Some(c) = text.next().filter(|c| *c != quote) {
        let escaped = c == '\\' && quote == '"';
        string.extend(if escaped { text.next() } else { Some(c) });
    }
    string
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tables_strings_and_lists_are_read_and_the_rest_is_read_over() {
        let text = r#"
            version = 3 # a number
            imports = [ "/etc/a.toml", # one
              '/etc/b\.toml' ]
            [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc] # a table
              base_runtime_spec = ''
              options = { BinaryName = "runc", SystemdCgroup = true }
              container_annotations=["a\"]b"]
            no setting
            [[other]]
            last = "x"
        "#;
        let runc = "plugins.io.containerd.grpc.v1.cri.containerd.runtimes.runc";
        let expected = [
            ("version".to_owned(), vec!["3"]),
            ("imports".to_owned(), vec!["/etc/a.toml", r"/etc/b\.toml"]),
            (format!("{runc}.base_runtime_spec"), vec![""]),
            (format!("{runc}.options"), vec!["BinaryName", "runc", "SystemdCgroup", "true"]),
            (format!("{runc}.container_annotations"), vec![r#"a"]b"#]),
            ("other.last".to_owned(), vec!["x"]),
        ];
        let said = settings(text);
        let said: Vec<(String, Vec<&str>)> = said
            .iter()
            .map(|(key, values)| (key.clone(), values.iter().map(String::as_str).collect()))
            .collect();
        assert_eq!(said, expected);
    }

    proptest! {
        #[test]
        fn nothing_is_too_odd(text in "(?s)[\\[\\]{}=\"'#a\\n .,\\\\é]{0,60}") {
            settings(&text);
        }
    }
}
