//! The whole ruleset of a network namespace, with the tables of all programs, read at one moment.
//!
//! Tables, chains, rules and the heads of sets of the families ip, ip6 and inet. The elements of a set,
//! of which there may be very many, are read one set at a time by [`SetReader`]. The rules of
//! iptables-nft are nf_tables rules too; those of iptables-legacy are not, and are not in a snapshot.

use std::time::Duration;

use super::walk::{self, PATIENCE, back_off, complete};
use super::{Kernel, Socket};
use crate::error::Error;
use crate::model::Generation;
use crate::wire::element::elements;
use crate::wire::message::Message;
use crate::wire::object::{Element, NfFamily, ObjectId};
use crate::wire::snapshot::Snapshot;

/// How often a snapshot is read again because others changed the ruleset during the reading.
pub(super) const ATTEMPTS: u32 = 10;

impl Snapshot {
    /// Reads the ruleset of the network namespace that the calling thread is in.
    ///
    /// ```no_run
    /// # use hostport_nft::Snapshot;
    /// let snapshot = Snapshot::read()?;
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::NotPermitted`], [`Error::Transport`], or [`Error::Contention`] if
    /// others kept changing it.
    pub fn read() -> Result<Self, Error> {
        read(&mut Socket::open()?).map(|(snapshot, _)| snapshot)
    }
}

/// The ruleset, and its generation.
pub(super) fn read(socket: &mut Socket) -> Result<(Snapshot, Generation), Error> {
    for attempt in 0..ATTEMPTS {
        back_off(socket, attempt);
        let begin = socket.generation()?;
        let mut snapshot = Snapshot::default();
        for family in NfFamily::ALL {
            let some = complete(socket, PATIENCE, |socket| socket.objects(family, None))?;
            let Snapshot { tables, chains, sets } = some.unwrap_or_default();
            snapshot.tables.extend(tables);
            snapshot.chains.extend(chains);
            snapshot.sets.extend(sets);
        }
        if socket.generation()? == begin {
            return Ok((snapshot, begin));
        }
    }
    Err(Error::Contention { attempts: ATTEMPTS })
}

/// Reads the elements of any set, in ten seconds altogether.
///
/// ```no_run
/// # use hostport_nft::{SetReader, Snapshot};
/// let mut reader = SetReader::open()?;
/// for id in Snapshot::read()?.sets.keys() {
///     let elements = reader.read(id).map(|elements| elements.len());
///     println!("{} {} {}: {elements:?}", id.family, id.table, id.name);
/// }
/// # Ok::<(), hostport_nft::Error>(())
/// ```
#[derive(Debug)]
pub struct SetReader {
    socket: Socket,
    /// How long the reading has taken so far.
    spent: Duration,
}

impl SetReader {
    /// For the network namespace that the calling thread is in. See [`SetReader`] for an example.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn open() -> Result<Self, Error> {
        Ok(SetReader { socket: Socket::open()?, spent: Duration::ZERO })
    }

    /// The elements of a set or map; none if they cannot be read, or if the ten seconds are over.
    /// See [`SetReader`] for an example.
    pub fn read(&mut self, set: &ObjectId) -> Option<Vec<Element>> {
        if self.spent >= PATIENCE {
            return None;
        }
        let request = Message::dump_any_elements(set);
        let begin = self.socket.now();
        let walk = |socket: &mut Socket| socket.walk(&request, elements);
        let found = walk::elements(&mut self.socket, PATIENCE, walk);
        self.spent += self.socket.now().duration_since(begin);
        found.ok()?
    }
}
