//! The hooks `mh-ip-up`, `mh-ip-down` and `mh-vpn-up`: record an event, then reconcile the kernel.

mod displaced;
mod headline;
mod noted;
pub mod pass;
mod programs;
mod recorded;

pub use programs::{IpDown, IpUp, Program, VpnUp, main};

use std::io;
use std::slice;
use std::time::Instant;

use thiserror::Error;
use tracing::{debug, error, info, warn};

use self::pass::Pass;
use self::recorded::{Recorded, effects, write_down};
use crate::cli::{self, Common};
use crate::config::{self, Config, Link, Settings};
use crate::event::{self, Event, EventKind, Family};
use crate::kernel::removal::wait::{Wait, WaitOutcome};
use crate::kernel::{self, Linux, removal, removal::Watch};
use crate::reconcile::{Failure, FlushScope, Warning, preview, summary};
use crate::state::records::Store;
use crate::state::records::derive::by_names;

/// Why an event was not carried out, or only in part.
#[derive(Debug, Error)]
pub enum Error {
    /// The event is invalid.
    #[error(transparent)]
    Usage(#[from] event::Error),
    /// The configuration is invalid, in a dry run.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The configuration is invalid; the event is recorded.
    #[error("{source}; {recorded}")]
    Deferred { source: Box<config::Error>, recorded: String },
    /// The event could not be recorded, not even for this hook only.
    #[error("{source}; {unrecorded}")]
    Unrecorded { source: pass::Error, unrecorded: String },
    #[error(transparent)]
    Pass(#[from] pass::Error),
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    #[error("interface {interface} does not exist: {link} stays down")]
    NoInterface { interface: String, link: String },
    /// Some changes failed.
    #[error("{}", summary(.0))]
    Incomplete(Vec<Failure>),
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

impl Error {
    /// The exit status for this error.
    pub(crate) fn exit_status(&self) -> u8 {
        if matches!(self, Self::Usage(_)) { cli::USAGE } else { cli::FAILED }
    }
}

/// Carries out `events` for `program`: what it reports at once about one interface, at most one event a family. With
/// `wait`, a down event of IPv4 waits for the removal of the interface, at most until the configured deadline, and then
/// runs a second pass.
///
/// # Errors
/// [`Error::Deferred`]: the event is at most recorded. [`Error::Incomplete`]: all is done but for the changes that it
/// names. The next event, or `mhctl apply`, does what is left undone after any of them.
pub fn run(program: &str, events: &[Event], options: &Common, wait: bool) -> Result<(), Error> {
    let Some(event) = events.first() else { return Ok(()) };
    let who = format!("{program} {}", event.interface);
    let store = Store::new(&options.state_dir);
    let config = match config::load_for_hook(&options.config) {
        Err(source) if !options.dry_run => return Err(record_only(events, source, &store, &who)?),
        loaded => loaded?,
    };
    let Some(link) = recognise(event, &config, &store) else {
        pass_over(events, &config, options, &store, &who);
        return Ok(());
    };
    if options.dry_run {
        dry_run(events, link, &config, store)
    } else {
        carry_out(events, link, &Pass { config: &config, store, who }, wait)
    }
}

/// Carries out the events of a link: records them, reconciles the kernel, and where a device is about to go, waits until
/// it has gone and reconciles once more.
fn carry_out(events: &[Event], link: &Link, pass: &Pass<'_>, wait: bool) -> Result<(), Error> {
    // Subscribe before anything else, so that no notice is missed.
    let is_dying = events.iter().any(|event| event.kind == EventKind::Down(Family::V4));
    let watch = if wait && is_dying { watched(Watch::subscribe()) } else { None };
    let mut kernel = Linux::open()?;
    let index = index_if_up(events, link.name.as_str(), &mut kernel)?;
    for event in events {
        if let Some(occupied) = displaced::by_name_elsewhere(pass, event, link, &mut kernel) {
            warn!("{occupied}");
            return Ok(());
        }
    }
    let Some(recorded) = record(events, link, pass, index)? else { return Ok(()) };
    recorded.log_problems(pass.config, index, &mut kernel);

    // A stale event belongs to an ended session, whose connections were already flushed.
    let flush_scope = if recorded.is_stale() { FlushScope::None } else { FlushScope::Link(link.name.clone()) };
    let mut failures = reconcile(pass, &recorded, &recorded.headline(), &flush_scope, &mut kernel)?;
    if let (Some(watch), Some(index)) = (watch, recorded.dying(index)) {
        let headline = wait_for_removal(watch, index, pass, &recorded);
        failures = reconcile(pass, &recorded, &headline, &FlushScope::None, &mut kernel)?;
    }
    match (failures.is_empty(), recorded.unwritten) {
        (true, None) => Ok(()),
        (true, Some(error)) => Err(pass::Error::Records(error).into()),
        (false, _) => Err(Error::Incomplete(failures)),
    }
}

/// Records the events. `None`: they need not be recorded, and nothing is left to do.
fn record<'a>(
    events: &'a [Event],
    link: &'a Link,
    pass: &Pass<'_>,
    index: Option<u32>,
) -> Result<Option<Recorded<'a>>, Error> {
    match Recorded::record(pass, events, link, index) {
        // OpenVPN runs `down` after it has dropped root. If the interface is gone, the kernel has removed its routes,
        // and the record does not count.
        Err(e) if e.is_permission() && !is_up(events) && index.is_none() => {
            info!("{}", headline::nothing_left(&events[0], link));
            Ok(None)
        }
        Err(source) => Err(Error::Unrecorded { source, unrecorded: headline::unrecorded(events) }),
        Ok(recorded) => Ok(Some(recorded)),
    }
}

/// Waits for the removal of the interface, and says what came of it.
fn wait_for_removal(watch: Watch, index: u32, pass: &Pass<'_>, recorded: &Recorded<'_>) -> String {
    let since = Instant::now();
    let wait = Wait::new(index, since, pass.config.settings.settle_timeout);
    let outcome = watched(watch.wait(&wait, recorded.interface(), index)).unwrap_or(WaitOutcome::TimedOut);
    headline::waited_for(recorded.interface(), outcome, since.elapsed())
}

/// Passes over events of no link.
fn pass_over(events: &[Event], config: &Config, options: &Common, store: &Store, who: &str) {
    let unknown = headline::unknown(&events[0], &options.config);
    if let Some(perhaps) = headline::misnamed(&events[0], config) {
        warn!("{unknown}; {perhaps}");
    } else {
        debug!("{unknown}");
    }
    if !options.dry_run {
        forget_client(events, config, store, who);
    }
}

/// Records the events, which the caller does not repeat. The error says why nothing else was done.
fn record_only(events: &[Event], source: config::Error, store: &Store, who: &str) -> Result<Error, Error> {
    let index = Linux::open()?.index(&events[0].interface)?;
    if index.is_none() && is_up(events) {
        return Ok(source.into());
    }
    let recorded = match write_down_alone(events, index, store, who) {
        Ok(()) => headline::recorded(events),
        Err(error) => headline::not_recorded(events, &error),
    };
    Ok(Error::Deferred { source: source.into(), recorded })
}

/// Writes the events down without a configuration.
fn write_down_alone(events: &[Event], index: Option<u32>, store: &Store, who: &str) -> Result<(), pass::Error> {
    let _lock = pass::lock(store, "records.lock", Settings::default().lock_timeout, who)?;
    let (_, _, written) = write_down(store, events, index, None);
    Ok(written?)
}

/// Removes the record of a client that dialled in while the configuration could not be read, and has hung up.
fn forget_client(events: &[Event], config: &Config, store: &Store, who: &str) {
    if is_up(events) {
        return;
    }
    let (records, _) = store.records();
    for event in events {
        let record = records.on(&event.interface, event.kind.family());
        let is_clients = record.is_some_and(|record| record.link(config).is_none());
        if is_clients && let Err(error) = write_down_alone(slice::from_ref(event), None, store, who) {
            warn!("{error}");
        }
    }
}

/// Whether the interface has to be there.
fn is_up(events: &[Event]) -> bool {
    events.iter().any(|event| matches!(event.kind, EventKind::Up(_)))
}

/// The link of the event. The records are read only if the caller's names do not tell it.
fn recognise<'a>(event: &Event, config: &'a Config, store: &Store) -> Option<&'a Link> {
    by_names(&event.names, config).or_else(|| store.records().0.recognise(event, config))
}

/// Logs an error of the subscription and goes on: the routes must be repaired all the same.
fn watched<T>(result: Result<T, removal::Error>) -> Option<T> {
    result.inspect_err(|e| error!("{e}; not waiting for the interface to go")).ok()
}

/// Index of the events' interface. An up event without one is an error.
fn index_if_up(events: &[Event], link: &str, kernel: &mut Linux) -> Result<Option<u32>, Error> {
    let interface = &events[0].interface;
    let index = kernel.index(interface)?;
    if index.is_none() && is_up(events) {
        return Err(Error::NoInterface { interface: interface.to_string(), link: link.to_owned() });
    }
    Ok(index)
}

/// Prints the commands that the events would cause.
fn dry_run(events: &[Event], link: &Link, config: &Config, store: Store) -> Result<(), Error> {
    let mut kernel = Linux::open()?;
    let index = index_if_up(events, link.name.as_str(), &mut kernel)?;
    let pass = Pass { config, store, who: String::new() };
    let effects = effects(&pass.store.records().0, events, index, Some(config));
    let plan = preview(config, &pass.link_records_after(&effects), &mut kernel)?;
    pass::print(&plan, config.settings.protocol)?;
    if plan.problems.is_empty() {
        Ok(())
    } else {
        Err(Error::Incomplete(plan.problems.into_iter().map(Failure::Problem).collect()))
    }
}

/// Runs a pass after the events and logs its line. They count even if their records could not be written. Returns the
/// failures.
fn reconcile(
    pass: &Pass<'_>,
    recorded: &Recorded<'_>,
    headline: &str,
    flush_scope: &FlushScope,
    kernel: &mut Linux,
) -> Result<Vec<Failure>, Error> {
    let outcome = pass.run_for(flush_scope, recorded.unwritten_effects(), kernel)?;
    pass.report(headline, &outcome);
    let mut failures = outcome.failures;
    if is_up(recorded.events) {
        let (link, interface) = (recorded.link.name.clone(), recorded.interface().clone());
        let unused = Warning::Unused(link.clone(), interface.clone());
        if outcome.made.is_empty() && outcome.warnings.contains(&unused) {
            warn!("{unused}");
        }
        if recorded.families().any(|family| outcome.dead.contains(&(family, link.clone()))) {
            failures.push(Failure::Dead(link, interface));
        }
    }
    Ok(failures)
}
