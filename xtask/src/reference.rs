//! docs/flags.md: every command and option, from the command line's own definition.

use std::fmt::Write;

use clap::{Arg, Command, CommandFactory};
use hostport_hook::cli::Arguments;

use crate::pages::Page;

/// Clap's help has words such as `<NAME>`, which Markdown would take for a tag, and a table ends at a `|`.
fn escaped(text: &str) -> String {
    text.replace('<', "\\<").replace('|', "\\|").replace("\n\n", ". ").replace('\n', " ")
}

fn row(page: &mut String, arg: &Arg) {
    let value = arg.get_value_names().unwrap_or_default().first().map(ToString::to_string);
    let value = value.filter(|_| arg.get_action().takes_values()).unwrap_or_default();
    let is_optional = arg.get_num_args().is_some_and(|number| number.min_values() == 0);
    let name = match arg.get_long() {
        Some(long) if is_optional && !value.is_empty() => format!("--{long} [{value}]"),
        Some(long) => format!("--{long} {value}"),
        None if arg.is_required_set() => format!("<{value}>"),
        None => format!("[{value}]"),
    };
    let default: Vec<_> =
        arg.get_default_values().iter().map(|one| one.to_string_lossy()).collect();
    let default = match default[..] {
        [] => String::new(),
        _ if !arg.get_action().takes_values() => String::new(),
        _ => format!("`{}`", default.join(" ")),
    };
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let _ = writeln!(page, "| `{}` | {default} | {} |", name.trim_end(), escaped(&help));
}

fn table<'a>(page: &mut String, args: impl Iterator<Item = &'a Arg>) {
    let args: Vec<_> = args
        .filter(|arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str()))
        .collect();
    if args.is_empty() {
        return;
    }
    page.push_str("\n| option | default | |\n| --- | --- | --- |\n");
    args.into_iter().for_each(|arg| row(page, arg));
}

/// The page as it should be now.
pub fn page() -> Page {
    let mut program = Arguments::command();
    program.build();
    let mut page = String::from(
        "# Commands and flags\n\nWritten by `make reference` from the definition in `hook/src/cli/`: do not edit.\n\n\
         ## Options of every command\n",
    );
    table(&mut page, program.get_arguments());
    let is_own = |arg: &&Arg| !arg.is_global_set();
    for command in program.get_subcommands().filter(|one| one.get_name() != "help") {
        let _ = write!(page, "\n## hostport {}\n\n", command.get_name());
        let about = |command: &Command| {
            command.get_long_about().or(command.get_about()).map(ToString::to_string)
        };
        let _ = writeln!(page, "{}", about(command).unwrap_or_default().replace('<', "\\<"));
        table(&mut page, command.get_arguments().filter(is_own));
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        if !after.is_empty() {
            page.push('\n');
            for line in after.lines() {
                let line = line.trim_end();
                let _ = match line.strip_prefix("  ") {
                    Some(example) => writeln!(page, "\n    {example}"),
                    None => writeln!(page, "{line}"),
                };
            }
        }
    }
    Page { path: "docs/flags.md".to_owned(), text: page, target: "reference" }
}
