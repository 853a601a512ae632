//! Random sequences of everything that happens on a node, against a plain model of it.
//!
//! After each step kernel, journal and model agree: the map, the hairpin elements and the rest of the
//! tables as nft shows them, `hostport list`, the journal's files, and what the operation itself said.
//! Containers are real processes, and the program is the real binary. A sequence that fails is made
//! as short as it can be before it is shown.
//!
//! An ordinary run has 12 sequences of at most 50 steps, the same each time. A longer one, with others:
//!
//! ```text
//! PROPTEST_CASES=2000 cargo test -p hostport-tests --test all model::random
//! ```

mod found;
mod ground;
mod operation;
mod play;
mod regressions;
mod upkeep;
mod world;

use std::cell::Cell;

use ground::Ground;
use operation::{Operation, sequences};
use play::play;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

const CASES: u32 = 12;
const STEPS: usize = 50;

/// The ID of the nth container to start in a sequence.
fn id_of(index: usize) -> String {
    format!("container-{index}")
}

#[test]
fn random_sequences_agree_with_the_model() {
    let ground = Ground::new();
    // Proptest would try smaller values first; leaving steps out is much faster here.
    let mut config = Config { failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        (config.cases, config.rng_seed) = (CASES, RngSeed::Fixed(0));
    }
    let steps = Cell::new(0);
    let outcome = TestRunner::new(config).run(&sequences(STEPS), |sequence| {
        steps.set(steps.get() + sequence.len());
        play(&ground, &sequence).map_err(|(_, error)| TestCaseError::fail(error))
    });
    if let Err(TestError::Fail(_, sequence)) = outcome {
        let (sequence, error) = shortest(&ground, sequence);
        let lines: Vec<String> = sequence.iter().map(|step| format!("{step:?},")).collect();
        panic!("{error}\nthe shortest sequence:\n{}", lines.join("\n"));
    }
    outcome.unwrap_or_else(|error| panic!("{error}"));
    println!("{} steps", steps.get());
}

/// The sequence without the steps that it also fails without, and how it fails then.
fn shortest(ground: &Ground, mut sequence: Vec<Operation>) -> (Vec<Operation>, String) {
    let mut error = "it did not fail again".to_owned();
    let mut fails = |sequence: &mut Vec<Operation>, candidate: Vec<Operation>| {
        let Err((step, why)) = play(ground, &candidate) else { return false };
        *sequence = candidate;
        sequence.truncate(step + 1);
        error = why;
        true
    };
    let whole = sequence.clone();
    let mut again = fails(&mut sequence, whole);
    while again {
        again = false;
        for place in (0..sequence.len()).rev() {
            if place < sequence.len() {
                let mut candidate = sequence.clone();
                candidate.remove(place);
                again |= fails(&mut sequence, candidate);
            }
        }
    }
    (sequence, error)
}
