//! What a file imports, read from its tokens: `use` lines, and paths in the code.
//!
//! What only tests import does not count, nor does the declaration of a module.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The names of modules within each other, from the crate's root.
pub type Path = Vec<String>;

/// A name of this crate that a file imports.
#[derive(Debug)]
pub struct Import {
    /// The line of the path's first word.
    pub line: usize,
    /// The module, and the name within it.
    pub path: Path,
    /// What the name is called in the importing file.
    name: String,
    /// Whether it stands in a `pub use`.
    is_public: bool,
}

/// A file, as far as its imports go.
#[derive(Debug, Default)]
pub struct File {
    pub imports: Vec<Import>,
    /// Modules that are declared here for tests alone.
    pub tests: BTreeSet<String>,
    /// Lines with `#[path]`.
    pub path_attributes: Vec<usize>,
    /// How often each word occurs.
    words: BTreeMap<String, usize>,
}

impl File {
    /// Reads the file of a module.
    ///
    /// # Errors
    ///
    /// If the text is not Rust.
    pub fn read(module: &[String], text: &str) -> Result<Self, String> {
        let stream: TokenStream = text.parse().map_err(|error| format!("{error}"))?;
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens);
        let mut file = File::default();
        for token in &tokens {
            *file.words.entry(token.text.clone()).or_default() += 1;
        }
        Reader { tokens: &tokens, module: module.to_vec(), file: &mut file }.read();
        Ok(file)
    }

    /// Whether the file uses the import itself. What stands in a `pub use` and nowhere else is only handed on.
    pub fn uses(&self, import: &Import) -> bool {
        !import.is_public || self.words.get(&import.name).is_some_and(|count| *count > 1)
    }

    /// The path behind a name that a `use` brings into this file, and others may import from here.
    pub fn handed_on(&self, name: &str) -> Option<&Path> {
        let mut imports = self.imports.iter().filter(|import| import.is_public);
        imports.find(|import| import.name == name).map(|import| &import.path)
    }
}

struct Token {
    text: String,
    line: usize,
}

/// Brackets become tokens of their own, and `::` is one token.
fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    for tree in stream {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::None => ("", ""),
                };
                tokens.push(Token { text: open.to_owned(), line });
                flatten(group.stream(), tokens);
                tokens.push(Token { text: close.to_owned(), line });
            }
            TokenTree::Punct(punct) => match tokens.last_mut() {
                Some(last) if last.text == ":" && punct.as_char() == ':' => last.text.push(':'),
                _ => tokens.push(Token { text: punct.to_string(), line }),
            },
            TokenTree::Ident(word) => tokens.push(Token { text: word.to_string(), line }),
            TokenTree::Literal(_) => tokens.push(Token { text: "\"".to_owned(), line }),
        }
    }
}

struct Reader<'a> {
    tokens: &'a [Token],
    module: Path,
    file: &'a mut File,
}

impl Reader<'_> {
    fn read(mut self) {
        let mut declared = BTreeSet::new();
        for nth in 0..self.tokens.len() {
            if self.text(nth) == "mod" {
                declared.insert(self.text(nth + 1).to_owned());
            }
        }
        // Where modules end whose text is in this file.
        let mut inner = Vec::new();
        let mut nth = 0;
        while nth < self.tokens.len() {
            if inner.last() == Some(&nth) {
                inner.pop();
                self.module.pop();
            }
            let begins_path = self.text(nth + 1) == "::"
                && (nth == 0 || self.text(nth - 1) != "::" && self.text(nth - 1) != "$");
            nth = match self.text(nth) {
                "#" => self.attribute(nth),
                "mod" if self.text(nth + 2) == "{" => {
                    inner.push(self.close(nth + 2));
                    self.module.push(self.text(nth + 1).to_owned());
                    nth + 3
                }
                "crate" if begins_path => self.path(nth, Path::new()),
                "self" if begins_path => self.path(nth, self.module.clone()),
                "super" if begins_path => {
                    let parents = self.module.len().saturating_sub(1);
                    self.path(nth, self.module[..parents].to_vec())
                }
                child if begins_path && declared.contains(child) => {
                    let path = [&self.module[..], &[child.to_owned()]].concat();
                    self.path(nth, path)
                }
                _ => nth + 1,
            };
        }
    }

    fn text(&self, nth: usize) -> &str {
        self.tokens.get(nth).map_or("", |token| &token.text)
    }

    /// The bracket that closes the one at this token.
    fn close(&self, open: usize) -> usize {
        let mut depth = 0;
        for nth in open..self.tokens.len() {
            match self.text(nth) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return nth;
            }
        }
        self.tokens.len()
    }

    /// Notes `#[path]`, and skips what `#[cfg(test)]` stands before. Gives the token to go on at.
    fn attribute(&mut self, hash: usize) -> usize {
        if self.text(hash + 2) == "path" && self.text(hash + 3) == "=" {
            self.file.path_attributes.push(self.tokens[hash].line);
        }
        let words = (hash + 1..hash + 7).map(|nth| self.text(nth));
        if !words.eq(["[", "cfg", "(", "test", ")", "]"]) {
            return hash + 1;
        }
        let mut nth = hash + 7;
        loop {
            match self.text(nth) {
                "" | ";" => return nth + 1,
                "{" => return self.close(nth) + 1,
                "(" | "[" => nth = self.close(nth),
                "mod" => {
                    let name = self.text(nth + 1).to_owned();
                    self.file.tests.insert(name);
                }
                _ => {}
            }
            nth += 1;
        }
    }

    /// Notes a path, or all that a `use` names behind it. Gives the token to go on at.
    fn path(&mut self, first: usize, path: Path) -> usize {
        let is_public = first > 1
            && self.text(first - 1) == "use"
            && ["pub", ")"].contains(&self.text(first - 2));
        let mut leaves = Vec::new();
        let end = self.tree(first + 1, path, &mut leaves);
        let line = self.tokens[first].line;
        let import = |(path, name)| Import { line, path, name, is_public };
        self.file.imports.extend(leaves.into_iter().map(import));
        end
    }

    fn tree(&self, mut nth: usize, mut path: Path, leaves: &mut Vec<(Path, String)>) -> usize {
        while self.text(nth) == "::" {
            nth += 1;
            match self.text(nth) {
                "{" => {
                    let close = self.close(nth);
                    nth += 1;
                    while nth < close {
                        let mut path = path.clone();
                        step(&mut path, self.text(nth));
                        nth = self.tree(nth + 1, path, leaves) + 1;
                    }
                    return close + 1;
                }
                "<" => break,
                word => step(&mut path, word),
            }
            nth += 1;
        }
        let mut name = path.last().cloned().unwrap_or_default();
        if self.text(nth) == "as" {
            name = self.text(nth + 1).to_owned();
            nth += 2;
        }
        leaves.push((path, name));
        nth
    }
}

fn step(path: &mut Path, word: &str) {
    match word {
        "self" => {}
        "super" => drop(path.pop()),
        word => path.push(word.to_owned()),
    }
}
