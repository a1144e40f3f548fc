//! `mhctl`: what the administrator holds in the hand. One file per command.

use std::io;
use std::process::ExitCode;

use thiserror::Error;

use crate::cli::Common;
use crate::config;
use crate::hook;
use crate::hook::pass;
use crate::kernel::{self, removal};
use crate::model::names::{Family, HostAddr, IfName, LinkName};
use crate::reconcile::{Failure, summary};

mod apply;
mod counters;
pub mod lookup;
pub mod monitor;
mod overlap;
mod pppd;
mod prefixes;
pub mod probe;
mod program;
mod tree;

pub mod check;
mod demo;
mod detours;
mod doctor;
mod drill;
mod flush;
mod init;
mod link;
mod metrics;
mod plan;
mod sessions;
pub mod set;
pub mod setup;
mod show;
mod status;
mod take_up;
pub mod why;

pub use program::{Mhctl, all};

/// A command of mhctl.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show what is up, where traffic goes, and what is wrong
    Status(status::Args),
    /// Check the configuration, and show which numbers come out of it
    Check(check::Args),
    /// Show what an apply would change now, as commands
    Plan(plan::Args),
    /// Bring the kernel to what the configuration wants, now
    Apply(apply::Args),
    /// Find problems, and the command that fixes each
    Doctor(doctor::Args),
    /// Write a configuration from what this system has
    Init(init::Args),
    /// Link the hooks, name the tables, start at boot, use what is up
    Setup(setup::Args),
    /// Take back what setup made
    Unsetup(setup::UndoArgs),
    /// Explain which link a connection takes, rule by rule
    Why(why::Args),
    /// Take away everything of ours, and leave one plain default route
    Flush(flush::Args),
    /// Tell that a link is up or down, where no hook does
    Link(link::Args),
    /// Show and change the sets that policies name (to-set, from-set)
    Set(set::Args),
    /// Print states, shares, traffic and health of the links for Prometheus
    Metrics(metrics::Args),
    /// Print the names of the links, one a line: for shell completions
    #[command(hide = true)]
    LinkNames,
    /// Test a failover: drain a link for a while
    Drill(drill::Args),
    /// See it work in a throwaway network namespace; nothing else is touched
    Demo(demo::Args),
}

/// Why a command failed.
#[derive(Debug, Error)]
pub enum Error {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Pass(#[from] pass::Error),
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    #[error(transparent)]
    Setup(#[from] setup::Error),
    #[error(transparent)]
    Init(#[from] init::Error),
    #[error(transparent)]
    Why(#[from] why::Error),
    #[error(transparent)]
    Set(#[from] set::Error),
    #[error(transparent)]
    Hook(#[from] hook::Error),
    #[error(transparent)]
    Watch(#[from] removal::Error),
    #[error(transparent)]
    Drill(#[from] drill::Error),
    /// Some of it is not as it should be.
    #[error("{}", summary(.0))]
    Incomplete(Vec<Failure>),
    /// Other programs change the same things all the time.
    #[error("what is taken away comes back all the time: another program sets it; `ip monitor` shows which")]
    NotConverging,
    /// A flush would leave nothing.
    #[error(
        "nothing was touched: no uplink is up to lead a plain default route, and without ours there would be none; \
         add one first (ip route replace default via GATEWAY dev DEVICE)"
    )]
    CutOff,
    /// A flush in the midst of a drill, which puts its link back.
    #[error("a drill drains {link}, and at its end everything would come back: end it first (kill {pid})")]
    Drilled { link: LinkName, pid: u32 },
    /// A flush in the midst of an mh-watch, which repairs what it takes away.
    #[error(
        "mh-watch runs, and would put everything back at once: stop it first (systemctl stop mh-watch, or kill {pid} \
         where it was started by hand)"
    )]
    Watched { pid: u32 },
    /// The configuration, without which the interface is not known.
    #[error("{0}; nothing was recorded: once that is fixed, say it again, or name the --interface")]
    NoInterface(Box<config::Error>),
    #[error("unknown link {name:?}: write one of {known}")]
    NoLink { name: String, known: String },
    /// A link that nobody can take down by a word.
    #[error(
        "{link} has a gateway in the configuration, so it is up while {interface} is: `ip link set dev {} down`",
        interface.quoted()
    )]
    Static { link: LinkName, interface: IfName },
    /// A router that is ourselves.
    #[error(
        "{gateway} is our own address on {interface}: {} wants the router's",
        if gateway.family() == Family::V4 { "--gateway" } else { "--gateway6" }
    )]
    OwnGateway { gateway: HostAddr, interface: IfName },
    /// A flood.
    #[error("{0} prefixes are more than any provider delegates: write 64 at most")]
    Prefixes(usize),
    #[error(transparent)]
    Demo(#[from] demo::Error),
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
    /// The reason is who we are.
    #[error("{0}; run it as root")]
    NotRoot(Box<Self>),
}

impl Error {
    /// Whether what was asked makes no sense, which showed only when the kernel was looked at.
    pub fn is_usage(&self) -> bool {
        let is_in_words = matches!(self, Self::Why(why::Error::ForeignUser(_) | why::Error::TwoFamilies { .. }));
        is_in_words || matches!(self, Self::OwnGateway { .. } | Self::Prefixes(_))
    }

    /// Whether a lack of privileges is the reason.
    fn is_permission(&self) -> bool {
        match self {
            Self::Pass(e) | Self::Hook(hook::Error::Pass(e)) => e.is_permission(),
            Self::Kernel(e) | Self::Hook(hook::Error::Kernel(e)) => e.is_permission(),
            Self::Setup(setup::Error::Io { source, .. }) | Self::Init(init::Error::Write { source, .. }) => {
                source.kind() == io::ErrorKind::PermissionDenied
            }
            _ => false,
        }
    }
}

impl Command {
    /// Whether the log is to know of what happens: other programs run these, and they change something. The rest is
    /// between mhctl and who has typed it.
    pub fn is_logged(&self) -> bool {
        match self {
            Self::Apply(_) | Self::Setup(_) | Self::Link(_) | Self::Flush(_) | Self::Drill(_) => true,
            Self::Set(args) => args.is_change(),
            _ => false,
        }
    }

    /// Carries the command out. The exit status is not 0 where the command has found what it was
    /// asked to find and that is bad; an error says that it could not do its work.
    pub fn run(&self, common: &Common) -> Result<ExitCode, Error> {
        let done = match self {
            Self::Status(args) => status::run(args, common),
            Self::Check(args) => check::run(args, common),
            Self::Plan(args) => plan::run(args, common),
            Self::Apply(args) => apply::run(args, common),
            Self::Doctor(args) => doctor::run(args, common),
            Self::Init(args) => init::run(args, common),
            Self::Setup(args) => setup::run(args, common),
            Self::Unsetup(args) => setup::undo(args, common),
            Self::Why(args) => why::run(args, common),
            Self::Flush(args) => flush::run(args, common),
            Self::Link(args) => link::run(args, common),
            Self::Set(args) => set::run(args, common),
            Self::Metrics(args) => metrics::run(args, common),
            Self::LinkNames => link::names(common),
            Self::Drill(args) => drill::run(args, common),
            Self::Demo(args) => demo::run(args),
        };
        match done {
            // `mhctl status | head -1` has read enough.
            Err(Error::Print(e) | Error::Demo(demo::Error::Print(e))) if e.kind() == io::ErrorKind::BrokenPipe => {
                Ok(ExitCode::SUCCESS)
            }
            Err(e) if e.is_permission() => Err(Error::NotRoot(Box::new(e))),
            done => done,
        }
    }
}

/// Success, or the failures as an error.
fn complete(failures: Vec<Failure>) -> Result<ExitCode, Error> {
    if failures.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(Error::Incomplete(failures)) }
}
