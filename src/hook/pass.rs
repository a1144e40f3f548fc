//! One pass: lock, load the records, reconcile, unlock, flush the route cache. Every event and `mhctl apply` consist of
//! passes.

use std::io::{self, Write};
use std::time::Duration;

use thiserror::Error;
use tracing::{debug, info, warn};

use super::noted::Noted;
use crate::config::Config;
use crate::kernel::{self, Kernel, Linux};
use crate::model::change::Change;
use crate::model::names::LinkName;
use crate::reconcile::plan::Plan;
use crate::reconcile::{Carrying, FlushScope, Outcome, reconcile};
use crate::state::lock::{self, Lock};
use crate::state::records::{self, Effect, LinkRecords, Store};

/// Why a pass failed.
#[derive(Debug, Error)]
pub enum Error {
    #[error(transparent)]
    Records(#[from] records::Error),
    #[error(transparent)]
    Lock(#[from] lock::Error),
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
}

impl Error {
    /// Whether the reason is a lack of privileges.
    pub(crate) fn is_permission(&self) -> bool {
        match self {
            Self::Records(e) => e.is_permission(),
            Self::Lock(e) => e.is_permission(),
            Self::Kernel(e) => e.is_permission(),
        }
    }
}

/// The context of a pass.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    pub config: &'a Config,
    pub store: Store,
    /// Names this process to others that wait for the lock.
    pub who: String,
}

impl Pass<'_> {
    /// Waits for the lock with this name.
    pub fn lock(&self, name: &str) -> Result<Lock, Error> {
        lock(&self.store, name, self.config.settings.lock_timeout, &self.who)
    }

    /// The link records. An unreadable record is logged and skipped.
    pub(crate) fn link_records(&self) -> LinkRecords {
        self.link_records_after(&[])
    }

    /// The link records as if `effects` were carried out.
    pub(crate) fn link_records_after(&self, effects: &[Effect]) -> LinkRecords {
        let (link_records, errors) = self.store.load_after(effects, self.config);
        for error in errors {
            warn!("{error}");
        }
        link_records
    }

    /// Runs a pass for all links.
    pub fn run(&self) -> Result<Outcome, Error> {
        if self.store.records().0.have_old()
            && let Err(error) = self.convert_old()
        {
            warn!("{error}");
        }
        self.run_for(&FlushScope::All, &[], &mut Linux::open()?)
    }

    /// Converts records of version 0.1. They are read again under the lock: an event may have ended one of these links
    /// meanwhile.
    fn convert_old(&self) -> Result<(), Error> {
        let _lock = self.lock("records.lock")?;
        Ok(self.store.convert_old(&self.store.records().0)?)
    }

    /// Runs a pass for events. `unwritten` are the effects that could not be written to the state directory.
    pub(crate) fn run_for(
        &self,
        flush_scope: &FlushScope,
        unwritten: &[Effect],
        kernel: &mut Linux,
    ) -> Result<Outcome, Error> {
        let lock = self.lock("lock")?;
        let records = self.link_records_after(unwritten);
        let mut noted = Noted { kernel, store: &self.store, deprecated: records.deprecated.clone() };
        let outcome = reconcile(self.config, &records, flush_scope, &mut noted);
        if let Ok(outcome) = &outcome {
            noted.conclude(&records.deprecated, outcome);
        }
        drop(lock);
        let outcome = outcome?;
        if outcome.made.iter().any(Change::is_route) {
            kernel.flush_route_cache()?;
        }
        Ok(outcome)
    }

    /// Logs the line of a pass, which begins with `headline`.
    pub fn report(&self, headline: &str, outcome: &Outcome) {
        report(headline, outcome, self.config.settings.protocol);
    }
}

/// [`Pass::report`] without the pass; `protocol` marks what multihome manages.
pub(crate) fn report(headline: &str, outcome: &Outcome, protocol: u8) {
    let ms = outcome.elapsed.as_secs_f64() * 1e3;
    info!("{headline}; {}; {} in {ms:.1} ms", links_up(&outcome.carrying), changes(outcome.made.len()));
    for change in &outcome.made {
        debug!("{}", change.command(protocol));
    }
    // Not if nothing changed: a timer may run a pass every minute.
    for warning in outcome.warnings.iter().filter(|_| !outcome.made.is_empty()) {
        warn!("{warning}");
    }
}

/// What was made, as far as it fits a line of a log.
pub(crate) fn headline(outcome: &Outcome, protocol: u8) -> String {
    const SHOWN: usize = 3;
    let made = &outcome.made;
    let mut all: Vec<_> = made.iter().take(SHOWN).map(|change| change.headline(protocol)).collect();
    match made.len() {
        0 => return "nothing to change".to_owned(),
        n if n > SHOWN => all.push(format!("{} more", n - SHOWN)),
        _ => {}
    }
    format!("made: {}", all.join(", "))
}

/// The links that carry traffic, in words. IPv6 is named where any does.
pub(crate) fn links_up(carrying: &Carrying) -> String {
    let v4 = format!("links up: {}", names(&carrying.v4));
    if carrying.v6.is_empty() { v4 } else { format!("{v4}, with IPv6: {}", names(&carrying.v6)) }
}

fn names(links: &[LinkName]) -> String {
    let names: Vec<_> = links.iter().map(LinkName::as_str).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(" ") }
}

/// Waits for the lock with this name in the state directory for at most `timeout`.
pub(super) fn lock(store: &Store, name: &str, timeout: Duration, who: &str) -> Result<Lock, Error> {
    let dir = store.prepare()?;
    Ok(Lock::acquire(&dir.join(name), timeout, who)?)
}

/// A number of changes, in words.
pub fn changes(n: usize) -> String {
    if n == 1 { "1 change".to_owned() } else { format!("{n} changes") }
}

/// What nobody else can see, a plan of his does not have.
pub(crate) const FILTER_HIDDEN: &str =
    "the packet filter shows itself to root only: what is to change there is not known";

/// Prints a plan as commands, one a line.
pub fn print(plan: &Plan, protocol: u8) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if plan.is_filter_hidden {
        writeln!(out, "# {FILTER_HIDDEN}")?;
    }
    if plan.changes.is_empty() {
        return writeln!(out, "# nothing to change");
    }
    for change in &plan.changes {
        writeln!(out, "{}", change.command(protocol))?;
    }
    if plan.changes.iter().any(Change::is_route) { writeln!(out, "ip route flush cache") } else { Ok(()) }
}
