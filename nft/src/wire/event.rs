//! Notifications of nf_tables: what a transaction removed, and which program made it.

use hostport_netlink::{Object, attribute};

use super::constants::*;
use super::message::NFGENMSG_LENGTH;
use crate::error::Malformed;

/// A notification, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notification {
    /// Something was removed from a table of this name, or the table itself.
    Removed(String),
    /// The end of a transaction, with the name of the program that made it.
    Committed(String),
    /// Anything else.
    Other,
}

impl Notification {
    pub(crate) fn decode(object: Object<'_>) -> Result<Self, Malformed> {
        let (_, attributes) = object.split::<NFGENMSG_LENGTH>()?;
        if object.kind >> 8 != NFNL_SUBSYS_NFTABLES {
            return Ok(Notification::Other);
        }
        let text =
            |kind| Ok(attribute::find(attributes, kind)?.map(attribute::text).unwrap_or_default());
        Ok(match object.kind & 0xff {
            // The first attribute of every object is its table's name.
            NFT_MSG_DELTABLE | NFT_MSG_DELCHAIN | NFT_MSG_DELRULE | NFT_MSG_DELSET
            | NFT_MSG_DELSETELEM => Notification::Removed(text(NFTA_TABLE_NAME)?),
            NFT_MSG_NEWGEN => Notification::Committed(text(NFTA_GEN_PROC_NAME)?),
            _ => Notification::Other,
        })
    }
}
