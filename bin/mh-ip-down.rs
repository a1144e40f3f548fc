//! pppd's ip-down and ipv6-down: records the link as down, brings the kernel to what is wanted at
//! once, waits until the device is gone and looks once more.

use std::process::ExitCode;

use anyhow::Result;
use multihome::caller::{self, pppd};
use multihome::cli::{Call, IpDown};
use multihome::log::Log;
use multihome::{cli, hook};

const PROGRAM: &str = IpDown::PROGRAM;

fn main() -> ExitCode {
    let cli = match Call::here::<IpDown>().parse::<IpDown>(PROGRAM) {
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

fn run(cli: &IpDown) -> Result<()> {
    let event = pppd::event(&cli.args, false, &caller::environment)?;
    Ok(hook::run(PROGRAM, &event, &cli.common, true)?)
}
