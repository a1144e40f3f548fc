//! The administrator's tool.

use std::process::ExitCode;

use anyhow::Error;
use multihome::cli;
use multihome::cli::Mhctl;
use multihome::log::Log;

const PROGRAM: &str = Mhctl::PROGRAM;

fn main() -> ExitCode {
    let cli = match cli::parse::<Mhctl>(PROGRAM) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    let log = Log::start(PROGRAM, cli.common.verbose);
    cli.command.run(&cli.common).map_err(Error::new).unwrap_or_else(|error| {
        // A message of the library holds that of its source.
        log.complain(&error.to_string());
        cli::FAILED.into()
    })
}
