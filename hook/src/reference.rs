//! docs/flags.md, written from the command line's own definition. `make reference` writes it anew.

use std::fmt::Write;
use std::{env, fs};

use clap::{Arg, Command, CommandFactory};

use crate::cli::Arguments;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/flags.md");

/// Clap's help speaks of `<NAME>`, which Markdown would take for a tag, and a table ends at a `|`.
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
    writeln!(page, "| `{}` | {default} | {} |", name.trim_end(), escaped(&help)).unwrap();
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

fn reference() -> String {
    let mut program = Arguments::command();
    program.build();
    let mut page = String::from(
        "# Commands and flags\n\nWritten by `make reference` from the definition in `hook/src/cli/`: do not edit.\n\n\
         ## Options of every command\n",
    );
    table(&mut page, program.get_arguments());
    let is_own = |arg: &&Arg| !arg.is_global_set();
    for command in program.get_subcommands().filter(|one| one.get_name() != "help") {
        write!(page, "\n## hostport {}\n\n", command.get_name()).unwrap();
        let about = |command: &Command| {
            command.get_long_about().or(command.get_about()).map(ToString::to_string)
        };
        writeln!(page, "{}", about(command).unwrap_or_default().replace('<', "\\<")).unwrap();
        table(&mut page, command.get_arguments().filter(is_own));
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        if !after.is_empty() {
            page.push('\n');
            for line in after.lines() {
                let line = line.trim_end();
                match line.strip_prefix("  ") {
                    Some(example) => writeln!(page, "\n    {example}").unwrap(),
                    None => writeln!(page, "{line}").unwrap(),
                }
            }
        }
    }
    page
}

#[test]
fn the_reference_in_the_docs_is_what_the_program_takes() {
    let page = reference();
    if env::var_os("HOSTPORT_WRITE_REFERENCE").is_some() {
        fs::write(PAGE, &page).unwrap();
    }
    let written = fs::read_to_string(PAGE).unwrap_or_default();
    assert!(written == page, "docs/flags.md differs from hook/src/cli: run make reference");
}

#[test]
fn every_annotation_that_is_obeyed_is_in_the_docs() {
    let page = include_str!("../../docs/annotations.md");
    use crate::request::policy::{CRIO_PORTS, ENDPOINT_IP, KUBELET_PORTS, ON_CONFLICT, PORTS};
    for annotation in [PORTS, ENDPOINT_IP, ON_CONFLICT, KUBELET_PORTS, CRIO_PORTS] {
        assert!(page.contains(&format!("`{annotation}`")), "{annotation}");
    }
}
