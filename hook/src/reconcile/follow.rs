//! Follow the addresses of containers: those that change, and those that come only after the start. Pure: no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hostport_nft::{Endpoint, Family, Gather, HostPort, Mapping, OwnerId, Port};

use crate::journal::Entry;
use crate::network::present::Present;
use crate::request::annotations::PortRequest;

/// What becomes of the entries.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Following {
    /// Those that change.
    pub changed: Vec<Change>,
    /// Host ports that have an address now, and that another owner has.
    pub taken: BTreeSet<(OwnerId, HostPort, OwnerId)>,
}

impl Following {
    /// A line for each that is taken.
    pub fn conflicts(&self, entries: &[Entry]) -> BTreeSet<String> {
        let called =
            |owner: &OwnerId| entries.iter().find(|e| e.owner == *owner).map(Entry::called);
        let line = |(owner, host, by): &(OwnerId, HostPort, OwnerId)| {
            let (owner, by) = (called(owner)?, called(by)?);
            Some(format!(
                "host port {host} of {owner}, which has an address now, is taken by {by}: stop that one, or choose \
                 another host port"
            ))
        };
        self.taken.iter().filter_map(line).gather()
    }
}

/// An entry that changes.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    pub from: Entry,
    /// What `from` had at other addresses is lost to it.
    pub to: Entry,
}

impl Change {
    /// What is published because of it.
    pub fn added(&self) -> impl Iterator<Item = Mapping> {
        self.to.mappings.iter().filter(|mapping| !self.from.mappings.contains(mapping)).copied()
    }

    /// What is so no more.
    pub fn gone(&self) -> impl Iterator<Item = Mapping> {
        self.from.mappings.iter().filter(|mapping| !self.to.mappings.contains(mapping)).copied()
    }

    /// The entry once nothing leads to its former addresses.
    pub fn settled(&self) -> Entry {
        Entry { lost: self.from.lost.clone(), ..self.to.clone() }
    }
}

/// Leads what living owners publish to the addresses that they have now, where these are known. A host port that waits
/// for an address stays without one if another owner has it: the first to be published keeps it.
pub fn follow(entries: &[Entry], mut present: impl FnMut(&Entry) -> Option<Present>) -> Following {
    let followed = entries.iter().filter(|entry| !entry.followed.is_empty());
    let mut seen: Vec<(&Entry, Present)> =
        followed.filter_map(|entry| Some((entry, present(entry)?))).collect();
    seen.sort_by(|(a, _), (b, _)| a.since_ms.cmp(&b.since_ms).then_with(|| a.owner.cmp(&b.owner)));
    let mut had: BTreeMap<HostPort, (Mapping, &OwnerId)> = BTreeMap::new();
    for entry in entries {
        had.extend(entry.mappings.iter().map(|mapping| (mapping.host(), (*mapping, &entry.owner))));
    }
    let mut following = Following::default();
    for (entry, present) in &seen {
        let is_anothers = |ip: &IpAddr| seen.iter().any(|(_, other)| other.all.contains(ip));
        let mut to = move_mappings(entry, present, is_anothers);
        let (mut new, mut waiting, mut is_refused) = (Vec::new(), Vec::new(), false);
        for request in to.waiting {
            let Some(mapping) = resolve(entry, &request, present) else {
                waiting.push(request);
                continue;
            };
            let host = mapping.host();
            match had.get(&host) {
                Some((other, owner)) if **owner != entry.owner && *other != mapping => {
                    following.taken.insert((entry.owner.clone(), host, (*owner).clone()));
                    waiting.push(request);
                    is_refused = true;
                }
                _ if to.mappings.iter().any(|mapping| mapping.host() == host) => {}
                _ => new.push(mapping),
            }
        }
        // A container that has none yet gets all of its host ports or none.
        if is_refused && entry.mappings.is_empty() {
            continue;
        }
        had.extend(new.iter().map(|mapping| (mapping.host(), (*mapping, &entry.owner))));
        to.mappings.extend(new);
        to.waiting = waiting;
        if to.mappings != entry.mappings || to.waiting != entry.waiting {
            masquerade(entry, &mut to);
            let to = to.instead_of(entry);
            following.changed.push(Change { from: (*entry).clone(), to });
        }
    }
    following
}

/// The entry with its mappings at the addresses that its container has instead of those that it lost. Without another
/// address a mapping stays, since a virtual machine may have taken the address over; unless another container has it.
fn move_mappings(entry: &Entry, present: &Present, is_anothers: impl Fn(&IpAddr) -> bool) -> Entry {
    let mut to = Entry { mappings: Vec::with_capacity(entry.mappings.len()), ..entry.clone() };
    for mapping in &entry.mappings {
        let (host, Endpoint { ip, port }) = (mapping.host(), mapping.endpoint());
        if present.all.contains(&ip) || !entry.followed.contains(&host.family()) {
            to.mappings.push(*mapping);
            continue;
        }
        match at(host, port, present) {
            Some(moved) => to.mappings.push(moved),
            None if is_anothers(&ip) => to.waiting.push(PortRequest {
                host_ip: Some(host.host_ip),
                host_port: host.port,
                container_port: port,
                protocol: host.protocol,
            }),
            None => to.mappings.push(*mapping),
        }
    }
    to
}

/// What a port that waits becomes, if there is an address by now.
fn resolve(entry: &Entry, request: &PortRequest, present: &Present) -> Option<Mapping> {
    let host = request.host_ports().find(|host| entry.followed.contains(&host.family()))?;
    at(host, request.container_port, present)
}

/// The mapping of a host port to the address that the container has in its family.
fn at(host: HostPort, port: Port, present: &Present) -> Option<Mapping> {
    let mut endpoints = present.endpoints.iter();
    let ip = *endpoints.find(|ip| Family::of(**ip) == host.family())?;
    Mapping::new(host, Endpoint { ip, port }).ok()
}

/// Where clients of an owner are masqueraded, they are so at its new addresses too: replies may miss the node.
fn masquerade(entry: &Entry, to: &mut Entry) {
    let endpoints: BTreeSet<IpAddr> = to.mappings.iter().map(|m| m.endpoint().ip).gather();
    let is_new = |ip: &IpAddr| !entry.mappings.iter().any(|m| m.endpoint().ip == *ip);
    let all = entry.masquerade || !entry.masqueraded.is_empty();
    let is_masqueraded = |ip: &IpAddr| entry.masqueraded.contains(ip) || all && is_new(ip);
    to.masqueraded = endpoints.into_iter().filter(is_masqueraded).collect();
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    fn mapping(host: &str, host_port: u16, ip: &str) -> String {
        format!(
            r#"{{"host_ip":"{host}","host_port":{host_port},"protocol":"tcp","container_ip":"{ip}","container_port":80}}"#
        )
    }

    fn entry(owner: &str, since: u64, mappings: &[String], more: &str) -> Entry {
        let text = format!(
            r#"{{"version":1,"owner":"{owner}","table":"hostport","localhost":true,
                "mappings":[{}],{more}"bundle":"/b","since_ms":{since}}}"#,
            mappings.join(",")
        );
        Entry::from_json(text.as_bytes()).unwrap()
    }

    const BOTH: &str = r#""followed":["ip","ip6"],"#;

    fn at(addresses: &[&str]) -> Present {
        let all: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        Present { all: all.iter().copied().collect(), endpoints: all }
    }

    /// What becomes of the entries, each with its addresses: the mappings of those that change.
    fn followed(entries: &[(Entry, &[&str])]) -> Vec<(String, Vec<String>, usize)> {
        let all: Vec<Entry> = entries.iter().map(|(entry, _)| entry.clone()).collect();
        let following = follow(&all, |of| {
            let (_, addresses) = entries.iter().find(|(entry, _)| entry.owner == of.owner)?;
            Some(at(addresses))
        });
        let line = |change: &Change| {
            let mappings = change.to.mappings.iter().map(ToString::to_string).collect();
            (change.to.owner.to_string(), mappings, change.to.waiting.len())
        };
        following.changed.iter().map(line).collect()
    }

    #[test]
    fn a_mapping_follows_its_container_and_the_former_one_is_kept_until_nothing_leads_there() {
        let web = entry("web", 1, &[mapping("0.0.0.0", 9000, "10.0.0.2")], BOTH);
        assert_eq!(followed(&[(web.clone(), &["10.0.0.2"])]), []);
        let expected = vec!["0.0.0.0:9000/tcp -> 10.0.0.3:80".to_owned()];
        assert_eq!(followed(&[(web.clone(), &["10.0.0.3"])]), [("web".to_owned(), expected, 0)]);
        let following = follow(slice::from_ref(&web), |_| Some(at(&["10.0.0.3"])));
        let change = &following.changed[0];
        assert_eq!(change.to.lost, web.mappings);
        assert_eq!(change.gone().collect::<Vec<_>>(), web.mappings);
        assert_eq!(change.settled().lost, []);
        // Of another family, or not known.
        assert_eq!(followed(&[(web.clone(), &["fd00::3"])]), []);
        assert_eq!(follow(&[web], |_| None), Following::default());
    }

    #[test]
    fn an_older_entry_and_a_named_endpoint_are_not_followed() {
        let older = entry("web", 1, &[mapping("0.0.0.0", 9000, "10.0.0.2")], "");
        assert_eq!(followed(&[(older, &["10.0.0.3"])]), []);
        let six = r#""followed":["ip6"],"waiting":["0.0.0.0:9001:80/tcp","[::]:9000:80/tcp"],"#;
        let named = entry("web", 1, &[mapping("0.0.0.0", 9000, "10.0.0.2")], six);
        let expected = ["0.0.0.0:9000/tcp -> 10.0.0.2:80", "[::]:9000/tcp -> [fd00::3]:80"];
        let expected = expected.map(str::to_owned).to_vec();
        let all: &[&str] = &["10.0.0.3", "fd00::3"];
        assert_eq!(followed(&[(named, all)]), [("web".to_owned(), expected, 1)]);
    }

    #[test]
    fn what_waits_is_published_unless_another_has_it() {
        let waiting = |ports: &str| format!(r#"{BOTH}"waiting":[{ports}],"#);
        let has = entry("has", 1, &[mapping("0.0.0.0", 9000, "10.0.0.2")], BOTH);
        let two = waiting(r#""0.0.0.0:9000:80/tcp","0.0.0.0:9001:80/tcp""#);
        let late = entry("late", 2, &[], &two);
        let entries = [(has, &["10.0.0.2"][..]), (late, &["10.0.0.3"])];
        assert_eq!(followed(&entries), [], "all or none");
        // One that has some gets what is free.
        let some = entry("some", 2, &[mapping("0.0.0.0", 9002, "10.0.0.3")], &two);
        let [has, late] = entries;
        let expected = ["0.0.0.0:9002/tcp -> 10.0.0.3:80", "0.0.0.0:9001/tcp -> 10.0.0.3:80"]
            .map(str::to_owned);
        let expected = ("some".to_owned(), expected.to_vec(), 1);
        assert_eq!(followed(&[has, (some, &["10.0.0.3"])]), [expected]);
        // Of two that wait, the earlier one.
        let later = entry("later", 3, &[], &waiting(r#""0.0.0.0:9001:80/tcp""#));
        let (late, _) = late;
        let now = followed(&[(later, &["10.0.0.4"]), (late, &["10.0.0.3"])]);
        assert_eq!(now.iter().map(|(owner, ..)| owner.as_str()).collect::<Vec<_>>(), ["late"]);
    }

    #[test]
    fn an_address_that_is_another_containers_by_now_leads_nowhere() {
        let old = entry("old", 1, &[mapping("0.0.0.0", 9000, "10.0.0.2")], BOTH);
        let new = entry("new", 2, &[mapping("0.0.0.0", 9001, "10.0.0.3")], BOTH);
        assert_eq!(followed(&[(old.clone(), &[]), (new.clone(), &["10.0.0.3"])]), []);
        let both = followed(&[(old, &[]), (new, &["10.0.0.2", "10.0.0.3"])]);
        assert_eq!(both, [("old".to_owned(), vec![], 1)]);
    }

    #[test]
    fn clients_of_a_masqueraded_endpoint_are_masqueraded_at_the_next_one() {
        let more = format!(r#"{BOTH}"masqueraded":["10.0.0.2"],"#);
        let web = entry("web", 1, &[mapping("0.0.0.0", 9000, "10.0.0.2")], &more);
        let following = follow(&[web], |_| Some(at(&["10.0.0.3"])));
        assert_eq!(following.changed[0].to.masqueraded, [IpAddr::from([10, 0, 0, 3])]);
        let more = format!(r#"{BOTH}"masquerade":true,"waiting":["0.0.0.0:9000:80/tcp"],"#);
        let following = follow(&[entry("web", 1, &[], &more)], |_| Some(at(&["10.0.0.3"])));
        assert_eq!(following.changed[0].to.masqueraded, [IpAddr::from([10, 0, 0, 3])]);
    }
}
