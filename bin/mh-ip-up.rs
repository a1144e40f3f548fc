//! pppd's ip-up and ipv6-up: records the link as up and brings the kernel to what is wanted.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use multihome::caller::{self, pppd};
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
    match run(&cli) {
        Ok(()) => cli::DONE,
        Err(error) => {
            log.complain(&error.to_string());
            if error.is::<caller::Error>() { cli::USAGE } else { cli::FAILED }
        }
    }
    .into()
}

fn run(cli: &Cli) -> Result<()> {
    let event = pppd::event(&cli.args, true, &|name| std::env::var(name).ok())?;
    Ok(hook::run(PROGRAM, &event, &cli.common, false)?)
}
