//! What holds of host ports besides their mappings.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::attempt::{Attempt, attempt};
use super::host_ports::{HostPorts, TableState};
use crate::error::Error;
use crate::kernel::walk::PATIENCE;
use crate::kernel::{Change, Element, Kernel, SetName, Transaction};
use crate::model::{Claim, Conditions, Family, Gather, HostPort};
use crate::ruleset::element::{Hairpin, HairpinOwner, Masqueraded, SameLink, port_key};
use crate::ruleset::host::{Kept, Restricted, Source};
use crate::ruleset::table::Elements;

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
            .gather(),
        sources: restricted.map(|restricted| (restricted.host, Vec::new())).gather(),
        masqueraded: elements(SetName::Masqueraded)
            .filter_map(|element| Some(Masqueraded::from_element(family, element)?.pod))
            .gather(),
        shared: BTreeSet::new(),
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

/// Each endpoint's address, with the owner of its hairpin element.
pub(super) fn hairpins<'a>(
    claims: impl Iterator<Item = &'a Claim>,
) -> BTreeMap<IpAddr, HairpinOwner> {
    let mut pods = BTreeMap::new();
    for claim in claims {
        pods.entry(claim.mapping.endpoint().ip)
            .and_modify(|owner| {
                if matches!(owner, HairpinOwner::One(one) if *one != claim.owner) {
                    *owner = HairpinOwner::Several;
                }
            })
            .or_insert_with(|| HairpinOwner::One(claim.owner.clone()));
    }
    pods
}

impl Elements {
    /// What the claims of a family need besides their ports.
    pub(super) fn around(family: Family, claims: &[&Claim], conditions: &Conditions) -> Self {
        let hosts = || claims.iter().map(|claim| claim.mapping.host());
        let wide: BTreeSet<_> = hosts()
            .filter(|host| host.host_ip.is_unspecified())
            .map(|host| (host.port, host.protocol))
            .gather();
        let hairpin: Vec<Hairpin> = hairpins(claims.iter().copied())
            .into_iter()
            .map(|(pod, owner)| match conditions.shared.contains(&pod) {
                true => Hairpin { pod, owner: HairpinOwner::Several },
                false => Hairpin { pod, owner },
            })
            .collect();
        let masqueraded = hairpin.iter().filter(|h| conditions.masqueraded.contains(&h.pod));
        let links = conditions.links.iter().filter(|link| link.family == family && link.bypasses);
        let kept = conditions.kept.iter().filter(|host| host.family() == family);
        let restricted = claims.iter().filter_map(|claim| {
            let (host, owner) = (claim.mapping.host(), Some(claim.owner.clone()));
            Some((Restricted { host, owner }, conditions.sources.get(&host)?))
        });
        let restricted: Vec<_> = restricted.collect();
        let sources = restricted.iter().flat_map(|(of, nets)| {
            let nets: Vec<IpNet> =
                nets.iter().copied().filter(|net| Family::of(net.addr()) == family).collect();
            // The kernel refuses ranges that overlap.
            let nets = IpNet::aggregate(&nets).into_iter();
            nets.map(|net| Source { host: of.host, net, owner: of.owner.clone() })
        });
        Elements {
            ports: Vec::new(),
            kept: kept
                .filter(|host| wide.contains(&(host.port, host.protocol)))
                .map(|host| Kept(*host))
                .collect(),
            sources: sources.collect(),
            same_link: links
                .map(|link| SameLink(link.name.clone()))
                .gather::<BTreeSet<_>>()
                .into_iter()
                .collect(),
            masqueraded: masqueraded
                .map(|Hairpin { pod, owner }| Masqueraded { pod: *pod, owner: owner.clone() })
                .collect(),
            restricted: restricted.into_iter().map(|(restricted, _)| restricted).collect(),
            hairpin,
        }
    }
}

/// Adds what new claims need besides their ports and hairpin elements. Links stay when the last pod goes: an element
/// does nothing where no reply could bypass the host, as on a bridge that netfilter has come to see.
pub(super) fn push_conditions(
    transaction: &mut Transaction,
    claims: &[Claim],
    new: &[Claim],
    conditions: &Conditions,
) {
    for family in claims.iter().map(|claim| claim.mapping.family()).gather::<BTreeSet<_>>() {
        let of_family = |claim: &&Claim| claim.mapping.family() == family;
        let all: Vec<&Claim> = claims.iter().filter(of_family).collect();
        let shared = Elements::around(family, &all, conditions);
        let own =
            Elements::around(family, &new.iter().filter(of_family).collect::<Vec<_>>(), conditions);
        // Not exclusive: other pods on the link, and other containers of the pod, have the same ones.
        let mut push = |set, elements| transaction.push(Change::NewElements(family, set, elements));
        push(SetName::SameLink, shared.same_link.iter().map(SameLink::element).collect());
        push(SetName::Masqueraded, shared.masqueraded.iter().map(Masqueraded::element).collect());
        push(SetName::Kept, own.kept.iter().map(Kept::element).collect());
        // Exclusive: what another owner has left there would let others in.
        let mut push = |set, element| transaction.push(Change::NewElement(family, set, element));
        own.restricted.iter().for_each(|host| push(SetName::Restricted, host.element()));
        own.sources.iter().for_each(|source| push(SetName::Sources, source.element()));
    }
}

impl<K: Kernel> HostPorts<K> {
    /// What holds of the published host ports besides their mappings, without the links and the shared pods.
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
            let present: BTreeSet<HostPort> = present.iter().filter_map(kept).gather();
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
