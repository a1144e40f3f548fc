//! `mhctl plan`: what an apply would change now.

use std::process::ExitCode;

use super::{Error, complete};
use crate::config;
use crate::kernel::Linux;
use crate::pass::{self, Common};
use crate::reconcile::{Failure, preview};
use crate::records::Store;

/// No options of its own.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mhctl plan | less    see it;    mhctl apply    do it")]
pub struct Args {}

pub(super) fn run(_: &Args, common: &Common) -> Result<ExitCode, Error> {
    let config = config::load(&common.config)?;
    let (records, errors) = Store::new(&common.state_dir).load(&config);
    for error in errors {
        tracing::warn!("{error}");
    }
    let plan = preview(&config, &records, &mut Linux::open()?)?;
    pass::print(&plan, config.settings.protocol)?;
    complete(plan.problems.into_iter().map(Failure::Problem).collect())
}
