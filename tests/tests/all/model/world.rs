//! The model: what the kernel and the journal must hold, as plain values.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hostport_tests::lab::{NODE4, NODE4_SECOND, NODE6};

use super::operation::{Address, Ask};

/// <hostIP, hostPort, protocol>.
pub type Host = (IpAddr, u16, &'static str);
/// A pod's address and a container port.
pub type Endpoint = (IpAddr, u16);

/// A node as it should be.
#[derive(Clone, Debug)]
pub struct World {
    /// The addresses of the pods, by family.
    pub pods: Vec<[IpAddr; 2]>,
    pub containers: Vec<Container>,
    pub kernel: [Option<Table>; 2],
    pub journal: BTreeMap<String, Entry>,
    /// The lives that continue; see [`Container::life`].
    pub alive: BTreeSet<usize>,
    /// The endpoints of what was published in this step.
    pub claimed: BTreeSet<IpAddr>,
    /// The endpoints of owners whose entry was lost: not all of their former ports are known, so a hairpin element
    /// of theirs may go too early, also after the table was re-created.
    pub forgotten: BTreeSet<IpAddr>,
    /// The endpoints whose hairpin element says, before a step, that several owners have ports there.
    pub several: BTreeSet<IpAddr>,
    clock: u64,
}

/// A container that runs or has run.
#[derive(Clone, Debug)]
pub struct Container {
    pub id: String,
    pub pod: usize,
    /// What it asks for itself.
    pub own: Vec<Ask>,
    /// What it asks for on behalf of its sandbox.
    pub of_pod: Vec<Ask>,
    pub sandbox: Option<Sandbox>,
    pub replace: bool,
    pub running: bool,
    /// Stands for the init process or the namespace: it ends once, and never comes back.
    pub life: usize,
}

/// A container's part in a Kubernetes pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sandbox {
    Itself,
    Of(usize),
}

/// A family's table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The choice of `--exclude` that it was made with.
    pub exclude: usize,
    /// Of this schema, with all its rules.
    pub whole: bool,
    pub ports: BTreeMap<Host, Port>,
    /// The pods' bridge is in the set `same_link`.
    pub same_link: bool,
    /// Endpoints whose hairpin element somebody removed: it may come back, and go too early.
    pub may_lack: BTreeSet<IpAddr>,
    /// Endpoints whose hairpin element stays although somebody removed their ports.
    pub may_linger: BTreeSet<IpAddr>,
}

/// An element of the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub endpoint: Endpoint,
    pub owner: Option<String>,
}

/// An owner's entry in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub mappings: BTreeMap<Host, Endpoint>,
    /// Addresses of all endpoints that it ever had.
    pub ips: BTreeSet<IpAddr>,
    pub life: usize,
    pub exclude: usize,
    pub(super) since: u64,
}

/// What a call of the hook must print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    /// One of these is taken; the bool tells whether the journal knows the owner.
    Refused(Vec<(Host, Port, bool)>),
}

/// The index of a family in arrays.
pub fn family(ip: IpAddr) -> usize {
    usize::from(ip.is_ipv6())
}

/// The host ports that an ask is for.
pub fn hosts(ask: &Ask) -> Vec<Host> {
    let (any4, any6): (IpAddr, IpAddr) = ([0; 4].into(), [0u8; 16].into());
    let ips: Vec<IpAddr> = match ask.address {
        Address::None => vec![any4, any6],
        Address::Wildcard4 => vec![any4],
        Address::Wildcard6 => vec![any6],
        Address::Node4 => vec![NODE4.into()],
        Address::Second4 => vec![NODE4_SECOND.into()],
        Address::Node6 => vec![NODE6.into()],
    };
    let protocol = if ask.udp { "udp" } else { "tcp" };
    ips.into_iter().map(|ip| (ip, 9000 + ask.port, protocol)).collect()
}

/// The asks without those that would publish a host port twice, which is a different error.
pub fn distinct(asks: &[Ask], taken: &[Ask]) -> Vec<Ask> {
    let mut kept: Vec<Ask> = Vec::new();
    for ask in asks {
        let clashes = |other: &Ask| hosts(other).iter().any(|host| hosts(ask).contains(host));
        // It is fine if two annotations say the same thing.
        if !kept.iter().any(clashes) && !taken.iter().any(|other| other != ask && clashes(other)) {
            kept.push(*ask);
        }
    }
    kept
}

impl World {
    pub fn new(pods: Vec<[IpAddr; 2]>) -> World {
        World {
            pods,
            containers: Vec::new(),
            kernel: [None, None],
            journal: BTreeMap::new(),
            alive: BTreeSet::new(),
            claimed: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            several: BTreeSet::new(),
            clock: 0,
        }
    }

    /// A new life.
    pub fn begin_life(&mut self) -> usize {
        self.clock += 1;
        self.alive.insert(self.clock as usize);
        self.clock as usize
    }

    /// A container's processes are gone.
    pub fn end(&mut self, index: usize) {
        let container = &mut self.containers[index];
        container.running = false;
        self.alive.remove(&container.life);
    }

    pub(super) fn is_dead(&self, entry: &Entry) -> bool {
        !self.alive.contains(&entry.life)
    }

    /// Whether its owner is alive and has it in the journal.
    pub(super) fn is_claimed(&self, port: &Port, host: Host) -> bool {
        let entry = port.owner.as_ref().and_then(|owner| self.journal.get(owner));
        entry.is_some_and(|entry| {
            !self.is_dead(entry) && entry.mappings.get(&host) == Some(&port.endpoint)
        })
    }

    pub(super) fn port(&self, host: &Host) -> Option<&Port> {
        self.kernel[family(host.0)].as_ref()?.ports.get(host)
    }

    /// The owner and life that a container's pod-wide ports have.
    fn pod_owner(&self, container: &Container) -> Option<(String, usize)> {
        let of = |container: &Container| (container.id.clone(), container.life);
        match container.sandbox {
            None => None,
            Some(Sandbox::Itself) => Some(of(container)),
            Some(Sandbox::Of(sandbox)) => Some(of(&self.containers[sandbox])),
        }
    }

    /// What a container asks for, with the owner of each port.
    fn claims(&self, container: &Container) -> Vec<(String, Host, Endpoint)> {
        let pod = self.pod_owner(container).map(|(id, _)| id);
        let mut claims: Vec<(String, Host, Endpoint)> = Vec::new();
        if container.sandbox == Some(Sandbox::Itself) {
            return claims;
        }
        for (owner, asks) in [(&pod, &container.of_pod), (&None, &container.own)] {
            for ask in asks {
                for host in hosts(ask) {
                    let endpoint = (self.pods[container.pod][family(host.0)], 8080 + ask.to);
                    if claims.iter().any(|claim| claim.1 == host) {
                        continue;
                    }
                    let owner = owner.as_ref().unwrap_or(&container.id);
                    claims.push((owner.clone(), host, endpoint));
                }
            }
        }
        claims
    }

    /// Prestart, or another stage that publishes.
    pub fn publish(&mut self, index: usize, exclude: usize) -> Answer {
        let container = self.containers[index].clone();
        let claims = self.claims(&container);
        if claims.is_empty() {
            return Answer::Done;
        }
        let mut conflicts = Vec::new();
        let mut taken: Vec<(Host, Port)> = Vec::new();
        let mut shared: BTreeSet<Host> = BTreeSet::new();
        for (owner, host, endpoint) in &claims {
            let Some(present) = self.port(host) else { continue };
            if present.owner.as_ref() == Some(owner) {
                // It moves, unless another container goes on with it where it is.
                let heir = self.heir(host, present).filter(|_| present.endpoint != *endpoint);
                if let Some(heir) = heir.filter(|_| !container.replace) {
                    conflicts.push((*host, Port { owner: Some(heir), ..*present }, true));
                }
                continue;
            }
            let entry = present.owner.as_ref().and_then(|owner| self.journal.get(owner));
            let dead = entry.is_some_and(|entry| self.is_dead(entry));
            let same = present.endpoint == *endpoint;
            let heir = self.heir(host, present).filter(|_| dead && !same);
            if dead && heir.is_none() {
                taken.push((*host, present.clone()));
            } else if same && entry.is_some() {
                shared.insert(*host);
            } else if container.replace {
                taken.push((*host, present.clone()));
            } else {
                let owner = heir.or(present.owner.clone());
                conflicts.push((*host, Port { owner, ..*present }, entry.is_some()));
            }
        }
        if !conflicts.is_empty() {
            return Answer::Refused(conflicts);
        }
        for (owner, host, endpoint) in &claims {
            let table = self.kernel[family(host.0)].get_or_insert_default();
            if !table.whole {
                // Re-created, with a hairpin element for each endpoint that has an owner.
                table.may_lack.retain(|ip| {
                    let mut ports = table.ports.values().filter(|port| port.endpoint.0 == *ip);
                    self.forgotten.contains(ip) || ports.all(|port| port.owner.is_none())
                });
            }
            (table.exclude, table.whole, table.same_link) = (exclude, true, true);
            self.claimed.insert(endpoint.0);
            let port = Port { endpoint: *endpoint, owner: Some(owner.clone()) };
            if !shared.contains(host) {
                table.ports.insert(*host, port);
            }
        }
        self.note(&container, &claims, exclude);
        self.settle(&taken);
        Answer::Done
    }

    /// The journal after a publication.
    fn note(&mut self, container: &Container, claims: &[(String, Host, Endpoint)], exclude: usize) {
        self.clock += 1;
        let owners: BTreeSet<&String> = claims.iter().map(|claim| &claim.0).collect();
        for owner in owners {
            let mappings: BTreeMap<Host, Endpoint> =
                claims.iter().filter(|claim| claim.0 == *owner).map(|c| (c.1, c.2)).collect();
            let ips = mappings.values().map(|endpoint| endpoint.0).collect();
            let own = *owner == container.id;
            let life = match self.pod_owner(container) {
                Some((_, life)) if !own => life,
                _ => container.life,
            };
            let mut entry = Entry { mappings, ips, life, exclude, since: self.clock };
            if let Some(before) = self.journal.remove(owner) {
                if own {
                    // Another set of ports under the same ID: the former ones are gone.
                    let gone =
                        before.mappings.keys().filter(|host| !entry.mappings.contains_key(host));
                    gone.for_each(|host| self.take_away(owner, host));
                    entry.ips.extend(before.ips);
                } else if !self.is_dead(&before) {
                    for (host, endpoint) in before.mappings {
                        entry.mappings.entry(host).or_insert(endpoint);
                    }
                    entry.ips.extend(before.ips);
                }
            }
            self.journal.insert(owner.clone(), entry);
        }
    }

    /// What happens to owners that lost a port.
    fn settle(&mut self, taken: &[(Host, Port)]) {
        for (host, port) in taken {
            let known = port.owner.as_ref().and_then(|owner| self.journal.get(owner)).cloned();
            // For an owner that came back in another pod, what the journal lost is unknown.
            let elsewhere =
                known.as_ref().is_some_and(|entry| !entry.ips.contains(&port.endpoint.0));
            if let Some(table) = self.kernel[family(host.0)].as_mut().filter(|_| elsewhere) {
                table.may_linger.insert(port.endpoint.0);
            }
            match (&port.owner, known) {
                (Some(owner), Some(entry)) if self.is_dead(&entry) => self.clear(owner),
                (Some(owner), Some(_)) => {
                    let entry = self.journal.get_mut(owner).unwrap();
                    entry.mappings.remove(host);
                }
                // What else it had there is unknown.
                _ => {
                    if let Some(table) = &mut self.kernel[family(host.0)] {
                        table.may_linger.insert(port.endpoint.0);
                    }
                }
            }
        }
    }

    /// What a publication has withdrawn from dead owners at its endpoints, by the entries that are left. It finds them
    /// by the hairpin element of an address, and so not where somebody removed that.
    pub fn sweep(&mut self, is_left: impl Fn(&str) -> bool) -> Result<(), String> {
        // Who publishes where another has ports makes it known that they are several.
        self.several.extend(&self.claimed);
        let there = |entry: &Entry| entry.ips.iter().any(|ip| self.claimed.contains(ip));
        let dead = self.journal.iter().filter(|(_, entry)| self.is_dead(entry) && there(entry));
        for owner in dead.map(|(owner, _)| owner.clone()).collect::<Vec<_>>() {
            if !is_left(&owner) {
                self.clear(&owner);
                continue;
            }
            let leads_there = |(host, port): (&Host, &Port)| {
                let (ip, table) = (port.endpoint.0, self.kernel[family(host.0)].as_ref());
                let excused = table.is_some_and(|table| table.may_lack.contains(&ip));
                let entry = &self.journal[&owner];
                port.owner.as_ref() == Some(&owner)
                    && entry.mappings.contains_key(host)
                    && self.claimed.contains(&ip)
                    && !(excused || self.forgotten.contains(&ip))
            };
            let mut ports = self.kernel.iter().flatten().flat_map(|table| &table.ports);
            if let Some((host, _)) = ports.find(|port| leads_there(*port)) {
                return Err(format!("{host:?} of {owner}, which is dead, leads to another"));
            }
        }
        Ok(())
    }

    /// The living owner that goes on with a port: another container of its pod, which asked for the same.
    fn heir(&self, host: &Host, port: &Port) -> Option<String> {
        let shares = |(owner, entry): &(&String, &Entry)| {
            Some(*owner) != port.owner.as_ref()
                && !self.is_dead(entry)
                && entry.mappings.get(host) == Some(&port.endpoint)
        };
        let sharers = self.journal.iter().filter(shares);
        let earliest = sharers.min_by_key(|(_, entry)| entry.since);
        earliest.filter(|_| self.several.contains(&port.endpoint.0)).map(|(owner, _)| owner.clone())
    }

    fn take_away(&mut self, owner: &str, host: &Host) {
        let own = |port: &&Port| port.owner.as_deref() == Some(owner);
        let Some(port) = self.port(host).filter(own).cloned() else { return };
        let heir = self.heir(host, &port);
        let ports = self.kernel[family(host.0)].as_mut().map(|table| &mut table.ports);
        match (ports, heir) {
            (Some(ports), None) => drop(ports.remove(host)),
            (Some(ports), heir) => drop(ports.insert(*host, Port { owner: heir, ..port })),
            (None, _) => {}
        }
    }

    /// Everything that an owner has according to the journal, and its entry.
    pub(super) fn clear(&mut self, owner: &str) {
        if let Some(entry) = self.journal.remove(owner) {
            entry.mappings.keys().for_each(|host| self.take_away(owner, host));
        }
    }

    /// Poststop.
    pub fn withdraw(&mut self, index: usize) {
        let container = self.containers[index].clone();
        // What the pod's annotation asks for too belongs to the pod.
        let own = container.own.iter().filter(|ask| !container.of_pod.contains(ask));
        for host in own.flat_map(hosts) {
            self.take_away(&container.id, &host);
        }
        self.clear(&container.id);
    }
}
