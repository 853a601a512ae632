//! The pages of the book lead where they say: every link to a file and every anchor in it is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A page without what stands in code, where brackets are no links.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        }
        if fenced || line.starts_with("    ") {
            continue;
        }
        prose.extend(line.split('`').step_by(2));
        prose.push('\n');
    }
    prose
}

/// A heading's anchor, by the rule that GitHub and mdBook share.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

fn links(text: &str) -> Vec<String> {
    let text = prose(text).replace('\n', " ");
    let ends = text.split("](").skip(1);
    ends.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

fn broken(page: &Path, text: &str) -> Vec<String> {
    let folder = page.parent().unwrap();
    let mut broken = Vec::new();
    for link in links(text).iter().filter(|link| !link.contains("://")) {
        let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
        let target = if file.is_empty() { page.to_owned() } else { folder.join(file) };
        let there = match fragment {
            "" => target.exists(),
            _ if target == page => anchors(text).contains(fragment),
            _ => fs::read_to_string(target).is_ok_and(|text| anchors(&text).contains(fragment)),
        };
        if !there {
            broken.push(format!("{}: {link}", page.display()));
        }
    }
    broken
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(repository().join("docs")).unwrap().map(|one| one.unwrap().path());
    docs.filter(|path| path.extension().is_some_and(|end| end == "md")).collect()
}

#[test]
fn every_link_and_anchor_leads_somewhere() {
    let root = ["README.md", "CONTRIBUTING.md"].map(|name| repository().join(name));
    let broken: Vec<_> = pages()
        .iter()
        .chain(&root)
        .flat_map(|page| broken(page, &fs::read_to_string(page).unwrap()))
        .collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

/// What a page of the book links outside its folder, which the built book does not have.
fn outside(page: &Path, text: &str) -> Vec<String> {
    let leaves = |link: &&String| !link.contains("://") && link.split('/').any(|part| part == "..");
    links(text).iter().filter(leaves).map(|link| format!("{}: {link}", page.display())).collect()
}

#[test]
fn no_link_leaves_the_book() {
    let outside: Vec<_> =
        pages().iter().flat_map(|page| outside(page, &fs::read_to_string(page).unwrap())).collect();
    assert!(outside.is_empty(), "{outside:#?}");
}

#[test]
fn a_link_that_leaves_the_book_is_seen() {
    let page = repository().join("docs/design.md");
    let text = "[a](../README.md#install) [b](security.md) [c](https://example.org/../d)";
    assert_eq!(outside(&page, text).len(), 1);
}

/// The indented lines behind a heading, up to the first paragraph after them.
fn commands(page: &str, heading: &str) -> String {
    let text = fs::read_to_string(repository().join(page)).unwrap();
    let behind = text.lines().skip_while(|line| *line != heading);
    let block = behind.skip_while(|line| !line.starts_with("    "));
    block.take_while(|line| line.starts_with("    ")).collect::<Vec<_>>().join("\n")
}

/// `make newcomer` types those of the book.
#[test]
fn the_readme_and_the_book_start_the_same_first_container() {
    let book = commands("docs/runtimes.md", "### A first container");
    assert!(book.contains("podman run"), "{book}");
    assert_eq!(commands("README.md", "## Two minutes with podman"), book);
}

#[test]
fn every_page_is_in_the_summary() {
    let summary = fs::read_to_string(repository().join("docs/SUMMARY.md")).unwrap();
    for page in pages() {
        let name = page.file_name().unwrap().to_str().unwrap();
        assert!(name == "SUMMARY.md" || summary.contains(&format!("({name})")), "{name}");
    }
}

#[test]
fn a_broken_link_and_a_broken_anchor_are_seen() {
    let page = repository().join("docs/design.md");
    let text =
        "# One heading\n[a](#one-heading) [b](#two) [c](no-such.md) [d](security.md#nothing)";
    assert_eq!(broken(&page, text).len(), 3);
}
