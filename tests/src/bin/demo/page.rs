//! What the demo looks like: colour only on a terminal, and text that a pipe can carry.

use std::cell::Cell;
use std::io::{self, IsTerminal};

/// Where the third column begins: what a request brought.
const ANSWERS: usize = 62;
/// The longest line of an error message.
const WIDTH: usize = 96;

/// What the demo prints.
pub struct Page {
    colour: bool,
    steps: Cell<u32>,
    checks: Cell<u32>,
}

impl Page {
    /// An empty page.
    pub fn new() -> Page {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Page { colour, steps: Cell::new(0), checks: Cell::new(0) }
    }

    /// How many checks have held.
    pub fn checks(&self) -> u32 {
        self.checks.get()
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The first line.
    pub fn title(&self, text: &str) {
        println!("{}", self.paint("1", text));
    }

    /// A numbered heading: one sentence about the step.
    pub fn step(&self, sentence: &str) {
        self.steps.set(self.steps.get() + 1);
        let number = self.steps.get();
        println!("\n{}", self.paint("1", &format!("{number}. {sentence}")));
    }

    /// An explanation.
    pub fn text(&self, text: &str) {
        println!();
        for line in text.lines() {
            println!("{}", format!("   {line}").trim_end());
        }
    }

    /// A command as a user types it. Further lines are indented to match the first.
    pub fn command(&self, prompt: &str, line: &str) {
        let margin = prompt.len() + 1;
        println!();
        for (index, part) in line.lines().enumerate() {
            let before = if index == 0 { prompt } else { "" };
            let gap = margin - before.len();
            println!("   {}{:gap$}{}", self.paint("2", before), "", self.paint("1", part));
        }
    }

    /// What a program printed.
    pub fn output(&self, text: &str) {
        for line in text.lines() {
            println!("{}", format!("   {}", line.replace('\t', "    ")).trim_end());
        }
    }

    /// A program's error message, its long lines folded between words.
    pub fn error(&self, text: &str) {
        for part in text.lines().flat_map(fold) {
            println!("{}", format!("   {part}").trim_end());
        }
    }

    /// A request and its answer, which must be right.
    pub fn answer(
        &self,
        prompt: &str,
        line: &str,
        answer: &str,
        right: &str,
    ) -> Result<(), String> {
        let gap = ANSWERS.saturating_sub(prompt.len() + 1 + line.len()).max(2);
        let mark = if answer == right { self.paint("32", "ok") } else { self.paint("31", "WRONG") };
        let (before, command) = (self.paint("2", prompt), self.paint("1", line));
        println!("   {before} {command}{:gap$}{answer:<15}  {mark}", "");
        self.holds(answer == right, &format!("{line} is answered: {right}"), answer)
    }

    /// Reports that a check held, or ends the demo with what was found instead.
    pub fn check(&self, holds: bool, what: &str, instead: &str) -> Result<(), String> {
        self.holds(holds, what, instead)?;
        println!("   {} {what}", self.paint("32", "ok"));
        Ok(())
    }

    /// A check whose success is visible without a word.
    pub fn holds(&self, holds: bool, what: &str, instead: &str) -> Result<(), String> {
        if !holds {
            return Err(format!("{what}\nInstead: {}", instead.trim()));
        }
        self.checks.set(self.checks.get() + 1);
        Ok(())
    }
}

/// Splits a line at spaces into parts that are no longer than [`WIDTH`], where possible.
fn fold(line: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for word in line.split_inclusive(' ') {
        let full = parts.last().is_some_and(|part| part.len() + word.len() > WIDTH);
        if full && word.len() <= WIDTH {
            parts.push(String::from("    "));
        }
        parts.last_mut().expect("there is always a part").push_str(word);
    }
    parts
}
