//! `mhctl`: what the administrator holds in the hand. One file per command.

use std::io;
use std::process::ExitCode;

use thiserror::Error;

use crate::config;
use crate::kernel;
use crate::pass::{self, Common};
use crate::reconcile::Failure;

mod apply;
mod demo;
mod plan;

/// A command of mhctl.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show what an apply would change now, as commands
    Plan(plan::Args),
    /// Bring the kernel to what the configuration wants, now
    Apply(apply::Args),
    /// See it work, in a throwaway network namespace: this machine's network is not touched
    Demo(demo::Args),
}

/// Why a command failed.
#[derive(Debug, Error)]
pub enum Error {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// There was no pass.
    #[error(transparent)]
    Pass(#[from] pass::Error),
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// Some of it is not as it should be.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Incomplete(Vec<Failure>),
    /// The demo.
    #[error(transparent)]
    Demo(#[from] demo::Error),
    /// Standard output is closed.
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

impl Command {
    /// Carries the command out. The exit status is not 0 where the command has found what it was
    /// asked to find and that is bad; an error says that it could not do its work.
    pub fn run(&self, common: &Common) -> Result<ExitCode, Error> {
        match self {
            Self::Plan(args) => plan::run(args, common),
            Self::Apply(args) => apply::run(args, common),
            Self::Demo(args) => demo::run(args),
        }
    }
}

/// Success, or the failures as an error.
fn complete(failures: Vec<Failure>) -> Result<ExitCode, Error> {
    if failures.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(Error::Incomplete(failures)) }
}
