//! The administrator's tool.

use std::process::ExitCode;

use anyhow::Error;
use clap::Parser;
use multihome::log::Log;
use multihome::{cli, ctl, pass};

const PROGRAM: &str = "mhctl";

/// Look after the routes of a server with several Internet lines
#[derive(Parser)]
#[command(name = PROGRAM, version, subcommand_required = true, arg_required_else_help = true, after_help = "\
mhctl check     is the configuration right?
mhctl status    what is up, and where does traffic go?
mhctl plan      what would be changed now
mhctl apply     change it
mhctl demo      see it work, in a throwaway network namespace")]
struct Cli {
    #[command(flatten)]
    common: pass::Common,
    #[command(subcommand)]
    command: ctl::Command,
}

fn main() -> ExitCode {
    let cli = match cli::parse::<Cli>(PROGRAM) {
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
