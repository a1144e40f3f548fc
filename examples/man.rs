//! Writes the man pages and shell completions: `cargo run --example man -- DIR`. They come from the
//! definitions that the executables parse by; only multihome.toml(5) is written by hand.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Command;
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;
use multihome::cli;

fn main() -> Result<()> {
    let dir: PathBuf = std::env::args_os().nth(1).context("usage: man DIR")?.into();
    write_all(&dir)
}

/// Writes all of them into a directory.
pub fn write_all(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    for program in cli::all() {
        let name = program.get_name().to_owned();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            generate_to(shell, &mut shown(&program), &name, dir)?;
        }
        pages(program, &name, dir)?;
    }
    let by_hand = include_str!("../man/multihome.toml.5");
    fs::write(dir.join("multihome.toml.5"), by_hand)?;
    Ok(())
}

/// A command without what it hides, which completions would offer.
fn shown(command: &Command) -> Command {
    // clap wants names that live as long as the process does.
    let name: &'static str = command.get_name().to_owned().leak();
    let mut shown = Command::new(name).args(command.get_arguments().filter(|arg| !arg.is_hide_set()));
    shown = shown.subcommands(command.get_subcommands().filter(|sub| !sub.is_hide_set()).map(self::shown));
    if command.get_version().is_some() {
        shown = shown.version(env!("CARGO_PKG_VERSION"));
    }
    command.get_about().cloned().into_iter().fold(shown, Command::about)
}

/// A page for a command, and for each of its own: mhctl.8, mhctl-why.8, mhctl-link-up.8 ...
fn pages(mut command: Command, name: &str, dir: &Path) -> Result<()> {
    command.build();
    page(command.clone().display_name(name.to_owned()), name, dir)?;
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set()) {
        pages(sub.clone(), &format!("{name}-{}", sub.get_name()), dir)?;
    }
    Ok(())
}

fn page(command: Command, name: &str, dir: &Path) -> Result<()> {
    let examples = command.get_after_help().map(ToString::to_string);
    let is_parent = command.get_subcommands().next().is_some();
    let man = Man::new(command.version(env!("CARGO_PKG_VERSION"))).title(name.to_uppercase()).section("8");
    let man = man.source(concat!("multihome ", env!("CARGO_PKG_VERSION"))).manual("multihome");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if is_parent {
        man.render_subcommands_section(&mut page)?;
    }
    let mut page = String::from_utf8(page)?;
    if let Some(examples) = examples {
        // As it stands in --help: its lines and columns are meant.
        page = page + ".SH EXAMPLES\n.nf\n" + &roff(&examples) + "\n.fi\n";
    }
    page += ".SH SEE ALSO\n.BR multihome.toml (5),\n.BR mhctl (8),\n.BR ip-rule (8),\n.BR pppd (8)\n";
    let path = dir.join(format!("{name}.8"));
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
}

/// Text as roff takes it: `\\`, `-`, and a dot or an apostrophe in front of a line mean something.
fn roff(text: &str) -> String {
    let line = |line: &str| {
        let escaped = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
        if escaped.starts_with('.') { format!("\\&{escaped}") } else { escaped }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}
