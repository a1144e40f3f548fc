//! OpenVPN's up, down and route-pre-down: records the tunnel as up or down and brings the kernel to
//! what is wanted.

use std::process::ExitCode;

use anyhow::Result;
use multihome::caller::{self, openvpn};
use multihome::cli::{Call, VpnUp};
use multihome::log::Log;
use multihome::{cli, hook};

const PROGRAM: &str = VpnUp::PROGRAM;
const STRICT: &str = "--strict";

fn main() -> ExitCode {
    let call = Call::here::<VpnUp>();
    let cli = match call.parse::<VpnUp>(PROGRAM) {
        Ok(cli) => cli,
        // What could not be parsed may still say what is to come of it.
        Err(_) if !call.has(STRICT) => return cli::DONE.into(),
        Err(status) => return status,
    };
    let log = Log::start(PROGRAM, cli.common.verbose);
    match run(&cli) {
        Ok(()) => cli::DONE,
        Err(error) => {
            log.complain(&error.to_string());
            match cli.strict {
                false => cli::DONE,
                true if error.is::<caller::Error>() => cli::USAGE,
                true => cli::FAILED,
            }
        }
    }
    .into()
}

fn run(cli: &VpnUp) -> Result<()> {
    let event = openvpn::event(&cli.args, &caller::environment)?;
    Ok(hook::run(PROGRAM, &event, &cli.common, false)?)
}
