//! Counters without a daemon: a file of fixed size beside the journal, for `hostport metrics`.
//!
//! Counting must neither fail nor delay what is counted. So a call waits for the lock a few milliseconds at
//! most, and is not counted if it does not get it; nothing is synced, since the folder is usually in memory and
//! a reboot starts from zero; and no error is reported. A damaged file starts from zero. A file of a later version,
//! and everything else that is not our file, is left unchanged.

use std::hash::Hasher;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use fnv::FnvHasher;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

/// The file, in the journal's folder.
const FILE: &str = "counters";
const MAGIC: [u8; 8] = *b"hostport";
const VERSION: u64 = 2;
/// How often the lock is tried.
const TRIES: u32 = 25;
/// Magic, version, four counters, two histograms and a checksum, in little-endian words.
const WORDS: usize = 2 + 4 + 2 * (BOUNDS.len() + 2) + 1;

/// The upper bounds of a histogram's buckets, in microseconds. One more bucket has what takes longer.
pub const BOUNDS: [u64; 12] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000,
];

/// All that is counted, since the file was made.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counters {
    /// Containers that could not start, since another living owner has a port.
    pub conflicts: u64,
    /// Host ports that were taken from another owner.
    pub takeovers: u64,
    /// Restores that changed something.
    pub restores: u64,
    /// Host ports that restores gave back to the kernel.
    pub restored_ports: u64,
    /// Hook calls that published.
    pub publish: Histogram,
    /// Hook calls that withdrew.
    pub withdraw: Histogram,
}

/// How long something took, how often.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Histogram {
    /// How many took at most the bound of the same index, and more than the one before.
    pub buckets: [u64; BOUNDS.len()],
    /// How many took longer than all bounds.
    pub rest: u64,
    /// All of them together, in microseconds.
    pub sum_us: u64,
}

impl Histogram {
    /// Counts one call.
    pub fn observe(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mut places = self.buckets.iter_mut().zip(BOUNDS);
        let place = places.find(|(_, bound)| us <= *bound).map(|(bucket, _)| bucket);
        add(place.unwrap_or(&mut self.rest), 1);
        add(&mut self.sum_us, us);
    }

    fn words(&mut self) -> impl Iterator<Item = &mut u64> {
        self.buckets.iter_mut().chain([&mut self.rest, &mut self.sum_us])
    }
}

/// A call that published or withdrew, or that another owner's port refused.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// When it began.
    pub begin: Instant,
    /// The container has ended.
    pub stopped: bool,
    /// Another living owner has a port.
    pub conflict: bool,
    /// How many ports were taken over, if the call changed anything.
    pub taken_over: Option<usize>,
}

/// Adds to a counter, which may have any value in a file.
pub fn add(counter: &mut u64, more: u64) {
    *counter = counter.saturating_add(more);
}

impl Counters {
    /// Reads them; zero if there is no file yet. None if they are unknown: the file is not ours, or its writer has
    /// been stopped in the middle.
    pub fn read(state_dir: &Path) -> Option<Self> {
        let file = match open(state_dir, OFlags::RDONLY) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Some(Counters::default()),
            Err(_) => return None,
        };
        let locked = lock(&file, FlockOperation::NonBlockingLockShared);
        match Counters::load(&file) {
            // The next change starts from zero.
            Err(UnreadableCounters::Damaged) if locked => Some(Counters::default()),
            loaded => loaded.ok(),
        }
    }

    /// Counts a call.
    pub fn of_call(state_dir: &Path, call: &Call) {
        Counters::change(state_dir, |counters| {
            add(&mut counters.conflicts, u64::from(call.conflict));
            if let Some(taken_over) = call.taken_over {
                add(&mut counters.takeovers, taken_over as u64);
                let all = if call.stopped { &mut counters.withdraw } else { &mut counters.publish };
                all.observe(call.begin.elapsed());
            }
        });
    }

    /// Changes them in the file, unless that takes too long.
    pub fn change(state_dir: &Path, change: impl FnOnce(&mut Counters)) {
        let Ok(file) = open(state_dir, OFlags::RDWR | OFlags::CREATE) else { return };
        if !lock(&file, FlockOperation::NonBlockingLockExclusive) {
            return;
        }
        // Closing the file unlocks it.
        let mut counters = match Counters::load(&file) {
            Ok(counters) => counters,
            Err(UnreadableCounters::Damaged) => Counters::default(),
            Err(UnreadableCounters::NotOurs) => return,
        };
        change(&mut counters);
        let _ = rustix::io::pwrite(&file, &counters.to_bytes(), 0);
    }

    fn load(file: &OwnedFd) -> Result<Self, UnreadableCounters> {
        let mut bytes = [0; WORDS * 8];
        let length =
            rustix::io::pread(file, &mut bytes, 0).map_err(|_| UnreadableCounters::NotOurs)?;
        Counters::from_bytes(bytes.get(..length).unwrap_or_default())
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, UnreadableCounters> {
        let (words, _) = bytes.as_chunks::<8>();
        match words {
            [MAGIC, version, ..] if u64::from_le_bytes(*version) > VERSION => {
                Err(UnreadableCounters::NotOurs)
            }
            [MAGIC, version, values @ .., sum]
                if u64::from_le_bytes(*version) == VERSION
                    && words.len() == WORDS
                    && u64::from_le_bytes(*sum) == checksum(values.as_flattened()) =>
            {
                let mut counters = Counters::default();
                for (word, value) in counters.words().zip(values) {
                    *word = u64::from_le_bytes(*value);
                }
                Ok(counters)
            }
            _ => Err(UnreadableCounters::Damaged),
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut copy = self.clone();
        let values: Vec<u8> = copy.words().flat_map(|word| word.to_le_bytes()).collect();
        let sum = checksum(&values).to_le_bytes();
        [&MAGIC, &VERSION.to_le_bytes(), &values[..], &sum].concat()
    }

    fn words(&mut self) -> impl Iterator<Item = &mut u64> {
        let single = [
            &mut self.conflicts,
            &mut self.takeovers,
            &mut self.restores,
            &mut self.restored_ports,
        ];
        single.into_iter().chain(self.publish.words()).chain(self.withdraw.words())
    }
}

/// Why there are no counters in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UnreadableCounters {
    Damaged,
    /// Of a later version, or not a file.
    NotOurs,
}

/// Protects against accidents, not against root.
fn checksum(bytes: &[u8]) -> u64 {
    let mut hash = FnvHasher::default();
    hash.write(bytes);
    hash.finish()
}

/// Whether the lock could be had in time. Others hold it for microseconds, unless they have been stopped.
fn lock(file: &OwnedFd, operation: FlockOperation) -> bool {
    (0..TRIES).any(|nth| {
        if nth > 0 {
            thread::sleep(Duration::from_micros(200));
        }
        flock(file, operation).is_ok()
    })
}

fn open(state_dir: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    // Something else in the file's place, such as a FIFO, must not block the call.
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    rustix::fs::open(state_dir.join(FILE), flags, Mode::from(0o600))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted() -> Counters {
        let mut counters = Counters { conflicts: 1, takeovers: 2, ..Counters::default() };
        counters.restored_ports = u64::MAX;
        counters.publish.observe(Duration::from_millis(1));
        counters.withdraw.observe(Duration::from_secs(60));
        counters
    }

    #[test]
    fn counters_are_read_as_they_were_written() {
        let bytes = counted().to_bytes();
        assert_eq!(bytes.len(), WORDS * 8);
        assert_eq!(Counters::from_bytes(&bytes), Ok(counted()));
        assert_eq!((counted().publish.buckets[0], counted().withdraw.rest), (1, 1));
    }

    #[test]
    fn a_damaged_file_counts_from_zero_and_a_later_versions_is_left_alone() {
        let bytes = counted().to_bytes();
        for length in 0..bytes.len() {
            assert_eq!(
                Counters::from_bytes(&bytes[..length]),
                Err(UnreadableCounters::Damaged),
                "{length}"
            );
        }
        // Any bit, but those of the version.
        for nth in (0..8).chain(16..bytes.len()) {
            let mut other = bytes.clone();
            other[nth] ^= 1 << (nth % 8);
            assert_eq!(Counters::from_bytes(&other), Err(UnreadableCounters::Damaged), "{nth}");
        }
        let mut later = bytes.clone();
        later[8] = 3;
        assert_eq!(Counters::from_bytes(&later), Err(UnreadableCounters::NotOurs));
        let mut former = bytes;
        former[8] = 1;
        assert_eq!(Counters::from_bytes(&former), Err(UnreadableCounters::Damaged));
    }
}
