//! What the executables have in common at their edge: arguments in, one line and an exit status
//! out.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::log::Log;

/// Everything was done.
pub const DONE: u8 = 0;
/// Something was not.
pub const FAILED: u8 = 1;
/// The caller said something that makes no sense; nothing was touched.
pub const USAGE: u8 = 2;

/// Parses the process's arguments; an error or `--help` has been answered when this returns an exit
/// status instead. Under pppd standard error leads nowhere, so that an error also goes to the log.
pub fn parse<Cli: clap::Parser>(program: &'static str) -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| {
        // There is nobody to tell that standard output is closed.
        let _ = error.print();
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            return DONE.into();
        }
        if !io::stderr().is_terminal() {
            Log::start(program, false);
            let text = error.to_string();
            // The first line says it; an argument may hold what it likes, so it is escaped.
            let line = text.lines().next().unwrap_or_default().escape_debug().take(200).collect::<String>();
            tracing::error!("{line}");
        }
        USAGE.into()
    })
}
