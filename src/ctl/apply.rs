//! `mhctl apply`: reconciles now, at boot, from a timer, or after somebody else has meddled.

use std::process::ExitCode;

use super::{Error, complete, plan};
use crate::config;
use crate::pass::{Common, Pass};
use crate::records::Store;

/// No options of its own.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: mhctl apply --dry-run    what it would do;    mhctl apply    do it")]
pub struct Args {}

pub(super) fn run(_: &Args, common: &Common) -> Result<ExitCode, Error> {
    if common.dry_run {
        return plan::run(&plan::Args {}, common);
    }
    let config = config::load(&common.config)?;
    let pass = Pass { config: &config, store: Store::new(&common.state_dir), who: "mhctl apply".to_owned() };
    let outcome = pass.run(|_| {})?;
    pass.report("applied", &outcome);
    complete(outcome.failures)
}
