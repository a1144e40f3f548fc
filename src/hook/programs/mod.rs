//! The hooks as programs: their command lines, which are also the man pages and the shell completions, and their `main`.

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::Parser;

use super::run;
use crate::cli::log::Log;
use crate::cli::{self, Call, Common};
use crate::event::{self, Event, openvpn, pppd};

/// A hook.
pub trait Program: Parser {
    /// Its name.
    const NAME: &str;
    /// Whether it waits until the interface of a link that goes down is gone.
    const WAITS: bool;

    /// Its options.
    fn common(&self) -> &Common;

    /// What its caller says.
    ///
    /// # Errors
    /// What it cannot mean.
    fn event(&self) -> Result<Event, event::Error>;

    /// What its caller is told of `status`.
    fn exit_status(_: &Call, status: u8) -> u8 {
        status
    }
}

/// The hook `P` from argv to its exit status.
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
    let done = program.event().map_err(super::Error::from).and_then(|event| run(P::NAME, &event, common, P::WAITS));
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
    /// Those that all have.
    #[command(flatten)]
    pub common: Common,
    /// What the caller says.
    #[command(flatten)]
    pub args: pppd::Args,
}

impl Program for IpUp {
    const NAME: &str = "mh-ip-up";
    const WAITS: bool = false;

    fn common(&self) -> &Common {
        &self.common
    }

    fn event(&self) -> Result<Event, event::Error> {
        pppd::event(&self.args, true, &event::environment)
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
    /// Those that all have.
    #[command(flatten)]
    pub common: Common,
    /// What the caller says.
    #[command(flatten)]
    pub args: pppd::Args,
}

impl Program for IpDown {
    const NAME: &str = "mh-ip-down";
    const WAITS: bool = true;

    fn common(&self) -> &Common {
        &self.common
    }

    fn event(&self) -> Result<Event, event::Error> {
        pppd::event(&self.args, false, &event::environment)
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
    /// Those that all have.
    #[command(flatten)]
    pub common: Common,
    /// Exit with 1 or 2 on failure, on which OpenVPN ends; not with 0
    #[arg(long)]
    pub strict: bool,
    /// What the caller says.
    #[command(flatten)]
    pub args: openvpn::Args,
}

impl Program for VpnUp {
    const NAME: &str = "mh-vpn-up";
    const WAITS: bool = false;

    fn common(&self) -> &Common {
        &self.common
    }

    fn event(&self) -> Result<Event, event::Error> {
        openvpn::event(&self.args, &event::environment)
    }

    /// OpenVPN ends where its script fails: that is the administrator's to want. What could not be parsed may still say
    /// so.
    fn exit_status(call: &Call, status: u8) -> u8 {
        if call.has("--strict") { status } else { cli::DONE }
    }
}
