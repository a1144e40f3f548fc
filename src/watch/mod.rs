//! `mh-watch`: notices what happens to the links, repairs at once what others delete, and tells of it. It is never
//! needed: without it the kernel fails over, the hooks register, and a timer repairs once a minute.

mod checks;
mod drains;
mod failback;
pub mod health;
mod links;
mod loaded;
pub mod memory;
pub mod metrics;
mod notice;
mod pass;
pub mod probe;
mod program;
mod repair;
mod run;
mod service;
mod stranded;
pub mod tell;
mod told;
pub mod traffic;

use std::process::ExitCode;

pub use program::MhWatch;
use program::NAME;

use crate::cli;
use crate::cli::log::Log;

/// Runs the program until SIGTERM or SIGINT.
pub fn main() -> ExitCode {
    let options = match cli::parse::<MhWatch>(NAME) {
        Ok(options) => options,
        Err(status) => return status.into(),
    };
    let log = Log::start(NAME, options.verbose);
    let status = match run::run(&options) {
        Ok(()) => cli::DONE,
        Err(error) => {
            log.complain(&error.to_string());
            cli::FAILED
        }
    };
    status.into()
}
