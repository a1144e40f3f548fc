//! OpenVPN's up, down and route-pre-down: records the tunnel as up or down and brings the kernel to
//! what is wanted.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use multihome::caller::{self, openvpn};
use multihome::log::Log;
use multihome::{cli, hook, pass};

const PROGRAM: &str = "mh-vpn-up";
const STRICT: &str = "--strict";

/// Record a tunnel as up or down, and bring the routes to what /etc/multihome.toml wants
#[derive(Parser)]
#[command(name = PROGRAM, version, after_help = "\
In OpenVPN's configuration:
  script-security 2
  up /usr/sbin/mh-vpn-up
  route-pre-down /usr/sbin/mh-vpn-up
By hand, for a tunnel on tun0:
  mh-vpn-up --strict tun0")]
struct Cli {
    #[command(flatten)]
    common: pass::Common,
    /// Exit with 1 on failure and 2 on wrong use; otherwise with 0, since OpenVPN ends itself on anything else
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    args: openvpn::Args,
}

fn main() -> ExitCode {
    let cli = match cli::parse::<Cli>(PROGRAM) {
        Ok(cli) => cli,
        // What could not be parsed may still say what is to come of it.
        Err(_) if !std::env::args().any(|arg| arg == STRICT) => return cli::DONE.into(),
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

fn run(cli: &Cli) -> Result<()> {
    let event = openvpn::event(&cli.args, &|name| std::env::var(name).ok())?;
    Ok(hook::run(PROGRAM, &event, &cli.common, false)?)
}
