//! Completions for bash, zsh and fish. A LINK is completed by the names in the configuration, which mhctl is asked for
//! when somebody presses Tab.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use clap::{Arg, Command};
use clap_complete::{Shell, generate_to};

/// Stands for the names of the links until the shell's own way to ask for them takes its place.
const LINKS: &str = "NAMES_OF_LINKS";

pub fn write(program: &Command, name: &str, dir: &Path) -> Result<()> {
    let mut shown = shown(program);
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let path = generate_to(shell, &mut shown, name, dir)?;
        let text = fs::read_to_string(&path)?;
        let text = match shell {
            // The first argument of its function is the command as it was typed.
            Shell::Bash => text.replace(LINKS, "$(\"$1\" link-names 2>/dev/null)"),
            Shell::Zsh => text.replace(LINKS, "$(mhctl link-names 2>/dev/null)"),
            _ => text.replace(&format!("{LINKS}\\t''"), FISH) + &positions(&shown, name, &[]),
        };
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

const FISH: &str = "(mhctl link-names 2>/dev/null)";

/// What `clap_complete` leaves out for fish: arguments that are no options.
fn positions(command: &Command, program: &str, path: &[&str]) -> String {
    let mut lines = String::new();
    if let ([first, rest @ ..], true) = (path, command.get_positionals().any(is_link)) {
        let mut condition = format!("__fish_{program}_using_subcommand {first}");
        for name in rest {
            // Writing to a String cannot fail, here and below.
            let _ = write!(condition, "; and __fish_seen_subcommand_from {name}");
        }
        let _ = writeln!(lines, "complete -c {program} -n \"{condition}\" -f -a \"{FISH}\"");
    }
    for sub in command.get_subcommands() {
        lines += &positions(sub, program, &[path, &[sub.get_name()]].concat());
    }
    lines
}

fn is_link(arg: &Arg) -> bool {
    arg.get_value_names().is_some_and(|names| names.iter().any(|name| name == "LINK"))
}

/// A command without what it hides, which completions would offer.
fn shown(command: &Command) -> Command {
    // clap wants names that live as long as the process does.
    let name: &'static str = command.get_name().to_owned().leak();
    let mut shown = Command::new(name);
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()).cloned() {
        shown = shown.arg(if is_link(&arg) { arg.value_parser(PossibleValuesParser::new([LINKS])) } else { arg });
    }
    shown = shown.subcommands(command.get_subcommands().filter(|sub| !sub.is_hide_set()).map(self::shown));
    if command.get_version().is_some() {
        shown = shown.version(env!("CARGO_PKG_VERSION"));
    }
    command.get_about().cloned().into_iter().fold(shown, Command::about)
}
