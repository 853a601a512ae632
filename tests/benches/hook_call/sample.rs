//! Times, and what they say.

use std::time::Duration;

use crate::programs::Program;
use crate::shared::spread::Spread;

/// The time of every contender, each once and one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Round([Duration; Program::ALL.len()]);

impl Round {
    /// Notes a time.
    pub fn set(&mut self, program: Program, time: Duration) {
        self.0[program as usize] = time;
    }

    fn get(&self, program: Program) -> f64 {
        self.0[program as usize].as_secs_f64()
    }
}

/// Many rounds on one node.
#[derive(Debug, Default)]
pub struct Rounds(Vec<Round>);

impl Rounds {
    /// Adds a round.
    pub fn push(&mut self, round: Round) {
        self.0.push(round);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// A contender's times, in milliseconds.
    pub fn times(&self, program: Program) -> Spread {
        self.0.iter().map(|round| round.get(program) * 1e3).collect()
    }

    /// A contender's times as multiples of another's in the same round.
    pub fn ratios(&self, program: Program, to: Program) -> Spread {
        self.0.iter().map(|round| round.get(program) / round.get(to)).collect()
    }

    /// A contender's times as multiples of its own in the same round on another node.
    pub fn growth(&self, program: Program, from: &Rounds) -> Spread {
        let pairs = self.0.iter().zip(&from.0);
        pairs.map(|(here, there)| here.get(program) / there.get(program)).collect()
    }
}
