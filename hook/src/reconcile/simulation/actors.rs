//! What actors do: each operation of the program as it is, and what others do to the same machine.

use std::fmt;
use std::net::IpAddr;

use hostport_nft::{Conditions, Error as NftError, OwnerId, TableName};

use super::world::{Container, Process, World};
use crate::journal::{Journal, Lock};
use crate::network::Reach;
use crate::reconcile::publish::publish;
use crate::reconcile::restore::{Plan, restore};
use crate::reconcile::withdraw::withdraw;
use crate::reconcile::{Error, Node, gc};
use hostport_nft::Settings;

/// One thing that an actor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// The container's process starts, for the first time or again under the same ID.
    Start(Container),
    /// The hook at its start. A container whose hook fails is ended by its runtime.
    Publish(Container),
    /// The container's process ends.
    End(Container),
    /// The hook at its end.
    Withdraw(Container),
    /// The container has no address yet.
    Hide(Container),
    /// The container gets an address, or another one.
    Move(Container),
    Restore,
    Gc,
    /// `nft flush ruleset`
    Flush,
    /// Somebody removes the container's journal entry.
    Lose(Container),
}

/// For the lines of a schedule.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Start(container) => write!(f, "start {}", container.name),
            Op::Publish(container) => write!(f, "publish {}", container.name),
            Op::End(container) => write!(f, "end {}", container.name),
            Op::Withdraw(container) => write!(f, "withdraw {}", container.name),
            Op::Hide(container) => write!(f, "hide {}", container.name),
            Op::Move(container) => write!(f, "move {}", container.name),
            Op::Restore => f.write_str("restore"),
            Op::Gc => f.write_str("gc"),
            Op::Flush => f.write_str("flush"),
            Op::Lose(container) => write!(f, "lose the entry of {}", container.name),
        }
    }
}

/// Nothing is to be set beside the ruleset.
struct NoReach;

impl Reach for NoReach {
    fn open_localhost(&mut self) {}

    fn open_hairpin(&mut self) {}

    fn is_local(&mut self, _: IpAddr) -> bool {
        false
    }
}

impl Process {
    /// Does one thing after another.
    pub fn run(&self, ops: &[Op]) {
        for op in ops {
            let mut state = self.world.state();
            state.doing.insert(self.actor, *op);
            state.was_restored |= *op == Op::Restore;
            drop(state);
            self.perform(*op);
        }
        self.world.state().doing.remove(&self.actor);
    }

    fn perform(&self, op: Op) {
        let table = TableName::default();
        let done = match op {
            Op::Start(container) => {
                self.elsewhere("starts", &container, World::start);
                Ok(())
            }
            Op::End(container) => {
                self.elsewhere("ends", &container, World::end);
                Ok(())
            }
            Op::Hide(container) => {
                self.world.state().late.insert(container.name, false);
                Ok(())
            }
            Op::Move(container) => {
                self.elsewhere("moves", &container, |world, container| {
                    let mut state = world.state();
                    state.moved.insert(container.name);
                    state.late.entry(container.name).and_modify(|has_one| *has_one = true);
                });
                Ok(())
            }
            Op::Flush => {
                self.step("flushes the ruleset", |world| {
                    world.hand().flush();
                    let mut state = world.state();
                    state.was_flushed = true;
                    state.published.clear();
                });
                Ok(())
            }
            Op::Lose(container) => {
                self.world.state().forgotten.insert(container.owner());
                let journal = self.folder().and_then(|folder| Journal::over(folder, Lock::Shared));
                journal.and_then(|journal| journal.remove(&container.owner())).map_err(Error::from)
            }
            Op::Publish(container) => return self.publish(&container),
            Op::Withdraw(container) => {
                self.life(&container, |life| life.is_withdrawn = true);
                let claims = container.claims();
                let own = claims.iter().filter(|claim| claim.owner == container.owner());
                let hosts = own.map(|claim| claim.mapping.host()).collect();
                withdraw(self, &container.owner(), hosts, Settings::default()).map(drop)
            }
            Op::Restore => {
                let plan =
                    Plan { table, settings: None, anew: false, force: false, dry_run: false };
                let conditions = |_: &_, _: &_, _: &_| Ok::<_, Error>(Conditions::default());
                let present = |entry: &_| self.world.present(entry);
                restore(self, plan, present, |_| false, conditions, |_| {}).map(drop)
            }
            Op::Gc => gc::collect(self, &table, false, |_| {}).map(drop),
        };
        if let Err(error) = done
            && self.trouble == Default::default()
        {
            self.world.wrong(&format!("{op:?} failed: {error}"));
        }
    }

    fn publish(&self, container: &Container) {
        let lives = self.world.state().lives.clone();
        let pid = self.life(container, |life| life.pid);
        let request = container.request(pid, self.world.address(container));
        match publish(self, request, &mut NoReach) {
            Ok(_) => self.life(container, |life| life.is_published = life.pid == pid),
            Err(error) => {
                match &error {
                    Error::Ruleset(NftError::Unanswered(_))
                        if self.trouble != Default::default() =>
                    {
                        self.life(container, |life| life.is_unanswered = life.pid == pid);
                    }
                    Error::Ruleset(NftError::Taken(taken))
                    | Error::Taken { taken, .. }
                    | Error::TakenByUnknown { taken, .. } => {
                        // Dead all the time, if it did not come back meanwhile, and no other of its pod shares it.
                        let now = self.world.state().lives.clone();
                        let gone = |owner: &OwnerId| {
                            let (before, now) =
                                (lives.get(owner.as_str()), now.get(owner.as_str()));
                            let shared = self.world.state().is_shared_by_living(owner, &lives);
                            before == now && now.is_some_and(|life| life.is_dead) && !shared
                        };
                        if taken.owner.as_ref().is_some_and(gone) {
                            self.world.wrong(&format!("{} was refused: {error}", container.name));
                        }
                    }
                    _ if self.trouble != Default::default() => {}
                    _ => self.world.wrong(&format!("{} cannot publish: {error}", container.name)),
                }
                self.elsewhere("is ended by its runtime", container, World::end);
            }
        }
    }

    /// What happens on the machine without a call of the kernel or the journal.
    fn elsewhere(&self, what: &str, container: &Container, act: impl FnOnce(&World, &Container)) {
        self.step(&format!("{} {what}", container.name), |world| act(world, container));
    }

    fn step(&self, what: &str, act: impl FnOnce(&World)) {
        let Some(actor) = self.actor else { return act(&self.world) };
        self.world.stage.before(actor, false, || ());
        act(&self.world);
        self.world.stage.after(actor, false, || what.to_owned());
    }

    fn life<T>(&self, container: &Container, look: impl FnOnce(&mut super::world::Life) -> T) -> T {
        look(self.world.state().lives.entry(container.name).or_default())
    }
}
