//! What holds of host ports besides their mappings.

use std::collections::{BTreeMap, BTreeSet};

use super::attempt::{Attempt, attempt};
use super::host_ports::{HostPorts, TableState};
use crate::error::Error;
use crate::kernel::retry::PATIENCE;
use crate::kernel::{Change, Element, Kernel, SetName};
use crate::model::{Conditions, Family, HostPort};
use crate::ruleset::element::{Masqueraded, port_key};
use crate::ruleset::host::{Kept, Restricted, Source};

/// The sets with the conditions.
const SETS: [SetName; 4] =
    [SetName::Kept, SetName::Restricted, SetName::Sources, SetName::Masqueraded];

/// What the elements of these sets say, without the links.
pub(super) fn conditions_of(
    family: Family,
    present: &BTreeMap<SetName, Vec<Element>>,
) -> Conditions {
    let elements = |set| present.get(&set).into_iter().flatten();
    let restricted = elements(SetName::Restricted);
    let restricted = restricted.filter_map(|element| Restricted::from_element(family, element));
    let mut conditions = Conditions {
        links: Vec::new(),
        kept: elements(SetName::Kept)
            .filter_map(|element| Some(Kept::from_element(family, element)?.0))
            .collect(),
        sources: restricted.map(|restricted| (restricted.host, Vec::new())).collect(),
        masqueraded: elements(SetName::Masqueraded)
            .filter_map(|element| Some(Masqueraded::from_element(family, element)?.pod))
            .collect(),
    };
    let sources = elements(SetName::Sources);
    for source in sources.filter_map(|element| Source::from_element(family, element)) {
        // Without the other element they restrict nothing.
        if let Some(nets) = conditions.sources.get_mut(&source.host) {
            nets.push(source.net);
        }
    }
    conditions
}

impl<K: Kernel> HostPorts<K> {
    /// What holds of the published host ports besides their mappings, without the links.
    ///
    /// ```no_run
    /// # use hostport_nft::{HostPorts, Settings};
    /// for host in HostPorts::open(Settings::default())?.conditions()?.kept {
    ///     println!("{host} stays with a process of the host");
    /// }
    /// # Ok::<(), hostport_nft::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`HostPorts::list`].
    pub fn conditions(&mut self) -> Result<Conditions, Error> {
        let mut all = Conditions::default();
        for family in Family::ALL {
            let of_family = conditions_of(family, &self.present(family, &SETS, PATIENCE)?);
            all.kept.extend(of_family.kept);
            all.sources.extend(of_family.sources);
            all.masqueraded.extend(of_family.masqueraded);
        }
        Ok(all)
    }

    /// Leaves alone exactly those of these that a published wildcard would take. False if that was so already.
    ///
    /// ```no_run
    /// # use std::collections::{BTreeMap, BTreeSet};
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
