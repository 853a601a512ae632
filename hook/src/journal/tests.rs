//! The journal in a folder that exists in the test alone, but for what only a real one can show.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hostport_nft::OwnerId;
use rustix::io::Errno;

use super::fake::{Call, FakeFolder, FakeLiveness, Moment, Step};
use super::*;

fn entry(owner: &str, since_ms: u64) -> Entry {
    let json = format!(
        r#"{{"version":1,"owner":"{owner}","table":"hostport","localhost":true,"mappings":[],
            "process":{{"pid":7,"start_time":1,"pid_namespace":1}},"bundle":"/b",
            "since_ms":{since_ms}}}"#
    );
    Entry::from_json(json.as_bytes()).unwrap()
}

fn shared(folder: &FakeFolder) -> Journal<FakeFolder> {
    Journal::over(folder.clone(), Lock::Shared).unwrap()
}

fn locked_for(error: JournalError) -> Duration {
    let JournalError::Locked { after, .. } = error else { panic!("{error}") };
    after
}

#[test]
fn an_entry_is_read_as_it_was_written_and_gone_once_removed() {
    let folder = FakeFolder::new();
    let journal = shared(&folder);
    let web = entry("web", 1);
    journal.write(&web).unwrap();
    assert_eq!(journal.read(&web.owner).unwrap(), Some(web.clone()));
    let before = journal.stamp(&web.owner).unwrap();
    journal.write(&entry("web", 2)).unwrap();
    assert_ne!(journal.stamp(&web.owner), Some(before));
    assert_eq!(JournalSnapshot::of(folder.clone(), PATIENCE).unwrap().entries, [entry("web", 2)]);
    journal.remove(&web.owner).unwrap();
    journal.remove(&web.owner).unwrap();
    assert_eq!(folder.files().len(), 0);
}

#[test]
fn a_write_that_fails_leaves_the_entry_as_it_was_and_no_file_behind() {
    for failing in [Call::Create, Call::Write, Call::Rename] {
        let folder = FakeFolder::new();
        let journal = shared(&folder);
        journal.write(&entry("web", 1)).unwrap();
        folder.set_fault(move |_, call, _| (call == failing).then_some(Errno::NOSPC));
        let error = journal.write(&entry("web", 2)).unwrap_err().to_string();
        assert!(error.contains("/fake/web") && error.contains("No space left"), "{error}");
        folder.clear_fault();
        assert_eq!(journal.entries().unwrap(), [entry("web", 1)], "{failing:?}");
        assert_eq!(folder.files().len(), 1, "{failing:?}");
    }
}

#[test]
fn a_writer_that_is_killed_leaves_the_entry_as_it_was_or_as_it_was_to_be() {
    for nth in 0..8 {
        let folder = FakeFolder::new();
        shared(&folder).write(&entry("web", 1)).unwrap();
        let (steps, disk) = (AtomicU32::new(0), folder.clone());
        let hook = Arc::new(move |_: Step<'_>| {
            if steps.fetch_add(1, Ordering::Relaxed) == nth + 4 {
                disk.kill(2);
            }
        });
        let writer = Journal::over(folder.of_process(2, Some(hook)), Lock::Shared).unwrap();
        let _ = writer.write(&entry("web", 2));
        drop(writer);
        let journal = Journal::over(folder.clone(), Lock::Exclusive).unwrap();
        let since = journal.entries().unwrap().iter().map(|entry| entry.since_ms).sum::<u64>();
        assert!([1, 2].contains(&since), "killed at {nth}: {since}");
        journal.remove_temporary_files().unwrap();
        drop(journal);
        assert_eq!(folder.files().len(), 1, "killed at {nth}");
    }
}

#[test]
fn an_owner_is_changed_by_one_process_at_a_time() {
    let folder = FakeFolder::new();
    let (one, other) = (shared(&folder), shared(&folder.of_process(2, None)));
    let owner = entry("web", 1).owner;
    let lock = one.lock_owner(&owner, PATIENCE).unwrap();
    assert!(locked_for(other.lock_owner(&owner, PATIENCE).unwrap_err()) >= PATIENCE);
    drop(lock);
    drop(other.lock_owner(&owner, PATIENCE).unwrap());
    assert_eq!(folder.files().len(), 0);
}

#[test]
fn a_lock_whose_file_was_removed_meanwhile_is_not_held() {
    let folder = FakeFolder::new();
    let one = shared(&folder);
    let owner = entry("web", 1).owner;
    let mut held = Some(one.lock_owner(&owner, PATIENCE).unwrap());
    // The second process has opened the file when the first one removes it.
    let (disk, removed) = (folder.clone(), Arc::new(AtomicU32::new(0)));
    let count = removed.clone();
    let hook = Arc::new(move |step: Step<'_>| {
        if (step.moment, step.call) == (Moment::Before, Call::IsLinked) {
            count.fetch_add(1, Ordering::Relaxed);
        } else if step.moment == Moment::Waiting && count.load(Ordering::Relaxed) == 0 {
            let _ = disk.remove("web.lock.tmp");
            disk.kill(1);
        }
    });
    let other = shared(&folder.of_process(2, Some(hook)));
    let lock = other.lock_owner(&owner, PATIENCE).unwrap();
    assert_eq!(removed.load(Ordering::Relaxed), 2, "it looked at two files");
    assert_eq!(folder.holders("web.lock.tmp"), [2]);
    drop(held.take());
    assert_eq!(folder.holders("web.lock.tmp"), [2], "a killed process removes nothing");
    drop(lock);
}

#[test]
fn hooks_that_come_later_wait_behind_a_command_that_wants_the_folder_alone() {
    let folder = FakeFolder::new();
    let under_way = shared(&folder);
    let late = folder.of_process(3, None);
    let came = Arc::new(AtomicU32::new(0));
    let count = came.clone();
    let hook = Arc::new(move |step: Step<'_>| {
        if step.moment == Moment::Waiting && count.fetch_add(1, Ordering::Relaxed) == 0 {
            let error = JournalSnapshot::of(late.clone(), Duration::from_secs(2)).unwrap_err();
            assert!(error.to_string().contains("gate.tmp"), "{error}");
        }
    });
    let error = Journal::over(folder.of_process(2, Some(hook)), Lock::Exclusive).unwrap_err();
    assert!(locked_for(error) >= Duration::from_secs(24));
    assert!(came.load(Ordering::Relaxed) > 0);
    drop(under_way);
    drop(Journal::over(folder.of_process(2, None), Lock::Exclusive).unwrap());
    assert_eq!(folder.files().len(), 0);
}

#[test]
fn a_killed_process_holds_no_lock() {
    let folder = FakeFolder::new();
    let (one, owner) = (shared(&folder), entry("web", 1).owner);
    let _lock = one.lock_owner(&owner, PATIENCE).unwrap();
    folder.kill(1);
    let other = Journal::over(folder.of_process(2, None), Lock::Exclusive).unwrap();
    drop(other.lock_owner(&owner, PATIENCE).unwrap());
}

#[test]
fn a_file_that_is_no_entry_counts_for_nothing_and_is_kept() {
    let folder = FakeFolder::new();
    let journal = shared(&folder);
    for text in ["first", "second"] {
        folder.put("web.json", text.as_bytes());
        assert_eq!(JournalSnapshot::of(folder.clone(), PATIENCE).unwrap().damaged.len(), 1);
        assert_eq!(journal.entries().unwrap(), []);
    }
    let kept: Vec<Vec<u8>> = folder.files().into_values().collect();
    assert_eq!(kept, [b"first".to_vec(), b"second".to_vec()]);
    assert_eq!(journal.owners_set_aside().unwrap().len(), 1);
    assert_eq!(JournalSnapshot::of(folder.clone(), PATIENCE).unwrap().set_aside.len(), 2);
}

#[test]
fn an_owner_is_dead_once_its_process_has_ended() {
    let (living, web) = (FakeLiveness::default(), entry("web", 1));
    assert!(!living.is_dead(&web));
    assert_eq!(living.process(7), web.process);
    living.end_process(7);
    assert!(living.is_dead(&web));
    assert_eq!(living.process(7), None);
    let pod = Entry { process: None, namespace: None, ..web };
    assert!(!living.is_dead(&pod), "nothing tells");
    let namespace = living.namespace(Path::new("/run/netns/web"), (4, 5), None);
    let pod = Entry { namespace: Some(namespace), ..pod };
    assert!(!living.is_dead(&pod));
    living.end_namespace(5);
    assert!(living.is_dead(&pod));
}

#[test]
fn every_file_that_was_set_aside_is_kept() {
    let folder = std::env::temp_dir().join(format!("hostport-set-aside-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
    let owner: OwnerId = "web".parse().unwrap();
    let journal =
        Journal::over(DiskFolder::open_or_create(&folder).unwrap(), Lock::Exclusive).unwrap();
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
