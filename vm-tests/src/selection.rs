//! Which tests run on other kernels: those whose result a kernel can change.

use std::collections::BTreeMap;

use hostport_vm_tests::Job;

use crate::Wrong;
use crate::cli::Options;
use crate::suites::Suite;

/// The longest that a test may take, in seconds. Translated, a machine is ten to twenty times slower.
const LIMIT: u64 = 240;

/// Which tests of a suite run.
struct Choice {
    suite: &'static str,
    /// Without these.
    except: &'static [&'static str],
    /// They change the machine, so each has it for itself, before all others.
    alone: bool,
}

/// docs/kernels.md says why these, and why not the others.
const CHOICES: &[Choice] = &[
    Choice { alone: true, ..all("modules") },
    all("reachable"),
    all("localhost"),
    all("mappings"),
    all("flows"),
    all("sctp"),
    all("ipvs"),
    all("golden"),
    all("libnftnl"),
    all("library"),
    all("listing"),
    all("ownership"),
    all("policy"),
    all("takeover"),
    all("watch"),
];

const fn all(suite: &'static str) -> Choice {
    Choice { suite, except: &[], alone: false }
}

/// The test executables that are needed.
pub fn suites(options: &Options) -> Result<Vec<&'static str>, Wrong> {
    // A text without a colon may be in any test's name.
    let fits = |suite: &str, text: &String| {
        text.split_once("::").is_none_or(|(name, _)| suite.ends_with(name))
    };
    let known = || CHOICES.iter().map(|choice| choice.suite);
    if let Some(text) = options.test.iter().find(|text| !known().any(|suite| fits(suite, text))) {
        return Err(no_such_test(text));
    }
    let wanted =
        |suite: &&str| options.test.is_empty() || options.test.iter().any(|text| fits(suite, text));
    Ok(known().filter(wanted).collect())
}

fn no_such_test(text: &str) -> Wrong {
    format!("--test {text}: no test has such a name (--list shows them)")
}

/// The tests to run.
pub fn jobs(options: &Options, suites: &BTreeMap<String, Suite>) -> Result<Vec<Job>, Wrong> {
    let mut jobs = Vec::new();
    for choice in CHOICES {
        let suite = choice.suite;
        let Some(built) = suites.get(suite) else { continue };
        if let Some(gone) =
            choice.except.iter().find(|name| !built.tests.iter().any(|t| t == *name))
        {
            return Err(format!("{suite} has no test {gone}: mend vm-tests/src/selection.rs"));
        }
        for test in built.tests.iter().filter(|test| !choice.except.contains(&test.as_str())) {
            let (suite, test) = (suite.to_owned(), test.clone());
            jobs.push(Job { suite, test, alone: choice.alone, limit: LIMIT });
        }
    }
    let fits = |job: &Job, text: &String| format!("{}::{}", job.suite, job.test).contains(text);
    if let Some(text) = options.test.iter().find(|text| !jobs.iter().any(|job| fits(job, text))) {
        return Err(no_such_test(text));
    }
    if !options.test.is_empty() {
        jobs.retain(|job| options.test.iter().any(|text| fits(job, text)));
    }
    Ok(jobs)
}
