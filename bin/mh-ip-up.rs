//! pppd's ip-up and ipv6-up: records the link as up and brings the kernel to what is wanted.

use std::process::ExitCode;

use anyhow::anyhow;
use clap::Parser;
use multihome::caller::pppd;
use multihome::log::Log;
use multihome::{cli, hook, pass};

const PROGRAM: &str = "mh-ip-up";

/// Record a link as up, and bring the routes to what /etc/multihome.toml wants
#[derive(Parser)]
#[command(name = PROGRAM, version, after_help = "\
pppd calls it by a symlink: ln -s /usr/sbin/mh-ip-up /etc/ppp/ip-up.d/0multihome
By hand, for a line on ppp0 with address 198.51.100.10 and gateway 198.51.100.1:
  mh-ip-up ppp0 '' '' 198.51.100.10 198.51.100.1
  mh-ip-up --dry-run ppp0 '' '' 198.51.100.10 198.51.100.1    only print the commands")]
struct Cli {
    #[command(flatten)]
    common: pass::Common,
    #[command(flatten)]
    args: pppd::Args,
}

fn main() -> ExitCode {
    let cli = match cli::parse::<Cli>(PROGRAM) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    let log = Log::start(PROGRAM, cli.common.verbose);
    let event = match pppd::event(&cli.args, true, &|name| std::env::var(name).ok()) {
        Ok(event) => event,
        Err(error) => {
            log.complain(&error.to_string());
            return cli::USAGE.into();
        }
    };
    let done = hook::run(PROGRAM, &event, &cli.common, false).map_err(|e| anyhow!("{} up: {e}", event.interface));
    match done {
        Ok(()) => cli::DONE.into(),
        Err(error) => {
            // The library's errors say their causes themselves.
            log.complain(&error.to_string());
            cli::FAILED.into()
        }
    }
}
