//! Asks the kernel whether it supports our ruleset, and changes nothing.

use rustix::io::Errno;

use super::host_ports::HostPorts;
use crate::error::{Error, Unsupported};
use crate::kernel::{Kernel, TableFacts, TableQuery};
use crate::model::{Family, Settings, TableName};
use crate::ruleset::rule::{Field, Rule, Statement};
use crate::ruleset::table::Table;
use crate::wire::constants::NFT_TABLE_F_OWNER;
use crate::wire::message::Message;

impl<K: Kernel> HostPorts<K> {
    /// The first part of each family's ruleset that the kernel does not take; empty if it takes all.
    ///
    /// ```no_run
    /// # use hostport_nft::{HostPorts, Settings};
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// assert!(host_ports.check()?.is_empty(), "this kernel takes the whole ruleset");
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotPermitted`], [`Error::NoNfTables`], [`Error::Transport`].
    pub fn check(&mut self) -> Result<Vec<Unsupported>, Error> {
        // No table of this name exists, and none is created.
        let name: Result<TableName, _> = format!("hostport-probe-{}", std::process::id()).parse();
        let settings = Settings { table: name.unwrap_or_default(), ..self.settings.clone() };
        let mut unsupported = Vec::new();
        for family in Family::ALL {
            unsupported.extend(self.check_table(&Table::new(family, &settings))?);
        }
        Ok(unsupported)
    }

    /// Adds to an error which module is missing, if that is the reason (ENOENT), or that the table belongs to
    /// another program (EPERM).
    pub(crate) fn explain(&mut self, error: Error) -> Error {
        if matches!(error, Error::NotPermitted) {
            let owned = Family::ALL.into_iter().find(|family| self.is_owned(*family));
            let table = self.settings.table.clone();
            return owned.map_or(error, |family| Error::OwnedTable { family, table });
        }
        if !matches!(error, Error::Refused { error: Errno::NOENT, .. }) {
            return error;
        }
        let found = self.check().unwrap_or_default();
        let unsupported = found.into_iter().find(|one| one.error == Errno::NOENT);
        unsupported.map_or(error, |one| Error::Unsupported(Box::new(one)))
    }

    fn is_owned(&mut self, family: Family) -> bool {
        let query = TableQuery { family, table: &self.settings.table, chains: Vec::new() };
        let owned = |facts: &TableFacts| facts.flags & NFT_TABLE_F_OWNER != 0;
        self.kernel.tables(&[query]).is_ok_and(|tables| tables.iter().flatten().any(owned))
    }

    fn check_table(&mut self, table: &Table) -> Result<Option<Unsupported>, Error> {
        let parts = parts(table);
        let messages: Vec<Message> = parts.iter().map(|part| part.message.clone()).collect();
        let Some((place, error)) = self.kernel.first_refused(&messages)? else { return Ok(None) };
        Ok(parts.into_iter().nth(place).map(|part| {
            let unknown = matches!(error, Errno::NOENT | Errno::OPNOTSUPP | Errno::AFNOSUPPORT);
            let modules = unknown.then_some(part.module).into_iter().collect();
            Unsupported { family: table.family, part: part.name, error, modules }
        }))
    }
}

struct Part {
    name: String,
    module: &'static str,
    message: Message,
}

/// The messages of a table without elements, each with what it makes and the module that it needs.
fn parts(table: &Table) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut part = |name, module, message| parts.push(Part { name, module, message });
    part("a table".to_owned(), "nf_tables", Message::new_table(table));
    for set in &table.sets {
        // A module of its own on Linux 5.10, and part of nf_tables on 6.1.
        let module = if set.counter { "nft_counter" } else { "nf_tables" };
        part(format!("the set {}", set.name), module, Message::new_set(table, set));
    }
    for chain in &table.chains {
        let is_nat = chain.base.is_some_and(|base| base.kind == "nat");
        let module = if is_nat { "nft_chain_nat" } else { "nf_tables" };
        part(format!("the chain {}", chain.name), module, Message::new_chain(table, chain));
    }
    for chain in &table.chains {
        for rule in &chain.rules {
            let name = format!("the rule `{rule}` of the chain {}", chain.name);
            // Each statement alone first: the one that fails shows which module is missing.
            for statement in &rule.0 {
                if let Some(module) = module(statement, table.family) {
                    let alone = Rule(vec![statement.clone()]);
                    part(name.clone(), module, Message::new_rule(table, chain, &alone));
                }
            }
            part(name, "nf_tables", Message::new_rule(table, chain, rule));
        }
    }
    parts
}

/// The module that has a statement's expression, where it is not part of nf_tables itself.
fn module(statement: &Statement, family: Family) -> Option<&'static str> {
    match (statement, family) {
        (Statement::LocalDestination, Family::Ip) => Some("nft_fib_ipv4"),
        (Statement::LocalDestination, Family::Ip6) => Some("nft_fib_ipv6"),
        (Statement::OnlyDestinationTranslated, _) => Some("nft_ct"),
        (Statement::Lookup { fields, .. } | Statement::NoLookup { fields, .. }, _) => {
            fields.contains(&Field::CtProtocol).then_some("nft_ct")
        }
        (Statement::Dnat { .. }, _) => Some("nft_nat"),
        (Statement::Masquerade, _) => Some("nft_masq"),
        (Statement::Counter, _) => Some("nft_counter"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_of_a_table_is_a_part_with_a_name_and_the_module_that_it_needs() {
        let table = Table::new(Family::Ip, &Settings::default());
        let parts = parts(&table);
        for message in table.messages() {
            assert!(parts.iter().any(|part| part.message == message), "{message:?}");
        }
        let of = |name: &str| parts.iter().find(|part| part.name == name).unwrap().module;
        assert_eq!(of("the chain guard"), "nf_tables");
        assert_eq!(of("the chain output"), "nft_chain_nat");
        assert_eq!(
            of("the rule `fib daddr type local goto publish` of the chain output"),
            "nft_fib_ipv4"
        );
        let by_conntrack = parts.iter().find(|part| part.name.contains("ct protocol")).unwrap();
        assert_eq!(by_conntrack.module, "nft_ct");
    }
}
