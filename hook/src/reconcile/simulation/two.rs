//! Two actors: all schedules up to a number of preemptions.

use super::actors::Op::{self, *};
use super::containers::*;
use super::scenario::{Scenario, schedules};
use super::stage::Violation;

/// Two actors, with a name for messages.
pub struct Pair {
    pub name: &'static str,
    pub scenario: Scenario,
}

/// A name, what was before, and what each of two does.
type Row = (&'static str, Vec<Op>, Vec<Op>, Vec<Op>);

pub fn pairs() -> Vec<Pair> {
    let living = |container| vec![Start(container), Publish(container)];
    let dead = |container| vec![Start(container), Publish(container), End(container)];
    let and = |one: Vec<Op>, other: Vec<Op>| [one, other].concat();
    let pairs: Vec<Row> = vec![
        ("prestart and createRuntime", vec![Start(A)], vec![Publish(A)], vec![Publish(A)]),
        ("the same ports", vec![Start(A), Start(B)], vec![Publish(A)], vec![Publish(B)]),
        ("some ports in common", vec![Start(A), Start(C)], vec![Publish(A)], vec![Publish(C)]),
        (
            "two successors",
            and(dead(A), vec![Start(B), Start(C)]),
            vec![Publish(B)],
            vec![Publish(C)],
        ),
        ("a late poststop", and(dead(A), vec![Start(B)]), vec![Publish(B)], vec![Withdraw(A)]),
        (
            "an end under a successor",
            and(living(A), vec![Start(B)]),
            vec![Publish(B)],
            vec![End(A), Withdraw(A)],
        ),
        (
            "back with the same ID",
            and(dead(A), vec![Start(B)]),
            vec![Start(A), Publish(A)],
            vec![Publish(B)],
        ),
        ("back before its poststop", dead(A), vec![Start(A), Publish(A)], vec![Withdraw(A)]),
        (
            "another at its address, and a late poststop",
            and(dead(A), vec![Start(E)]),
            vec![Publish(E)],
            vec![Withdraw(A)],
        ),
        (
            "another at its address, and it comes back",
            and(dead(A), vec![Start(E)]),
            vec![Publish(E)],
            vec![Start(A), Publish(A)],
        ),
        (
            "another at its address, and a successor",
            and(dead(A), vec![Start(B), Start(E)]),
            vec![Publish(E)],
            vec![Publish(B)],
        ),
        ("a takeover and gc", and(dead(A), vec![Start(B)]), vec![Publish(B)], vec![Gc]),
        ("a takeover and restore", and(dead(A), vec![Start(B)]), vec![Publish(B)], vec![Restore]),
        ("a takeover and a flush", and(dead(A), vec![Start(B)]), vec![Publish(B)], vec![Flush]),
        (
            "a replacement and the end",
            and(living(A), vec![Start(R)]),
            vec![Publish(R)],
            vec![End(A), Withdraw(A)],
        ),
        (
            "two replacements",
            and(living(A), vec![Start(R), Start(S)]),
            vec![Publish(R)],
            vec![Publish(S)],
        ),
        ("a replacement of one port", vec![Start(B), Start(T)], vec![Publish(B)], vec![Publish(T)]),
        (
            "each replaces the other",
            and(living(R), vec![Start(S)]),
            vec![Publish(R)],
            vec![Publish(S)],
        ),
        (
            "a replacement and createRuntime",
            and(vec![Start(A)], vec![Start(R)]),
            vec![Publish(A), Publish(A)],
            vec![Publish(R)],
        ),
        (
            "a replacement and restore",
            and(living(A), vec![Start(R)]),
            vec![Publish(R)],
            vec![Restore],
        ),
        ("a replacement and gc", and(living(A), vec![Start(R)]), vec![Publish(R)], vec![Gc]),
        (
            "a replacement and a flush",
            and(living(A), vec![Start(R)]),
            vec![Publish(R)],
            vec![Flush],
        ),
        ("publish and restore", vec![Start(A)], vec![Publish(A)], vec![Restore]),
        ("publish and gc", vec![Start(A)], vec![Publish(A)], vec![Gc]),
        ("publish and a flush", vec![Start(A)], vec![Publish(A)], vec![Flush]),
        (
            "publish and withdraw of others",
            and(living(B), vec![Start(C)]),
            vec![End(B), Withdraw(B)],
            vec![Publish(C)],
        ),
        ("withdraw and restore", living(A), vec![End(A), Withdraw(A)], vec![Restore]),
        ("withdraw and gc", living(A), vec![End(A), Withdraw(A)], vec![Gc]),
        ("withdraw and a flush", living(A), vec![End(A), Withdraw(A)], vec![Flush]),
        ("two poststops", living(A), vec![End(A), Withdraw(A)], vec![Withdraw(A)]),
        ("an address that changes under restore", living(A), vec![Move(A)], vec![Restore]),
        (
            "restore follows a container that ends",
            and(living(A), vec![Move(A)]),
            vec![End(A), Withdraw(A)],
            vec![Restore],
        ),
        (
            "restore follows a container that is published again",
            and(living(A), vec![Move(A)]),
            vec![Publish(A)],
            vec![Restore],
        ),
        (
            "restore follows, and another asks for the ports",
            and(living(A), vec![Move(A), Start(B)]),
            vec![Publish(B)],
            vec![Restore],
        ),
        (
            "restore follows, and another replaces the container",
            and(living(A), vec![Move(A), Start(R)]),
            vec![Publish(R)],
            vec![Restore],
        ),
        (
            "restore follows under a flush",
            and(living(A), vec![Move(A)]),
            vec![Restore],
            vec![Flush],
        ),
        (
            "an address that comes late under restore",
            vec![Start(A), Hide(A), Publish(A)],
            vec![Move(A)],
            vec![Restore],
        ),
        (
            "an address that comes late, and poststart",
            vec![Start(A), Hide(A), Publish(A), Move(A)],
            vec![Publish(A)],
            vec![Restore],
        ),
        (
            "an address that comes late, and another asks for the ports",
            vec![Start(A), Hide(A), Publish(A), Move(A), Start(B)],
            vec![Publish(B)],
            vec![Restore],
        ),
        (
            "an address that comes late to one that ends",
            vec![Start(A), Hide(A), Publish(A), Move(A)],
            vec![End(A), Withdraw(A)],
            vec![Restore],
        ),
        ("restore and gc", and(living(A), dead(C)), vec![Restore], vec![Gc]),
        (
            "restore without the entry of a container, and its end",
            and(living(E), and(living(A), vec![Lose(A)])),
            vec![Restore],
            vec![End(A), Withdraw(A)],
        ),
        (
            "restore without the entry of a container, and another",
            and(living(E), and(living(A), vec![Lose(A), Start(B)])),
            vec![Restore],
            vec![Publish(B)],
        ),
        ("restore and a flush", living(A), vec![Restore], vec![Flush]),
        ("restore twice", and(living(A), vec![Flush]), vec![Restore], vec![Restore]),
        ("gc and a flush", dead(A), vec![Gc], vec![Flush]),
        ("two of a pod", vec![Start(POD), Start(P), Start(Q)], vec![Publish(P)], vec![Publish(Q)]),
        (
            "a container of a pod comes, another goes",
            and(vec![Start(POD)], and(living(P), vec![Start(Q)])),
            vec![Publish(Q)],
            vec![End(P), Withdraw(P)],
        ),
        (
            "a pod ends under its container",
            and(vec![Start(POD)], living(P)),
            vec![End(P), Withdraw(P), End(POD)],
            vec![Withdraw(POD)],
        ),
        (
            "two of a pod that ask for the same",
            vec![Start(POD), Start(U), Start(V)],
            vec![Publish(U)],
            vec![Publish(V)],
        ),
        (
            "one goes while another comes that asks for the same",
            and(living(U), vec![Start(V)]),
            vec![Publish(V)],
            vec![End(U), Withdraw(U)],
        ),
        (
            "two that share go",
            and(living(U), living(V)),
            vec![End(U), Withdraw(U)],
            vec![End(V), Withdraw(V)],
        ),
        (
            "two that share each other's go",
            and(living(U), living(W)),
            vec![Withdraw(U)],
            vec![Withdraw(W)],
        ),
        (
            "one of two that share goes, and gc",
            and(living(U), living(V)),
            vec![End(U), Gc],
            vec![Withdraw(V)],
        ),
        (
            "one of two that share goes, and restore",
            and(living(U), living(V)),
            vec![End(U), Withdraw(U)],
            vec![Restore],
        ),
        (
            "one of two that share is dead, and another asks",
            and(and(living(U), living(V)), vec![End(U), Start(B)]),
            vec![Publish(B)],
            vec![End(V), Withdraw(V)],
        ),
        (
            "one of two that share is dead, and a third of the pod comes",
            and(and(living(U), living(V)), vec![End(U), Start(W)]),
            vec![Publish(W)],
            vec![Withdraw(U)],
        ),
        (
            "one of two that share comes back",
            and(and(living(U), living(V)), vec![End(U)]),
            vec![Start(U), Publish(U)],
            vec![End(V), Withdraw(V)],
        ),
    ];
    let pair = |(name, before, one, other): (_, Vec<Op>, Vec<Op>, Vec<Op>)| Pair {
        name,
        scenario: Scenario::new(&before, &[&one, &other]),
    };
    pairs.into_iter().map(pair).collect()
}

fn all(search: impl Fn(&Scenario) -> Result<usize, Violation>) {
    let (mut total, mut wrong) = (0, Vec::new());
    let begin = std::time::Instant::now();
    for Pair { name, scenario } in pairs() {
        match search(&scenario) {
            Ok(tried) => {
                println!("{tried:7} schedules: {name}");
                total += tried;
            }
            Err(violation) => wrong.push(format!("{name}: {}", violation.0)),
        }
    }
    println!("{total} schedules, {:.0} a second", total as f64 / begin.elapsed().as_secs_f64());
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// One preemption more in the long run of `make endurance`.
fn more() -> usize {
    usize::from(schedules(1) > 1)
}

#[test]
fn two_actors_in_all_orders() {
    all(|scenario| scenario.search(2 + more(), &[], None).map(|tried| tried.schedules));
}

#[test]
fn two_actors_one_of_which_dies() {
    all(|scenario| scenario.search_with_deaths(1 + more(), None));
}

#[test]
fn two_actors_one_of_whose_transactions_has_no_answer() {
    all(|scenario| scenario.search_with_lost_answers(1 + more(), None));
}
