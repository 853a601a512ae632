//! Publishing: all of a container's host ports in one transaction, or none.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use rustix::io::Errno;

use super::attempt::{Attempt, attempt};
use super::conditions::{hairpins, push_conditions};
use super::host_ports::{HostPorts, TableState};
use crate::error::{Error, Taken};
use crate::kernel::walk::PATIENCE;
use crate::kernel::{Change, Kernel, Outcome, SetName, Transaction};
use crate::model::{Claim, Conditions, Family, Gather, HostPort, Mapping, OwnerId, Published};
use crate::ruleset::element::{Hairpin, HairpinOwner, hairpin_key, port_key};
use crate::ruleset::table::Elements;

/// The host ports that one container asks for.
///
/// ```
/// # use hostport_nft::{Claim, Endpoint, Family, HostPort, HostPorts, Mapping, Protocol, Publication, Settings};
/// # let host_ip = Family::Ip.wildcard();
/// # let host = HostPort { host_ip, port: "9000".parse()?, protocol: Protocol::Tcp };
/// # let endpoint = Endpoint { ip: "10.85.0.11".parse()?, port: "8080".parse()? };
/// let claim = Claim { owner: "5e0f".parse()?, mapping: Mapping::new(host, endpoint)? };
/// let publication = Publication { claims: vec![claim], ..Publication::default() };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Publication {
    /// The mappings; no host port twice.
    pub claims: Vec<Claim>,
    /// What else the ruleset has to know for the claims.
    pub conditions: Conditions,
    /// Host ports that the claims' owners had before. Those that they still have and do not claim are
    /// withdrawn, unless others may share them.
    pub former: BTreeSet<HostPort>,
    /// The claims' owners were gone, and are back: what they still have is given to them again, which makes another
    /// generation. So a program that found them gone before that cannot take it over.
    pub comes_back: bool,
}

impl Publication {
    fn families(&self) -> BTreeSet<Family> {
        self.claims.iter().map(|claim| claim.mapping.family()).gather()
    }

    fn pods(&self) -> BTreeMap<IpAddr, HairpinOwner> {
        hairpins(self.claims.iter())
    }

    /// The former host ports that no claim asks for now.
    fn unclaimed(&self) -> impl Iterator<Item = HostPort> {
        let claimed: BTreeSet<HostPort> = self.claims.iter().map(|c| c.mapping.host()).gather();
        self.former.iter().copied().filter(move |host| !claimed.contains(host))
    }

    fn owns(&self, published: &Published) -> bool {
        self.claims.iter().any(|claim| published.owner.as_ref() == Some(&claim.owner))
    }
}

/// What is published already at a host port that a claim asks for: of another owner, or the claim's own former mapping
/// that others may share.
///
/// ```no_run
/// # use hostport_nft::{HostPorts, Publication, Settings, Verdict};
/// # let publication = Publication::default();
/// let mut host_ports = HostPorts::open(Settings::default())?;
/// host_ports.publish(&publication, |rival| {
///     println!("{:?} has {}", rival.published.owner, rival.published.mapping);
///     if rival.same_endpoint { Verdict::Share } else { Verdict::Refuse }
/// })?;
/// # Ok::<(), hostport_nft::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Rival<'a> {
    /// What is published.
    pub published: &'a Published,
    /// It leads where the claim leads: to the same pod.
    pub same_endpoint: bool,
    /// Several owners have host ports of its pod, or had, and one of them may share this one.
    pub shared: bool,
}

/// What becomes of a host port that another owner has.
///
/// ```
/// use hostport_nft::Verdict;
///
/// assert_eq!(Verdict::from(true), Verdict::TakeOver);
/// assert_eq!(Verdict::from(false), Verdict::Refuse);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The other keeps it, and nothing is published.
    Refuse,
    /// It goes to the claim's owner.
    TakeOver,
    /// It stays the other's and serves both, if it leads to the same endpoint and is open for the same sources; if not,
    /// nothing is published. [`HostPorts::withdraw_within`] hands it on.
    Share,
}

impl From<bool> for Verdict {
    /// Whether it may be taken over.
    fn from(may_take: bool) -> Self {
        if may_take { Verdict::TakeOver } else { Verdict::Refuse }
    }
}

/// Checks that no host port is asked for twice.
pub(crate) fn each_once(claims: &[Claim]) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    let twice = claims.iter().map(|claim| claim.mapping.host()).find(|host| !seen.insert(*host));
    twice.map_or(Ok(()), |host| Err(Error::Twice { host }))
}

/// What [`HostPorts::publish`] did.
///
/// ```no_run
/// # use hostport_nft::{Claim, Endpoint, Family, HostPort, HostPorts, Mapping, Protocol, Publication, Settings};
/// # let host_ip = Family::Ip.wildcard();
/// # let host = HostPort { host_ip, port: "9000".parse()?, protocol: Protocol::Tcp };
/// # let endpoint = Endpoint { ip: "10.85.0.11".parse()?, port: "8080".parse()? };
/// # let claim = Claim { owner: "5e0f".parse()?, mapping: Mapping::new(host, endpoint)? };
/// # let publication = Publication { claims: vec![claim], ..Publication::default() };
/// let changes = HostPorts::open(Settings::default())?.publish(&publication, |_| true)?;
/// for published in changes.taken_over {
///     println!("taken over: {}", published.mapping);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// The mappings that were not there before.
    pub added: Vec<Mapping>,
    /// What other owners had at these host ports until now.
    pub taken_over: Vec<Published>,
    /// The endpoints' addresses at which others have host ports too, or had: who, if it is one owner. An address
    /// belongs to one pod at a time, so who is gone has nothing to have there.
    pub shared: BTreeMap<IpAddr, Option<OwnerId>>,
    /// Former host ports that are still published, since another owner may share them: they are for
    /// [`HostPorts::withdraw_within`].
    pub left: BTreeSet<HostPort>,
}

impl<K: Kernel> HostPorts<K> {
    /// Publishes mappings, and returns what changed.
    ///
    /// The tables are made where they are missing, and replaced, with what they hold, where they
    /// are of another schema or of other settings; all in the one transaction. A mapping that its
    /// owner already has is left as it is, and one that leads elsewhere is replaced. Where another
    /// owner has a host port, `judge` decides: a port that is taken over changes hands in the
    /// transaction, and only if it is still what `judge` saw.
    ///
    /// ```no_run
    /// # use hostport_nft::{Claim, Endpoint, Family, HostPort, HostPorts, Mapping, Protocol, Publication, Settings};
    /// # let host_ip = Family::Ip.wildcard();
    /// # let host = HostPort { host_ip, port: "9000".parse()?, protocol: Protocol::Tcp };
    /// # let endpoint = Endpoint { ip: "10.85.0.11".parse()?, port: "8080".parse()? };
    /// let claim = Claim { owner: "5e0f".parse()?, mapping: Mapping::new(host, endpoint)? };
    /// let publication = Publication { claims: vec![claim], ..Publication::default() };
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// // A port that another owner has stays with it.
    /// let changes = host_ports.publish(&publication, |_taken| false)?;
    /// assert_eq!(changes.added.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Taken`] if another owner keeps one of the host ports; [`Error::Twice`] if two claims are for
    /// one; [`Error::NotPermitted`],
    /// [`Error::NoNfTables`], [`Error::Unsupported`], [`Error::ForeignTable`], [`Error::Refused`],
    /// [`Error::Transport`];
    /// [`Error::Contention`] if others kept changing the ruleset. The ruleset is then as it was. Only
    /// with [`Error::Unanswered`] all of the mappings may be published.
    pub fn publish<V: Into<Verdict>>(
        &mut self,
        publication: &Publication,
        mut judge: impl FnMut(Rival<'_>) -> V,
    ) -> Result<Changes, Error> {
        if publication.claims.is_empty() {
            return Ok(Changes::default());
        }
        each_once(&publication.claims)?;
        let mut first = publication.former.is_empty();
        let done = attempt(self, None, |this| {
            if std::mem::take(&mut first) {
                this.publish_new(publication)
            } else {
                this.publish_carefully(publication, &mut |rival| judge(rival).into())
            }
        });
        let (changes, lost) = done.map_err(|error| self.explain(error))?;
        Ok(lost.filter(|_| changes.added.is_empty()).unwrap_or(changes))
    }

    /// The usual case: none of the host ports is published yet. Void if one is.
    fn publish_new(&mut self, publication: &Publication) -> Result<Attempt<Changes>, Error> {
        let mut transaction = Transaction::new(&self.settings.table, None);
        if !self.push_missing_tables(&mut transaction, publication)?.is_empty() {
            return Ok(Attempt::Void);
        }
        for (pod, owner) in publication.pods() {
            push_hairpin(&mut transaction, Hairpin { pod, owner });
        }
        let Publication { claims, conditions, .. } = publication;
        push_conditions(&mut transaction, claims, claims, conditions);
        for claim in &publication.claims {
            transaction.push(new_port(&claim.published()));
        }
        let added = publication.claims.iter().map(|claim| claim.mapping).collect();
        match self.kernel.commit(&transaction)? {
            // Taken, or the table was created or deleted between reading and the transaction.
            Outcome::Failed(failures)
                if failures.iter().all(|f| matches!(f.error, Errno::EXIST | Errno::NOENT)) =>
            {
                Ok(Attempt::Void)
            }
            outcome => outcome.of(&transaction, Changes { added, ..Changes::default() }),
        }
    }

    /// One compare-and-swap: reads what is published, and changes it only if the ruleset is still the same when
    /// the kernel commits. Void if it is not.
    fn publish_carefully(
        &mut self,
        publication: &Publication,
        judge: &mut impl FnMut(Rival<'_>) -> Verdict,
    ) -> Result<Attempt<Changes>, Error> {
        let mut transaction = self.transaction()?;
        let (mut carried, mut changes) = (BTreeMap::new(), Changes::default());
        let outdated = self.push_missing_tables(&mut transaction, publication)?;
        for (family, state) in outdated {
            // Nothing in it has an owner.
            if state == TableState::Stale {
                return self.delete_stale(family);
            }
            let mut elements = self.elements(family)?;
            elements.complete();
            carried.extend(elements.hairpin.iter().map(|hairpin| (hairpin.pod, hairpin.clone())));
            transaction.push(Change::DeleteTable(family));
            transaction.push(self.new_table(family, elements));
        }
        for (pod, owner) in publication.pods() {
            let present = match carried.remove(&pod) {
                Some(hairpin) => Some(hairpin),
                None => self.hairpin(pod)?,
            };
            match present.map(|hairpin| hairpin.owner) {
                None => push_hairpin(&mut transaction, Hairpin { pod, owner }),
                Some(HairpinOwner::Several) => drop(changes.shared.insert(pod, None)),
                Some(present) if present == owner => {}
                Some(present) => {
                    transaction.push(Change::DeleteElement(
                        Family::of(pod),
                        SetName::Hairpin,
                        hairpin_key(pod),
                    ));
                    push_hairpin(&mut transaction, Hairpin { pod, owner: HairpinOwner::Several });
                    if let HairpinOwner::One(other) = present {
                        changes.shared.insert(pod, Some(other));
                    }
                }
            }
        }
        let (mut left, mut cleared, mut added) = (Vec::new(), Vec::new(), Vec::new());
        let mut shared = BTreeMap::new();
        for claim in &publication.claims {
            let host = claim.mapping.host();
            if let Some(present) = self.get(host)? {
                let own = present.owner.as_ref() == Some(&claim.owner);
                if own && present.mapping == claim.mapping {
                    if publication.comes_back {
                        transaction.push(delete_port(host));
                        transaction.push(new_port(&present));
                    }
                    continue;
                }
                let same_endpoint = present.mapping == claim.mapping;
                let pod = present.mapping.endpoint().ip;
                let shared = match shared.get(&pod) {
                    Some(shared) => *shared,
                    None => *shared.entry(pod).or_insert(self.is_shared(pod)?),
                };
                // It moves elsewhere, unless another goes on with it.
                let verdict = match own && !shared {
                    true => Verdict::TakeOver,
                    false => judge(Rival { published: &present, same_endpoint, shared }),
                };
                match verdict {
                    Verdict::TakeOver if own => left.push(present),
                    Verdict::TakeOver => changes.taken_over.push(present),
                    Verdict::Share
                        if same_endpoint && self.has_sources(host, &publication.conditions)? =>
                    {
                        // Another generation: a withdrawal that has not seen this claim looks again.
                        transaction.push(delete_port(host));
                        transaction.push(new_port(&present));
                        continue;
                    }
                    Verdict::Share | Verdict::Refuse => return self.refuse(present),
                }
                transaction.push(delete_port(host));
            }
            transaction.push(new_port(&claim.published()));
            cleared.push(host);
            changes.added.push(claim.mapping);
            added.push(claim.clone());
        }
        for host in publication.unclaimed() {
            if let Some(present) = self.get(host)?.filter(|present| publication.owns(present)) {
                if self.is_shared(present.mapping.endpoint().ip)? {
                    changes.left.insert(host);
                    continue;
                }
                transaction.push(delete_port(host));
                cleared.push(host);
                left.push(present);
            }
        }
        self.push_clear(&mut transaction, &cleared, &publication.conditions.sources)?;
        push_conditions(&mut transaction, &publication.claims, &added, &publication.conditions);
        // An owner that came back with another address needs nothing at its old one.
        let pods = publication.pods();
        let former = left.iter().filter_map(|p| Some((p.mapping.endpoint().ip, p.owner.as_ref()?)));
        for (pod, owner) in former.gather::<BTreeMap<_, _>>() {
            if !pods.contains_key(&pod)
                && let Some(Hairpin { owner: has, .. }) = self.hairpin(pod)?
                && self.hairpin_ends(pod, &has, owner, &left, Some(PATIENCE))?
            {
                self.push_pod_end(&mut transaction, pod)?;
            }
        }
        self.commit(&transaction, changes)
    }

    /// Says who keeps a host port; void if its owner has ended since it was read, and may be unknown by now.
    fn refuse(&mut self, present: Published) -> Result<Attempt<Changes>, Error> {
        let now = self.get(present.mapping.host())?;
        match now.is_some_and(|now| (now.mapping, &now.owner) == (present.mapping, &present.owner))
        {
            true => Err(present.taken().into()),
            false => Ok(Attempt::Void),
        }
    }

    /// Whether several owners have host ports of a pod, or had.
    fn is_shared(&mut self, pod: IpAddr) -> Result<bool, Error> {
        Ok(self.hairpin(pod)?.is_some_and(|hairpin| hairpin.owner == HairpinOwner::Several))
    }

    /// Whether a published host port is open for the sources that it has in these conditions.
    fn has_sources(&mut self, host: HostPort, conditions: &Conditions) -> Result<bool, Error> {
        let asked = conditions.sources.get(&host);
        if asked.is_none() && !self.is_restricted(host)? {
            return Ok(true);
        }
        let same = |nets: &Vec<IpNet>| IpNet::aggregate(nets);
        let family = |net: &IpNet| Family::of(net.addr()) == host.family();
        let asked = asked.map(|nets| nets.iter().copied().filter(family).collect());
        Ok(asked.as_ref().map(same) == self.conditions()?.sources.get(&host).map(same))
    }

    /// Deletes a table of another boot; then it is missing.
    fn delete_stale<T>(&mut self, family: Family) -> Result<Attempt<T>, Error> {
        let mut transaction = self.transaction()?;
        // Another program may have put a current one there since.
        if self.table_state(family)? == TableState::Stale {
            transaction.push(Change::DeleteTable(family));
            self.commit(&transaction, ())?;
        }
        Ok(Attempt::Void)
    }

    /// Adds the tables that are missing; returns those that are outdated or of another boot.
    fn push_missing_tables(
        &mut self,
        transaction: &mut Transaction,
        publication: &Publication,
    ) -> Result<Vec<(Family, TableState)>, Error> {
        let mut outdated = Vec::new();
        for (family, state) in self.table_states(publication.families())? {
            match state {
                TableState::Current => {}
                TableState::Missing => {
                    transaction.push(self.new_table(family, Elements::default()));
                }
                TableState::Outdated | TableState::Stale => outdated.push((family, state)),
            }
        }
        Ok(outdated)
    }

    fn new_table(&self, family: Family, elements: Elements) -> Change {
        Change::NewTable(self.table(family, elements))
    }
}

pub(super) fn new_port(published: &Published) -> Change {
    Change::NewElement(published.mapping.family(), SetName::Ports, published.element())
}

fn push_hairpin(transaction: &mut Transaction, hairpin: Hairpin) {
    let family = Family::of(hairpin.pod);
    transaction.push(Change::NewElement(family, SetName::Hairpin, hairpin.element()));
}

pub(super) fn delete_port(host: HostPort) -> Change {
    Change::DeleteElement(host.family(), SetName::Ports, port_key(host))
}

impl Elements {
    /// Adds the hairpin elements that an older version, or another program, has left out. Marks those as shared
    /// that several owners need: where one was removed by hand, it came back with one owner only.
    fn complete(&mut self) {
        let claim = |published: &Published| {
            Some(Claim { owner: published.owner.clone()?, mapping: published.mapping })
        };
        let mut missing = hairpins(self.ports.iter().filter_map(claim).collect::<Vec<_>>().iter());
        for present in &mut self.hairpin {
            if missing.remove(&present.pod) == Some(HairpinOwner::Several) {
                present.owner = HairpinOwner::Several;
            }
        }
        self.hairpin.extend(missing.into_iter().map(|(pod, owner)| Hairpin { pod, owner }));
    }
}

impl Published {
    fn taken(self) -> Taken {
        let (host, endpoint) = (self.mapping.host(), self.mapping.endpoint());
        Taken { host, owner: self.owner, endpoint }
    }
}
