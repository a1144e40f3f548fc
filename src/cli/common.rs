//! Options that all executables have.

use std::path::PathBuf;

use crate::config;
use crate::state::records;

/// Shown after the options of a command.
const HEADING: &str = "Common options";

/// Options that all executables have.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Configuration file
    #[arg(long, help_heading = HEADING, global = true, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    pub config: PathBuf,
    /// State directory, of records and locks
    #[arg(long, help_heading = HEADING, global = true, value_name = "DIR", default_value = records::DEFAULT_DIR)]
    pub state_dir: PathBuf,
    /// Print what would be done, as commands, and do nothing
    #[arg(long, help_heading = HEADING, global = true)]
    pub dry_run: bool,
    /// Say more, and say it on standard error too
    #[arg(short, long, help_heading = HEADING, global = true)]
    pub verbose: bool,
}
