//! Command lines, exit statuses and error lines of all executables.

use std::io::{self, IsTerminal, Write};

use clap::error::ErrorKind;

mod call;
mod common;
pub mod log;

pub use call::Call;
pub use common::Common;
use log::Log;

/// Everything was done.
pub const DONE: u8 = 0;
/// Something was not.
pub const FAILED: u8 = 1;
/// The arguments are invalid; nothing was changed.
pub const USAGE: u8 = 2;

/// Where an error in the arguments goes without a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Destination {
    /// The log and standard error.
    Log,
    /// Standard error only.
    Stderr,
}

/// Parses the arguments of mhctl. The error is the exit status after an error or `--help` has been printed. A typing
/// error does not go to the log.
pub fn parse<Cli: clap::Parser>(program: &'static str) -> Result<Cli, u8> {
    Cli::try_parse().map_err(|error| answer(&error, program, Destination::Stderr))
}

/// Prints an error of clap, which may be `--help`, and returns the exit status. Without a terminal an error is one
/// line.
fn answer(error: &clap::Error, program: &'static str, destination: Destination) -> u8 {
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if asked || io::stderr().is_terminal() {
        // A closed standard output cannot be reported anywhere.
        let _ = error.print();
    } else {
        let said = match error.kind() {
            // clap would print the whole help.
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                format!("which command? `{program} --help` shows them")
            }
            _ => one_line(&error.to_string()),
        };
        match destination {
            Destination::Log => Log::start(program, false).complain(&said),
            // `eprintln!` would panic if standard error is closed or full.
            Destination::Stderr => drop(writeln!(io::stderr(), "{program}: {said}")),
        }
    }
    if asked { DONE } else { USAGE }
}

/// The first paragraph of clap's message, without usage and hints. Control characters of arguments are escaped.
fn one_line(error: &str) -> String {
    let said: Vec<_> = error.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
    let mut line = String::new();
    for c in said.join(" ").trim_start_matches("error: ").chars().take(200) {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}
