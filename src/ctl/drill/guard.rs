//! The second process of a drill: it waits for the first to end, and puts the link back if that was
//! killed before it could.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};

use super::release;
use crate::cli::Common;
use crate::config::Link;
use crate::ctl::{Error, complete};
use crate::hook::pass::Pass;
use crate::model::names::LinkName;

/// A guard that stands.
pub(super) struct Guard(Child);

impl Guard {
    /// Starts one for this process and `link`. The pipe to it closes in whatever way we end.
    pub(super) fn start(link: &LinkName, common: &Common) -> io::Result<Self> {
        // The file that we are, even if it has been replaced meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.arg("--config").arg(&common.config).arg("--state-dir").arg(&common.state_dir);
        command.arg("drill").arg(link.as_str()).arg("--guard").arg(std::process::id().to_string());
        // A group of its own: Ctrl-C is for the drill.
        command.stdin(Stdio::piped()).process_group(0).spawn().map(Self)
    }

    /// Lets it go, and waits until it has gone.
    pub(super) fn dismiss(mut self) {
        drop(self.0.stdin.take());
        // It does not matter how it ended: the link is back.
        let _ = self.0.wait();
    }
}

/// Stands guard for the drill of process `pid`.
pub(super) fn stand(pass: &Pass<'_>, link: &Link, pid: u32) -> Result<ExitCode, Error> {
    // Nothing is ever written; an error is an end as well.
    let _ = io::stdin().read(&mut [0]);
    if !release(pass, &link.name, pid)? {
        return Ok(ExitCode::SUCCESS);
    }
    let outcome = pass.run()?;
    pass.report(&format!("the drill of {} was killed: it is in use again", link.name), &outcome);
    complete(outcome.failures)
}
