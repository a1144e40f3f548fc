//! pppd's ip-up and ipv6-up: records the link as up and brings the kernel to what is wanted.

use std::process::ExitCode;

use anyhow::Result;
use multihome::caller::{self, pppd};
use multihome::cli::{Call, IpUp};
use multihome::log::Log;
use multihome::{cli, hook};

const PROGRAM: &str = IpUp::PROGRAM;

fn main() -> ExitCode {
    let cli = match Call::here::<IpUp>().parse::<IpUp>(PROGRAM) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    let log = Log::start(PROGRAM, cli.common.verbose);
    match run(&cli) {
        Ok(()) => cli::DONE,
        Err(error) => {
            log.complain(&error.to_string());
            if error.is::<caller::Error>() { cli::USAGE } else { cli::FAILED }
        }
    }
    .into()
}

fn run(cli: &IpUp) -> Result<()> {
    let event = pppd::event(&cli.args, true, &caller::environment)?;
    Ok(hook::run(PROGRAM, &event, &cli.common, false)?)
}
