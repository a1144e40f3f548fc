//! OpenVPN's up, down and route-pre-down: records the tunnel as up or down and brings the kernel to
//! what is wanted.

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::Parser;
use multihome::caller::openvpn;
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
    let status = |strict, status: u8| if strict { status.into() } else { cli::DONE.into() };
    let cli = match cli::parse::<Cli>(PROGRAM) {
        Ok(cli) => cli,
        // What could not be parsed may still say what is to come of it.
        Err(_) if !std::env::args().any(|arg| arg == STRICT) => return cli::DONE.into(),
        Err(status) => return status,
    };
    let log = Log::start(PROGRAM, cli.common.verbose);
    let event = match openvpn::event(&cli.args, &|name| std::env::var(name).ok()) {
        Ok(event) => event,
        Err(error) => {
            log.complain(&error.to_string());
            return status(cli.strict, cli::USAGE);
        }
    };
    let done: Result<()> =
        hook::run(PROGRAM, &event, &cli.common, false).map_err(|e| anyhow!("tunnel {}: {e}", event.interface));
    match done {
        Ok(()) => cli::DONE.into(),
        Err(error) => {
            // The library's errors say their causes themselves.
            log.complain(&error.to_string());
            status(cli.strict, cli::FAILED)
        }
    }
}
