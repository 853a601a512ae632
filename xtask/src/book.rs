//! What must hold of the pages in docs/: every link to a file leads to it, every anchor exists, and no link
//! leaves the book.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::pages::repository;

/// What does not hold, a problem a line.
pub fn problems() -> Vec<String> {
    let read = |page: &Path| fs::read_to_string(page).unwrap_or_default();
    let summary = read(&repository("docs/SUMMARY.md"));
    let mut problems = Vec::new();
    for page in pages() {
        let text = read(&page);
        problems.extend(broken(&page, &text));
        problems.extend(outside(&page, &text));
        let name = page.file_name().unwrap_or_default().to_string_lossy();
        if name != "SUMMARY.md" && !summary.contains(&format!("({name})")) {
            problems.push(format!("docs/SUMMARY.md does not list {name}"));
        }
    }
    for name in ["README.md", "CONTRIBUTING.md"] {
        let page = repository(name);
        problems.extend(broken(&page, &read(&page)));
    }
    // `make newcomer` types those of the book.
    let first = commands(&read(&repository("docs/runtimes.md")), "### A first container");
    if first.is_empty()
        || commands(&read(&repository("README.md")), "## Two minutes with podman") != first
    {
        problems.push("README.md and docs/runtimes.md start different first containers".to_owned());
    }
    problems
}

fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(repository("docs")).into_iter().flatten();
    let paths = docs.flatten().map(|one| one.path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "md")).collect()
}

/// A page without its code, where brackets are not links.
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
    let folder = page.parent().unwrap_or(page);
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
            broken.push(format!("{}: {link} leads nowhere", page.display()));
        }
    }
    broken
}

/// The links of a page that leave its folder: the built book has no other.
fn outside(page: &Path, text: &str) -> Vec<String> {
    let leaves = |link: &&String| !link.contains("://") && link.split('/').any(|part| part == "..");
    let say = |link: &String| format!("{}: {link} leaves the book", page.display());
    links(text).iter().filter(leaves).map(say).collect()
}

/// The indented lines behind a heading, up to the first paragraph after them.
pub fn commands(text: &str, heading: &str) -> String {
    let behind = text.lines().skip_while(|line| *line != heading);
    let block = behind.skip_while(|line| !line.starts_with("    "));
    let lines = block.map_while(|line| line.strip_prefix("    "));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_link_and_a_broken_anchor_are_seen() {
        let page = repository("docs/design.md");
        let text =
            "# One heading\n[a](#one-heading) [b](#two) [c](no-such.md) [d](security.md#nothing)";
        assert_eq!(broken(&page, text).len(), 3);
    }

    #[test]
    fn a_link_that_leaves_the_book_is_seen() {
        let page = repository("docs/design.md");
        let text = "[a](../README.md#install) [b](security.md) [c](https://example.org/../d)";
        assert_eq!(outside(&page, text).len(), 1);
    }

    #[test]
    fn commands_are_the_indented_lines_below_a_heading() {
        let text = "# One\n    no\n## Two\n\nSo:\n\n    yes\n      too\n\nEnd.\n\n    no\n";
        assert_eq!(commands(text, "## Two"), "yes\n  too");
        assert_eq!(commands(text, "## Three"), "");
    }
}
