//! Changes that others make to our tables: the kernel's notifications.
//!
//! The kernel tells of each object of a transaction, and then, with NFT_MSG_NEWGEN, of the transaction
//! itself and who made it. So what belongs to whom is known only at the end.

use std::os::fd::{AsFd, BorrowedFd};

use super::netlink::Netlink;
use crate::error::{Error, Malformed};
use crate::model::TableName;
use crate::wire::reply::find;

/// `linux/netfilter/nf_tables.h`: message types and attributes. The first attribute of every object is
/// its table's name.
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_DELCHAIN: u16 = 5;
const NFT_MSG_DELRULE: u16 = 8;
const NFT_MSG_DELSET: u16 = 11;
const NFT_MSG_DELSETELEM: u16 = 14;
const NFT_MSG_NEWGEN: u16 = 15;
const TABLE_NAME: u16 = 1;
const NFTA_GEN_PROC_NAME: u16 = 3;

/// A listener for removals from the tables of a name, in the network namespace it was made in.
///
/// ```no_run
/// use hostport_nft::{Heard, Removals, TableName};
///
/// let mut removals = Removals::listen(TableName::default(), &["hostport".to_owned()])?;
/// if let Heard::Removed { by } = removals.hear()? {
///     println!("{by} removed something of ours");
/// }
/// # Ok::<(), hostport_nft::Error>(())
/// ```
#[derive(Debug)]
pub struct Removals {
    socket: Netlink,
    table: TableName,
    /// The names that the kernel has for our own programs.
    own: Vec<String>,
    /// Something of ours was removed in the transaction that is being told of.
    pending: bool,
}

/// What a listener heard.
///
/// ```no_run
/// # use hostport_nft::{Heard, Removals, TableName};
/// # let mut removals = Removals::listen(TableName::default(), &[])?;
/// match removals.hear()? {
///     Heard::Nothing => {}
///     Heard::Removed { by } => println!("{by} removed something of ours"),
///     Heard::Lost => println!("something was missed: look at the tables"),
/// }
/// # Ok::<(), hostport_nft::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
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

impl Removals {
    /// Listens from now on. Transactions made by programs of the names `own` do not count.
    ///
    /// ```no_run
    /// # use hostport_nft::{Removals, TableName};
    /// let removals = Removals::listen(TableName::default(), &["hostport".to_owned()])?;
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn listen(table: TableName, own: &[String]) -> Result<Self, Error> {
        Ok(Removals { socket: Netlink::listen()?, table, own: own.to_vec(), pending: false })
    }

    /// Reads what has been told; waits if nothing has.
    ///
    /// ```no_run
    /// # use hostport_nft::{Removals, TableName};
    /// let mut removals = Removals::listen(TableName::default(), &[])?;
    /// println!("{:?}", removals.hear()?);
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Transport`], also where nothing came for 10 seconds (EAGAIN), or [`Error::Malformed`].
    pub fn hear(&mut self) -> Result<Heard, Error> {
        let Removals { socket, table, own, pending } = self;
        let mut culprit = None;
        let complete = socket.hear(|kind, attributes| {
            if let Some(by) = note(kind, attributes, table, pending)?
                && !own.contains(&by)
            {
                culprit = Some(by);
            }
            Ok(())
        })?;
        if !complete {
            *pending = false;
            return Ok(Heard::Lost);
        }
        Ok(culprit.map_or(Heard::Nothing, |by| Heard::Removed { by }))
    }
}

impl AsFd for Removals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Takes note of one notification. The name of a program that removed something of ours, at the end of
/// its transaction.
pub(crate) fn note(
    kind: u16,
    attributes: &[u8],
    table: &TableName,
    pending: &mut bool,
) -> Result<Option<String>, Malformed> {
    if kind >> 8 != NFNL_SUBSYS_NFTABLES {
        return Ok(None);
    }
    match kind & 0xff {
        NFT_MSG_DELTABLE | NFT_MSG_DELCHAIN | NFT_MSG_DELRULE | NFT_MSG_DELSET
        | NFT_MSG_DELSETELEM => {
            let name = find(attributes, TABLE_NAME)?;
            *pending |= name.is_some_and(|name| text(name.value()) == table.as_str());
            Ok(None)
        }
        NFT_MSG_NEWGEN => {
            let ours = std::mem::take(pending);
            let by = find(attributes, NFTA_GEN_PROC_NAME)?;
            let by = by.map_or(String::new(), |by| text(by.value()).to_owned());
            Ok(ours.then_some(by))
        }
        _ => Ok(None),
    }
}

/// A string attribute without its NUL; empty if it is no text.
fn text(value: &[u8]) -> &str {
    std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::{DefaultNla, Emitable};
    use proptest::prelude::*;

    fn attribute(kind: u16, text: &str) -> Vec<u8> {
        let nla = DefaultNla::new(kind, [text.as_bytes(), &[0]].concat());
        let mut bytes = vec![0; nla.buffer_len()];
        nla.emit(&mut bytes);
        bytes
    }

    fn kind(message: u16) -> u16 {
        NFNL_SUBSYS_NFTABLES << 8 | message
    }

    #[test]
    fn a_removal_is_told_at_the_end_of_its_transaction_with_the_programs_name() {
        let table = TableName::default();
        let mut pending = false;
        let mut note = |message, attributes: &[u8]| {
            note(kind(message), attributes, &table, &mut pending).unwrap()
        };
        let end = attribute(NFTA_GEN_PROC_NAME, "nft");
        assert_eq!(note(NFT_MSG_DELTABLE, &attribute(TABLE_NAME, "other")), None);
        assert_eq!(note(NFT_MSG_NEWGEN, &end), None);
        assert_eq!(note(NFT_MSG_DELSETELEM, &attribute(TABLE_NAME, "hostport")), None);
        assert_eq!(note(NFT_MSG_NEWGEN, &end).as_deref(), Some("nft"));
        assert_eq!(note(NFT_MSG_NEWGEN, &end), None);
    }

    proptest! {
        #[test]
        fn any_notification_is_read_or_an_error(
            message: u16, bytes in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut pending = false;
            let _ = note(kind(message), &bytes, &TableName::default(), &mut pending);
        }
    }
}
