//! Tables, chains, rules and sets: the messages that make and ask for them, and what is read of the answers.

use netlink_packet_core::{DefaultNla, NLA_F_NESTED, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Hook as HookAttribute, HookNumber, NfTablesMessage,
    RuleAttribute, RuleMessage, SetAttribute, SetFlags, SetMessage, TableAttribute, TableMessage,
};

use super::element::{decode_comment, encode_comment};
use super::expression::{self, counter_value};
use super::message::Message;
use super::reply::{find, number};
use crate::error::Malformed;
use crate::model::{Family, TableName};
use crate::ruleset::rule::Rule;
use crate::ruleset::set::{DataType, Set};
use crate::ruleset::table::{Chain, Hook, Table};

/// The expression that each new element of a set gets.
const NFTA_SET_EXPR: u16 = 17;
/// NF_ACCEPT of `linux/netfilter.h`.
const NF_ACCEPT: u32 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const NFTA_TABLE_USE: u16 = 3;
const NFTA_CHAIN_USE: u16 = 6;
const NFTA_TABLE_USERDATA: u16 = 6;
const NFTA_GEN_ID: u16 = 1;

impl Table {
    /// The messages that create the table, in order; none of them may be left out.
    ///
    /// The first one fails with EEXIST where the table exists.
    ///
    /// ```
    /// # use hostport_nft::{Family, Settings, Table};
    /// let table = Table::new(Family::Ip, &Settings::default());
    /// // One for the table, four for its sets, five for its chains, and one for each rule.
    /// assert_eq!(table.messages().len(), 1 + 4 + 5 + 9);
    /// ```
    pub fn messages(&self) -> Vec<Message> {
        let mut messages = vec![Message::new_table(self)];
        for (index, set) in self.sets.iter().enumerate() {
            messages.push(Message::new_set(self, set, index as u32 + 1));
        }
        messages.extend(self.chains.iter().map(|chain| Message::new_chain(self, chain)));
        for chain in &self.chains {
            messages.extend(chain.rules.iter().map(|rule| Message::new_rule(self, chain, rule)));
        }
        for set in &self.sets {
            let elements = set.contents.elements();
            messages.extend(Message::new_elements(self.family, &self.name, set.name, elements));
        }
        messages
    }
}

impl Message {
    pub(crate) fn new_table(table: &Table) -> Self {
        let attributes = vec![
            TableAttribute::Name(table.name.to_string()),
            TableAttribute::UserData(encode_comment(&table.comment)),
        ];
        // Exclusive: two hooks at once must not both append rules to one table.
        Message::nftables(
            table.family,
            NLM_F_CREATE | NLM_F_EXCL,
            NfTablesMessage::NewTable(TableMessage { attributes }),
        )
    }

    pub(crate) fn delete_table(family: Family, table: &TableName) -> Self {
        let attributes = vec![TableAttribute::Name(table.to_string())];
        let body = NfTablesMessage::DeleteTable(TableMessage { attributes });
        Message::nftables(family, 0, body)
    }

    pub(crate) fn get_table(family: Family, table: &TableName) -> Self {
        let attributes = vec![TableAttribute::Name(table.to_string())];
        Message::nftables(family, 0, NfTablesMessage::GetTable(TableMessage { attributes }))
    }

    pub(crate) fn get_chain(family: Family, table: &TableName, chain: &str) -> Self {
        let attributes =
            vec![ChainAttribute::Table(table.to_string()), ChainAttribute::Name(chain.to_owned())];
        Message::nftables(family, 0, NfTablesMessage::GetChain(ChainMessage { attributes }))
    }

    /// `id` tells the sets of one transaction apart.
    pub(crate) fn new_set(table: &Table, set: &Set, id: u32) -> Self {
        let mut flags = SetFlags::empty();
        flags.set(SetFlags::Interval, set.interval);
        flags.set(SetFlags::Map, !set.data.is_empty());
        let mut attributes = vec![
            SetAttribute::Table(table.name.to_string()),
            SetAttribute::Name(set.name.to_string()),
            SetAttribute::Flags(flags),
            SetAttribute::KeyType(DataType::joined(&set.key)),
            SetAttribute::KeyLen(DataType::joined_length(&set.key)),
        ];
        if !set.data.is_empty() {
            attributes.push(SetAttribute::DataType(DataType::joined(&set.data)));
            attributes.push(SetAttribute::DataLen(DataType::joined_length(&set.data)));
        }
        attributes.push(SetAttribute::Id(id));
        if set.counter {
            let kind = NFTA_SET_EXPR | NLA_F_NESTED;
            attributes.push(SetAttribute::Other(DefaultNla::new(kind, counter_value(None))));
        }
        Message::nftables(
            table.family,
            NLM_F_CREATE,
            NfTablesMessage::NewSet(SetMessage { attributes }),
        )
    }

    pub(crate) fn new_chain(table: &Table, chain: &Chain) -> Self {
        let mut attributes = vec![
            ChainAttribute::Table(table.name.to_string()),
            ChainAttribute::Name(chain.name.to_owned()),
        ];
        if let Some(base) = &chain.base {
            attributes.push(ChainAttribute::Type(base.kind.to_owned()));
            attributes.push(ChainAttribute::Policy(NF_ACCEPT));
            attributes.push(ChainAttribute::Hook(vec![
                HookAttribute::Number(HookNumber::Other(hook_number(base.hook))),
                HookAttribute::Priority(base.priority as u32),
            ]));
        }
        Message::nftables(
            table.family,
            NLM_F_CREATE,
            NfTablesMessage::NewChain(ChainMessage { attributes }),
        )
    }

    pub(crate) fn new_rule(table: &Table, chain: &Chain, rule: &Rule) -> Self {
        let attributes = vec![
            RuleAttribute::Table(table.name.to_string()),
            RuleAttribute::Chain(chain.name.to_owned()),
            RuleAttribute::Expressions(expression::of_rule(rule)),
        ];
        Message::nftables(
            table.family,
            NLM_F_CREATE | NLM_F_APPEND,
            NfTablesMessage::NewRule(RuleMessage { attributes }),
        )
    }

    /// The lists of a family's objects, whoever's. The family is an NFPROTO_* of `linux/netfilter.h`.
    pub(crate) fn dump_tables(family: u8) -> Self {
        Message::dump(family, NfTablesMessage::GetTable(TableMessage { attributes: vec![] }))
    }

    pub(crate) fn dump_chains(family: u8) -> Self {
        Message::dump(family, NfTablesMessage::GetChain(ChainMessage { attributes: vec![] }))
    }

    /// Those of one table, if it is named; the kernel leaves the others out (struct nft_rule_dump_ctx).
    pub(crate) fn dump_rules(family: u8, table: Option<&TableName>) -> Self {
        let attributes = table.map(|table| RuleAttribute::Table(table.to_string()));
        let attributes = attributes.into_iter().collect();
        Message::dump(family, NfTablesMessage::GetRule(RuleMessage { attributes }))
    }

    /// As [`Message::dump_rules`].
    pub(crate) fn dump_sets(family: u8, table: Option<&TableName>) -> Self {
        let attributes = table.map(|table| SetAttribute::Table(table.to_string()));
        let attributes = attributes.into_iter().collect();
        Message::dump(family, NfTablesMessage::GetSet(SetMessage { attributes }))
    }
}

pub(crate) fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    }
}

/// What a table tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFacts {
    /// Its comment; empty if it has none.
    pub comment: String,
    /// NFTA_TABLE_FLAGS.
    pub flags: u32,
    /// How many chains and sets it has (NFTA_TABLE_USE).
    pub uses: u32,
    /// For each chain that was asked for, how many rules it has, and others that go to it (NFTA_CHAIN_USE);
    /// none for a chain that does not exist.
    pub chains: Vec<Option<u32>>,
}

/// A table, without its chains.
pub(crate) fn facts(attributes: &[u8]) -> Result<TableFacts, Malformed> {
    let comment = find(attributes, NFTA_TABLE_USERDATA)?.and_then(|a| decode_comment(a.value()));
    Ok(TableFacts {
        comment: comment.unwrap_or_default(),
        flags: number(attributes, NFTA_TABLE_FLAGS)?,
        uses: number(attributes, NFTA_TABLE_USE)?,
        chains: Vec::new(),
    })
}

/// How many rules a chain has, and others that go to it, together.
pub(crate) fn chain_uses(attributes: &[u8]) -> Result<u32, Malformed> {
    number(attributes, NFTA_CHAIN_USE)
}

/// The ruleset's generation.
pub(crate) fn generation(attributes: &[u8]) -> Result<u32, Malformed> {
    number(attributes, NFTA_GEN_ID)
}
