//! Contenders that take turns.

use std::time::{Duration, Instant};

use super::Spread;

/// The values of some contenders, round by round: what is compared was measured in turn.
#[derive(Clone, Debug)]
pub struct Rounds(Vec<Vec<f64>>);

/// Measures rounds, in each of which every contender has its turn, until their number or `limit` is
/// reached; at least one. `turn(contender, round)` returns what was measured, in whatever unit.
///
/// `groups` tells how many contenders follow each other in a fixed order, as what adds and what removes;
/// they are numbered through all groups. The order of the groups changes with the round, since a
/// contender also pays for the caches that the one before it has left.
pub fn rounds(
    groups: &[usize],
    number: usize,
    limit: Duration,
    mut turn: impl FnMut(usize, usize) -> f64,
) -> Rounds {
    let start = Instant::now();
    let ends = groups.iter().scan(0, |end, size| {
        *end += size;
        Some(*end - size..*end)
    });
    let groups: Vec<_> = ends.collect();
    let contenders = groups.last().map_or(0, |group| group.end);
    let mut measured = Vec::new();
    for round in 0..number.max(1) {
        if round > 0 && start.elapsed() > limit {
            break;
        }
        let mut order = groups.clone();
        order.rotate_left(round % groups.len());
        if round / groups.len() % 2 == 1 {
            order.reverse();
        }
        let mut values = vec![f64::NAN; contenders];
        for contender in order.into_iter().flatten() {
            values[contender] = turn(contender, round);
        }
        measured.push(values);
    }
    Rounds(measured)
}

impl Rounds {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// One contender's values.
    pub fn of(&self, contender: usize) -> Spread {
        self.each(|round| round[contender])
    }

    /// One contender's values as multiples of another's in the same round.
    pub fn ratio(&self, contender: usize, to: usize) -> Spread {
        self.each(|round| round[contender] / round[to])
    }

    /// What follows from the values of each round.
    pub fn each(&self, value: impl Fn(&[f64]) -> f64) -> Spread {
        self.0.iter().map(|round| value(round)).collect()
    }
}
