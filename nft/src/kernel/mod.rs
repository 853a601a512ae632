//! The only place that does I/O. [`Kernel`] is everything that the operations ask of nf_tables and the connection
//! tracking; [`Socket`] asks the real one. The operations above know neither messages nor sockets.
//!
//! ```text
//! socket       the real kernel
//! fake         one in memory, for tests
//! transaction  changes that are made together, and what becomes of them (ops/attempt tries again)
//! walk         lists read completely, although others change them
//! snapshot     everything that a family has, of all tables
//! foreign      deleting what other programs have left
//! events       changes of the ruleset as they are made
//! close        closing a socket without waiting
//! ```

mod close;
pub(crate) mod events;
#[cfg(feature = "fake")]
pub mod fake;
mod foreign;
mod snapshot;
mod socket;
mod transaction;
pub(crate) mod walk;

use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

use rustix::io::Errno;

pub use foreign::Foreign;
pub use snapshot::SetReader;
pub use socket::Socket;
pub use transaction::{Change, Failure, Outcome, Transaction};

pub use crate::model::{Flow, Generation};
pub use crate::ruleset::element::Element;
pub use crate::ruleset::set::{SetName, SetRef};
pub use crate::wire::table::TableFacts;

use crate::error::Error;
use crate::model::{Boot, Family, LinkName, NfFamily, Port, Protocol, TableName};
use crate::wire::message::Message;
use crate::wire::snapshot::Snapshot;

/// What the operations ask of a kernel. Each call is one step: what others do happens between two of them.
///
/// The errors of every method are those of the transport and of the kernel's permission: [`Error::Transport`],
/// [`Error::NotPermitted`], [`Error::NoNfTables`], [`Error::Refused`], [`Error::Malformed`]. That something
/// does not exist is no error but an answer.
pub trait Kernel {
    /// The ruleset's generation: it changes with every transaction of any program.
    ///
    /// # Errors
    /// See the trait.
    fn generation(&mut self) -> Result<Generation, Error>;

    /// Some tables, without what they hold; none for one that does not exist.
    ///
    /// # Errors
    /// See the trait.
    fn tables(&mut self, queries: &[TableQuery<'_>]) -> Result<Vec<Option<TableFacts>>, Error>;

    /// One element of a set by its key; none if the element, the set or the table does not exist.
    ///
    /// # Errors
    /// See the trait.
    fn element(&mut self, set: SetRef<'_>, key: &[u8]) -> Result<Option<Element>, Error>;

    /// Walks once over the elements of a set.
    ///
    /// # Errors
    /// See the trait.
    fn elements(&mut self, set: SetRef<'_>) -> Result<Pass<Vec<Element>>, Error>;

    /// Walks once over a family's tables, chains, rules and sets. With a table's name, the rules and sets of others
    /// may be left out.
    ///
    /// # Errors
    /// See the trait.
    fn objects(
        &mut self,
        family: NfFamily,
        only: Option<&TableName>,
    ) -> Result<Pass<Snapshot>, Error>;

    /// Makes all of a transaction's changes, or none.
    ///
    /// # Errors
    /// See the trait. Nothing has then changed: a lost answer is [`Outcome::Unanswered`].
    fn commit(&mut self, transaction: &Transaction) -> Result<Outcome, Error>;

    /// The place of the first message that the kernel would refuse in a transaction of these. Changes nothing.
    ///
    /// # Errors
    /// See the trait.
    fn first_refused(&mut self, messages: &[Message]) -> Result<Option<(usize, Errno)>, Error>;

    /// Walks once over the tracked connections of a protocol: over all, or those towards a port; over all, or those
    /// without an answer.
    ///
    /// # Errors
    /// See the trait.
    fn flows(
        &mut self,
        family: Family,
        protocol: Protocol,
        port: Option<Port>,
        unanswered: bool,
    ) -> Result<Pass<Vec<Flow>>, Error>;

    /// Forgets a tracked connection; false if it was gone already.
    ///
    /// # Errors
    /// See the trait.
    fn forget(&mut self, flow: &Flow) -> Result<bool, Error>;

    /// The machine's boot; none if that cannot be read.
    fn boot(&self) -> Option<Boot>;

    /// The name of the link of an index.
    fn link_name(&self, index: u32) -> Option<LinkName>;

    /// The time, by which deadlines are kept.
    fn now(&self) -> Instant;

    /// Waits before another attempt: a random time, never longer than `most`.
    fn pause(&mut self, most: Duration);

    /// Closes the socket without waiting for the kernel.
    fn leave(self);
}

/// The machine's boot (`Documentation/admin-guide/sysctl/kernel.rst`, random).
fn boot() -> Option<Boot> {
    // As much of it as is needed, in one read.
    let mut id = [0; 8];
    File::open("/proc/sys/kernel/random/boot_id").ok()?.read_exact(&mut id).ok()?;
    Boot::parse(str::from_utf8(&id).ok()?)
}

/// The end of one walk over a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pass<T> {
    /// All of it.
    Complete(T),
    /// There is no such list.
    Missing,
    /// Another program changed the ruleset during the walk.
    Interrupted,
}

/// Which table is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableQuery<'a> {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub table: &'a TableName,
    /// The chains of it whose uses are asked for.
    pub chains: Vec<&'static str>,
}
