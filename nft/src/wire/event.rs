//! Notifications of nf_tables: what a transaction removed, and which program made it.
//!
//! The kernel reports each object of a transaction, and then, with NFT_MSG_NEWGEN, the transaction
//! itself with the program that made it. So the program is known only at the end.

use hostport_netlink::{Object, attribute};

use super::constants::*;
use super::message::NFGENMSG_LENGTH;
use crate::error::Malformed;
use crate::model::TableName;

/// What the notifications mean, one after the other.
#[derive(Debug)]
pub(crate) struct Transactions {
    table: TableName,
    /// The names that the kernel has for our own programs.
    own: Vec<String>,
    /// Something of ours was removed in the transaction that is being reported.
    pub(crate) pending: bool,
}

impl Transactions {
    pub(crate) fn new(table: TableName, own: &[String]) -> Self {
        Transactions { table, own: own.to_vec(), pending: false }
    }

    /// Takes note of one notification. Returns the name of another program that removed something of ours, at
    /// the end of its transaction.
    pub(crate) fn note(&mut self, object: Object<'_>) -> Result<Option<String>, Malformed> {
        let (_, attributes) = object.split::<NFGENMSG_LENGTH>()?;
        if object.kind >> 8 != NFNL_SUBSYS_NFTABLES {
            return Ok(None);
        }
        let text =
            |kind| Ok(attribute::find(attributes, kind)?.map(attribute::text).unwrap_or_default());
        match object.kind & 0xff {
            // The first attribute of every object is its table's name.
            NFT_MSG_DELTABLE | NFT_MSG_DELCHAIN | NFT_MSG_DELRULE | NFT_MSG_DELSET
            | NFT_MSG_DELSETELEM => {
                self.pending |= text(NFTA_TABLE_NAME)? == self.table.as_str();
                Ok(None)
            }
            NFT_MSG_NEWGEN => {
                let by = text(NFTA_GEN_PROC_NAME)?;
                let ours = std::mem::take(&mut self.pending);
                Ok(Some(by).filter(|by| ours && !self.own.contains(by)))
            }
            _ => Ok(None),
        }
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
