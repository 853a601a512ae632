//! Tables, chains, rules and sets: the messages that create and request them, and the answers.

use hostport_netlink::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, attribute};

use super::comment::{decode_comment, encode_comment};
use super::constants::*;
use super::expression::{self, push_counter};
use super::message::{Message, nftables, nftables_of_family, push_number};
use super::object::{ObjectId, required};
use crate::error::Malformed;
use crate::model::{Family, Handle, NfFamily, TableName};
use crate::ruleset::rule::Rule;
use crate::ruleset::set::{DataType, Set, SetRef};
use crate::ruleset::table::{Chain, Table};

impl Table {
    /// The messages that create the table. Send all of them, in this order.
    ///
    /// The first one fails with EEXIST where the table exists.
    ///
    /// ```
    /// # use hostport_nft::{Family, Settings, Table};
    /// let table = Table::new(Family::Ip, &Settings::default());
    /// // One for the table, eight for its sets, five for its chains, and one for each rule.
    /// assert_eq!(table.messages().len(), 1 + 8 + 5 + 13);
    /// ```
    pub fn messages(&self) -> Vec<Message> {
        let mut messages = vec![Message::new_table(self)];
        messages.extend(self.sets.iter().map(|set| Message::new_set(self, set)));
        messages.extend(self.chains.iter().map(|chain| Message::new_chain(self, chain)));
        for chain in &self.chains {
            messages.extend(chain.rules.iter().map(|rule| Message::new_rule(self, chain, rule)));
        }
        for set in &self.sets {
            let name = SetRef { family: self.family, table: &self.name, name: set.name };
            messages.extend(Message::new_elements(name, 0, &set.contents.elements()));
        }
        messages
    }
}

impl Message {
    pub(crate) fn new_table(table: &Table) -> Self {
        // Exclusive: two hooks at once must not both append rules to one table.
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let request = nftables(NFT_MSG_NEWTABLE, flags, table.family, &table.name);
        Message(request.bytes(NFTA_TABLE_USERDATA, &encode_comment(&table.comment)))
    }

    pub(crate) fn delete_table(family: Family, table: &TableName) -> Self {
        Message(nftables(NFT_MSG_DELTABLE, 0, family, table))
    }

    /// Deletes a table of any program.
    pub(crate) fn delete_any_table(family: NfFamily, table: &str) -> Self {
        let request = nftables_of_family(NFT_MSG_DELTABLE, 0, family);
        Message(request.text(NFTA_TABLE_NAME, table))
    }

    /// Deletes an empty chain to which no rule leads.
    pub(crate) fn delete_chain(chain: &ObjectId) -> Self {
        let request = nftables_of_family(NFT_MSG_DELCHAIN, 0, chain.family);
        Message(request.text(NFTA_CHAIN_TABLE, &chain.table).text(NFTA_CHAIN_NAME, &chain.name))
    }

    /// Deletes a rule of a chain, or without a handle all of them.
    pub(crate) fn delete_rules(chain: &ObjectId, handle: Option<Handle>) -> Self {
        let request = nftables_of_family(NFT_MSG_DELRULE, 0, chain.family)
            .text(NFTA_RULE_TABLE, &chain.table)
            .text(NFTA_RULE_CHAIN, &chain.name);
        Message(match handle {
            Some(Handle(handle)) => request.bytes(NFTA_RULE_HANDLE, &handle.to_be_bytes()),
            None => request,
        })
    }

    pub(crate) fn get_table(family: Family, table: &TableName) -> Self {
        Message(nftables(NFT_MSG_GETTABLE, 0, family, table))
    }

    pub(crate) fn get_chain(family: Family, table: &TableName, chain: &str) -> Self {
        Message(nftables(NFT_MSG_GETCHAIN, 0, family, table).text(NFTA_CHAIN_NAME, chain))
    }

    pub(crate) fn new_set(table: &Table, set: &Set) -> Self {
        let number = |value: u32| value.to_be_bytes();
        let flag = |is, flag| if is { flag } else { 0 };
        let joined_interval = set.interval && set.key.len() > 1;
        let flags = flag(set.interval, NFT_SET_INTERVAL)
            | flag(joined_interval, NFT_SET_CONCAT)
            | flag(!set.data.is_empty(), NFT_SET_MAP);
        let mut request = nftables(NFT_MSG_NEWSET, NLM_F_CREATE, table.family, &table.name)
            .text(NFTA_SET_NAME, set.name.as_str())
            .bytes(NFTA_SET_FLAGS, &number(flags))
            .bytes(NFTA_SET_KEY_TYPE, &number(DataType::joined(&set.key)))
            .bytes(NFTA_SET_KEY_LEN, &number(DataType::joined_length(&set.key)));
        if !set.data.is_empty() {
            request = request
                .bytes(NFTA_SET_DATA_TYPE, &number(DataType::joined(&set.data)))
                .bytes(NFTA_SET_DATA_LEN, &number(DataType::joined_length(&set.data)));
        }
        // It distinguishes the sets of one transaction.
        request = request.bytes(NFTA_SET_ID, &number(set.name as u32 + 1));
        if joined_interval {
            // The fields' lengths, without their padding: nft_pipapo compares each on its own.
            request = request.nest(NFTA_SET_DESC, |description| {
                attribute::nest(description, NFTA_SET_DESC_CONCAT, |fields| {
                    for field in &set.key {
                        attribute::nest(fields, NFTA_LIST_ELEM, |one| {
                            push_number(one, NFTA_SET_FIELD_LEN, field.bare_length());
                        });
                    }
                });
            });
        }
        if set.counter {
            request = request.nest(NFTA_SET_EXPR, |bytes| push_counter(bytes, None));
        }
        Message(request)
    }

    pub(crate) fn new_chain(table: &Table, chain: &Chain) -> Self {
        let mut request = nftables(NFT_MSG_NEWCHAIN, NLM_F_CREATE, table.family, &table.name)
            .text(NFTA_CHAIN_NAME, chain.name);
        if let Some(base) = &chain.base {
            request = request
                .text(NFTA_CHAIN_TYPE, base.kind)
                .bytes(NFTA_CHAIN_POLICY, &NF_ACCEPT.to_be_bytes())
                .nest(NFTA_CHAIN_HOOK, |bytes| {
                    push_number(bytes, NFTA_HOOK_HOOKNUM, base.hook as u32);
                    push_number(bytes, NFTA_HOOK_PRIORITY, base.priority as u32);
                });
        }
        Message(request)
    }

    pub(crate) fn new_rule(table: &Table, chain: &Chain, rule: &Rule) -> Self {
        let flags = NLM_F_CREATE | NLM_F_APPEND;
        let request = nftables(NFT_MSG_NEWRULE, flags, table.family, &table.name)
            .text(NFTA_RULE_CHAIN, chain.name);
        Message(request.nest(NFTA_RULE_EXPRESSIONS, |list| expression::push_rule(list, rule)))
    }

    /// The list of a family's objects of one kind (NFT_MSG_GET*), of all programs. With a table's name, the kernel
    /// leaves out the rules and sets of others (struct nft_rule_dump_ctx).
    pub(crate) fn dump(kind: u16, family: NfFamily, only: Option<&TableName>) -> Self {
        let request = nftables_of_family(kind, NLM_F_DUMP, family);
        Message(match only {
            Some(table) => request.text(NFTA_TABLE_NAME, table.as_str()),
            None => request,
        })
    }
}

/// What the kernel reports about a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFacts {
    /// Its comment; empty if it has none.
    pub comment: String,
    /// NFTA_TABLE_FLAGS.
    pub flags: u32,
    /// How many chains and sets it has (NFTA_TABLE_USE).
    pub uses: u32,
    /// For each chain that was asked for, how many rules it has, plus the rules of other chains that go to it
    /// (NFTA_CHAIN_USE); none for a chain that does not exist.
    pub chains: Vec<Option<u32>>,
}

/// A table, without its chains.
pub(crate) fn facts(attributes: &[u8]) -> Result<TableFacts, Malformed> {
    let comment = attribute::find(attributes, NFTA_TABLE_USERDATA)?.and_then(decode_comment);
    Ok(TableFacts {
        comment: comment.unwrap_or_default(),
        flags: required(attributes, NFTA_TABLE_FLAGS)?,
        uses: required(attributes, NFTA_TABLE_USE)?,
        chains: Vec::new(),
    })
}
