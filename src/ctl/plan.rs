//! `mhctl plan`: what an apply would change now.

use std::process::ExitCode;

use super::show::{self, PlanJson};
use super::{Error, complete};
use crate::cli::Common;
use crate::config;
use crate::hook::pass;
use crate::kernel::Linux;
use crate::reconcile::{Failure, preview};
use crate::state::records::Store;

/// Options of `plan`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mhctl plan | less  # see it; `mhctl apply` does it")]
pub struct Args {
    /// Print JSON: the changes, and what stands against more
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn run(args: &Args, common: &Common) -> Result<ExitCode, Error> {
    let config = config::load(&common.config)?;
    let (records, errors) = Store::new(&common.state_dir).load(&config);
    for error in errors {
        tracing::warn!("{error}");
    }
    let plan = preview(&config, &records, &mut Linux::open()?)?;
    if args.json {
        show::json(&PlanJson::new(&plan, config.settings.protocol))?;
    } else {
        pass::print(&plan, config.settings.protocol)?;
    }
    complete(plan.problems.into_iter().map(Failure::Problem).collect())
}
