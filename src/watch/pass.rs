//! A pass of mh-watch, in a thread of its own, since it may wait for the lock: drains first, then what every event does, then a look
//! at what has come of it.

use std::future::pending;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};

use super::drains::{Drains, Levels};
use super::failback::{self, Leaving};
use super::links::Links;
use super::notice::Interest;
use super::program::NAME;
use super::stranded::{self, Ending};
use crate::config::{Config, Settings};
use crate::hook::pass::{self, Pass};
use crate::kernel;
use crate::reconcile::Outcome;
use crate::state::records::Store;

/// What a pass needs.
pub(super) struct Task {
    pub(super) config: Arc<Config>,
    pub(super) state_dir: PathBuf,
    /// When it begins, since the start.
    pub(super) began: Duration,
    pub(super) drains: Arc<Mutex<Drains>>,
    /// What the drains are to be.
    pub(super) levels: Levels,
    /// Whose connections are flushed when the routes are as wanted.
    pub(super) leaving: Leaving,
    /// Connections of this host to end then.
    pub(super) ending: Ending,
}

/// What a pass has come to.
pub(super) struct Passed {
    pub(super) outcome: Outcome,
    /// After it.
    pub(super) links: Links,
    pub(super) interest: Interest,
    /// When it began, since the start.
    pub(super) began: Duration,
    /// Drains had ended that were wanted still: what others did about that is no harm.
    pub(super) have_lapsed: bool,
    /// Why the drains are not as wanted.
    pub(super) undrained: Option<pass::Error>,
    /// Why connections have not left.
    pub(super) unflushed: Option<kernel::Error>,
}

impl Task {
    pub(super) fn spawn(self) -> Running {
        let since = self.began;
        Running { pass: spawn_blocking(move || self.run()), since, is_late: false }
    }

    fn run(self) -> Result<Passed, pass::Error> {
        let Self { config, state_dir, began, drains, levels, leaving, ending } = self;
        // Each wait for the lock that is given up leaves a thread behind.
        let settings = Settings { lock_timeout: Duration::MAX, ..config.settings.clone() };
        let patient = Config { settings, ..(*config).clone() };
        let pass = Pass { config: &patient, store: Store::new(&state_dir), who: NAME.to_owned() };
        // Whoever panicked with it has left drains that hold, or that do not. A full disk keeps a link in use, and nothing
        // else from being done.
        let set = drains.lock().unwrap_or_else(PoisonError::into_inner).set(&levels, &pass);
        let (have_lapsed, undrained) = set.map_or_else(|error| (false, Some(error)), |lapsed| (lapsed, None));
        let outcome = pass.run()?;
        stranded::end(&ending);
        // The pass has logged those that cannot be read.
        let (records, _) = pass.store.load_after(&[], &config);
        let (links, interest) = Links::look(&config, &records)?;
        let unflushed = failback::flush(&leaving, &links, &config).err();
        Ok(Passed { outcome, links, interest, began, have_lapsed, undrained, unflushed })
    }
}

/// A pass that goes on.
pub(super) struct Running {
    pass: JoinHandle<Result<Passed, pass::Error>>,
    pub(super) since: Duration,
    /// That it waits for the lock was said.
    pub(super) is_late: bool,
}

/// Waits for the end of a pass. Never ends while there is none.
pub(super) async fn over(running: &mut Option<Running>) -> Result<Passed, String> {
    let Some(Running { pass, .. }) = running else { return pending().await };
    let passed = pass.await;
    *running = None;
    match passed {
        Ok(Ok(passed)) => Ok(passed),
        Ok(Err(e)) => Err(e.to_string()),
        Err(e) => Err(e.to_string()),
    }
}
