//! docs/newcomer.md: does what the docs tell a newcomer with podman, in a fresh Debian root and two network
//! namespaces, and writes down what was said and how long it took.
//!
//! The commands are the docs' own, read out of them.

mod machine;

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::book::commands;
use crate::pages::{Page, repository};
use machine::{ADDRESS, Machine, call};

/// A newcomer has a port on another machine within this time, downloads not counted.
const LIMIT: Duration = Duration::from_secs(120);
/// Lines that are kept of what a command said.
const LINES: usize = 12;

/// Goes through all of it. `pristine` is a Debian root, which is not changed. As root.
pub fn page(pristine: &Path, package: &Path) -> Result<Page, Box<dyn Error>> {
    let docs = fs::read_to_string(repository("docs/runtimes.md"))?;
    let packages = commands(&docs, "## podman");
    let container = commands(&docs, "### A first container");
    if packages.is_empty() || container.is_empty() {
        return Err("docs/runtimes.md has no commands".into());
    }
    let mut machine = Machine::new(&repository("target/newcomer"), pristine, package)?;
    let install = packages.replace("apt-get install", "apt-get install --yes --quiet --quiet");
    eprintln!("downloading");
    let begin = Instant::now();
    machine.enter(&["apt-get", "update", "-qq"]);
    machine.enter(&["bash", "-ec", &format!("{install} --download-only")]);
    let download = begin.elapsed();

    machine.start()?;
    let mut log = Log::default();
    let package = format!("/root/{}", package.file_name().unwrap_or_default().display());
    log.step(&mut machine, &packages, &install, 2)?;
    let shown = format!("apt-get install {package}");
    let typed = format!("apt-get install --yes --quiet --quiet {package}");
    log.step(&mut machine, &shown, &typed, 2)?;
    log.step(&mut machine, &container, &container, 1)?;
    log.text.push_str("From another machine:\n\n");
    let url = format!("http://{ADDRESS}:9000/");
    let begin = Instant::now();
    let curl = ["curl", "--silent", "--show-error", "--max-time", "5", &url];
    let answer = call(Command::new("ip").args(["netns", "exec", machine.client()]).args(curl));
    log.note(begin.elapsed(), '$', &format!("curl {url}"), &answer, LINES);
    if answer != "hello\n" {
        return Err(format!("the container answered {answer:?}").into());
    }
    let reached = log.took;
    log.text.push_str("And what else that page shows:\n\n");
    for command in ["curl --silent http://127.0.0.1:9000/", "hostport list"] {
        log.step(&mut machine, command, command, LINES)?;
    }
    log.step(
        &mut machine,
        "podman rm --force --time 0 web",
        "podman rm --force --time 0 web",
        LINES,
    )?;
    let left = log.step(&mut machine, "hostport list", "hostport list", LINES)?;
    if left.lines().count() != 1 {
        return Err(format!("the port did not go:\n{left}").into());
    }
    if reached > LIMIT {
        return Err(format!("the first answer took {reached:?}, more than {LIMIT:?}").into());
    }
    eprintln!("{reached:.1?} to the first answer, and {download:.1?} for the downloads");
    let text = introduction(&machine, reached, download) + &log.text;
    Ok(Page { path: "docs/newcomer.md".to_owned(), text, target: "newcomer" })
}

/// The commands, with what was said.
#[derive(Default)]
struct Log {
    text: String,
    /// How long all of them took.
    took: Duration,
}

impl Log {
    /// Types a command on the machine, and writes it down as `shown` with the last lines of what was said.
    fn step(
        &mut self,
        machine: &mut Machine,
        shown: &str,
        typed: &str,
        lines: usize,
    ) -> Result<String, String> {
        let begin = Instant::now();
        let said = machine.step(typed, LIMIT)?;
        self.note(begin.elapsed(), '#', shown, &said, lines);
        Ok(said)
    }

    fn note(&mut self, took: Duration, prompt: char, command: &str, said: &str, lines: usize) {
        self.took += took;
        let mut before = prompt;
        for line in command.lines() {
            let _ = writeln!(self.text, "    {before} {line}");
            before = '>';
        }
        let said: Vec<&str> = said.lines().collect();
        let last = said.len().saturating_sub(lines);
        for line in said[last..].iter().filter(|line| !line.is_empty()) {
            let _ = writeln!(self.text, "    {line}");
        }
        let _ = writeln!(self.text, "\n({:.1} s)\n", took.as_secs_f64());
    }
}

fn introduction(machine: &Machine, reached: Duration, download: Duration) -> String {
    let say = |program: &str, argument: &str| call(Command::new(program).arg(argument));
    let kernel = say("uname", "-r");
    format!(
        "# A newcomer's first port\n\n\
         What somebody with only the docs types on a fresh Debian 12 with podman, and what the machine says. \
         `make newcomer`\nwrote this page: a program took the commands from [runtimes](runtimes.md#podman) and its\n\
         [first container](runtimes.md#a-first-container), and typed them.\n\n\
         **{:.0} seconds** from the fresh root to the answer on another machine, without the downloads, which \
         took\n{:.0} seconds more. {}, {} cores, Linux {}, hostport {},\n{}.\n\n\
         debootstrap made the root, and two network namespaces are node and client. No systemd runs in it, \
         so podman is configured\nto use cgroupfs, to log into files and to call runc; a machine that was booted \
         needs no configuration. The package is that of\n[make deb](packages.md).\n\n",
        reached.as_secs_f64(),
        download.as_secs_f64(),
        call(Command::new("date").args(["--utc", "+%F"])).trim(),
        say("nproc", "--all").trim(),
        kernel.trim().split('-').next().unwrap_or_default(),
        env!("CARGO_PKG_VERSION"),
        machine.enter(&["podman", "--version"]).trim(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_of_two_lines_is_written_down_with_the_end_of_what_was_said() {
        let mut log = Log::default();
        log.note(Duration::from_millis(1250), '#', "one \\\n  two", "first\n\nsecond\nthird\n", 2);
        assert_eq!(log.text, "    # one \\\n    >   two\n    second\n    third\n\n(1.2 s)\n\n");
    }
}
