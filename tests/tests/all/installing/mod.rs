//! `hostport install` and `hostport uninstall`: what they change of a node's files, and what they leave alone.

mod containerd;
mod follow;
mod hooks;
mod lists;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use hostport_tests::hook::hostport;
use hostport_tests::lab::Netns;
use hostport_tests::runtime::{Finished, Scratch, write_program};

/// A node's root folder, with a program.
struct Root {
    netns: Netns,
    folder: Scratch,
}

const PROGRAM: &str = "/opt/hostport/hostport";

impl Root {
    fn new() -> Self {
        let root = Root { netns: Netns::new("installing"), folder: Scratch::new("root") };
        write_program(&root.make(PROGRAM), "#!/bin/sh\n");
        root
    }

    /// A path of the node, whose folder is there.
    fn make(&self, path: &str) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path.trim_start_matches('/'))
    }

    fn with(self, path: &str, text: &str) -> Self {
        fs::write(self.make(path), text).unwrap();
        self
    }

    fn with_link(self, path: &str, to: &str) -> Self {
        symlink(to, self.make(path)).unwrap();
        self
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn arguments<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        let root = self.folder.path().to_str().unwrap();
        [words, &["--root", root, "--program", PROGRAM]].concat()
    }

    fn call(&self, words: &[&str]) -> Finished {
        hostport(&self.netns, &self.arguments(words))
    }

    /// Every file and link, with what is in it.
    fn all(&self) -> Vec<String> {
        let mut all = Vec::new();
        collect(self.folder.path(), &mut all);
        all.sort();
        all
    }

    /// A call that is refused in one line, and changes nothing. Returns the line, without the root.
    #[track_caller]
    fn refused(&self, words: &[&str]) -> String {
        let before = self.all();
        let said = self.call(words).expect_failure();
        assert_eq!(
            (said.code, said.stderr.lines().count(), &*said.stdout),
            (Some(1), 1, ""),
            "{said:?}"
        );
        assert_eq!(self.all(), before);
        self.without_root(&said.stderr)
    }

    fn without_root(&self, text: &str) -> String {
        text.replace(self.folder.path().to_str().unwrap(), "")
    }
}

fn collect(folder: &Path, all: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            collect(&path, all);
            continue;
        }
        let content = match fs::read_link(&path) {
            Ok(to) => format!("-> {}", to.display()),
            Err(_) if !path.is_file() => "no file".to_owned(),
            Err(_) => String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned(),
        };
        all.push(format!("{}: {content}", path.display()));
    }
}
