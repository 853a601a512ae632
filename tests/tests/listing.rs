//! What `hostport list` reads while others change the ruleset.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use hostport_tests::hook::{Bundle, hostport, published};
use hostport_tests::lab::Lab;

/// A restore replaces both tables in one transaction, and its new maps grow in the background.
#[test]
fn a_list_is_whole_while_the_tables_are_replaced() {
    const RESTORERS: usize = 2;
    let lab = Lab::new();
    let web = lab.pod("web");
    Bundle::of(&web).annotation("io.hostport.ports", "8000-8299:8000-8299").start(lab.node());
    let at_work = AtomicUsize::new(RESTORERS);
    let seen = thread::scope(|scope| {
        for _ in 0..RESTORERS {
            scope.spawn(|| {
                (0..150).for_each(|_| drop(hostport(lab.node(), &["restore"])));
                at_work.fetch_sub(1, Ordering::Relaxed);
            });
        }
        let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
        while at_work.load(Ordering::Relaxed) > 0 {
            *seen.entry(published(lab.node()).len()).or_default() += 1;
        }
        seen
    });
    assert_eq!(
        seen.keys().collect::<Vec<_>>(),
        [&600],
        "lengths of lists, and how often: {seen:?}"
    );
}
