//! pppd's ip-down and ipv6-down: records the link as down, brings the kernel to what is wanted at
//! once, waits until the device is gone and looks once more.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use multihome::caller::{self, pppd};
use multihome::log::Log;
use multihome::{cli, hook, pass};

const PROGRAM: &str = "mh-ip-down";

/// Record a link as down, and bring the routes to what /etc/multihome.toml wants
#[derive(Parser)]
#[command(name = PROGRAM, version, after_help = "\
pppd calls it by a symlink: ln -s /usr/sbin/mh-ip-down /etc/ppp/ip-down.d/0multihome
By hand, for the line on ppp0; it returns when the device is gone, or after settle-timeout
(a second, if the line is still up):
  mh-ip-down ppp0 '' '' '' ''
  mh-ip-down --dry-run ppp0 '' '' '' ''    only print the commands")]
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
    let event = pppd::event(&cli.args, false, &|name| std::env::var(name).ok())?;
    Ok(hook::run(PROGRAM, &event, &cli.common, true)?)
}
