//! What the actors of a schedule meet on: each of their steps is a point at which the scheduler may let another go
//! on, at which the actor may die, and a line of the schedule that a violation is printed with.
//!
//! Only the moment before a step is such a point. What an actor does between two steps nobody else sees, so
//! that dying after a step is the same as dying before the next one that has an effect.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler};
use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};
use shuttle::sync::atomic::{AtomicU8, Ordering};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner, thread};

/// The number of an actor, from 0.
pub type Actor = usize;

/// One execution.
pub struct Stage {
    /// An access to it is what lets the scheduler choose.
    point: AtomicU8,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    names: Vec<String>,
    /// Who did what, in the order in which it happened.
    lines: Vec<(Actor, String)>,
    /// How many steps with an effect each actor has come to, and before which one it dies.
    effects: Vec<usize>,
    crashes: Vec<Option<usize>>,
    waiting: Vec<thread::Thread>,
    /// Nobody is at work any more: steps are neither points nor lines.
    is_over: bool,
}

/// How an actor that dies leaves its code.
struct Death;

impl Stage {
    /// For actors of these names, each of which dies before its n-th step with an effect, counted from 0.
    pub fn new(names: Vec<String>, crashes: Vec<Option<usize>>) -> Arc<Self> {
        let effects = vec![0; names.len()];
        let inner = Inner { names, effects, crashes, ..Inner::default() };
        Arc::new(Stage { point: AtomicU8::new(0), inner: Mutex::new(inner) })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The moment before a step. `die` ends the actor's process.
    pub fn before(&self, actor: Actor, has_effect: bool, die: impl FnOnce()) {
        if self.inner().is_over {
            return;
        }
        self.point.load(Ordering::SeqCst);
        if has_effect && self.is_last(actor) {
            die();
            self.after(actor, true, || "dies".to_owned());
            resume_unwind(Box::new(Death));
        }
    }

    fn is_last(&self, actor: Actor) -> bool {
        let mut inner = self.inner();
        let count = inner.effects[actor];
        inner.effects[actor] += 1;
        inner.crashes[actor] == Some(count)
    }

    /// A step has happened; those who wait look again if it changed something.
    pub fn after(&self, actor: Actor, changed: bool, line: impl FnOnce() -> String) {
        let mut inner = self.inner();
        if inner.is_over {
            return;
        }
        inner.lines.push((actor, line()));
        if changed {
            for thread in std::mem::take(&mut inner.waiting) {
                drop(inner);
                thread.unpark();
                inner = self.inner();
            }
        }
    }

    /// Waits until something changes. Shuttle reports a deadlock if nothing can.
    pub fn wait(&self) {
        let mut inner = self.inner();
        assert!(!inner.is_over, "nobody is left who could end this wait");
        inner.waiting.push(thread::current());
        drop(inner);
        thread::park();
    }

    /// Ends the schedule: something is wrong.
    pub fn fail(&self, what: &str) -> ! {
        self.inner().is_over = true;
        panic!("{what}")
    }

    /// Lets the actors act, until all have ended or died; says which died.
    pub fn act(self: &Arc<Self>, acts: Vec<Box<dyn FnOnce() + Send>>) -> Vec<bool> {
        let acting = acts.into_iter().map(|act| {
            thread::spawn(move || match catch_unwind(AssertUnwindSafe(act)) {
                Ok(()) => false,
                Err(cause) if cause.is::<Death>() => true,
                Err(cause) => resume_unwind(cause),
            })
        });
        let acting: Vec<_> = acting.collect();
        let dead = acting.into_iter().map(|actor| actor.join().unwrap()).collect();
        self.inner().is_over = true;
        dead
    }
}

/// The schedule, a line a step.
impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.inner();
        for (actor, line) in &inner.lines {
            writeln!(f, "    {}: {line}", inner.names[*actor])?;
        }
        Ok(())
    }
}

/// What is wrong, and the schedule that leads to it.
#[derive(Debug, Clone)]
pub struct Violation(pub String);

/// Where an execution leaves its stage, for the schedule to be printed if it fails.
#[derive(Clone, Default)]
pub struct Slot(Arc<Mutex<Option<Arc<Stage>>>>);

impl Slot {
    pub fn put(&self, stage: &Arc<Stage>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(stage.clone());
    }

    fn text(&self) -> String {
        let slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.as_ref().map(|stage| stage.to_string()).unwrap_or_default()
    }
}

/// Runs a scenario under all schedules of a scheduler, or until one fails. Returns how many there were.
///
/// # Errors
/// What the first execution that failed said in its panic, with the schedule.
pub fn explore(
    scheduler: impl Scheduler + 'static,
    scenario: impl Fn(&Slot) + Send + Sync + 'static,
) -> Result<usize, Violation> {
    run(Actors(scheduler), scenario)
}

/// Runs a scenario under the one schedule that shuttle has printed.
///
/// # Errors
/// As [`explore`].
pub fn replay(
    schedule: &str,
    scenario: impl Fn(&Slot) + Send + Sync + 'static,
) -> Result<usize, Violation> {
    run(ReplayScheduler::new_from_encoded(schedule), scenario)
}

fn run(
    scheduler: impl Scheduler + 'static,
    scenario: impl Fn(&Slot) + Send + Sync + 'static,
) -> Result<usize, Violation> {
    let mut config = Config::new();
    config.stack_size = 256 * 1024;
    config.max_steps = MaxSteps::FailAfter(20_000);
    config.failure_persistence = FailurePersistence::Print;
    config.silence_warnings = true;
    let slot = Slot::default();
    let seen = slot.clone();
    let runner = Runner::new(scheduler, config);
    catch_unwind(AssertUnwindSafe(|| runner.run(move || scenario(&slot))))
        .map_err(|cause| Violation(format!("{}\n{}", text(&*cause), seen.text())))
}

fn text(cause: &(dyn Any + Send)) -> &str {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text")
}

/// Random schedules, the same at each run.
pub fn random(schedules: usize) -> RandomScheduler {
    RandomScheduler::new_from_seed(18, schedules)
}

/// Schedules by random priorities with so many changes of them less one. S. Burckhardt et al.: A Randomized Scheduler
/// with Probabilistic Guarantees of Finding Bugs, ASPLOS 2010.
pub fn pct(depth: usize, schedules: usize) -> PctScheduler {
    PctScheduler::new_from_seed(18, depth, schedules)
}

/// Schedules only the actors that can go on, and the main task, which starts and joins them, before all others.
struct Actors<S>(S);

impl<S: Scheduler> Scheduler for Actors<S> {
    fn new_execution(&mut self) -> Option<Schedule> {
        self.0.new_execution()
    }

    fn next_task(
        &mut self,
        tasks: &[&Task],
        current: Option<TaskId>,
        yielding: bool,
    ) -> Option<TaskId> {
        // A parked thread may wake without a reason, but a process that waits for a lock looks again by itself:
        // such a look changes nothing.
        let awake: Vec<&Task> = tasks.iter().copied().filter(|task| task.runnable()).collect();
        match awake.iter().find(|task| usize::from(task.id()) == 0) {
            Some(main) => Some(main.id()),
            None => self.0.next_task(&awake, current, yielding),
        }
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::super::search::BoundedSearch;
    use super::*;

    /// A lock and what it protects, of processes.
    #[derive(Default)]
    struct Toy {
        holder: Mutex<Option<Actor>>,
        value: Mutex<usize>,
        writes: Mutex<usize>,
        is_dead: Mutex<[bool; 2]>,
    }

    /// How the toy program goes wrong.
    #[derive(Clone, Copy, PartialEq)]
    enum Fault {
        None,
        NoLock,
        NeverUnlocks,
    }

    impl Toy {
        fn step(&self, stage: &Stage, actor: Actor, what: &'static str, act: impl FnOnce(&Self)) {
            if self.is_dead.lock().unwrap()[actor] {
                return;
            }
            stage.before(actor, true, || self.die(actor));
            act(self);
            stage.after(actor, true, || what.to_owned());
        }

        fn die(&self, actor: Actor) {
            self.is_dead.lock().unwrap()[actor] = true;
            self.unlock(actor);
        }

        fn unlock(&self, actor: Actor) {
            let mut holder = self.holder.lock().unwrap();
            *holder = holder.filter(|holder| *holder != actor);
        }

        fn lock(&self, stage: &Stage, actor: Actor) {
            loop {
                let mut got = false;
                self.step(stage, actor, "tries the lock", |toy| {
                    let mut holder = toy.holder.lock().unwrap();
                    got = *holder.get_or_insert(actor) == actor;
                });
                if got {
                    return;
                }
                stage.wait();
            }
        }
    }

    struct Unlock<'a>(&'a Toy, &'a Stage, Actor);

    impl Drop for Unlock<'_> {
        fn drop(&mut self) {
            self.0.step(self.1, self.2, "unlocks", |toy| toy.unlock(self.2));
        }
    }

    /// Two actors add one each, by reading and writing.
    fn add(fault: Fault, crashes: [Option<usize>; 2], slot: &Slot) {
        let stage = Stage::new(vec!["one".to_owned(), "two".to_owned()], crashes.to_vec());
        slot.put(&stage);
        let toy = Arc::new(Toy::default());
        let acts = [0, 1].map(|actor| -> Box<dyn FnOnce() + Send> {
            let (stage, toy) = (stage.clone(), toy.clone());
            Box::new(move || {
                let _unlock = (fault != Fault::NoLock).then(|| {
                    toy.lock(&stage, actor);
                    Unlock(&toy, &stage, actor)
                });
                let mut value = 0;
                toy.step(&stage, actor, "reads", |toy| value = *toy.value.lock().unwrap());
                toy.step(&stage, actor, "writes", |toy| {
                    *toy.value.lock().unwrap() = value + 1;
                    *toy.writes.lock().unwrap() += 1;
                });
                if fault == Fault::NeverUnlocks {
                    std::mem::forget(_unlock);
                }
            })
        });
        stage.act(acts.into());
        assert_eq!(*toy.value.lock().unwrap(), *toy.writes.lock().unwrap());
    }

    #[test]
    fn a_lock_that_the_dead_leave_free_holds_in_every_schedule() {
        let mut schedules = 0;
        for crash in [None, Some(0), Some(1), Some(2), Some(3)] {
            let search = BoundedSearch::new(3, usize::MAX);
            schedules +=
                explore(search, move |slot| add(Fault::None, [crash, None], slot)).unwrap();
        }
        assert!(schedules > 100, "{schedules}");
    }

    #[test]
    fn what_needs_one_preemption_is_found_with_one_and_printed_as_a_schedule() {
        let with = |preemptions| {
            let search = BoundedSearch::new(preemptions, usize::MAX);
            explore(search, |slot| add(Fault::NoLock, [None, None], slot))
        };
        assert!(with(0).is_ok());
        let Violation(text) = with(1).unwrap_err();
        assert!(
            text.ends_with("    one: reads\n    two: reads\n    two: writes\n    one: writes\n"),
            "{text}"
        );
    }

    #[test]
    fn what_shuttle_prints_leads_to_the_same_end() {
        let replayed = replay("91020b000024920200", |slot| add(Fault::NoLock, [None, None], slot));
        assert!(replayed.unwrap_err().0.contains("one: reads\n    two: reads\n"));
    }

    #[test]
    fn random_schedules_and_random_priorities_find_it_too() {
        explore(random(1000), |slot| add(Fault::NoLock, [None, None], slot)).unwrap_err();
        explore(pct(2, 1000), |slot| add(Fault::NoLock, [None, None], slot)).unwrap_err();
        explore(random(1000), |slot| add(Fault::None, [None, None], slot)).unwrap();
    }

    #[test]
    fn a_wait_that_nobody_ends_is_found() {
        let search = BoundedSearch::new(1, usize::MAX);
        let Violation(text) =
            explore(search, |slot| add(Fault::NeverUnlocks, [None, None], slot)).unwrap_err();
        assert!(text.contains("deadlock"), "{text}");
        assert!(text.ends_with("    two: tries the lock\n"), "{text}");
    }

    #[test]
    fn schedules_are_cheap() {
        let begin = std::time::Instant::now();
        let schedules =
            explore(random(20_000), |slot| add(Fault::None, [None, None], slot)).unwrap();
        println!("{:.0} schedules a second", schedules as f64 / begin.elapsed().as_secs_f64());
    }
}
