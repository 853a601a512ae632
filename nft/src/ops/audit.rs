//! Our own tables, compared with what they should be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use super::conditions::conditions_of;
use super::host_ports::{HostPorts, none_if_refused};
use crate::error::Error;
use crate::kernel::walk::PATIENCE;
use crate::kernel::{Kernel, SetName, TableQuery};
use crate::model::{Conditions, Family, Gather, LinkName, Published, Settings};
use crate::ruleset::element::{Hairpin, SameLink, take_address};
use crate::ruleset::table::{Chain, Elements, Table};
use crate::wire::message::Message;
use crate::wire::object::{
    ExpressionObject, NfFamily, ObjectId, RuleObject, SetObject, TableObject, attributes,
    expressions, field,
};
use crate::wire::snapshot::Snapshot;

/// A family's table, as it was found.
///
/// ```no_run
/// # use hostport_nft::{Family, HostPorts, Settings, Snapshot, TableOwner};
/// let mut host_ports = HostPorts::open(Settings::default())?;
/// let audit = host_ports.audit(&Snapshot::read()?, Family::Ip)?;
/// for difference in &audit.differences {
///     println!("{difference}");
/// }
/// # Ok::<(), hostport_nft::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audit {
    /// Whether there is one, and which program made it.
    pub state: TableOwner,
    /// How it differs from what it should be: each a clause such as `the chain guard is missing`.
    pub differences: Vec<String>,
    /// What is published.
    pub ports: Vec<Published>,
    /// How many elements of the map are no mappings.
    pub strangers: usize,
    /// What holds of the host ports besides, without the links.
    pub conditions: Conditions,
    /// The pods that can reach themselves.
    pub hairpins: BTreeSet<IpAddr>,
    /// The links on which pods can reach each other although replies would bypass the host.
    pub links: BTreeSet<LinkName>,
}

/// Whether there is a table, and which program made it.
///
/// ```no_run
/// # use hostport_nft::{Family, HostPorts, Settings, Snapshot, TableOwner};
/// let mut host_ports = HostPorts::open(Settings::default())?;
/// match host_ports.audit(&Snapshot::read()?, Family::Ip)?.state {
///     TableOwner::Missing => println!("nothing was ever published, or the ruleset was flushed"),
///     TableOwner::Foreign => println!("another program has a table of this name"),
///     TableOwner::Ours => println!("it is hostport's"),
/// }
/// # Ok::<(), hostport_nft::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TableOwner {
    /// There is none.
    #[default]
    Missing,
    /// There is one that hostport did not make.
    Foreign,
    /// It is ours.
    Ours,
}

/// What a set of prefixes holds.
#[derive(Debug, PartialEq, Eq)]
enum Prefixes {
    /// These, the fewest that there can be.
    Fewest(Vec<IpNet>),
    /// Elements that hostport did not add.
    Foreign,
}

impl Prefixes {
    fn text(&self) -> String {
        match self {
            Prefixes::Foreign => "elements that expire, or stand for all other keys".to_owned(),
            Prefixes::Fewest(prefixes) if prefixes.is_empty() => "nothing".to_owned(),
            Prefixes::Fewest(prefixes) => {
                prefixes.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", ")
            }
        }
    }
}

/// The comment of the table that a purge of the package leaves: its guard is needed as long as links are open to
/// 127.0.0.0/8, and the next publication replaces it.
const GUARD_ALONE: &str = "hostport schema 0 guard alone";

impl<K: Kernel> HostPorts<K> {
    /// Compares a family's table with what it should be under this object's settings. Changes nothing.
    ///
    /// ```no_run
    /// # use hostport_nft::{Family, HostPorts, Settings, Snapshot, TableOwner};
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// let snapshot = Snapshot::read()?;
    /// for family in Family::ALL {
    ///     let audit = host_ports.audit(&snapshot, family)?;
    ///     println!("{family}: {} host ports, {} differences", audit.ports.len(), audit.differences.len());
    /// }
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotPermitted`], [`Error::Transport`], [`Error::Contention`].
    pub fn audit(&mut self, snapshot: &Snapshot, family: Family) -> Result<Audit, Error> {
        let Some(found) = snapshot.table(family, &self.settings.table) else {
            return Ok(Audit::default());
        };
        if !found.comment.starts_with("hostport schema ") {
            return Ok(Audit { state: TableOwner::Foreign, ..Audit::default() });
        }
        if found.comment == GUARD_ALONE {
            return Ok(Audit { state: TableOwner::Ours, ..Audit::default() });
        }
        let mut differences = self.differences(family, found, snapshot)?;
        let present = self.present(family, &SetName::CHANGING, PATIENCE)?;
        let elements = |set| present.get(&set).into_iter().flatten();
        let mapping = |element| Published::from_element(family, element);
        let ports: Vec<Published> = elements(SetName::Ports).filter_map(mapping).collect();
        let pod = |element| Some(Hairpin::from_element(family, element)?.pod);
        let links = elements(SetName::SameLink).filter_map(SameLink::from_element);
        let foreign = elements(SetName::Ports).filter(|element| element.foreign).count();
        if foreign > 0 {
            differences.push(format!(
                "the map {} has elements ({foreign}) that expire, or stand for all other keys",
                SetName::Ports
            ));
        }
        Ok(Audit {
            state: TableOwner::Ours,
            differences,
            strangers: elements(SetName::Ports).count() - ports.len(),
            ports,
            conditions: conditions_of(family, &present),
            hairpins: elements(SetName::Hairpin).filter_map(pod).gather(),
            links: links.map(|SameLink(name)| name).gather(),
        })
    }

    /// How a table of ours differs from what it should be under this object's settings, except for the elements
    /// that come and go.
    pub(crate) fn differences(
        &mut self,
        family: Family,
        found: &TableObject,
        snapshot: &Snapshot,
    ) -> Result<Vec<String>, Error> {
        let expected = self.table(family, Elements::default());
        let mut differences = compare(&expected, found, snapshot);
        let listened = self.settings.listened(family);
        let sets = [
            (SetName::Excluded, Some(self.settings.excluded(family))),
            (SetName::Listen, listened),
        ];
        for (set, should) in sets {
            let Some(should) = should.map(Prefixes::Fewest) else { continue };
            if let Some(is) = self.prefixes(family, set)?.filter(|is| *is != should) {
                let (is, should) = (is.text(), should.text());
                differences.push(format!("the set {set} holds {is}, not {should}"));
            }
        }
        Ok(differences)
    }

    /// The settings that the tables in the kernel were made with, by their sets `excluded` and
    /// `listen` and their comments; this object's own settings if there is no table. Changes nothing.
    ///
    /// ```no_run
    /// # use hostport_nft::{HostPorts, Settings};
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// let settings = host_ports.present_settings()?;
    /// println!("excluded: {:?}", settings.exclude);
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`HostPorts::audit`].
    pub fn present_settings(&mut self) -> Result<Settings, Error> {
        let table = self.settings.table.clone();
        let query = |family| TableQuery { family, table: &table, chains: Vec::new() };
        let mut found = self.kernel.tables(&Family::ALL.map(query))?;
        if found.iter().all(Option::is_none) {
            return Ok(self.settings.clone());
        }
        let [mut exclude, mut listen] = [Vec::new(), Vec::new()];
        let sets = [(SetName::Excluded, &mut exclude), (SetName::Listen, &mut listen)];
        for (set, found) in sets {
            for family in Family::ALL {
                if let Some(Prefixes::Fewest(prefixes)) = self.prefixes(family, set)? {
                    found.extend(prefixes);
                }
            }
        }
        found.truncate(1);
        let found = found.pop().flatten();
        let with = |localhost| Settings {
            table: table.clone(),
            exclude: exclude.clone(),
            localhost,
            listen: listen.clone(),
        };
        let silent = with(false);
        // Of whatever boot, and of whatever schema.
        let settings = |comment: &str| {
            comment.split(' ').skip_while(|w| *w != "settings").nth(1).map(str::to_owned)
        };
        let is_silent = found.is_some_and(|found| {
            let named = settings(&found.comment);
            named.is_some() && named == settings(&silent.comment(Family::Ip, None))
        });
        Ok(if is_silent { silent } else { with(true) })
    }

    /// What a set of prefixes holds; none if there is no such set.
    fn prefixes(&mut self, family: Family, set: SetName) -> Result<Option<Prefixes>, Error> {
        let mut edges = Vec::new();
        let found = self.elements_of(family, set, PATIENCE).or_else(none_if_refused)?;
        let Some(elements) = found else { return Ok(None) };
        if elements.iter().any(|element| element.foreign) {
            return Ok(Some(Prefixes::Foreign));
        }
        for element in &elements {
            let address = take_address(&mut element.key.as_slice(), family);
            edges.extend(address.map(|address| (address, !element.interval_end)));
        }
        edges.sort_unstable();
        Ok(Some(Prefixes::Fewest(prefixes(&edges))))
    }
}

/// The fewest prefixes between edges: at each an interval begins (true) or ends behind the last address.
fn prefixes(edges: &[(IpAddr, bool)]) -> Vec<IpNet> {
    let mut prefixes: Vec<IpNet> = Vec::new();
    for (at, (first, _)) in edges.iter().enumerate().filter(|(_, (_, begins))| *begins) {
        match (first, edges.get(at + 1).map(|(next, _)| next)) {
            (IpAddr::V4(first), next) => {
                let last = match next {
                    Some(IpAddr::V4(next)) => u32::from(*next).saturating_sub(1).into(),
                    _ => Ipv4Addr::BROADCAST,
                };
                prefixes.extend(Ipv4Subnets::new(*first, last.max(*first), 0).map(IpNet::V4));
            }
            (IpAddr::V6(first), next) => {
                let last = match next {
                    Some(IpAddr::V6(next)) => u128::from(*next).saturating_sub(1).into(),
                    _ => Ipv6Addr::from(u128::MAX),
                };
                prefixes.extend(Ipv6Subnets::new(*first, last.max(*first), 0).map(IpNet::V6));
            }
        }
    }
    IpNet::aggregate(&prefixes)
}

/// How a table differs from what it should be, elements aside.
fn compare(expected: &Table, found: &TableObject, snapshot: &Snapshot) -> Vec<String> {
    let (family, table) = (NfFamily::from(expected.family), expected.name.as_str());
    let id = |name: &str| ObjectId { family, table: table.to_owned(), name: name.to_owned() };
    let mut differences = Vec::new();
    if found.comment != expected.comment {
        differences.push(format!("its comment is {:?}, not {:?}", found.comment, expected.comment));
    }
    if found.dormant {
        differences.push("it is dormant".to_owned());
    }
    for set in &expected.sets {
        let name = set.name;
        let message = Message::new_set(expected, set);
        match snapshot.sets.get(&id(name.as_str())) {
            None => differences.push(format!("the set {name} is missing")),
            Some(present) if !same_set(message.attributes(), present) => {
                differences.push(format!("the set {name} is of another type"));
            }
            Some(_) => {}
        }
    }
    for chain in &expected.chains {
        match snapshot.chains.get(&id(chain.name)) {
            None => differences.push(format!("the chain {} is missing", chain.name)),
            Some(present) => {
                let should =
                    chain.base.map(|base| (base.kind, base.hook as u32, base.priority, false));
                let is =
                    present.base.as_ref().map(|b| (b.kind.as_str(), b.hook, b.priority, b.drops));
                if is != should {
                    differences.push(format!(
                        "the chain {} is called from elsewhere, or has another policy",
                        chain.name
                    ));
                }
                differences.extend(compare_rules(expected, chain, &present.rules));
            }
        }
    }
    let is_there = |id: &&ObjectId| id.family == family && id.table == table;
    for ObjectId { name, .. } in snapshot.sets.keys().filter(is_there) {
        // Anonymous sets belong to rules, which are compared by themselves.
        if !expected.sets.iter().any(|set| set.name.as_str() == name) && !name.starts_with("__") {
            differences.push(format!("the set {name} does not belong there"));
        }
    }
    for ObjectId { name, .. } in snapshot.chains.keys().filter(is_there) {
        if !expected.chains.iter().any(|chain| chain.name == name) {
            differences.push(format!("the chain {name} does not belong there"));
        }
    }
    differences
}

fn same_set(message: &[u8], present: &SetObject) -> bool {
    // NFT_SET_CONSTANT, _INTERVAL, _MAP, _TIMEOUT, _OBJECT. Others nft adds by itself.
    const FLAGS: u32 = 2 | 4 | 8 | 16 | 64;
    let of = |set: &SetObject| (set.flags & FLAGS, set.types, set.counter, set.limited);
    let expected = SetObject::decode(message).ok();
    expected.is_some_and(|expected| of(&expected) == of(present))
}

fn compare_rules(table: &Table, chain: &Chain, present: &[RuleObject]) -> Vec<String> {
    if chain.rules.len() != present.len() {
        let (name, should, is) = (chain.name, chain.rules.len(), present.len());
        return vec![format!("the chain {name} has {is} rules, not {should}")];
    }
    let mut differences = Vec::new();
    for (rule, present) in chain.rules.iter().zip(present) {
        let message = Message::new_rule(table, chain, rule);
        let expected = expressions(message.attributes()).unwrap_or_default();
        let same = expected.len() == present.expressions.len()
            && expected.iter().zip(&present.expressions).all(|(a, b)| same_expression(a, b));
        if !same {
            let (name, handle) = (chain.name, present.handle);
            differences
                .push(format!("the chain {name} has another rule (handle {handle}) than `{rule}`"));
        }
    }
    differences
}

/// Whether the kernel's expression does what the expected one says.
///
/// The kernel adds what was left out. That is zero, but for a counter's values, and for a translation's last
/// address and port (NFTA_NAT_REG_ADDR_MAX, NFTA_NAT_REG_PROTO_MAX), which are the first, and its flags
/// (NFTA_NAT_FLAGS: NF_NAT_RANGE_MAP_IPS and NF_NAT_RANGE_PROTO_SPECIFIED).
fn same_expression(expected: &ExpressionObject, present: &ExpressionObject) -> bool {
    if expected.name != present.name || !covers(&expected.data, &present.data) {
        return false;
    }
    let added = |kind: u16| field(&expected.data, kind).is_none();
    attributes(&present.data).flatten().all(|(kind, value)| {
        let harmless = match expected.name.as_str() {
            "counter" => true,
            "nat" => match kind {
                4 => field(&expected.data, 3) == Some(value),
                6 => field(&expected.data, 5) == Some(value),
                7 => value == 3u32.to_be_bytes(),
                _ => false,
            },
            _ => false,
        };
        !added(kind) || harmless || value.iter().all(|byte| *byte == 0)
    })
}

/// Whether every attribute that is expected is present with the same value.
fn covers(expected: &[u8], present: &[u8]) -> bool {
    let present: BTreeMap<u16, &[u8]> = attributes(present).flatten().gather();
    attributes(expected).all(|attribute| {
        let Ok((kind, value)) = attribute else { return false };
        present.get(&kind).is_some_and(|is| *is == value || (is_nested(value) && covers(value, is)))
    })
}

fn is_nested(value: &[u8]) -> bool {
    !value.is_empty() && attributes(value).all(|attribute| attribute.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::set::Contents;
    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    /// The edges as the kernel lists them.
    fn edges(settings: &Settings, family: Family) -> Vec<(IpAddr, bool)> {
        let excluded = Contents::Prefixes(settings.excluded(family));
        let mut edges: Vec<_> = excluded
            .elements()
            .into_iter()
            .map(|e| (take_address(&mut e.key.as_slice(), family).unwrap(), !e.interval_end))
            .collect();
        edges.sort_unstable();
        edges
    }

    proptest! {
        #[test]
        fn excluded_prefixes_come_back_from_their_edges(
            four in prop::collection::vec((any::<u32>(), 0u8..=32), 0..6),
            six in prop::collection::vec((any::<u128>(), 0u8..=128), 0..6),
        ) {
            let four = four.iter().map(|(ip, l)| Ipv4Net::new((*ip).into(), *l).unwrap().into());
            let six = six.iter().map(|(ip, l)| Ipv6Net::new((*ip).into(), *l).unwrap().into());
            let settings = Settings { exclude: four.chain(six).collect(), ..Settings::default() };
            for family in Family::ALL {
                prop_assert_eq!(prefixes(&edges(&settings, family)), settings.excluded(family));
            }
        }
    }

    #[test]
    fn a_rule_is_itself_and_no_other_of_the_skeleton() {
        let table = Table::new(Family::Ip, &Settings::default());
        let rules: Vec<_> =
            table.chains.iter().flat_map(|c| c.rules.iter().map(move |r| (c, r))).collect();
        let of = |(chain, rule): &(&Chain, &crate::ruleset::rule::Rule)| {
            expressions(Message::new_rule(&table, chain, rule).attributes()).unwrap()
        };
        for one in &rules {
            for other in &rules {
                let (a, b) = (of(one), of(other));
                let same =
                    a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| same_expression(a, b));
                assert_eq!(same, one.1 == other.1, "{} {}", one.1, other.1);
            }
        }
    }
}
