//! Addresses that the wildcard leaves alone, because a process of the host listens there.

use std::collections::BTreeSet;

use super::attempt::{Attempt, attempt};
use super::host_ports::{HostPorts, TableState};
use crate::error::Error;
use crate::kernel::retry::PATIENCE;
use crate::kernel::{Change, Kernel, SetName};
use crate::model::{Family, HostPort};
use crate::ruleset::element::port_key;
use crate::ruleset::host::Kept;

impl<K: Kernel> HostPorts<K> {
    /// What the wildcard leaves alone now, in both families.
    ///
    /// ```no_run
    /// # use hostport_nft::{HostPorts, Settings};
    /// for host in HostPorts::open(Settings::default())?.kept()? {
    ///     println!("{host} stays with a process of the host");
    /// }
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`HostPorts::list`].
    pub fn kept(&mut self) -> Result<BTreeSet<HostPort>, Error> {
        let mut kept = BTreeSet::new();
        for family in Family::ALL {
            kept.extend(self.kept_of(family)?.into_iter().map(|Kept(host)| host));
        }
        Ok(kept)
    }

    /// Leaves alone exactly those of these that a published wildcard would take. False if that was so already.
    ///
    /// ```no_run
    /// # use std::collections::BTreeSet;
    /// # use hostport_nft::{HostPorts, Settings};
    /// let mut host_ports = HostPorts::open(Settings::default())?;
    /// // No process of the host listens on one address alone.
    /// host_ports.keep(&BTreeSet::new())?;
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`HostPorts::withdraw`].
    pub fn keep(&mut self, listening: &BTreeSet<HostPort>) -> Result<bool, Error> {
        let (changed, lost) = attempt(self, None, |this| this.keep_once(listening))?;
        Ok(changed || lost == Some(true))
    }

    fn keep_once(&mut self, listening: &BTreeSet<HostPort>) -> Result<Attempt<bool>, Error> {
        let mut transaction = self.transaction()?;
        for family in Family::ALL {
            let ours = [TableState::Current, TableState::Outdated];
            if !self.table_state(family).is_ok_and(|state| ours.contains(&state)) {
                continue;
            }
            // Schema 1 has no such set.
            let Some(present) = self.elements_of(family, SetName::Kept, PATIENCE)? else {
                continue;
            };
            let kept = |element| Some(Kept::from_element(family, element)?.0);
            let present: BTreeSet<HostPort> = present.iter().filter_map(kept).collect();
            let mut wanted = BTreeSet::new();
            for host in listening.iter().filter(|host| host.family() == family) {
                if self.get(HostPort { host_ip: family.wildcard(), ..*host })?.is_some() {
                    wanted.insert(*host);
                }
            }
            for gone in present.difference(&wanted) {
                let key = port_key(*gone);
                transaction.push(Change::DeleteElement(family, SetName::Kept, key));
            }
            let new = wanted.difference(&present).map(|host| Kept(*host).element()).collect();
            transaction.push(Change::NewElements(family, SetName::Kept, new));
        }
        match transaction.is_empty() {
            true => Ok(Attempt::Made(false)),
            false => self.commit(&transaction, true),
        }
    }
}
