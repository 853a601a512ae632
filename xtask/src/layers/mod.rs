//! `cargo xtask layers`: imports go downwards only, and no two files import each other, directly or round a
//! corner. No file is compiled into a second crate by `#[path]`.
//!
//! An import counts for the file that defines the name, also where another file hands it on by `pub use`.

mod imports;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::{fs, io};

use crate::pages::repository;
use imports::{File, Import, Path};

/// A crate, and its layers with the lowest first: folders and files of `src`. The longest one that fits counts.
struct Crate {
    folder: &'static str,
    layers: &'static [&'static str],
}

const CRATES: [Crate; 4] = [
    Crate {
        folder: "netlink",
        layers: &["error", "attribute", "header", "reply", "socket", "lib"],
    },
    Crate {
        folder: "nft",
        layers: &["model", "ruleset", "error", "wire", "kernel", "ops", "fuzzing", "lib"],
    },
    Crate {
        folder: "trace",
        layers: &[
            "step",
            "registers",
            "packet",
            "sets",
            "xt",
            "eval",
            "verdict",
            "chain",
            "path",
            "lib",
        ],
    },
    Crate {
        folder: "hook",
        layers: &[
            "output",
            "network",
            "request",
            "journal",
            "admission",
            "oci",
            "cni",
            "portmap",
            "metrics/counters",
            "reconcile",
            "context",
            "diagnose",
            "install",
            "metrics",
            "cli",
            "commands",
            "schema",
            "fuzzing",
            "lib",
            "main",
        ],
    },
];

/// What is wrong in the product's crates, a problem a line.
pub fn problems() -> Vec<String> {
    let mut problems = Vec::new();
    for Crate { folder, layers } in CRATES {
        let source = format!("{folder}/src/");
        let (root, mut texts) = (repository(&source), BTreeMap::new());
        if let Err(error) = read_folder(&root, &root, &mut texts) {
            problems.push(format!("{source}: {error}"));
        }
        problems.extend(wrong_imports(layers, &texts).iter().map(|line| format!("{source}{line}")));
    }
    problems
}

/// The texts of all files, by their paths below `source`.
fn read_folder(
    folder: &std::path::Path,
    source: &std::path::Path,
    texts: &mut BTreeMap<String, String>,
) -> io::Result<()> {
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        if path.is_dir() {
            read_folder(&path, source, texts)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(source).map_err(io::Error::other)?;
            texts.insert(name.to_string_lossy().into_owned(), fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// The module of a file. The program beside a library is a module that nobody can import.
fn module(file: &str) -> Path {
    let file = file.trim_end_matches(".rs").trim_end_matches("/mod");
    if file == "lib" { Path::new() } else { file.split('/').map(str::to_owned).collect() }
}

/// What is wrong in a crate, a problem a line.
fn wrong_imports(layers: &[&str], texts: &BTreeMap<String, String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut files = BTreeMap::new();
    for (name, text) in texts {
        match File::read(&module(name), text) {
            Ok(file) => {
                files.insert(module(name), (name.as_str(), file));
            }
            Err(error) => wrong.push(format!("{name}: not Rust: {error}")),
        }
    }
    for (name, file) in files.values() {
        for line in &file.path_attributes {
            wrong.push(format!(
                "{name}:{line}: #[path]: move the file, or make it a module of a library"
            ));
        }
    }
    let mut graph = Graph::of(&files);
    for (from, imports) in &mut graph.0 {
        let layer = |file: &str| layer(layers, file);
        if layer(from).is_none() {
            wrong.push(format!("{from}: has no layer: add it to xtask/src/layers"));
        }
        imports.retain(|to, line| {
            let is_upwards = layer(from).is_some() && layer(to) > layer(from);
            if is_upwards {
                wrong.push(format!(
                    "{from}:{line}: imports upwards, from {to}: move what both need into the lower layer, \
                     or take it as an argument"
                ));
            }
            !is_upwards
        });
    }
    wrong.extend(graph.circles());
    wrong
}

fn layer(layers: &[&str], file: &str) -> Option<usize> {
    let fits = |layer: &&str| {
        let rest = file.strip_prefix(*layer);
        rest.is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
    };
    let longest = layers.iter().filter(|layer| fits(layer)).max_by_key(|layer| layer.len())?;
    layers.iter().position(|layer| layer == longest)
}

/// For each file, those that it imports from and the line where it does so first.
struct Graph<'a>(BTreeMap<&'a str, BTreeMap<&'a str, usize>>);

type Files<'a> = BTreeMap<Path, (&'a str, File)>;

impl<'a> Graph<'a> {
    fn of(files: &Files<'a>) -> Self {
        let is_test = |module: &Path| {
            (1..=module.len()).any(|length| {
                let (name, parents) = (&module[length - 1], &module[..length - 1]);
                files.get(parents).is_some_and(|(_, file)| file.tests.contains(name))
            })
        };
        let mut graph = BTreeMap::new();
        for (_, (name, file)) in files.iter().filter(|(module, _)| !is_test(module)) {
            let imports: &mut BTreeMap<&str, usize> = graph.entry(*name).or_default();
            for import in file.imports.iter().filter(|import| file.uses(import)) {
                if let Some(target) = target(files, import)
                    && target != *name
                {
                    imports.entry(target).or_insert(import.line);
                }
            }
        }
        Graph(graph)
    }

    /// A line for each circle.
    fn circles(&self) -> Vec<String> {
        let mut circles = BTreeMap::new();
        for (from, imports) in &self.0 {
            for to in imports.keys() {
                let Some(mut way) = self.way(to, from) else { continue };
                way.rotate_right(1);
                let lines = way.iter().zip(way.iter().cycle().skip(1));
                let lines = lines.map(|(from, to)| format!("{from}:{}", self.0[from][to]));
                let line = format!(
                    "{}: import each other: move what they share into a file of its own",
                    lines.collect::<Vec<_>>().join(", ")
                );
                way.sort();
                circles.entry(way).or_insert(line);
            }
        }
        circles.into_values().collect()
    }

    /// The shortest way from one file to another, by imports.
    fn way(&self, from: &'a str, to: &str) -> Option<Vec<&'a str>> {
        let mut ways = VecDeque::from([vec![from]]);
        let mut seen = BTreeSet::from([from]);
        while let Some(way) = ways.pop_front() {
            let last = way.last()?;
            if *last == to {
                return Some(way);
            }
            for next in self.0.get(last).into_iter().flatten().map(|(next, _)| *next) {
                if seen.insert(next) {
                    ways.push_back([&way[..], &[next]].concat());
                }
            }
        }
        None
    }
}

/// The file that defines what an import leads to.
fn target<'a>(files: &Files<'a>, import: &Import) -> Option<&'a str> {
    let mut path = import.path.clone();
    // More often than names are handed on.
    for _ in 0..16 {
        let length = (0..=path.len()).rev().find(|length| files.contains_key(&path[..*length]))?;
        let (name, file) = files.get(&path[..length])?;
        match path.get(length).and_then(|name| file.handed_on(name)) {
            Some(on) => path = [&on[..], &path[length + 1..]].concat(),
            None => return Some(name),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong_imports_of(files: &[(&str, &str)]) -> Vec<String> {
        let texts = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        wrong_imports(&["low", "high", "lib"], &texts.collect())
    }

    #[track_caller]
    fn assert_one(files: &[(&str, &str)], begin: &str) {
        let wrong = wrong_imports_of(files);
        assert!(wrong.len() == 1 && wrong[0].starts_with(begin), "{wrong:#?}");
    }

    #[test]
    fn imports_go_downwards() {
        let wrong = wrong_imports_of(&[
            ("lib.rs", "mod high; mod low; pub fn run() { high::run() }"),
            ("high/mod.rs", "mod one; use crate::low::Value;"),
            ("high/one.rs", "fn f() { crate::low::f::<u8>() } use super::super::low as l;"),
            ("low.rs", "#[cfg(test)] mod tests { use crate::high::X; } struct Value;"),
        ]);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn an_import_upwards_is_found_in_a_use_in_code_in_a_macro_and_in_an_attribute() {
        for text in [
            "\nuse crate::{high::{one::X as Y, Z}};",
            "\nfn f() -> crate::high::X { todo!() }",
            "\nfn f() { print!(\"{}\", super::high::X) }",
            "\n#[arg(default_value = crate::high::X)] struct S;",
            "\nmod inner { use super::super::high::X; }",
        ] {
            assert_one(
                &[("low.rs", text), ("high/mod.rs", "")],
                "low.rs:2: imports upwards, from high/mod.rs",
            );
        }
    }

    #[test]
    fn a_circle_is_found_round_corners_and_through_names_that_are_handed_on() {
        let wrong = wrong_imports_of(&[
            ("low/mod.rs", "mod one; mod two; mod three; pub use two::Two;"),
            ("low/one.rs", "use crate::low::Two;"),
            ("low/two.rs", "use super::three::Three;"),
            ("low/three.rs", "use super::one::One;"),
        ]);
        let circle = "low/one.rs:1, low/two.rs:1, low/three.rs:1: import each other";
        assert!(wrong.len() == 1 && wrong[0].starts_with(circle), "{wrong:#?}");
    }

    #[test]
    fn a_folder_that_uses_its_file_is_not_imported_from_there() {
        let (one, used) = ("use super::f;", "mod one; pub use one::One; fn f(_: One) {}");
        assert_eq!(wrong_imports_of(&[("low/mod.rs", used), ("low/one.rs", one)]).len(), 1);
        let handed_on = "mod one; pub use one::One; fn f() {}";
        assert!(wrong_imports_of(&[("low/mod.rs", handed_on), ("low/one.rs", one)]).is_empty());
    }

    #[test]
    fn a_file_has_a_layer_and_no_second_place() {
        assert_one(&[("other.rs", "")], "other.rs: has no layer");
        assert_one(&[("low.rs", "\n#[path = \"x.rs\"]\nmod x;")], "low.rs:2: #[path]");
    }
}
