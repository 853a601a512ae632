//! What restore and watch look at beside ruleset and journal: the containers' addresses, and the links towards them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hostport_nft::{Gather, OwnerId};
use tracing::{info, warn};

use crate::cli::RulesetArguments;
use crate::commands::CommandError;
use crate::context::Context;
use crate::journal::{Entry, JournalSnapshot, Liveness, PATIENCE, present};
use crate::network::links::{Links, Site};
use crate::reconcile::conflicts::latest_first;
use crate::reconcile::follow::follow;
use crate::reconcile::{self, Node};

/// How soon an owner is looked at that has no address yet, and how late at most.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// The containers behind endpoints.
pub fn sites(endpoints: BTreeSet<IpAddr>, entries: &[Entry]) -> BTreeMap<IpAddr, Site> {
    let mut sites: BTreeMap<IpAddr, Site> =
        endpoints.into_iter().map(|ip| (ip, Site::default())).gather();
    for entry in entries {
        for ip in entry.pods() {
            if let Some(site) = sites.get_mut(&ip) {
                site.places.extend(entry.places());
                site.hairpin_mode |= entry.hairpin_mode;
                site.without_snat |= entry.attachment.as_ref().is_some_and(|of| !of.snat);
            }
        }
    }
    sites
}

/// What watch knows of containers' addresses.
#[derive(Default)]
pub struct Look {
    /// The conflicts that were logged.
    conflicts: BTreeSet<String>,
    /// The owners without an address. They are looked at often at first, and then less and less.
    waiting: BTreeSet<OwnerId>,
    pause: Duration,
    looked: Option<Instant>,
}

impl Look {
    /// Whether host ports lead to the addresses that containers have now. If so, puts in order what is beside the
    /// ruleset; what cannot be, restore says.
    pub fn is_right(
        &mut self,
        ruleset: &RulesetArguments,
        context: &Context,
    ) -> Result<bool, CommandError> {
        let snapshot = JournalSnapshot::read(&context.state_dir, PATIENCE);
        let mut entries = snapshot.map_err(reconcile::Error::from)?.entries;
        entries.retain(|entry| {
            entry.settings.table == context.table && !context.liveness().is_dead(entry)
        });
        let following = follow(&entries, present());
        if !following.changed.is_empty() {
            return Ok(false);
        }
        let conflicts = following.conflicts(&entries);
        conflicts.difference(&self.conflicts).for_each(|conflict| warn!("{conflict}"));
        self.conflicts = conflicts;
        let latest = entries.iter().min_by(|a, b| latest_first(a, b));
        let localhost = match latest.filter(|_| !ruleset.is_given()) {
            Some(latest) => latest.settings.localhost,
            None => ruleset.settings(context.table.clone()).localhost,
        };
        let mappings = entries.iter().flat_map(|entry| &entry.mappings);
        let endpoints = mappings.map(|mapping| mapping.endpoint().ip).gather();
        let links = Links::towards(&sites(endpoints, &entries), |_| {})?;
        links.mend(localhost).done.iter().for_each(|line| info!("{line}"));
        Ok(true)
    }

    /// How long until an owner is to be looked at that has no address.
    pub fn until_next(&self) -> Option<Duration> {
        let looked = self.looked.filter(|_| !self.waiting.is_empty())?;
        Some(self.pause.saturating_sub(looked.elapsed()))
    }

    /// Whether it is time to look at the owners without an address, and one of them has got one.
    pub fn has_found(&mut self, waiting: Option<&BTreeSet<OwnerId>>, context: &Context) -> bool {
        if waiting != Some(&self.waiting) {
            self.waiting = waiting.cloned().unwrap_or_default();
            (self.pause, self.looked) = (FIRST_PAUSE, Some(Instant::now()));
        }
        if self.until_next() != Some(Duration::ZERO) {
            return false;
        }
        (self.pause, self.looked) = ((self.pause * 3 / 2).min(LAST_PAUSE), Some(Instant::now()));
        let entries = JournalSnapshot::of_owners(&context.state_dir, &self.waiting);
        !follow(&entries, present()).changed.is_empty()
    }
}
