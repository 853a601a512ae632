//! The runner's output: a line per test, then the matrix and what failed.

use std::collections::BTreeMap;

use hostport_vm_tests::{Job, Outcome};

/// Collects the reports of the machines.
pub struct Reporter {
    kernels: Vec<String>,
    releases: BTreeMap<String, String>,
    tests: Vec<String>,
    results: BTreeMap<(String, String), Cell>,
    failures: Vec<(String, String)>,
}

struct Cell {
    outcome: Outcome,
    seconds: f64,
}

impl Reporter {
    /// For these kernels and tests.
    pub fn new(kernels: Vec<String>, jobs: &[Job]) -> Reporter {
        Reporter {
            kernels,
            releases: BTreeMap::new(),
            tests: jobs.iter().map(|job| job.test.clone()).collect(),
            results: BTreeMap::new(),
            failures: Vec::new(),
        }
    }

    /// A guest is up.
    pub fn booted(&mut self, kernel: &str, release: &str, seconds: f64) {
        println!("{kernel:5} booted {release} in {seconds:.1} s");
        self.releases.insert(kernel.to_owned(), release.to_owned());
    }

    /// A test has ended.
    pub fn ended(
        &mut self,
        kernel: &str,
        test: &str,
        outcome: Outcome,
        seconds: f64,
        output: &str,
    ) {
        let word = match outcome {
            Outcome::Passed => "ok",
            Outcome::Failed => "FAILED",
            Outcome::TimedOut => "FAILED (limit)",
        };
        println!("{kernel:5} {seconds:6.1} s  {test} ... {word}");
        if outcome != Outcome::Passed {
            self.failures.push((format!("{kernel} {test}"), output.to_owned()));
        }
        let key = (kernel.to_owned(), test.to_owned());
        self.results.insert(key, Cell { outcome, seconds });
    }

    /// A machine has completed its plan.
    pub fn done(&self, kernel: &str, seconds: f64) {
        println!("{kernel:5} done after {seconds:.0} s");
    }

    /// A machine has not completed its plan, or its kernel has a bug.
    pub fn broken(&mut self, kernel: &str, why: &str) {
        println!("{kernel:5} FAILED: {}", why.lines().next().unwrap_or_default());
        self.failures.push((kernel.to_owned(), why.to_owned()));
    }

    /// Whether every test passed on every kernel.
    pub fn all_passed(&self) -> bool {
        self.passed() == self.kernels.len() * self.tests.len() && self.at_fault().next().is_none()
    }

    fn passed(&self) -> usize {
        self.results.values().filter(|cell| cell.outcome == Outcome::Passed).count()
    }

    /// Prints what failed, the matrix, and the sums.
    pub fn conclude(&self) {
        for (title, output) in &self.failures {
            println!("\n---- {title} ----\n{}", output.trim_end());
        }
        println!("\n{}", self.matrix());
        println!("{}", self.sums());
    }

    fn sums(&self) -> String {
        let passed = self.passed();
        let mut sums = format!("{passed} passed, {} failed", self.results.len() - passed);
        if self.never_ran() > 0 {
            sums += &format!(", {} never ran", self.never_ran());
        }
        let at_fault = self.at_fault().collect::<Vec<_>>().join(", ");
        if at_fault.is_empty() { sums } else { format!("{sums}; at fault: {at_fault}") }
    }

    fn never_ran(&self) -> usize {
        self.kernels.len() * self.tests.len() - self.results.len()
    }

    /// The kernels whose machine failed or whose kernel has a bug.
    fn at_fault(&self) -> impl Iterator<Item = &str> {
        let titles = self.failures.iter().map(|(title, _)| title);
        titles.filter(|title| self.kernels.contains(title)).map(String::as_str)
    }

    /// Tests against kernels, as a Markdown table: seconds where a test passed.
    fn matrix(&self) -> String {
        let width = self.tests.iter().map(String::len).max().unwrap_or_default();
        let release = |kernel: &String| self.releases.get(kernel).unwrap_or(kernel).clone();
        let heads: Vec<String> = self.kernels.iter().map(release).collect();
        let row = |first: &str, cells: &mut dyn Iterator<Item = String>| {
            let cells: Vec<String> = heads
                .iter()
                .zip(cells)
                .map(|(head, cell)| format!(" {cell:>width$} |", width = head.len().max(6)))
                .collect();
            format!("| {first:width$} |{}\n", cells.concat())
        };
        let mut table = row("test", &mut heads.iter().cloned());
        table +=
            &row(&"-".repeat(width), &mut heads.iter().map(|head| "-".repeat(head.len().max(6))));
        for test in &self.tests {
            let mut cells = self.kernels.iter().map(|kernel| {
                match self.results.get(&(kernel.clone(), test.clone())) {
                    Some(Cell { outcome: Outcome::Passed, seconds }) => format!("{seconds:.1}"),
                    Some(_) => "FAILED".to_owned(),
                    None => "-".to_owned(),
                }
            });
            table += &row(test, &mut cells);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(test: &str) -> Job {
        Job { test: test.into(), alone: false, limit: 1 }
    }

    fn reporter() -> Reporter {
        let mut reporter = Reporter::new(
            vec!["5.10".into(), "6.1".into()],
            &[job("flows::stay"), job("flows::go")],
        );
        for kernel in ["5.10", "6.1"] {
            reporter.booted(kernel, &format!("{kernel}.0"), 2.0);
            reporter.ended(kernel, "flows::stay", Outcome::Passed, 1.25, "");
        }
        reporter
    }

    #[test]
    fn the_matrix_has_a_row_for_each_test_and_a_column_for_each_kernel() {
        let mut reporter = reporter();
        reporter.ended("6.1", "flows::go", Outcome::TimedOut, 9.0, "waiting");
        let table = "\
| test        | 5.10.0 |  6.1.0 |
| ----------- | ------ | ------ |
| flows::stay |    1.2 |    1.2 |
| flows::go   |      - | FAILED |
";
        assert_eq!(reporter.matrix(), table);
        assert!(!reporter.all_passed());
    }

    #[test]
    fn a_test_that_never_ran_is_no_success() {
        let mut reporter = reporter();
        reporter.ended("6.1", "flows::go", Outcome::Passed, 1.0, "");
        assert!(!reporter.all_passed());
        assert_eq!(reporter.sums(), "3 passed, 0 failed, 1 never ran");
        reporter.ended("5.10", "flows::go", Outcome::Passed, 1.0, "");
        assert!(reporter.all_passed());
    }

    #[test]
    fn a_kernel_at_fault_is_a_failure_though_all_tests_passed() {
        let mut reporter = reporter();
        for kernel in ["5.10", "6.1"] {
            reporter.ended(kernel, "flows::go", Outcome::Passed, 1.0, "");
            reporter.done(kernel, 3.0);
        }
        reporter.broken("6.1", "the kernel logged a bug");
        assert!(!reporter.all_passed());
        assert_eq!(reporter.sums(), "4 passed, 0 failed; at fault: 6.1");
    }
}
