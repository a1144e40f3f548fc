//! The command line of mhctl: this definition is also its man page and the shell completions.

use clap::{CommandFactory, Parser};

use super::Command;
use crate::cli::Common;
use crate::hook::{IpDown, IpUp, VpnUp};
use crate::watch::MhWatch;

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
mhctl doctor       # what is wrong?
mhctl demo         # see it work, in a throwaway network namespace
What has happened is in the log:
  journalctl -t mhctl -t mh-ip-up -t mh-ip-down -t mh-vpn-up -t mh-watch")]
pub struct Mhctl {
    /// Those that all have.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Mhctl {
    pub const PROGRAM: &str = "mhctl";
}

/// All five, for whoever writes about them.
pub fn all() -> [clap::Command; 5] {
    [IpUp::command(), IpDown::command(), VpnUp::command(), MhWatch::command(), Mhctl::command()]
}
