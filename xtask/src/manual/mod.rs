//! Man pages, and completions for three shells.
//!
//! Both come from the command line as the program declares it, so neither can name an option that does not
//! exist.

mod page;

use std::fs;
use std::io;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate};
use hostport_hook::cli::Arguments;

/// Writes `man8/` and `completions/` into a folder.
pub fn write(folder: &Path) -> io::Result<()> {
    write_pages(&folder.join("man8"))?;
    write_completions(&folder.join("completions"))
}

/// The command line with what clap adds to it, such as the common options of each command.
fn program() -> Command {
    let mut program = Arguments::command().disable_help_subcommand(true);
    program.build();
    program
}

fn write_pages(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (name, text) in page::all(&program())? {
        fs::write(folder.join(name), text)?;
    }
    Ok(())
}

fn write_completions(folder: &Path) -> io::Result<()> {
    // The names by which each shell finds a program's completions.
    for (shell, name) in
        [(Shell::Bash, "hostport"), (Shell::Zsh, "_hostport"), (Shell::Fish, "hostport.fish")]
    {
        let folder = folder.join(shell.to_string());
        fs::create_dir_all(&folder)?;
        let mut text = Vec::new();
        generate(shell, &mut Arguments::command(), "hostport", &mut text);
        fs::write(folder.join(name), text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_with_each_of_its_options_and_an_example() {
        let program = program();
        let pages = page::all(&program).unwrap();
        for command in program.get_subcommands() {
            let name = format!("hostport-{}.8", command.get_name());
            let (_, text) = pages.iter().find(|(page, _)| *page == name).expect(&name);
            for option in command.get_arguments().filter_map(|option| option.get_long()) {
                let written = format!("--{}", option).replace('-', "\\-");
                assert!(text.contains(&written), "{name} does not have --{option}");
            }
            for section in ["NAME", "SYNOPSIS", "OPTIONS", "EXAMPLES", "EXIT STATUS", "SEE ALSO"] {
                let heading = [format!(".SH {section}\n"), format!(".SH \"{section}\"\n")];
                assert!(heading.iter().any(|line| text.contains(line)), "{name}: {section}");
            }
        }
        assert_eq!(pages.len(), program.get_subcommands().count() + 1);
    }
}
