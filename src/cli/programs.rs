//! The command lines of the four executables: these definitions are also the man pages and the shell
//! completions.

use clap::{CommandFactory, Parser};

use crate::caller::{openvpn, pppd};
use crate::{ctl, pass};

/// Record a link as up, and bring the routes to what /etc/multihome.toml wants
#[derive(Debug, Parser)]
#[command(name = IpUp::PROGRAM, version, after_help = "\
pppd calls it by a symlink: ln -s /usr/sbin/mh-ip-up /etc/ppp/ip-up.d/0multihome
By hand, for a line on ppp0 with address 198.51.100.10 and gateway 198.51.100.1:
  mh-ip-up ppp0 '' '' 198.51.100.10 198.51.100.1
With --dry-run it only prints the commands. Options stand before the interface;
whatever comes after it is none.")]
pub struct IpUp {
    /// Those that all have.
    #[command(flatten)]
    pub common: pass::Common,
    /// What the caller says.
    #[command(flatten)]
    pub args: pppd::Args,
}

impl IpUp {
    /// Its name.
    pub const PROGRAM: &str = "mh-ip-up";
}

/// Record a link as down, and bring the routes to what /etc/multihome.toml wants
#[derive(Debug, Parser)]
#[command(name = IpDown::PROGRAM, version, after_help = "\
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
    pub common: pass::Common,
    /// What the caller says.
    #[command(flatten)]
    pub args: pppd::Args,
}

impl IpDown {
    /// Its name.
    pub const PROGRAM: &str = "mh-ip-down";
}

/// Record a tunnel as up or down, and bring the routes to what is configured
#[derive(Debug, Parser)]
#[command(name = VpnUp::PROGRAM, version, after_help = "\
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
    pub common: pass::Common,
    /// Exit with 1 or 2 on failure, on which OpenVPN ends; not with 0
    #[arg(long)]
    pub strict: bool,
    /// What the caller says.
    #[command(flatten)]
    pub args: openvpn::Args,
}

impl VpnUp {
    /// Its name.
    pub const PROGRAM: &str = "mh-vpn-up";
}

/// Look after the routes of a server with several Internet lines
#[derive(Debug, Parser)]
#[command(name = Mhctl::PROGRAM, version, subcommand_required = true, arg_required_else_help = true, after_help = "\
mhctl init         # write a configuration
mhctl check        # is it right?
mhctl setup        # have pppd and the boot call us, use what is up
mhctl status       # what is up, and where does traffic go?
mhctl why 8.8.8.8  # which way does a connection take?
mhctl plan         # what would be changed now
mhctl apply        # change it
mhctl doctor       # what would bite?
mhctl demo         # see it work, in a throwaway network namespace
What has happened is in the log:
  journalctl -t mhctl -t mh-ip-up -t mh-ip-down -t mh-vpn-up")]
pub struct Mhctl {
    /// Those that all have.
    #[command(flatten)]
    pub common: pass::Common,
    /// What to do.
    #[command(subcommand)]
    pub command: ctl::Command,
}

impl Mhctl {
    /// Its name.
    pub const PROGRAM: &str = "mhctl";
}

/// All four, for whoever writes about them.
pub fn all() -> [clap::Command; 4] {
    [IpUp::command(), IpDown::command(), VpnUp::command(), Mhctl::command()]
}
