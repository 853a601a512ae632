//! Which tests run on other kernels: those whose result depends on the kernel.

use hostport_vm_tests::Job;

use crate::Wrong;
use crate::cli::Options;
use crate::suite::Suite;

/// The longest that a test may take, in seconds. A translated machine is ten to twenty times slower.
const LIMIT: u64 = 240;

/// The subjects that run: modules of `tests/tests/all`.
struct Choice {
    subject: &'static str,
    /// Its tests change the machine, so each runs alone, before all others.
    alone: bool,
}

/// docs/kernels.md explains this choice.
const CHOICES: &[Choice] = &[
    Choice { subject: "modules", alone: true },
    together("reachable"),
    together("addresses"),
    together("options"),
    together("precedence"),
    together("upgrade"),
    together("localhost"),
    together("mappings"),
    together("flows"),
    together("sctp"),
    together("ipvs"),
    together("dead_owners"),
    together("golden"),
    together("libnftnl"),
    together("library"),
    together("listing"),
    together("ownership"),
    together("policy"),
    together("sharing"),
    together("takeover"),
    together("watch"),
];

const fn together(subject: &'static str) -> Choice {
    Choice { subject, alone: false }
}

/// What is wrong with the user's names of tests, as far as that is known before they are built.
pub fn check(options: &Options) -> Result<(), Wrong> {
    // A text without a colon may be in any test's name.
    let fits = |text: &String| {
        let subject = text.split_once("::").map(|(subject, _)| subject);
        subject.is_none_or(|end| CHOICES.iter().any(|choice| choice.subject.ends_with(end)))
    };
    match options.test.iter().find(|text| !fits(text)) {
        Some(text) => Err(no_such_test(text)),
        None => Ok(()),
    }
}

fn no_such_test(text: &str) -> Wrong {
    format!("--test {text}: no test has such a name (--list shows them)")
}

/// The tests to run.
pub fn jobs(options: &Options, suite: &Suite) -> Result<Vec<Job>, Wrong> {
    let mut jobs = Vec::new();
    for Choice { subject, alone } in CHOICES {
        let of_subject =
            |test: &&String| test.strip_prefix(subject).is_some_and(|rest| rest.starts_with("::"));
        let tests = suite.tests.iter().filter(of_subject);
        let before = jobs.len();
        jobs.extend(tests.map(|test| Job { test: test.clone(), alone: *alone, limit: LIMIT }));
        if jobs.len() == before {
            return Err(format!("there are no tests of {subject}: mend vm-tests/src/selection.rs"));
        }
    }
    let fits = |job: &Job, text: &String| job.test.contains(text);
    if let Some(text) = options.test.iter().find(|text| !jobs.iter().any(|job| fits(job, text))) {
        return Err(no_such_test(text));
    }
    if !options.test.is_empty() {
        jobs.retain(|job| options.test.iter().any(|text| fits(job, text)));
    }
    Ok(jobs)
}
