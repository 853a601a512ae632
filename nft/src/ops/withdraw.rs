//! Withdrawing: an owner's host ports, if they are still that owner's, and everything.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::attempt::{Attempt, attempt};
use super::conditions::push_conditions;
use super::host_ports::{HostPorts, TableState};
use super::publish::{delete_port, new_port};
use crate::error::Error;
use crate::kernel::{Change, Kernel, SetName, SetRef, Transaction};
use crate::model::{Claim, Family, Gather, HostPort, OwnerId, Published};
use crate::ruleset::element::{HairpinOwner, hairpin_key, masqueraded_key, port_key};
use crate::ruleset::host::Kept;

/// How long withdrawals may list the map. The list shows whether the hairpin element of a pod with several owners is
/// still needed. A caller that withdraws for many owners holds up others, so it has one budget for all of them.
///
/// ```no_run
/// # use std::collections::{BTreeMap, BTreeSet};
/// # use hostport_nft::{Budget, HostPorts, OwnerId, Settings};
/// let mut host_ports = HostPorts::open(Settings::default())?;
/// // Two seconds, for both.
/// let mut budget = Budget::default();
/// for owner in ["5e0f", "6460"] {
///     let owner: OwnerId = owner.parse()?;
///     let (none, nobody) = (BTreeSet::new(), |_: &[_]| Some(BTreeMap::new()));
///     host_ports.withdraw_within(&owner, &none, &BTreeSet::new(), &mut budget, nobody)?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget(Duration);

/// How long a withdrawal that changes nothing without the lists is tried.
const LISTING: Duration = Duration::from_secs(2);

/// How many host ports are looked up one by one.
const MOST_READS: usize = 16;

impl Default for Budget {
    /// Two seconds.
    fn default() -> Self {
        Budget(LISTING)
    }
}

fn pod_of(published: &Published) -> IpAddr {
    published.mapping.endpoint().ip
}

impl<K: Kernel> HostPorts<K> {
    /// Withdraws what an owner has of some host ports, in one transaction, and returns it.
    ///
    /// Name all the host ports of the owner: its endpoint's hairpin element goes with them. A host
    /// port that is not published, or that another owner has by now, is left alone; so it is no error to
    /// withdraw twice, or after the table was deleted. `pods` are addresses that the owner is known to have
    /// had: they matter for an owner that lost all of its host ports to others. It may be empty.
    ///
    /// If several owners had host ports of one pod, the map is listed to see whether its hairpin element is
    /// still needed. That may take two seconds; then the element stays until a restore.
    /// [`HostPorts::withdraw_within`] sets the time, and hands on what another owner shares.
    ///
    /// ```no_run
    /// # use std::collections::BTreeSet;
    /// # use hostport_nft::{Family, HostPort, HostPorts, Protocol, Settings};
    /// # let host_ip = Family::Ip.wildcard();
    /// # let host = HostPort { host_ip, port: "9000".parse()?, protocol: Protocol::Tcp };
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// let hosts = BTreeSet::from([host]);
    /// let withdrawn = host_ports.withdraw(&"5e0f".parse()?, &hosts, &BTreeSet::new())?;
    /// println!("withdrawn: {} host ports", withdrawn.len());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotPermitted`], [`Error::Transport`], [`Error::Refused`], or [`Error::Contention`] if
    /// others kept changing the ruleset; [`Error::Unanswered`] if it is not known whether they are
    /// withdrawn.
    pub fn withdraw(
        &mut self,
        owner: &OwnerId,
        hosts: &BTreeSet<HostPort>,
        pods: &BTreeSet<IpAddr>,
    ) -> Result<Vec<Published>, Error> {
        let nobody = |_: &[Published]| Some(BTreeMap::new());
        Ok(self
            .withdraw_within(owner, hosts, pods, &mut Budget::default(), nobody)?
            .unwrap_or_default())
    }

    /// As [`HostPorts::withdraw`], lists only for as long as the budget lasts, and hands on what another owner shares.
    ///
    /// `heirs` is called with what several owners may share. It returns who is to have it: what it does not name is
    /// withdrawn. If it returns none, nothing is changed, and none is returned. It may be called several times, and
    /// only what it returned last counts: then nobody has published or withdrawn anything since it was called.
    ///
    /// # Errors
    /// As [`HostPorts::withdraw`].
    pub fn withdraw_within(
        &mut self,
        owner: &OwnerId,
        hosts: &BTreeSet<HostPort>,
        pods: &BTreeSet<IpAddr>,
        budget: &mut Budget,
        mut heirs: impl FnMut(&[Published]) -> Option<BTreeMap<HostPort, OwnerId>>,
    ) -> Result<Option<Vec<Published>>, Error> {
        let mut done = attempt(self, Some(LISTING), |this| {
            this.withdraw_once(owner, hosts, pods, Some(&mut *budget), &mut heirs)
        });
        // Others change the ruleset faster than it can be listed. The host ports matter more than a hairpin
        // element.
        if let Err(Error::Contention { .. }) = done {
            done = attempt(self, None, |this| {
                this.withdraw_once(owner, hosts, pods, None, &mut heirs)
            });
        }
        let (withdrawn, lost) = done?;
        let nothing = withdrawn.as_ref().is_some_and(Vec::is_empty);
        Ok(lost.filter(|_| nothing).unwrap_or(withdrawn))
    }

    /// One compare-and-swap; void if the ruleset changed meanwhile.
    fn withdraw_once(
        &mut self,
        owner: &OwnerId,
        hosts: &BTreeSet<HostPort>,
        pods: &BTreeSet<IpAddr>,
        mut budget: Option<&mut Budget>,
        heirs: &mut impl FnMut(&[Published]) -> Option<BTreeMap<HostPort, OwnerId>>,
    ) -> Result<Attempt<Option<Vec<Published>>>, Error> {
        let mut transaction = self.transaction()?;
        let mut withdrawn = Vec::new();
        // A table of another program holds nothing of ours.
        let mut foreign = BTreeSet::new();
        let families =
            hosts.iter().map(HostPort::family).chain(pods.iter().copied().map(Family::of));
        for family in families.gather::<BTreeSet<_>>() {
            match self.table_state(family) {
                Err(Error::ForeignTable { family, .. }) => drop(foreign.insert(family)),
                state => drop(state?),
            }
        }
        for host in hosts.iter().filter(|host| !foreign.contains(&host.family())) {
            let there = self.get(*host)?;
            withdrawn.extend(there.filter(|there| there.owner.as_ref() == Some(owner)));
        }
        let known = pods.iter().copied().filter(|pod| !foreign.contains(&Family::of(*pod)));
        let mut hairpins = BTreeMap::new();
        for pod in withdrawn.iter().map(pod_of).chain(known).gather::<BTreeSet<IpAddr>>() {
            hairpins.extend(self.hairpin(pod)?.map(|hairpin| (pod, hairpin.owner)));
        }
        let is_shared =
            |gone: &&Published| hairpins.get(&pod_of(gone)) == Some(&HairpinOwner::Several);
        let shared: Vec<Published> = withdrawn.iter().filter(is_shared).cloned().collect();
        if !shared.is_empty() {
            let Some(heirs) = heirs(&shared) else { return Ok(Attempt::Made(None)) };
            withdrawn.retain(|gone| !heirs.contains_key(&gone.mapping.host()));
            self.push_heirs(&mut transaction, &shared, &heirs)?;
        }
        let gone: Vec<HostPort> = withdrawn.iter().map(|gone| gone.mapping.host()).collect();
        gone.iter().for_each(|host| transaction.push(delete_port(*host)));
        self.push_clear(&mut transaction, &gone, &BTreeMap::new())?;
        for (pod, has) in hairpins {
            let begin = self.kernel.now();
            let patience = budget.as_ref().map(|budget| budget.0);
            let ends = self.hairpin_ends(pod, &has, owner, &withdrawn, patience);
            if let Some(budget) = &mut budget {
                budget.0 = budget.0.saturating_sub(self.kernel.now().duration_since(begin));
            }
            if ends? {
                self.push_pod_end(&mut transaction, pod)?;
            }
        }
        self.commit(&transaction, Some(withdrawn))
    }

    /// Gives host ports to others, as they are.
    fn push_heirs(
        &mut self,
        transaction: &mut Transaction,
        shared: &[Published],
        heirs: &BTreeMap<HostPort, OwnerId>,
    ) -> Result<(), Error> {
        let heir = |there: &Published| {
            let owner = Some(heirs.get(&there.mapping.host())?.clone());
            Some(Published { owner, ..there.clone() })
        };
        let handed: Vec<Published> = shared.iter().filter_map(heir).collect();
        if handed.is_empty() {
            return Ok(());
        }
        let conditions = self.conditions()?;
        let hosts: Vec<HostPort> = handed.iter().map(|there| there.mapping.host()).collect();
        self.push_clear(transaction, &hosts, &conditions.sources)?;
        for there in &handed {
            transaction.push(delete_port(there.mapping.host()));
            transaction.push(new_port(there));
        }
        let claim = |there: Published| Some(Claim { owner: there.owner?, mapping: there.mapping });
        let claims: Vec<Claim> = handed.into_iter().filter_map(claim).collect();
        push_conditions(transaction, &claims, &claims, &conditions);
        Ok(())
    }

    /// Deletes what the ruleset has of host ports besides their mappings, before they get new sources.
    pub(super) fn push_clear(
        &mut self,
        transaction: &mut Transaction,
        hosts: &[HostPort],
        sources: &BTreeMap<HostPort, Vec<IpNet>>,
    ) -> Result<(), Error> {
        let (mut restricted, mut wide) = (BTreeSet::new(), BTreeSet::new());
        // Usually nothing is restricted, and one short list answers for many host ports.
        let listed = match hosts.len() > MOST_READS {
            true => Some(self.conditions()?.sources),
            false => None,
        };
        for host in hosts {
            let (family, key) = (host.family(), port_key(*host));
            if match &listed {
                Some(listed) => listed.contains_key(host),
                None => self.is_restricted(*host)?,
            } {
                transaction.push(Change::DeleteElement(family, SetName::Restricted, key));
                restricted.insert(*host);
            }
            // Somebody may have flushed one of the two sets.
            if sources.contains_key(host) {
                restricted.insert(*host);
            }
            if host.host_ip.is_unspecified() {
                wide.insert((family, host.port, host.protocol));
            }
        }
        for family in restricted.iter().map(HostPort::family).gather::<BTreeSet<_>>() {
            let sources = self.sources(family)?.into_iter();
            for element in sources.filter(|s| restricted.contains(&s.host)).map(|s| s.element()) {
                let last = element.last.unwrap_or_default();
                transaction.push(Change::DeleteRange(family, SetName::Sources, element.key, last));
            }
        }
        for family in wide.iter().map(|(family, ..)| *family).gather::<BTreeSet<_>>() {
            let kept = self.kept_of(family)?.into_iter();
            let ends = |kept: &Kept| wide.contains(&(family, kept.0.port, kept.0.protocol));
            for kept in kept.filter(ends) {
                transaction.push(Change::DeleteElement(family, SetName::Kept, port_key(kept.0)));
            }
        }
        Ok(())
    }

    /// Whether not all sources may reach a host port.
    pub(super) fn is_restricted(&mut self, host: HostPort) -> Result<bool, Error> {
        let (family, table) = (host.family(), &self.settings.table);
        let set = SetRef { family, table, name: SetName::Restricted };
        Ok(self.kernel.element(set, &port_key(host))?.is_some())
    }

    /// Deletes what belongs to a pod's address.
    pub(super) fn push_pod_end(
        &mut self,
        transaction: &mut Transaction,
        pod: IpAddr,
    ) -> Result<(), Error> {
        let (family, key) = (Family::of(pod), masqueraded_key(pod));
        transaction.push(Change::DeleteElement(family, SetName::Hairpin, hairpin_key(pod)));
        let set = SetRef { family, table: &self.settings.table, name: SetName::Masqueraded };
        if self.kernel.element(set, &key)?.is_some() {
            transaction.push(Change::DeleteElement(family, SetName::Masqueraded, key));
        }
        Ok(())
    }

    /// Whether no owner needs a pod's hairpin element, which this one has, once the mappings are withdrawn.
    ///
    /// The whole map is read only for a pod with several owners, even if nothing is withdrawn there: the last
    /// owner may have lost its host ports to others. Without any patience it is not read, and the element
    /// stays.
    pub(crate) fn hairpin_ends(
        &mut self,
        pod: IpAddr,
        has: &HairpinOwner,
        owner: &OwnerId,
        withdrawn: &[Published],
        patience: Option<Duration>,
    ) -> Result<bool, Error> {
        Ok(match has {
            HairpinOwner::One(only) => only == owner,
            HairpinOwner::Several => {
                let Some(patience) = patience else { return Ok(false) };
                let left = self.ports(Family::of(pod), patience)?;
                left.iter()
                    .filter(|published| published.mapping.endpoint().ip == pod)
                    .all(|published| withdrawn.iter().any(|gone| gone.mapping == published.mapping))
            }
            HairpinOwner::Nobody => false,
        })
    }

    /// Removes both tables with all that is published, in one transaction. True if there was one.
    ///
    /// ```no_run
    /// # use hostport_nft::{HostPorts, Settings};
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// assert!(host_ports.remove()?, "there were tables");
    /// assert!(!host_ports.remove()?, "and now there are none");
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotPermitted`], [`Error::Transport`], [`Error::ForeignTable`], or
    /// [`Error::Contention`] if others kept changing the ruleset.
    pub fn remove(&mut self) -> Result<bool, Error> {
        let (removed, lost) = attempt(self, None, |this| {
            let mut transaction = this.transaction()?;
            let mut any = false;
            for family in Family::ALL {
                if this.table_state(family)? != TableState::Missing {
                    transaction.push(Change::DeleteTable(family));
                    any = true;
                }
            }
            this.commit(&transaction, any)
        })?;
        Ok(removed || lost == Some(true))
    }
}
