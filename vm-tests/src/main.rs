//! `make vm-test`: runs the tests of `tests/` on other kernels, each in a virtual machine.
//!
//! For each kernel it fetches the kernel, builds what the guest needs, boots it, and prints a line per test. At the
//! end come a matrix and the output of everything that failed. docs/kernels.md describes how to use it for your own
//! kernel or image.

mod accel;
mod archive;
mod cache;
mod cli;
mod debian;
mod guest;
mod image;
mod kernel;
mod machine;
mod report;
mod root;
mod selection;
mod suite;

use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;

use clap::Parser;
use hostport_vm_tests::{Wrong, apt, program};

use crate::cli::Options;
use crate::report::Reporter;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("vm-tests: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every test passed on every kernel.
fn run(options: &Options) -> Result<bool, Wrong> {
    options.check()?;
    kernel::chosen(&options.kernels)?;
    selection::check(options)?;
    let suite = suite::build()?;
    let jobs = selection::jobs(options, &suite)?;
    if options.list {
        for job in &jobs {
            println!("{}", job.test);
        }
        return Ok(true);
    }
    let own = cache::Own::new(&options.cache())?;
    let one_at_a_time = cache::lock(&options.cache())?;
    let kernels = kernel::of(options)?;
    let root = root::of(options)?;
    let accel = accel::of(options, &kernels, &own)?;
    drop(one_at_a_time);
    let tests = guest::tests_disk(options, &suite, &own)?;
    let names = kernels.iter().map(|kernel| kernel.name.clone()).collect();
    let reporter = Mutex::new(Reporter::new(names, &jobs));
    let left = Mutex::new(kernels.iter());
    let next = || left.lock().unwrap_or_else(|broken| broken.into_inner()).next();
    thread::scope(|scope| {
        for _ in 0..options.machines {
            scope.spawn(|| {
                while let Some(kernel) = next() {
                    let (root, tests, own) = (&root, &tests, &own);
                    let machine = machine::Machine { options, kernel, accel, root, tests, own };
                    machine.run(&jobs, &reporter);
                }
            });
        }
    });
    let reporter = reporter.into_inner().unwrap_or_else(|broken| broken.into_inner());
    reporter.conclude();
    Ok(reporter.all_passed())
}
