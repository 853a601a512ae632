//! Changes that others make to our tables: the kernel's notifications.

use std::os::fd::{AsFd, BorrowedFd};

use hostport_netlink::Socket;

use super::socket::open;
use crate::error::Error;
use crate::model::TableName;
use crate::wire::event::Transactions;

/// `linux/netfilter/nfnetlink.h`.
const NFNLGRP_NFTABLES: u32 = 7;
/// A flush of many elements is one burst.
const ROOM: usize = 8 * 1024 * 1024;

/// A listener for removals from the tables of a name, in the network namespace it was made in.
///
/// ```no_run
/// use hostport_nft::{Event, Events, TableName};
///
/// let mut events = Events::listen(TableName::default(), &["hostport".to_owned()])?;
/// if let Event::Removed { by } = events.hear()? {
///     println!("{by} removed something of ours");
/// }
/// # Ok::<(), hostport_nft::Error>(())
/// ```
#[derive(Debug)]
pub struct Events {
    socket: Socket,
    transactions: Transactions,
}

/// What a listener heard.
///
/// ```no_run
/// # use hostport_nft::{Event, Events, TableName};
/// # let mut events = Events::listen(TableName::default(), &[])?;
/// match events.hear()? {
///     Event::Nothing => {}
///     Event::Removed { by } => println!("{by} removed something of ours"),
///     Event::Lost => println!("notifications were lost: read the tables"),
/// }
/// # Ok::<(), hostport_nft::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Nothing that removes anything of ours.
    Nothing,
    /// Another program removed something from our tables.
    Removed {
        /// Its name (TASK_COMM_LEN, at most 15 bytes).
        by: String,
    },
    /// Notifications were lost: anything may have happened.
    Lost,
}

impl Events {
    /// Listens from now on. Transactions made by programs of the names `own` do not count.
    ///
    /// ```no_run
    /// # use hostport_nft::{Events, TableName};
    /// let events = Events::listen(TableName::default(), &["hostport".to_owned()])?;
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn listen(table: TableName, own: &[String]) -> Result<Self, Error> {
        let mut socket = open()?;
        socket.join(NFNLGRP_NFTABLES, ROOM).map_err(|error| Error::of("to listen", error))?;
        Ok(Events { socket, transactions: Transactions::new(table, own) })
    }

    /// Reads what has been reported; waits if nothing has.
    ///
    /// ```no_run
    /// # use hostport_nft::{Events, TableName};
    /// let mut events = Events::listen(TableName::default(), &[])?;
    /// println!("{:?}", events.hear()?);
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Transport`], also where nothing came for 10 seconds (EAGAIN), or [`Error::Malformed`].
    pub fn hear(&mut self) -> Result<Event, Error> {
        let Events { socket, transactions } = self;
        let mut culprit = None;
        let heard = socket.hear(|object| {
            culprit = transactions.note(object)?.or(culprit.take());
            Ok(())
        });
        if !heard.map_err(|error| Error::of("to listen", error))? {
            transactions.pending = false;
            return Ok(Event::Lost);
        }
        Ok(culprit.map_or(Event::Nothing, |by| Event::Removed { by }))
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
