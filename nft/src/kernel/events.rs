//! Changes that others make to our tables: the kernel's notifications.
//!
//! The kernel reports each object of a transaction, and then, with NFT_MSG_NEWGEN, the transaction
//! itself with the program that made it. So the program is known only at the end.

use std::os::fd::{AsFd, BorrowedFd};

use hostport_netlink::{Object, Socket};

use super::socket::open;
use crate::error::{Error, Malformed};
use crate::model::TableName;
use crate::wire::event::Notification;

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

/// What the notifications mean, one after the other.
#[derive(Debug)]
pub(crate) struct Transactions {
    table: TableName,
    /// The names that the kernel has for our own programs.
    own: Vec<String>,
    /// Something of ours was removed in the transaction that is being reported.
    pending: bool,
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

impl Transactions {
    pub(crate) fn new(table: TableName, own: &[String]) -> Self {
        Transactions { table, own: own.to_vec(), pending: false }
    }

    /// Takes note of one notification. The name of another program that removed something of ours, at the
    /// end of its transaction.
    pub(crate) fn note(&mut self, object: Object<'_>) -> Result<Option<String>, Malformed> {
        Ok(match Notification::decode(object)? {
            Notification::Removed(table) => {
                self.pending |= table == self.table.as_str();
                None
            }
            Notification::Committed(by) => {
                let ours = std::mem::take(&mut self.pending);
                Some(by).filter(|by| ours && !self.own.contains(by))
            }
            Notification::Other => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostport_netlink::attribute;
    use proptest::prelude::*;

    /// NFT_MSG_DELTABLE, NFT_MSG_DELSETELEM and NFT_MSG_NEWGEN.
    const MESSAGES: [u16; 3] = [2, 14, 15];

    fn note(transactions: &mut Transactions, kind: u16, payload: &[u8]) -> Option<String> {
        let payload = [&[0; 4], payload].concat();
        let object = Object { kind: 10 << 8 | kind, payload: &payload, interrupted: false };
        transactions.note(object).unwrap_or_default()
    }

    fn text(kind: u16, text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        attribute::push_text(&mut bytes, kind, text);
        bytes
    }

    #[test]
    fn a_removal_is_reported_at_the_end_of_its_transaction_with_the_programs_name() {
        let [delete_table, delete_element, generation] = MESSAGES;
        let mut transactions = Transactions::new(TableName::default(), &["hostport".to_owned()]);
        let mut note = |kind, payload: &[u8]| note(&mut transactions, kind, payload);
        assert_eq!(note(delete_table, &text(1, "other")), None);
        assert_eq!(note(generation, &text(3, "nft")), None);
        assert_eq!(note(delete_element, &text(1, "hostport")), None);
        assert_eq!(note(generation, &text(3, "nft")).as_deref(), Some("nft"));
        assert_eq!(note(generation, &text(3, "nft")), None);
        assert_eq!(note(delete_element, &text(1, "hostport")), None);
        assert_eq!(note(generation, &text(3, "hostport")), None);
    }

    proptest! {
        #[test]
        fn any_notification_is_read_or_an_error(
            kind: u16, bytes in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut transactions = Transactions::new(TableName::default(), &[]);
            let object = Object { kind: 10 << 8 | kind, payload: &bytes, interrupted: false };
            let _ = transactions.note(object);
        }
    }
}
