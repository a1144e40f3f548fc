//! Options that all executables have.

use std::path::{Path, PathBuf, absolute};

use crate::config;
use crate::model::sh::quoted;
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

impl Common {
    /// How to call mhctl, from anywhere, for the same configuration and state; to be pasted.
    pub(crate) fn mhctl(&self) -> String {
        let mut call = "mhctl".to_owned();
        for (option, path, default) in
            [("config", &self.config, config::DEFAULT_PATH), ("state-dir", &self.state_dir, records::DEFAULT_DIR)]
        {
            if path != Path::new(default) {
                let path = absolute(path).unwrap_or_else(|_| path.clone());
                // In one word with its option: a path may begin with a dash.
                call = format!("{call} --{option}={}", quoted(&path));
            }
        }
        call
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mhctl_is_called_with_the_paths_that_are_not_the_default() {
        let call = |config: &str, state_dir: &str| {
            let (config, state_dir) = (config.into(), state_dir.into());
            Common { config, state_dir, dry_run: true, verbose: true }.mhctl()
        };
        assert_eq!(call(config::DEFAULT_PATH, records::DEFAULT_DIR), "mhctl");
        assert_eq!(call("/a b/$c.toml", records::DEFAULT_DIR), "mhctl --config='/a b/$c.toml'");
        assert_eq!(call("/c", "/s"), "mhctl --config=/c --state-dir=/s");
        assert!(call("c.toml", "/s").contains("--config=/"), "{}", call("c.toml", "/s"));
    }
}
