//! What must hold, at each step and at the end of each schedule.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use hostport_nft::{Claim, HostPort, Mapping, OwnerId, Published, TableName};

use super::actors::Op;
use super::stage::Actor;
use super::world::{Container, Life, Process, State, Trouble, World};
use crate::journal::Entry;

/// The ends that schedules have come to.
#[derive(Clone, Default)]
pub struct Ends(Arc<Mutex<HashSet<u64>>>);

impl Ends {
    fn is_new(&self, world: &World) -> bool {
        let mut hasher = DefaultHasher::new();
        for (host, there) in world.published() {
            (host, there.mapping, owner(Some(&there))).hash(&mut hasher);
        }
        world.hand().hairpins(&TableName::default()).hash(&mut hasher);
        world.disk.files().hash(&mut hasher);
        let state = world.state();
        (&state.lives, &state.lost, &state.moved, &state.late).hash(&mut hasher);
        state.was_flushed.hash(&mut hasher);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(hasher.finish())
    }
}

/// Who has a port, for messages.
fn owner(published: Option<&Published>) -> &str {
    published.and_then(|published| published.owner.as_ref()).map_or("nobody", OwnerId::as_str)
}

impl World {
    /// Ends the schedule: something is wrong.
    pub fn wrong(&self, what: &str) -> ! {
        self.stage.fail(what)
    }

    pub fn dead(&self) -> BTreeSet<&'static str> {
        let state = self.state();
        state.lives.iter().filter(|(_, life)| life.is_dead).map(|(name, _)| *name).collect()
    }

    /// Takes note of what is published before the actors begin, and of the ports that containers have lost by then.
    pub fn note_published(&self) {
        let published = self.published();
        let mut state = self.state();
        let containers: Vec<Container> = state.containers.values().copied().collect();
        for container in containers {
            let owner = container.owner();
            for host in container.claims().iter().map(|claim| claim.mapping.host()) {
                if published.get(&host).is_some_and(|there| there.owner.as_ref() != Some(&owner)) {
                    state.lost.entry(owner.clone()).or_default().insert(host);
                }
            }
        }
        state.published = published;
    }

    /// What a transaction changed, and what is wrong with it, if this actor may not change that.
    pub fn check_commit(&self, actor: Actor) -> (String, Option<String>) {
        let now = self.published();
        let mut state = self.state();
        let before = std::mem::replace(&mut state.published, now.clone());
        let op = state.doing.get(&Some(actor)).copied();
        let hosts: BTreeSet<HostPort> = before.keys().chain(now.keys()).copied().collect();
        let (mut changes, mut wrong) = (String::new(), None);
        for host in hosts {
            let (before, now) = (before.get(&host), now.get(&host));
            if before.map(|p| (&p.owner, p.mapping)) == now.map(|p| (&p.owner, p.mapping)) {
                continue;
            }
            let _ = write!(changes, "{} {} -> {}, ", host.port, owner(before), owner(now));
            wrong = wrong.or(state.judge(op, before, now).err());
            let had = before.and_then(|before| before.owner.as_ref());
            if let Some(owner) =
                now.and_then(|now| now.owner.clone()).filter(|now| Some(now) != had)
            {
                let may =
                    before.is_none_or(|before| state.is_dead(before)) || state.may_replace(now);
                // All that shared it lose it, if it leads elsewhere now.
                let elsewhere =
                    before.filter(|before| Some(before.mapping) != now.map(|n| n.mapping));
                let shared = elsewhere.map(|before| state.sharers(before)).unwrap_or_default();
                let before = before.and_then(|before| before.owner.clone());
                for before in shared.into_iter().chain(before) {
                    let lost = if may { &mut state.lost } else { &mut state.lost_early };
                    lost.entry(before).or_default().insert(host);
                }
                state.lost.entry(owner).or_default().remove(&host);
            }
        }
        let wrong = wrong.map(|wrong| {
            format!("{}: {wrong}: {changes}", op.map(|op| op.to_string()).unwrap_or_default())
        });
        if changes.is_empty() {
            changes.push_str("nothing");
        }
        (changes, wrong)
    }

    /// Whether the journal knows the owner of everything that is published. A process that dies then leaves nothing
    /// that nobody finds.
    pub fn check_journal(&self) {
        let (published, mut state) = (self.published(), self.state());
        for (host, there) in published {
            if state.is_forgotten(&there) {
                continue;
            }
            let owner = owner(Some(&there));
            let file = self.disk.file(&format!("{owner}.json"));
            if !file.is_some_and(|text| state.mappings_in(text).contains(&there.mapping)) {
                drop(state);
                self.wrong(&format!(
                    "{host} of {owner} is published, and the journal does not know"
                ));
            }
        }
    }

    /// What must hold once all actors have ended. Most schedules of a scenario come to one of few ends, and each is
    /// looked at once.
    pub fn check_end(self: &Arc<Self>, ends: &Ends) {
        if !ends.is_new(self) {
            return;
        }
        let process = Process::new(self, None, Trouble::default());
        let containers: Vec<Container> = self.state().containers.values().copied().collect();
        if !self.state().was_flushed {
            containers.iter().for_each(|container| self.check_all_or_none(container));
            containers.iter().for_each(|container| self.check_living(container, &[false, true]));
        }
        process.run(&[Op::Restore]);
        containers.iter().for_each(|container| {
            let has_moved = self.state().moved.contains(container.name);
            self.check_living(container, &[has_moved]);
        });
        process.run(&[Op::Gc]);
        self.check_gone();
        self.check_disputes();
        let before = self.owners();
        process.run(&[Op::Flush, Op::Restore]);
        if self.owners() != before {
            self.wrong("a flush and a restore change who has which port");
        }
        self.check_gone();
        for container in &containers {
            self.end(container);
        }
        process.run(&[Op::Gc]);
        self.check_gone();
    }

    /// All of a container's ports are published, or none; but for those that others took. Where its hook was killed,
    /// or got no answer, a restore may have given it what others left.
    fn check_all_or_none(&self, container: &Container) {
        let state = self.state();
        let life = state.lives[container.name];
        if !life.is_dead && !life.is_published || life.is_unanswered && state.was_restored {
            return;
        }
        // Its poststop was killed, and another container of its pod has ended since.
        let shares =
            |other: &&Container| other.shares_with(container) && other.name != container.name;
        if life.is_withdrawn && !life.is_dead && state.containers.values().any(|one| shares(&one)) {
            return;
        }
        let owner = container.owner();
        let lost = [state.lost.get(&owner), state.lost_early.get(&owner)];
        let kept = container.claims().into_iter().filter(|claim| {
            let host = claim.mapping.host();
            claim.owner == owner && !lost.iter().flatten().any(|lost| lost.contains(&host))
        });
        // What a living container of its pod has serves it too.
        let has = kept.map(|claim| {
            let there = state.published.get(&claim.mapping.host());
            there.is_some_and(|there| {
                let own = there.owner.as_ref() == Some(&claim.owner);
                let lives = !life.is_dead && !life.is_withdrawn;
                own || lives && there.mapping == claim.mapping && !state.is_dead(there)
            })
        });
        let has: BTreeSet<bool> = has.collect();
        drop(state);
        if has.len() > 1 {
            self.wrong(&format!("{} has some of its ports, and not all", container.name));
        }
    }

    /// A living container that was told so has its ports, but for those that others took as they may.
    /// They lead to one of its addresses: that before it moved, or that after.
    fn check_living(&self, container: &Container, has_moved: &[bool]) {
        let (life, lost) = {
            let state = self.state();
            let lost = state.lost.get(&container.owner()).cloned().unwrap_or_default();
            (state.lives[container.name], lost)
        };
        let late = self.state().late.get(container.name).copied();
        // One without an address has nothing until a restore finds one.
        if life.is_dead
            || life.is_withdrawn
            || !life.is_published
            || late == Some(false)
            || late.is_some() && has_moved.contains(&false)
        {
            return;
        }
        let published = self.published();
        let addresses = has_moved.iter().map(|has_moved| container.endpoint(*has_moved));
        let addresses: BTreeSet<IpAddr> = addresses.collect();
        let has = |claim: &Claim| {
            published.get(&claim.mapping.host()).is_some_and(|there| {
                addresses.contains(&there.mapping.endpoint().ip)
                    && there.mapping.endpoint().port == claim.mapping.endpoint().port
                    && there.owner.as_ref().is_some_and(|owner| {
                        container.speaks_for(owner) || self.state().shares(there)
                    })
            })
        };
        let claims = container.claims();
        let missing: Vec<HostPort> = claims
            .iter()
            .filter(|claim| !has(claim) && !lost.contains(&claim.mapping.host()))
            .map(|claim| claim.mapping.host())
            .collect();
        // After a flush, a container that publishes does not see who had the port. An entry that loses a port so
        // looks like that of a hook that was killed before its transaction, and counts for nothing.
        let other =
            |host: &HostPort| published.get(host).is_some_and(|there| self.state().may_have(there));
        // And another may have got one of its ports before it had an address.
        let others = |host: &HostPort| late.is_some() && published.contains_key(host);
        let is_excused = missing.iter().any(|host| other(host) || others(host));
        if let Some(host) = missing.first().filter(|_| !is_excused) {
            let there = owner(published.get(host)).to_owned();
            self.wrong(&format!(
                "{} lives without its port {host}, which is {there}'s",
                container.name
            ));
        }
    }

    /// Each port that is published, with the owner that the journal knows; of several that share it, the first by name.
    fn owners(&self) -> BTreeMap<HostPort, (Mapping, String)> {
        let state = self.state();
        let name = |there: &Published| {
            let asks = |container: &&Container| {
                !state.lives[container.name].is_dead
                    && container.claims().iter().any(|claim| claim.mapping == there.mapping)
            };
            let first = state.containers.values().find(asks).filter(|_| state.shares(there));
            first.map_or(owner(Some(there)), |container| container.name).to_owned()
        };
        let published = self.published().into_iter();
        published
            .filter(|(_, there)| !state.is_forgotten(there))
            .map(|(host, there)| (host, (there.mapping, name(&there))))
            .collect()
    }

    /// After a restore, a port is in one entry: only then does a later restore give it to the same owner.
    fn check_disputes(&self) {
        let entries = self.disk.files();
        let entries = entries.values().filter_map(|text| Entry::from_json(text).ok());
        let mut owners: BTreeMap<HostPort, (Mapping, OwnerId)> = BTreeMap::new();
        for entry in entries {
            for mapping in &entry.mappings {
                let host = mapping.host();
                let other = owners.insert(host, (*mapping, entry.owner.clone()));
                // The containers of a pod may ask for the same.
                if let Some((_, other)) = other.filter(|(other, _)| other != mapping) {
                    self.wrong(&format!("{host} is in the entries of {other} and {}", entry.owner));
                }
            }
        }
    }

    /// Nothing is left of the dead that the journal knew.
    fn check_gone(&self) {
        let dead = self.dead();
        let published = self.published();
        for (host, there) in &published {
            if dead.contains(owner(Some(there))) && !self.state().is_forgotten(there) {
                self.wrong(&format!("{host} is still {}'s, which is dead", owner(Some(there))));
            }
        }
        for name in self.disk.files().keys() {
            let owner = name.strip_suffix(".json");
            if owner.is_none_or(|owner| dead.contains(owner)) {
                self.wrong(&format!("the journal still has the file {name}"));
            }
        }
        // One that lost all of its ports to others takes its hairpin element along when it ends.
        let living: Vec<IpAddr> = {
            let state = self.state();
            let lives = |container: &&Container| !dead.contains(container.name);
            let address =
                |container: &Container| container.endpoint(state.moved.contains(container.name));
            state.containers.values().filter(lives).map(address).collect()
        };
        for pod in self.hand().hairpins(&TableName::default()) {
            if !living.contains(&pod)
                && !published.values().any(|there| there.mapping.endpoint().ip == pod)
            {
                self.wrong(&format!("there is a hairpin element for {pod}, and no port"));
            }
        }
    }
}

impl State {
    /// The mappings in the text of an entry. The same texts come again and again.
    fn mappings_in(&mut self, text: Vec<u8>) -> &BTreeSet<Mapping> {
        self.entries.entry(text).or_insert_with_key(|text| {
            Entry::from_json(text).map(|entry| entry.flows().collect()).unwrap_or_default()
        })
    }

    /// Whether an operation may do this to a port.
    fn judge(
        &self,
        op: Option<Op>,
        before: Option<&Published>,
        now: Option<&Published>,
    ) -> Result<(), &'static str> {
        let dead_before = before.is_none_or(|before| self.is_dead(before));
        // Who has only begun to publish again is told that another has the port.
        let free = dead_before || before.is_some_and(|before| !self.is_told(before));
        match op {
            Some(Op::Publish(container)) => {
                let own = |there: &Published| {
                    there.owner.as_ref().is_some_and(|owner| container.speaks_for(owner))
                };
                if self.goes_on(before, now) {
                    return Ok(());
                }
                if !now.is_none_or(own) {
                    return Err("publishes for somebody else");
                }
                if free || before.is_some_and(own) || (container.replaces && now.is_some()) {
                    return Ok(());
                }
                Err("takes a port from a living owner")
            }
            Some(Op::Withdraw(container)) => {
                let own = before.is_some_and(|there| there.owner == Some(container.owner()));
                let gone = now.is_none() || self.shares_both(before, now);
                if own && gone { Ok(()) } else { Err("withdraws what is another's") }
            }
            Some(Op::Gc) if (now.is_none() || self.goes_on(before, now)) && free => Ok(()),
            Some(Op::Gc) => Err("collects what is a living owner's"),
            Some(Op::Restore) => {
                let shared = self.shares_both(before, now);
                let follows = now.is_some_and(|now| before.is_some_and(|b| b.owner == now.owner));
                let may = shared || follows || now.is_some_and(|now| self.may_have(now));
                if !free && !may {
                    return Err("takes a port from a living owner");
                }
                Ok(())
            }
            _ => Err("changes what is published"),
        }
    }

    fn life(&self, published: &Published) -> Option<Life> {
        let owner = published.owner.as_ref()?;
        self.lives.get(owner.as_str()).copied()
    }

    fn is_forgotten(&self, published: &Published) -> bool {
        published.owner.as_ref().is_some_and(|owner| self.forgotten.contains(owner))
    }

    fn is_dead(&self, published: &Published) -> bool {
        self.life(published).is_some_and(|life| life.is_dead)
    }

    /// Whether the owner lives and was told that it has its ports.
    fn is_told(&self, published: &Published) -> bool {
        let told = |life: Life| !life.is_dead && life.is_published && !life.is_withdrawn;
        self.life(published).is_some_and(told)
    }

    /// Whether the owner of what is published is a container that asks for that.
    fn shares(&self, published: &Published) -> bool {
        let owner = published.owner.as_ref();
        let container = owner.and_then(|owner| self.containers.get(owner.as_str()));
        container.is_some_and(|container| {
            container.claims().iter().any(|claim| claim.mapping == published.mapping)
        })
    }

    /// Whether a container that lived at some moment asks for something that an owner asks for.
    pub fn is_shared_by_living(
        &self,
        owner: &OwnerId,
        lives: &BTreeMap<&'static str, Life>,
    ) -> bool {
        let Some(container) = self.containers.get(owner.as_str()) else { return false };
        let lives = |other: &&Container| lives.get(other.name).is_some_and(|life| !life.is_dead);
        self.containers.values().filter(lives).any(|other| other.shares_with(container))
    }

    /// The containers that ask for a mapping.
    fn sharers(&self, published: &Published) -> Vec<OwnerId> {
        let asks = |container: &&Container| {
            container.claims().iter().any(|claim| claim.mapping == published.mapping)
        };
        self.containers.values().filter(asks).map(Container::owner).collect()
    }

    /// Whether a port goes from one container to another that asked for the same.
    fn shares_both(&self, before: Option<&Published>, now: Option<&Published>) -> bool {
        let both = before.zip(now);
        both.is_some_and(|(before, now)| before.mapping == now.mapping && self.shares(now))
    }

    /// Whether a living container goes on with what a dead one had.
    fn goes_on(&self, before: Option<&Published>, now: Option<&Published>) -> bool {
        before.is_some_and(|before| self.is_dead(before)) && self.shares_both(before, now)
    }

    fn may_replace(&self, published: Option<&Published>) -> bool {
        let owner = published.and_then(|published| published.owner.as_ref());
        let container = owner.and_then(|owner| self.containers.get(owner.as_str()));
        container.is_some_and(|container| container.replaces)
    }

    /// Whether a living owner may have a port that another living one was told is its own: it replaces that one, or
    /// another program has flushed the ruleset, which alone says who has a port.
    fn may_have(&self, published: &Published) -> bool {
        self.may_replace(Some(published)) || (self.was_flushed && !self.is_dead(published))
    }
}
