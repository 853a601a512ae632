//! Every interleaving of the operations: the real ones, on a kernel, a journal and processes in memory, run against
//! each other step by step, in the orders that a scheduler chooses. docs/simulation.md says what is tried.
//!
//! ```text
//! stage       actors, their steps, their deaths and waits; the schedule as lines
//! search      all schedules up to a number of preemptions
//! world       the machine: fakes that tell the stage of each step
//! actors      what an actor does
//! invariants  what must hold
//! mutations   faults in the fakes that must be found
//! scenario    what was before, and who acts; containers, two, three: all of them
//! ```

mod actors;
mod containers;
mod invariants;
mod mutations;
mod scenario;
mod search;
mod stage;
mod three;
mod two;
mod world;
