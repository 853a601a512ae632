//! Withdrawing: an owner's host ports, if they are still that owner's.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::kernel::transaction::{Attempt, Batch};
use crate::ops::host_ports::{HostPorts, attempt};
use crate::ruleset::set::{HairpinOwner, Published, hairpin_key, port_key};
use crate::ruleset::table::{HAIRPIN, PORTS};
use crate::wire::message::Message;
use crate::{Error, Family, HostPort, OwnerId};

/// How long it is tried to list the map, for the hairpin elements of pods of which several containers had host ports:
/// in all withdrawals of a [`WHILE`], since whoever clears up behind many dead owners keeps others waiting.
const LISTING: Duration = Duration::from_secs(2);
const WHILE: Duration = Duration::from_secs(60);

/// What withdrawals have left of [`LISTING`].
#[derive(Debug)]
pub(crate) struct Listings {
    since: Instant,
    left: Duration,
}

impl Listings {
    pub(crate) fn new() -> Self {
        Listings { since: Instant::now(), left: LISTING }
    }
}

impl HostPorts {
    /// Withdraws what an owner has of some host ports, in one transaction, and returns it.
    ///
    /// Name all the host ports of the owner: what belongs to its endpoint besides goes too. A host
    /// port that is not published, or that another owner has by now, is none of its business and left
    /// alone; so it is no error to withdraw twice, or after the table was deleted. `pods` are addresses
    /// that the owner is known to have had: for an owner that lost all of its host ports to others,
    /// nothing else tells them. It may be empty.
    ///
    /// For a pod of which several owners had host ports, all of them are listed, to tell whether its hairpin
    /// element is still needed. All withdrawals of one minute together spend two seconds on that; then the
    /// element stays until a restore.
    ///
    /// ```no_run
    /// # use std::collections::BTreeSet;
    /// # use hostport_nft::{Family, HostPort, HostPorts, Protocol, Settings};
    /// # let host_ip = Family::Ip.wildcard();
    /// # let host = HostPort { host_ip, port: "9000".parse()?, protocol: Protocol::Tcp };
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// let hosts = BTreeSet::from([host]);
    /// let withdrawn = host_ports.withdraw(&"5e0f".parse()?, &hosts, &BTreeSet::new())?;
    /// println!("{} host ports were still its own", withdrawn.len());
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
        if self.listings.since.elapsed() > WHILE {
            self.listings = Listings::new();
        }
        let patience = std::mem::replace(&mut self.patience, self.listings.left);
        let mut done = attempt(Some(LISTING), || self.withdraw_once(owner, hosts, pods, true));
        self.listings.left = self.patience;
        // Others change the ruleset faster than it can be listed. That the host ports go matters more than that
        // a hairpin element does.
        if let Err(Error::Contention { .. }) = done {
            done = attempt(None, || self.withdraw_once(owner, hosts, pods, false));
        }
        self.patience = patience;
        let (withdrawn, lost) = done?;
        Ok(lost.filter(|_| withdrawn.is_empty()).unwrap_or(withdrawn))
    }

    /// One compare-and-swap; void if the ruleset changed meanwhile.
    fn withdraw_once(
        &mut self,
        owner: &OwnerId,
        hosts: &BTreeSet<HostPort>,
        pods: &BTreeSet<IpAddr>,
        lists: bool,
    ) -> Result<Attempt<Vec<Published>>, Error> {
        let mut batch = Batch::new(Some(self.generation()?));
        let mut withdrawn = Vec::new();
        // Nothing of a table that is not ours is ours.
        let mut foreign = BTreeSet::new();
        let families =
            hosts.iter().map(HostPort::family).chain(pods.iter().copied().map(Family::of));
        for family in families.collect::<BTreeSet<_>>() {
            match self.table_state(family) {
                Err(Error::ForeignTable { family, .. }) => drop(foreign.insert(family)),
                state => drop(state?),
            }
        }
        for host in hosts.iter().filter(|host| !foreign.contains(&host.family())) {
            match self.get(*host)? {
                Some(published) if published.owner.as_ref() == Some(owner) => {
                    let (family, key) = (host.family(), port_key(*host));
                    let table = &self.settings.table;
                    batch.push(Message::delete_element(family, table, PORTS, &key), "a host port");
                    withdrawn.push(published);
                }
                _ => {}
            }
        }
        let left = withdrawn.iter().map(|published| published.mapping.endpoint().ip);
        let known = pods.iter().copied().filter(|pod| !foreign.contains(&Family::of(*pod)));
        for pod in left.chain(known).collect::<BTreeSet<IpAddr>>() {
            let begin = Instant::now();
            let ends = self.hairpin_ends(pod, owner, &withdrawn, lists);
            self.patience = self.patience.saturating_sub(begin.elapsed());
            if ends? {
                let (family, key) = (Family::of(pod), hairpin_key(pod));
                let table = &self.settings.table;
                let message = Message::delete_element(family, table, HAIRPIN, &key);
                batch.push(message, "a hairpin element");
            }
        }
        batch.commit(&mut self.socket)?.of(withdrawn)
    }

    /// Whether nobody needs a pod's hairpin element once the mappings are withdrawn.
    ///
    /// Only for a pod of which several containers had host ports is the whole map read. Also where nothing
    /// is withdrawn there: the last one of them may have lost its host ports to others.
    pub(crate) fn hairpin_ends(
        &mut self,
        pod: IpAddr,
        owner: &OwnerId,
        withdrawn: &[Published],
        lists: bool,
    ) -> Result<bool, Error> {
        Ok(match self.hairpin(pod)?.map(|hairpin| hairpin.owner) {
            Some(HairpinOwner::One(only)) => only == *owner,
            Some(HairpinOwner::Several) if lists => {
                let left = self.ports(Family::of(pod))?;
                left.iter()
                    .filter(|published| published.mapping.endpoint().ip == pod)
                    .all(|published| withdrawn.iter().any(|gone| gone.mapping == published.mapping))
            }
            _ => false,
        })
    }
}
