//! Files in the journal's folder that are no entries.

use std::fs;
use std::os::unix::fs::DirBuilderExt;

use super::*;

#[test]
fn every_file_that_was_set_aside_is_kept() {
    let folder = std::env::temp_dir().join(format!("hostport-set-aside-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
    let owner: OwnerId = "web".parse().unwrap();
    let journal = Journal::open(&folder, Lock::Exclusive).unwrap();
    for text in ["first", "second", "third"] {
        fs::write(folder.join("web.json"), text).unwrap();
        assert!(journal.read(&owner).unwrap().is_none());
    }
    assert!(!folder.join("web.json").exists());
    let mut kept: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("web.json"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    kept.sort();
    assert_eq!(kept, ["first", "second", "third"]);
    fs::remove_dir_all(&folder).unwrap();
}
