//! Three actors: random schedules, with random deaths and faults.

use hostport_nft::kernel::fake::Fault;
use rustix::io::Errno;
use shuttle::rand::{Rng, thread_rng};

use super::actors::Op::{self, *};
use super::containers::*;
use super::invariants::Ends;
use super::scenario::{Scenario, schedules};
use super::stage::{Slot, Violation, explore, pct, random};
use super::world::{Container, Trouble};

/// What one of three may do, with what must have been before.
fn parts() -> Vec<(Vec<Op>, Vec<Op>)> {
    let living = |container: Container| vec![Start(container), Publish(container)];
    vec![
        (vec![Start(B)], vec![Publish(B)]),
        (vec![Start(C)], vec![Publish(C)]),
        (vec![Start(R)], vec![Publish(R)]),
        (vec![Start(S)], vec![Publish(S), Publish(S)]),
        (vec![Start(T)], vec![Publish(T)]),
        (living(D), vec![End(D), Withdraw(D)]),
        (living(D), vec![End(D), Start(D), Publish(D)]),
        (living(R), vec![Publish(R)]),
        (living(E), vec![Move(E), Restore]),
        (vec![Start(POD), Start(P)], vec![Publish(P), End(P), Withdraw(P)]),
        (vec![Start(POD), Start(Q)], vec![Publish(Q)]),
        (vec![Start(POD), Start(U)], vec![Publish(U), End(U), Withdraw(U)]),
        (living(V), vec![End(V), Withdraw(V)]),
        (vec![Start(POD), Start(W)], vec![Publish(W)]),
        (vec![], vec![Restore]),
        (vec![], vec![Gc]),
        (vec![], vec![Flush]),
    ]
}

/// Three of them, drawn by shuttle, so that its replay draws them again.
fn draw() -> (Scenario, Vec<Trouble>) {
    let mut random = thread_rng();
    let mut scenario = Scenario::new(&[], &[]);
    if random.gen_bool(0.5) {
        scenario.before.extend([Start(A), Publish(A), End(A)]);
    }
    let mut parts = parts();
    let mut troubles = Vec::new();
    for _ in 0..3 {
        let (before, ops) = parts.swap_remove(random.gen_range(0..parts.len()));
        let new = before.into_iter().filter(|op| !scenario.before.contains(op));
        let new: Vec<Op> = new.collect();
        scenario.before.extend(new);
        scenario.actors.push(ops);
        troubles.push(trouble(&mut random));
    }
    (scenario, troubles)
}

fn trouble(random: &mut impl Rng) -> Trouble {
    let mut trouble = Trouble::default();
    match random.gen_range(0..8) {
        0 | 1 => trouble.dies = Some(random.gen_range(0..16)),
        2 => trouble.kernel = Some((random.gen_range(0..12), fault(random))),
        3 => trouble.disk = Some(random.gen_range(0..3)),
        _ => {}
    }
    trouble
}

fn fault(random: &mut impl Rng) -> Fault {
    let faults = [
        Fault::Unsent(Errno::NOBUFS),
        Fault::Interrupted,
        Fault::Stale,
        Fault::NoMemory,
        Fault::LostAnswer(Errno::NOBUFS),
        Fault::LostAnswer(Errno::AGAIN),
    ];
    faults[random.gen_range(0..faults.len())]
}

fn play(slot: &Slot) {
    let (scenario, troubles) = draw();
    scenario.play(&troubles, None, &Ends::default(), slot);
}

fn report(name: &str, tried: Result<usize, Violation>) {
    match tried {
        Ok(tried) => println!("{tried} {name} schedules"),
        Err(Violation(text)) => panic!("{text}"),
    }
}

#[test]
fn three_actors_at_random() {
    report("random", explore(random(schedules(5_000)), play));
}

#[test]
fn three_actors_by_priorities() {
    report("PCT", explore(pct(3, schedules(5_000)), play));
}

/// The restore comes after the takeover, and before the runtime ends the container whose hook got no answer.
#[test]
fn a_restore_after_a_lost_answer_in_all_orders() {
    let before = [Start(B), Start(T)];
    let scenario = Scenario::new(&before, &[&[Publish(B)], &[Publish(T), Restore]]);
    let lost = Trouble { kernel: Some((1, Fault::LostAnswer(Errno::AGAIN))), ..Trouble::default() };
    report("bounded", scenario.search(2, &[lost], None).map(|tried| tried.schedules));
}

#[test]
fn a_flush_while_two_replace_each_other_in_all_orders() {
    let before = [Start(R), Publish(R), Start(T)];
    let scenario = Scenario::new(&before, &[&[Publish(T)], &[Publish(R)], &[Flush]]);
    report("bounded", scenario.search(1, &[], None).map(|tried| tried.schedules));
}
