//! The hooks as programs: their `main`, and their command lines, from which man pages and shell completions are made.

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::Parser;
use tracing::warn;

use super::run;
use crate::cli::log::Log;
use crate::cli::{self, Call, Common};
use crate::event::{self, Event, openvpn, pppd};

/// A hook.
pub trait Program: Parser {
    const NAME: &str;
    /// Whether it waits for the removal of the interface when a link goes down.
    const WAITS: bool;

    /// Its options.
    fn common(&self) -> &Common;

    /// The events that its arguments and environment report, at most one a family.
    ///
    /// # Errors
    /// An argument or variable is invalid.
    fn events(&self) -> Result<Vec<Event>, event::Error>;

    /// The exit status for its caller.
    fn exit_status(_: &Call, status: u8) -> u8 {
        status
    }
}

/// Runs the hook `P`.
pub fn main<P: Program>() -> ExitCode {
    let call = Call::here::<P>();
    let status = match call.parse::<P>(P::NAME) {
        Ok(program) => carry_out(&program),
        Err(status) => status,
    };
    P::exit_status(&call, status).into()
}

fn carry_out<P: Program>(program: &P) -> u8 {
    let common = program.common();
    let log = Log::start(P::NAME, common.verbose);
    let done = program.events().map_err(super::Error::from).and_then(|events| run(P::NAME, &events, common, P::WAITS));
    match done {
        Ok(()) => cli::DONE,
        Err(error) => {
            log.complain(&error.to_string());
            error.exit_status()
        }
    }
}

/// Record a link as up, and bring the routes to what /etc/multihome.toml wants
#[derive(Debug, Parser)]
#[command(name = IpUp::NAME, version, after_help = "\
pppd calls it by a symlink: ln -s /usr/sbin/mh-ip-up /etc/ppp/ip-up.d/0multihome
By hand, for a line on ppp0 with address 198.51.100.10 and gateway 198.51.100.1:
  mh-ip-up ppp0 '' '' 198.51.100.10 198.51.100.1
With --dry-run it only prints the commands. Options stand before the interface;
whatever comes after it is none.")]
pub struct IpUp {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub args: pppd::Args,
}

impl Program for IpUp {
    const NAME: &str = "mh-ip-up";
    const WAITS: bool = false;

    fn common(&self) -> &Common {
        &self.common
    }

    fn events(&self) -> Result<Vec<Event>, event::Error> {
        Ok(vec![pppd::event(&self.args, true, &event::environment)?])
    }
}

/// Record a link as down, and bring the routes to what /etc/multihome.toml wants
#[derive(Debug, Parser)]
#[command(name = IpDown::NAME, version, after_help = "\
pppd calls it by a symlink:
  ln -s /usr/sbin/mh-ip-down /etc/ppp/ip-down.d/0multihome
By hand, for the line on ppp0; it returns when the device is gone, or after
settle-timeout:
  mh-ip-down ppp0 '' '' '' ''
  mh-ip-down --dry-run ppp0 '' '' '' ''  # only print the commands
Options stand before the interface; whatever comes after it is none.")]
pub struct IpDown {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub args: pppd::Args,
}

impl Program for IpDown {
    const NAME: &str = "mh-ip-down";
    const WAITS: bool = true;

    fn common(&self) -> &Common {
        &self.common
    }

    fn events(&self) -> Result<Vec<Event>, event::Error> {
        Ok(vec![pppd::event(&self.args, false, &event::environment)?])
    }
}

/// Record a tunnel as up or down, and bring the routes to what is configured
#[derive(Debug, Parser)]
#[command(name = VpnUp::NAME, version, after_help = "\
In OpenVPN's configuration:
  script-security 2
  up /usr/sbin/mh-vpn-up
  route-pre-down /usr/sbin/mh-vpn-up
By hand, for a tunnel on tun0:
  mh-vpn-up --strict tun0
Options stand before the interface; whatever comes after it is none.")]
pub struct VpnUp {
    #[command(flatten)]
    pub common: Common,
    /// Exit with 1 or 2 on failure, on which OpenVPN ends; not with 0
    #[arg(long)]
    pub strict: bool,
    #[command(flatten)]
    pub args: openvpn::Args,
}

impl Program for VpnUp {
    const NAME: &str = "mh-vpn-up";
    const WAITS: bool = false;

    fn common(&self) -> &Common {
        &self.common
    }

    fn events(&self) -> Result<Vec<Event>, event::Error> {
        let (events, left_out) = openvpn::events(&self.args, &event::environment)?;
        if let Some(error) = left_out {
            warn!("{error}; the tunnel's IPv6 is left out");
        }
        Ok(events)
    }

    /// OpenVPN ends if its script fails, so a failure is reported only on request, which may stand in a command line
    /// that could not be parsed.
    fn exit_status(call: &Call, status: u8) -> u8 {
        if call.has("--strict") { status } else { cli::DONE }
    }
}
