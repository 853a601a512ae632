//! One man page a command: clap's own sections, and the other sections that a manual has.

use std::io;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

const SECTION: &str = "8";

/// The pages of the program and of each command: the file's name, and its text.
///
/// # Errors
///
/// If a page cannot be rendered.
pub fn all(program: &Command) -> io::Result<Vec<(String, String)>> {
    let mut pages = vec![("hostport.8".to_owned(), page(program, program)?)];
    for command in program.get_subcommands() {
        pages.push((format!("hostport-{}.8", command.get_name()), page(program, command)?));
    }
    Ok(pages)
}

fn page(program: &Command, command: &Command) -> io::Result<String> {
    let whole = command.get_name() == program.get_name();
    let version = program.get_version().unwrap_or_default();
    let man = Man::new(command.clone())
        .section(SECTION)
        .source(format!("hostport {version}"))
        .manual("Host ports on nftables");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    if whole {
        commands(program).to_writer(&mut text)?;
    }
    man.render_options_section(&mut text)?;
    examples(command).to_writer(&mut text)?;
    common().to_writer(&mut text)?;
    see_also(program, command).to_writer(&mut text)?;
    String::from_utf8(text).map_err(io::Error::other)
}

fn commands(program: &Command) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for command in program.get_subcommands() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        roff.control("TP", []);
        roff.text([
            bold(format!("hostport-{}", command.get_name())),
            roman(format!("({SECTION})")),
        ]);
        roff.text([roman(about)]);
    }
    roff
}

/// From the end of `--help`: a heading with a colon, and lines to type.
fn examples(command: &Command) -> Roff {
    let mut roff = Roff::new();
    let Some(help) = command.get_after_help().map(ToString::to_string) else { return roff };
    if !help.starts_with("Example") {
        return roff;
    }
    roff.control("SH", ["EXAMPLES"]);
    let (heading, lines) = help.split_once('\n').unwrap_or((&help, ""));
    if let Some((_, place)) = heading.trim_end_matches(':').split_once(", ") {
        roff.text([roman(format!("Put {place}:"))]);
    }
    roff.control("PP", []);
    roff.control("RS", ["4"]);
    roff.control("nf", []);
    roff.text(
        lines.lines().flat_map(|line| [roman(line.trim_start()), roman("\n")]).collect::<Vec<_>>(),
    );
    roff.control("fi", []);
    roff.control("RE", []);
    roff
}

fn common() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (status, meaning) in [
        ("0", "Done."),
        (
            "1",
            "Refused or failed. One line on standard error says what, which port or file, and what to do.",
        ),
        ("2", "Wrong usage."),
    ] {
        roff.control("TP", []);
        roff.text([bold(status)]);
        roff.text([roman(meaning)]);
    }
    roff.control("SH", ["FILES"]);
    for (file, meaning) in [
        (
            hostport_hook::cli::DEFAULT_FOLDER,
            "The journal: one file for each owner of host ports. A reboot clears it, as it clears the ruleset. \
             Never delete it while containers run: hostport-restore(8) withdraws the ports that it does not list.",
        ),
        (
            "/usr/share/containers/oci/hooks.d/hostport.json, hostport-kubernetes.json",
            "The hook configurations that podman(1) and CRI-O read. A copy with other options belongs into \
             /etc/containers/oci/hooks.d, which they read only if hooks_dir names it: see containers.conf(5) and \
             crio.conf(5).",
        ),
    ] {
        roff.control("TP", []);
        roff.text([bold(file)]);
        roff.text([roman(meaning)]);
    }
    roff
}

fn see_also(program: &Command, command: &Command) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    let others = program.get_subcommands().map(|other| format!("hostport-{}", other.get_name()));
    let pages = std::iter::once(program.get_name().to_owned()).chain(others);
    let this = command.get_display_name().unwrap_or_else(|| command.get_name());
    let mut line: Vec<_> = pages
        .filter(|page| page != this)
        .flat_map(|page| [bold(page), roman(format!("({SECTION}), "))])
        .collect();
    line.extend([bold("nft"), roman("(8), "), bold("podman"), roman("(1)")]);
    roff.text(line);
    roff
}
