//! The command line of `mh-watch`, from which man page and shell completions are made.

use std::path::PathBuf;

use clap::Parser;

use crate::config;
use crate::state::records;

/// Its name, in the log, too.
pub(super) const NAME: &str = "mh-watch";

/// Notice what happens to the links, repair at once what others delete, tell of it
#[derive(Debug, Parser)]
#[command(name = NAME, version, after_help = "\
systemd runs it, once it is enabled:
  systemctl enable --now mh-watch
By hand, until Ctrl-C:
  mh-watch
  mh-watch --json  # a line for each event
  mh-watch --metrics /run/multihome.prom  # for Prometheus' node_exporter
SIGHUP has it read the configuration again (systemctl reload mh-watch).")]
pub struct MhWatch {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    pub config: PathBuf,
    /// State directory, of records and locks
    #[arg(long, value_name = "DIR", default_value = records::DEFAULT_DIR)]
    pub state_dir: PathBuf,
    /// Print each event as a line of JSON
    #[arg(long)]
    pub json: bool,
    /// Keep metrics in this file, in Prometheus' text format
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,
    /// Say more, and say it on standard error too
    #[arg(short, long)]
    pub verbose: bool,
}
