//! `mhctl metrics`: what there is to tell of the links, for Prometheus.

use std::io::Write;
use std::process::ExitCode;

use super::Error;
use crate::cli::Common;
use crate::config;
use crate::watch::memory::Report;
use crate::watch::metrics;

/// Options of `metrics`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
In Prometheus' text format: states, shares and bytes of the links, and time,
loss and health of those that mh-watch probes. As root, or the packet filter is
no part of multihome_in_sync. A file with the same, and with what it has
counted, is what mh-watch keeps with --metrics.
Example: mhctl metrics")]
pub struct Args {}

pub(super) fn run(_: &Args, common: &Common) -> Result<ExitCode, Error> {
    let config = config::load(&common.config)?;
    let report = Report::of_running(&common.state_dir);
    let text = metrics::text(&config, &common.state_dir, report.as_ref(), None)?;
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
