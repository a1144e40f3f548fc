//! What the executables have in common at their edge: arguments in, one line and an exit status
//! out.

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
/// The caller said something that makes no sense; nothing was touched.
pub const USAGE: u8 = 2;

/// Where an error in the arguments is told, besides a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Destination {
    /// In the log, too.
    Log,
    /// On standard error alone.
    Stderr,
}

/// Parses the arguments of mhctl; an error or `--help` has been answered when this returns an exit status instead.
/// A slip of the keyboard is nothing for the log.
pub fn parse<Cli: clap::Parser>(program: &'static str) -> Result<Cli, u8> {
    Cli::try_parse().map_err(|error| answer(&error, program, Destination::Stderr))
}

/// Answers what clap calls an error; the exit status. Without a terminal it is one line.
fn answer(error: &clap::Error, program: &'static str, destination: Destination) -> u8 {
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if asked || io::stderr().is_terminal() {
        // There is nobody to tell that standard output is closed.
        let _ = error.print();
    } else {
        let said = match error.kind() {
            // clap would show all the help.
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                format!("which command? `{program} --help` shows them")
            }
            _ => one_line(&error.to_string()),
        };
        match destination {
            Destination::Log => Log::start(program, false).complain(&said),
            // Nor is standard error that is closed or full, which would have `eprintln!` panic.
            Destination::Stderr => drop(writeln!(io::stderr(), "{program}: {said}")),
        }
    }
    if asked { DONE } else { USAGE }
}

/// clap's first paragraph says what is wrong, usage and hints follow. An argument may hold what it
/// likes, line ends included, and is escaped.
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
