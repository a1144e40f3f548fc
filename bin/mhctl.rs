//! The administrator's tool.

use std::process::ExitCode;

use anyhow::Error;
use multihome::cli;
use multihome::cli::log::Log;
use multihome::ctl::{self, Mhctl};

const PROGRAM: &str = Mhctl::PROGRAM;

fn main() -> ExitCode {
    let cli = match cli::parse::<Mhctl>(PROGRAM) {
        Ok(cli) => cli,
        Err(status) => return status.into(),
    };
    let start = if cli.command.is_logged() { Log::start } else { Log::on_stderr };
    let log = start(PROGRAM, cli.common.verbose);
    cli.command.run(&cli.common).map_err(Error::new).unwrap_or_else(|error| {
        // A message of the library holds that of its source.
        log.complain(&error.to_string());
        let is_usage = error.downcast_ref().is_some_and(ctl::Error::is_usage);
        if is_usage { cli::USAGE } else { cli::FAILED }.into()
    })
}
