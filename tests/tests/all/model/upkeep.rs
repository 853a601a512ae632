//! What gc and restore make of the model.

use std::collections::{BTreeMap, BTreeSet};

use super::world::{Endpoint, Entry, Host, Port, Table, World, family};

/// What `restore` must print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    pub added: usize,
    pub removed: usize,
    pub kept: usize,
}

impl World {
    /// How many are dead; they are gone afterwards, unless it is a dry run.
    pub fn collect(&mut self, dry_run: bool) -> usize {
        let dead = self.journal.iter().filter(|(_, entry)| self.is_dead(entry));
        let dead: Vec<String> = dead.map(|(owner, _)| owner.clone()).collect();
        if !dry_run {
            dead.iter().for_each(|owner| self.clear(owner));
        }
        dead.len()
    }

    /// Ports that gc keeps, since the journal does not know their owner.
    pub fn unknown(&self) -> usize {
        let ports = self.kernel.iter().flatten().flat_map(|table| table.ports.values());
        let known = |port: &Port| port.owner.as_ref().is_some_and(|o| self.journal.contains_key(o));
        ports.filter(|port| !known(port)).count()
    }

    /// Somebody removed the journal, or there never was one, and the kernel has ports of some owners.
    pub fn refuses_to_restore(&self) -> bool {
        let mut ports = self.kernel.iter().flatten().flat_map(|table| table.ports.values());
        self.journal.is_empty() && ports.any(|port| port.owner.is_some())
    }

    pub fn restore(&mut self) -> Restored {
        let mut living: Vec<(&String, &Entry)> =
            self.journal.iter().filter(|(_, entry)| !self.is_dead(entry)).collect();
        living.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.since));
        let void: BTreeSet<String> = living
            .iter()
            .filter(|(owner, entry)| self.is_void(owner, entry))
            .map(|(owner, _)| (*owner).clone())
            .collect();
        let exclude = living.first().map_or(0, |(_, entry)| entry.exclude);
        let mut claims = [BTreeMap::new(), BTreeMap::new()];
        for (owner, entry) in living.iter().filter(|(owner, _)| !void.contains(*owner)) {
            for (host, endpoint) in &entry.mappings {
                // The owner that has it in the kernel keeps it.
                let present = self.port(host);
                if present
                    .is_some_and(|port| self.is_claimed(port, *host) && port.endpoint != *endpoint)
                {
                    continue;
                }
                // The latest owner took it over; or they share an endpoint, and who has it keeps it, or the earliest
                // gets it.
                let has = present.filter(|port| self.is_claimed(port, *host));
                let owner = has.map_or(Some((*owner).clone()), |port| port.owner.clone());
                let port = Port { endpoint: *endpoint, owner: owner.clone() };
                claims[family(host.0)]
                    .entry(*host)
                    .and_modify(|later: &mut Port| {
                        if later.endpoint == *endpoint {
                            later.owner = owner;
                        }
                    })
                    .or_insert(port);
            }
        }
        // Owners without an entry may be alive, and keep what no published container asks for.
        let known = |owner: &String| self.journal.contains_key(owner);
        let is_published = |(owner, entry): &&(&String, &Entry)| {
            let has =
                |host| self.port(host).is_some_and(|port| port.owner.as_ref() == Some(*owner));
            entry.mappings.keys().any(has)
        };
        let published = living.iter().filter(is_published);
        let asked: BTreeSet<Host> =
            published.flat_map(|(_, entry)| entry.mappings.keys().copied()).collect();
        for (table, claims) in self.kernel.iter().zip(&mut claims) {
            for (host, port) in table.iter().flat_map(|table| &table.ports) {
                let unknown = port.owner.as_ref().is_some_and(|owner| !known(owner));
                if unknown && !asked.contains(host) {
                    claims.insert(*host, port.clone());
                }
            }
        }
        self.journal.retain(|owner, _| !void.contains(owner));
        // What went to another owner no longer belongs to the earlier one.
        let dead: BTreeSet<String> = self
            .journal
            .iter()
            .filter(|(_, entry)| self.is_dead(entry))
            .map(|(owner, _)| owner.clone())
            .collect();
        for (owner, entry) in &mut self.journal {
            if !dead.contains(owner) {
                entry.mappings.retain(|host, endpoint| {
                    claims[family(host.0)].get(host).is_some_and(|port| port.endpoint == *endpoint)
                });
            }
        }
        let mut restored = Restored::default();
        for (table, ports) in self.kernel.iter_mut().zip(claims) {
            if table.is_none() && ports.is_empty() {
                continue;
            }
            let present = table.take().unwrap_or_default().ports;
            let right = ports.iter().filter(|(host, port)| present.get(*host) == Some(*port));
            let kept = right.count();
            restored.kept += kept;
            restored.added += ports.len() - kept;
            restored.removed += present.len() - kept;
            let same_link = !ports.is_empty();
            *table = Some(Table { exclude, whole: true, same_link, ports, ..Table::default() });
        }
        restored
    }

    /// Whether another owner had one of its ports before it, and it has none of them: that is how an entry looks
    /// whose hook was killed before it published.
    fn is_void(&self, owner: &str, entry: &Entry) -> bool {
        let has = |(host, endpoint): (&Host, &Endpoint)| {
            self.port(host).is_some_and(|port| {
                port.owner.as_deref() == Some(owner) && port.endpoint == *endpoint
            })
        };
        let is_lost = |(host, endpoint): (&Host, &Endpoint)| {
            let present = self.port(host).filter(|port| self.is_claimed(port, *host));
            let earlier = |port: &&Port| {
                port.owner.as_ref().is_some_and(|owner| self.journal[owner].since < entry.since)
            };
            present.filter(earlier).is_some_and(|port| port.endpoint != *endpoint)
        };
        entry.mappings.iter().any(is_lost) && !entry.mappings.iter().any(has)
    }
}
