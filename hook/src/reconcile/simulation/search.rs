//! Which actor takes the next step: all orders of two actors up to a number of preemptions.
//!
//! A preemption takes the processor from an actor that could go on. Most faults of concurrent programs show with
//! one or two of them, and the orders with at most that many are few enough to try all: with n steps and c
//! preemptions their number grows as n to the power of c, and not as 2 to the power of n. M. Musuvathi, S. Qadeer:
//! Iterative Context Bounding for Systematic Testing of Multithreaded Programs, PLDI 2007.

use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};

/// Depth-first search over all schedules with at most so many preemptions.
#[derive(Debug)]
pub struct BoundedSearch {
    preemptions: usize,
    /// The most schedules that are tried.
    most: usize,
    tried: usize,
    /// The choices of the present schedule, where there was one.
    choices: Vec<Choice>,
    /// How many of them the present execution has passed, and how many preemptions they took.
    passed: usize,
    spent: usize,
}

#[derive(Debug)]
struct Choice {
    options: Vec<TaskId>,
    taken: usize,
    /// All options but the first cost a preemption.
    costs: bool,
}

impl BoundedSearch {
    pub fn new(preemptions: usize, most: usize) -> Self {
        BoundedSearch { preemptions, most, tried: 0, choices: Vec::new(), passed: 0, spent: 0 }
    }

    /// Goes to the next schedule; false after the last one.
    fn advance(&mut self) -> bool {
        while let Some(choice) = self.choices.last_mut() {
            choice.taken += 1;
            if choice.taken < choice.options.len() {
                return true;
            }
            self.choices.pop();
        }
        false
    }
}

impl Scheduler for BoundedSearch {
    fn new_execution(&mut self) -> Option<Schedule> {
        if self.tried == self.most || (self.tried > 0 && !self.advance()) {
            return None;
        }
        self.tried += 1;
        (self.passed, self.spent) = (0, 0);
        Some(Schedule::new(0))
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        yielding: bool,
    ) -> Option<TaskId> {
        let goes_on = current.filter(|current| runnable.iter().any(|task| task.id() == *current));
        let costs = goes_on.is_some() && !yielding;
        if runnable.len() == 1 || (costs && self.spent == self.preemptions) {
            return goes_on.or_else(|| runnable.first().map(|task| task.id()));
        }
        if self.passed == self.choices.len() {
            let others = runnable.iter().map(|task| task.id()).filter(|id| Some(*id) != goes_on);
            let options = goes_on.into_iter().chain(others).collect();
            self.choices.push(Choice { options, taken: 0, costs });
        }
        let choice = &self.choices[self.passed];
        self.passed += 1;
        self.spent += usize::from(choice.costs && choice.taken > 0);
        Some(choice.options[choice.taken])
    }

    fn next_u64(&mut self) -> u64 {
        panic!("a search that is to find everything leaves nothing to chance")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::{Arc, Mutex};

    use shuttle::sync::atomic::{AtomicU8, Ordering};
    use shuttle::{Config, Runner, thread};

    use super::*;

    /// Two actors of so many steps each: the orders in which the search lets them take these.
    fn orders(steps: usize, preemptions: usize) -> (usize, BTreeSet<String>) {
        let orders = Arc::new(Mutex::new(BTreeSet::new()));
        let found = orders.clone();
        let runner = Runner::new(BoundedSearch::new(preemptions, usize::MAX), Config::new());
        let tried = runner.run(move || {
            let (point, order) = (Arc::new(AtomicU8::new(0)), Arc::new(Mutex::new(String::new())));
            let actors = ['a', 'b'].map(|name| {
                let (point, order) = (point.clone(), order.clone());
                thread::spawn(move || {
                    for _ in 0..steps {
                        point.load(Ordering::SeqCst);
                        order.lock().unwrap().push(name);
                    }
                })
            });
            actors.into_iter().for_each(|actor| actor.join().unwrap());
            found.lock().unwrap().insert(order.lock().unwrap().clone());
        });
        (tried, Arc::try_unwrap(orders).unwrap().into_inner().unwrap())
    }

    /// How often an order goes from one actor to the other although the first has steps left.
    fn preempted(order: &str, steps: usize) -> usize {
        let actors: Vec<char> = order.chars().collect();
        let left = |at: usize| actors[at..].contains(&actors[at - 1]);
        assert_eq!(actors.len(), 2 * steps);
        (1..actors.len()).filter(|at| actors[*at] != actors[at - 1] && left(*at)).count()
    }

    #[test]
    fn all_orders_up_to_the_bound_are_tried_and_no_others() {
        // Every order of three steps each: 6 over 3.
        let (_, all) = orders(3, 6);
        assert_eq!(all.len(), 20);
        for bound in 0..=4 {
            let (tried, found) = orders(3, bound);
            let within = all.iter().filter(|order| preempted(order, 3) <= bound);
            assert!(within.clone().all(|order| found.contains(order)), "{bound}: {found:?}");
            assert!(tried >= found.len(), "{tried}");
        }
        assert_eq!(orders(3, 0).1, BTreeSet::from(["aaabbb".to_owned(), "bbbaaa".to_owned()]));
    }

    #[test]
    fn the_number_of_orders_grows_with_a_power_of_the_steps() {
        assert!(orders(20, 1).0 < 200);
        assert!(orders(20, 2).0 < 4_000);
    }
}
