//! `mhctl apply`: reconciles now, at boot, from a timer, or after another program has changed something.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use serde::Serialize;

use super::show::{self, ChangeJson};
use super::{Error, complete, plan, take_up};
use crate::cli::Common;
use crate::config;
use crate::hook::pass::{self, Pass};
use crate::model::names::LinkName;
use crate::reconcile::Carrying;
use crate::reconcile::Outcome;
use crate::state::records::Store;

/// Options of `apply`.
#[derive(Debug, clap::Args)]
#[command(after_help = "What it has changed stands in the log; where there was nothing to do, nothing
does. What it prints is what is left to do: lines that are up and unused.
Example: mhctl apply --dry-run  # what it would do")]
pub struct Args {
    /// Print JSON: what was changed, what failed, which links are up
    #[arg(long)]
    json: bool,
}

/// What was done, as JSON.
#[derive(Debug, Serialize)]
struct OutcomeJson<'a> {
    changes: Vec<ChangeJson>,
    failures: Vec<String>,
    /// With IPv4.
    links_up: Vec<&'a str>,
    links_up_ipv6: Vec<&'a str>,
    seconds: f64,
}

impl<'a> OutcomeJson<'a> {
    fn new(outcome: &'a Outcome, protocol: u8) -> Self {
        Self {
            changes: show::changes(&outcome.made, protocol),
            failures: outcome.failures.iter().map(ToString::to_string).collect(),
            links_up: outcome.carrying.v4.iter().map(LinkName::as_str).collect(),
            links_up_ipv6: outcome.carrying.v6.iter().map(LinkName::as_str).collect(),
            seconds: outcome.elapsed.as_secs_f64(),
        }
    }
}

pub(super) fn run(args: &Args, common: &Common) -> Result<ExitCode, Error> {
    if common.dry_run {
        return plan::run(&plan::Args { json: args.json }, common);
    }
    let config = config::load(&common.config)?;
    let pass = Pass { config: &config, store: Store::new(&common.state_dir), who: "mhctl apply".to_owned() };
    let outcome = pass.run()?;
    // The timer finds nothing to do each minute, and nobody wants to read that.
    if !outcome.made.is_empty() || io::stderr().is_terminal() {
        pass.report(&pass::headline(&outcome, config.settings.protocol), &outcome);
    }
    if args.json {
        show::json(&OutcomeJson::new(&outcome, config.settings.protocol))?;
    } else if outcome.carrying.v4.len() < config.links.len() {
        let untold = take_up::untold(&config, &pass.link_records())?;
        take_up::advise(&untold, outcome.carrying != Carrying::default(), &common.mhctl(), &mut io::stdout().lock())?;
    }
    complete(outcome.failures)
}
