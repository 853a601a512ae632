//! Whether the node is as the model has it.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::IpAddr;

use super::ground::{Found, FoundTable, Ground};
use super::world::{Table, World, family};

impl World {
    /// Compares, and keeps in mind what is now certain about hairpin elements.
    pub fn check(&mut self, ground: &Ground, found: &Found) -> Result<(), String> {
        self.sweep(|owner| found.journal.contains_key(owner))?;
        let journal = self.journal.iter().map(|(owner, e)| (owner.clone(), e.mappings.clone()));
        same("the journal", &found.journal, &journal.collect())?;
        let excused: BTreeSet<IpAddr> =
            self.journal.values().flat_map(|entry| entry.ips.iter().copied()).collect();
        for place in 0..2 {
            let ports = self.kernel[place].as_ref().map(|table| table.ports.clone());
            same("what hostport lists", &found.listed[place], &ports.unwrap_or_default())?;
            match (&mut self.kernel[place], &found.tables[place]) {
                (None, None) => {}
                (Some(table), Some(found)) => {
                    same("the map", &found.ports, &table.ports)?;
                    if table.whole {
                        let skeleton = ground.skeleton(place, table.exclude);
                        same("the table around its elements", &found.skeleton, skeleton)?;
                    }
                    same("same_link", &found.same_link, &table.same_link)?;
                    let excused = excused.iter().filter(|ip| family(**ip) == place);
                    check_hairpin(table, found, &excused.copied().collect(), &self.claimed)?;
                }
                (expected, _) => {
                    let there = if expected.is_some() { "missing" } else { "there" };
                    return Err(format!("the table of family {place} is {there}"));
                }
            }
        }
        let tables = found.tables.iter().flatten();
        self.several = tables.flat_map(|table| &table.several).copied().collect();
        Ok(())
    }
}

/// Each endpoint has a hairpin element, and nothing else has: but for what somebody's hand did to it,
/// and for what goes with an owner that the journal still has.
fn check_hairpin(
    table: &mut Table,
    found: &FoundTable,
    excused: &BTreeSet<IpAddr>,
    claimed: &BTreeSet<IpAddr>,
) -> Result<(), String> {
    let needed: BTreeSet<IpAddr> = table.ports.values().map(|port| port.endpoint.0).collect();
    table.may_lack.retain(|ip| needed.contains(ip));
    table.may_linger.retain(|ip| !needed.contains(ip) && found.hairpin.contains(ip));
    let lacks = needed
        .difference(&found.hairpin)
        .find(|ip| !table.may_lack.contains(ip) || claimed.contains(ip));
    if let Some(ip) = lacks {
        return Err(format!("the hairpin element of {ip} is missing"));
    }
    let lingers = found.hairpin.difference(&needed);
    match lingers.into_iter().find(|ip| !table.may_linger.contains(ip) && !excused.contains(ip)) {
        Some(ip) => Err(format!("the hairpin element of {ip} is left over")),
        None => Ok(()),
    }
}

fn same<T: PartialEq + Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what} differs\nfound: {found:#?}\nexpected: {expected:#?}"))
}
