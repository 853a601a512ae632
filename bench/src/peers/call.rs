//! A program that is run again and again, and its time.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::measure::{Footprint, footprint, transactions};

/// What a peer does for a container: it is run again and again, in the caller's network namespace.
pub trait Action: Send + Sync {
    /// Runs it; its time, or what it said when it failed.
    fn run(&self) -> Result<Duration, String>;

    /// What it takes besides time.
    fn footprint(&self) -> Footprint;

    /// Runs it under strace: how many netfilter transactions it sent, those included that the kernel
    /// refused.
    fn transactions(&self) -> usize;
}

impl dyn Action + '_ {
    /// Its time in milliseconds.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub fn milliseconds(&self) -> f64 {
        self.run().unwrap_or_else(|why| panic!("{why}")).as_secs_f64() * 1e3
    }
}

/// One program with its arguments, its environment and its standard input.
#[derive(Clone, Debug)]
pub struct Call {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    input: Option<PathBuf>,
    errors: PathBuf,
}

impl Call {
    /// A program without any of these. Its standard error goes to a file in `folder`, which is read if
    /// it fails.
    pub fn new(program: &Path, folder: &Path) -> Call {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Call {
            program: program.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            input: None,
            errors: folder.join(format!("{number}.stderr")),
        }
    }

    /// With these arguments more.
    pub fn arguments<T: Into<String>>(mut self, more: impl IntoIterator<Item = T>) -> Call {
        self.arguments.extend(more.into_iter().map(T::into));
        self
    }

    /// With a variable in its environment, which is empty otherwise.
    pub fn variable(mut self, name: &'static str, value: impl Into<String>) -> Call {
        self.environment.push((name, value.into()));
        self
    }

    /// With a file on standard input; it is written now.
    pub fn input(mut self, text: &str) -> Call {
        let file = self.errors.with_extension("stdin");
        fs::write(&file, text).expect("a file in /tmp");
        self.input = Some(file);
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear();
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        command
    }

    fn stdin(&self) -> Option<File> {
        self.input.as_ref().map(|file| File::open(file).expect("the file was written"))
    }

    /// Runs it and returns what it printed, as text.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub fn output(&self) -> String {
        let mut command = self.command();
        command.stdin(self.stdin().map_or_else(Stdio::null, Stdio::from));
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Action for Call {
    /// From before the start of the process to after its end. What it would open is opened before.
    fn run(&self) -> Result<Duration, String> {
        let mut command = self.command();
        command.stdin(self.stdin().map_or_else(Stdio::null, Stdio::from));
        // Some peers print a result, with which nobody here does anything.
        command.stdout(File::create(self.errors.with_extension("stdout")).expect("a file in /tmp"));
        command.stderr(File::create(&self.errors).expect("a file in /tmp"));
        let start = Instant::now();
        let status = command.status();
        let time = start.elapsed();
        if status.as_ref().is_ok_and(|status| status.success()) {
            return Ok(time);
        }
        let read = |file: &Path| fs::read_to_string(file).unwrap_or_default();
        let said = read(&self.errors) + &read(&self.errors.with_extension("stdout"));
        Err(format!("{command:?}: {status:?}: {}", said.trim()))
    }

    fn footprint(&self) -> Footprint {
        footprint(&self.command(), self.stdin())
    }

    fn transactions(&self) -> usize {
        transactions(&self.command(), self.stdin())
    }
}
