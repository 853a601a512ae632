//! A journal file: read as text, and in its folder.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::LazyLock;

use hostport_nft::{Family, Mapping, OwnerId};

use crate::fuzzing::message::assert_one_line;
use crate::journal::{DiskFolder, Entry, Journal, Lock};

/// The bytes of `web.json`.
pub fn journal(data: &[u8]) {
    let entry = match Entry::from_json(data) {
        Err(error) => {
            assert_one_line(&error);
            None
        }
        Ok(entry) => {
            is_valid(&entry);
            let written = entry.to_json().expect("its paths are text, since they were JSON");
            assert_eq!(Entry::from_json(&written).expect("it was read before"), entry);
            Some(entry)
        }
    };
    in_its_folder(data, entry);
}

/// Nothing in an entry may lead to what no hook could have published.
fn is_valid(entry: &Entry) {
    assert!(entry.owner.as_str().parse::<OwnerId>().is_ok());
    for mapping in entry.flows() {
        assert_eq!(Family::of(mapping.host().host_ip), Family::of(mapping.endpoint().ip));
    }
    let hosts: BTreeSet<_> = entry.mappings.iter().map(Mapping::host).collect();
    assert_eq!(hosts.len(), entry.mappings.len(), "a host port is published once");
    assert!(entry.process.is_none_or(|process| process.pid > 0), "{:?}", entry.process);
}

/// A file that is not its owner's entry is set aside as it is: neither obeyed nor lost.
fn in_its_folder(data: &[u8], entry: Option<Entry>) {
    let owner: OwnerId = "web".parse().expect("it is an owner's ID");
    let entry = entry.filter(|entry| entry.owner == owner);
    let (folder, journal) = &*JOURNAL;
    let (file, aside) = (folder.join("web.json"), folder.join("web.json.set-aside"));
    let _ = fs::remove_file(&aside);
    fs::write(&file, data).expect("a file in our folder");
    assert_eq!(journal.read(&owner).expect("it can be read"), entry);
    let kept = if entry.is_some() { &file } else { &aside };
    assert_eq!(fs::read(kept).expect("it is kept"), data);
    assert!(!(file.exists() && aside.exists()));
}

/// A journal of this process's own, in memory.
static JOURNAL: LazyLock<(PathBuf, Journal)> = LazyLock::new(|| {
    let folder = PathBuf::from(format!("/dev/shm/hostport-fuzz-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::DirBuilder::new().mode(0o700).create(&folder).expect("a folder in memory");
    let opened = DiskFolder::open_or_create(&folder).expect("it is ours alone");
    let journal = Journal::over(opened, Lock::Exclusive).expect("nobody else has it");
    (folder, journal)
});
