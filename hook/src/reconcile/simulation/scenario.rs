//! Scenarios: what is there before, and who does what at the same time.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::actors::Op;
use super::invariants::Ends;
use super::mutations::Mutation;
use super::search::BoundedSearch;
use super::stage::{Slot, Stage, Violation, explore};
use super::world::{Process, Trouble, World, fill_disk};

/// What happens one after another, and then at the same time.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub before: Vec<Op>,
    pub actors: Vec<Vec<Op>>,
}

impl Scenario {
    pub fn new(before: &[Op], actors: &[&[Op]]) -> Self {
        let actors = actors.iter().map(|ops| ops.to_vec()).collect();
        Scenario { before: before.to_vec(), actors }
    }

    /// Plays it once, under shuttle; says how many actors died.
    pub fn play(
        &self,
        troubles: &[Trouble],
        mutation: Option<Mutation>,
        ends: &Ends,
        slot: &Slot,
    ) -> usize {
        let trouble = |actor: usize| troubles.get(actor).copied().unwrap_or_default();
        let names = self.actors.iter().map(|ops| name(ops)).collect();
        let crashes = (0..self.actors.len()).map(|actor| trouble(actor).dies).collect();
        let stage = Stage::new(names, crashes);
        slot.put(&stage);
        let world = World::new(&stage, mutation);
        Process::new(&world, None, Trouble::default()).run(&self.before);
        world.note_published();
        fill_disk(&world, troubles);
        let acts = self.actors.iter().enumerate().map(|(actor, ops)| -> Box<dyn FnOnce() + Send> {
            let (world, ops, trouble) = (world.clone(), ops.clone(), trouble(actor));
            Box::new(move || Process::new(&world, Some(actor), trouble).run(&ops))
        });
        let dead = stage.act(acts.collect());
        world.disk.clear_fault();
        world.check_end(ends);
        dead.into_iter().filter(|dead| *dead).count()
    }

    /// All schedules with at most so many preemptions.
    pub fn search(
        &self,
        preemptions: usize,
        troubles: &[Trouble],
        mutation: Option<Mutation>,
    ) -> Result<Tried, Violation> {
        let dead = Arc::new(AtomicUsize::new(0));
        let ends = Ends::default();
        let (scenario, died) = (self.clone(), dead.clone());
        let (troubles, troubles_of) = (troubles.to_vec(), troubles.to_vec());
        let schedules = explore(BoundedSearch::new(preemptions, usize::MAX), move |slot| {
            died.fetch_add(scenario.play(&troubles, mutation, &ends, slot), Ordering::Relaxed);
        });
        let schedules = schedules.map_err(|violation| violation.of(self, &troubles_of))?;
        Ok(Tried { schedules, dead: dead.load(Ordering::Relaxed) })
    }

    /// The same, with each death of each actor, and without.
    pub fn search_with_deaths(
        &self,
        preemptions: usize,
        mutation: Option<Mutation>,
    ) -> Result<usize, Violation> {
        let mut schedules = 0;
        for actor in 0..self.actors.len() {
            for step in 0.. {
                let mut troubles = vec![Trouble::default(); self.actors.len()];
                troubles[actor].dies = Some(step);
                let tried = self.search(preemptions, &troubles, mutation)?;
                schedules += tried.schedules;
                if tried.dead == 0 {
                    break;
                }
            }
        }
        Ok(schedules)
    }

    /// The same, where the answer to the first transaction of an actor is lost.
    pub fn search_with_lost_answers(
        &self,
        preemptions: usize,
        mutation: Option<Mutation>,
    ) -> Result<usize, Violation> {
        let mut schedules = 0;
        for actor in 0..self.actors.len() {
            let mut troubles = vec![Trouble::default(); self.actors.len()];
            troubles[actor].unanswered = true;
            schedules += self.search(preemptions, &troubles, mutation)?.schedules;
        }
        Ok(schedules)
    }
}

/// So many schedules, or as many times more as HOSTPORT_SCHEDULES says.
pub fn schedules(usual: usize) -> usize {
    let times = std::env::var("HOSTPORT_SCHEDULES").ok().and_then(|times| times.parse().ok());
    usual * times.unwrap_or(1)
}

/// What was tried.
#[derive(Debug, Clone, Copy)]
pub struct Tried {
    pub schedules: usize,
    /// How many actors died in them.
    pub dead: usize,
}

fn name(ops: &[Op]) -> String {
    let names: Vec<String> = ops.iter().map(Op::to_string).collect();
    names.join(", ")
}

impl Violation {
    /// With what led to it.
    fn of(self, scenario: &Scenario, troubles: &[Trouble]) -> Self {
        let mut text = format!("{}  before: {}\n", self.0, name(&scenario.before));
        for (actor, trouble) in troubles.iter().enumerate() {
            if *trouble != Trouble::default() {
                let _ = writeln!(text, "  {}: {trouble:?}", name(&scenario.actors[actor]));
            }
        }
        Violation(text)
    }
}
