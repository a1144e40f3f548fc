//! The life of an event, from the caller's words to a kernel that holds what is wanted: what
//! `mh-ip-up`, `mh-ip-down` and `mh-vpn-up` have in common.

mod displaced;
mod headline;
pub mod pass;
mod programs;
mod told;

pub use programs::{IpDown, IpUp, Program, VpnUp, main};

use std::io;
use std::time::Instant;

use thiserror::Error;
use tracing::{debug, error, info, warn};

use self::pass::Pass;
use self::told::Told;
use crate::cli::{self, Common};
use crate::config::{self, Config, Link, Settings};
use crate::event::{self, Change, Event, Family};
use crate::kernel::removal::settle::Outcome;
use crate::kernel::removal::settle::Settle;
use crate::kernel::{self, Linux, removal, removal::Watch};
use crate::reconcile::{About, Failure, Warning, preview, summary};
use crate::state::clock::Moment;
use crate::state::records::Store;
use crate::state::records::derive::by_names;

/// Why an event was not, or not wholly, carried out.
#[derive(Debug, Error)]
pub enum Error {
    /// What the caller said cannot be.
    #[error(transparent)]
    Usage(#[from] event::Error),
    /// The configuration, in a dry run.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The configuration; what the caller said is written down.
    #[error("{source}; {recorded}")]
    Deferred {
        /// What is wrong with it.
        source: Box<config::Error>,
        /// What is written down.
        recorded: String,
    },
    /// There was no pass.
    #[error(transparent)]
    Pass(#[from] pass::Error),
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// The interface does not exist.
    #[error("interface {interface} does not exist: {link} stays down")]
    NoInterface {
        /// Which was said to be up.
        interface: String,
        /// The link.
        link: String,
    },
    /// Some of it is not as it should be; each has been logged.
    #[error("{}", summary(.0))]
    Incomplete(Vec<Failure>),
    /// Standard output is closed.
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

impl Error {
    /// The exit status that stands for it.
    pub fn exit_status(&self) -> u8 {
        if matches!(self, Self::Usage(_)) { cli::USAGE } else { cli::FAILED }
    }
}

/// Carries out `event` for `program`. With `wait`, a link that goes down is waited for until its
/// interface is gone or the configured deadline has passed, and the kernel is looked at once more.
pub fn run(program: &str, event: &Event, options: &Common, wait: bool) -> Result<(), Error> {
    let who = format!("{program} {}", event.interface);
    let store = Store::new(&options.state_dir);
    let config = match config::load(&options.config) {
        Err(source) if !options.dry_run => return Err(record_only(event, source, &store, &who)?),
        loaded => loaded?,
    };
    let Some(link) = recognise(event, &config, &store) else {
        let unknown = headline::unknown(event, &options.config);
        if let Some(perhaps) = headline::misnamed(event, &config) {
            warn!("{unknown}; {perhaps}");
        } else {
            debug!("{unknown}");
        }
        return Ok(());
    };
    if options.dry_run {
        return dry_run(event, link, &config, store);
    }

    // Before anything else, so that no notice is missed.
    let going_down = event.change == Change::Down(Family::V4);
    let watch = if wait && going_down { watched(Watch::subscribe()) } else { None };
    let mut kernel = Linux::open()?;
    let index = index_if_up(event, link.name.as_str(), &mut kernel)?;

    let pass = Pass { config: &config, store, who };
    if let Some(occupied) = displaced::by_name_elsewhere(&pass, event, link, &mut kernel) {
        warn!("{occupied}");
        return Ok(());
    }
    let told = match Told::record(&pass, event, link, index) {
        // OpenVPN runs `down` after it has dropped root: when the interface is gone the kernel has done its part, and
        // the record counts as stale.
        Err(e) if e.is_permission() && going_down && index.is_none() => {
            info!("{}", headline::nothing_left(event, link));
            return Ok(());
        }
        told => told?,
    };
    if let Some(error) = &told.unwritten {
        error!("{error}; until that is mended, the next event will not know of this one");
    }
    for displaced in told.displaced(index, &mut kernel) {
        warn!("{displaced}");
    }

    // What a stale event is about is over, and its connections have been seen to.
    let about = if told.is_stale() { About::Nothing } else { About::Link(link.name.clone()) };
    let mut failures = reconcile(&pass, &told, &told.headline(), &about, &mut kernel)?;
    if let (Some(watch), Some(index)) = (watch, told.dying(index)) {
        let since = Instant::now();
        let settle = Settle::new(index, since, config.settings.settle_timeout);
        let outcome = watched(watch.wait(&settle, &event.interface, index)).unwrap_or(Outcome::Stayed);
        let headline = headline::settled(event, outcome, since.elapsed());
        failures = reconcile(&pass, &told, &headline, &About::Nothing, &mut kernel)?;
    }
    match (failures.is_empty(), told.unwritten) {
        (true, None) => Ok(()),
        (true, Some(error)) => Err(pass::Error::Records(error).into()),
        (false, _) => Err(Error::Incomplete(failures)),
    }
}

/// Writes down what the caller said, which does not come again; the error says why no more was done.
fn record_only(event: &Event, source: config::Error, store: &Store, who: &str) -> Result<Error, Error> {
    let index = Linux::open()?.index(&event.interface)?;
    if index.is_none() && matches!(event.change, Change::Up(_)) {
        return Ok(source.into());
    }
    let _lock = pass::lock(store, "records.lock", Settings::default().lock_timeout, who)?;
    let (entries, _) = store.entries();
    let effect = entries.effect(event, index, None, Moment::now());
    store.write(&effect).map_err(pass::Error::from)?;
    Ok(Error::Deferred { source: source.into(), recorded: headline::recorded(event) })
}

/// The link that the event is about. What was said before is read only where the caller's names do not say it.
fn recognise<'a>(event: &Event, config: &'a Config, store: &Store) -> Option<&'a Link> {
    by_names(&event.names, config).or_else(|| store.entries().0.recognise(event, config))
}

/// Not to hear of an interface's end is no reason to leave its routes as they are.
fn watched<T>(result: Result<T, removal::Error>) -> Option<T> {
    result.inspect_err(|e| error!("{e}; not waiting for the interface to go")).ok()
}

/// Index of the event's interface, without which a link cannot be up.
fn index_if_up(event: &Event, link: &str, kernel: &mut Linux) -> Result<Option<u32>, Error> {
    let index = kernel.index(&event.interface)?;
    if index.is_none() && matches!(event.change, Change::Up(_)) {
        return Err(Error::NoInterface { interface: event.interface.to_string(), link: link.to_owned() });
    }
    Ok(index)
}

/// What an event would change, printed.
fn dry_run(event: &Event, link: &Link, config: &Config, store: Store) -> Result<(), Error> {
    let mut kernel = Linux::open()?;
    let index = index_if_up(event, link.name.as_str(), &mut kernel)?;
    let pass = Pass { config, store, who: String::new() };
    let effect = pass.store.entries().0.effect(event, index, Some(config), Moment::now());
    let plan = preview(config, &pass.records_after(&effect), &mut kernel)?;
    pass::print(&plan, config.settings.protocol)?;
    if plan.problems.is_empty() {
        Ok(())
    } else {
        Err(Error::Incomplete(plan.problems.into_iter().map(Failure::Problem).collect()))
    }
}

/// A pass after the event, in which it counts though it could not be written down; logs its line, and returns what is not
/// as it should be.
fn reconcile(
    pass: &Pass<'_>,
    told: &Told<'_>,
    headline: &str,
    about: &About,
    kernel: &mut Linux,
) -> Result<Vec<Failure>, Error> {
    let outcome = pass.run_about(about, told.unwritten_effect(), kernel)?;
    pass.report(headline, &outcome);
    let mut failures = outcome.failures;
    if told.is_up() {
        let (link, interface) = (told.link.name.clone(), told.event.interface.clone());
        let unused = Warning::Unused(link.clone(), interface.clone());
        if outcome.made.is_empty() && outcome.warnings.contains(&unused) {
            warn!("{unused}");
        }
        if outcome.dead.contains(&link) {
            failures.push(Failure::Dead(link, interface));
        }
    }
    Ok(failures)
}
