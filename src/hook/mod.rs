//! The life of an event, from the caller's words to a kernel that holds what is wanted: what
//! `mh-ip-up`, `mh-ip-down` and `mh-vpn-up` have in common.

mod displaced;
pub mod pass;
mod programs;

pub use programs::{IpDown, IpUp, Program, VpnUp, main};

use std::fmt::Write;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use thiserror::Error;
use tracing::{debug, error, info, warn};

use self::pass::Pass;
use crate::cli::{self, Common};
use crate::config::{self, Config, Link};
use crate::event::{self, Addresses, Change, Event, Family, recognise};
use crate::kernel::removal::settle::{self, Settle};
use crate::kernel::{self, Linux, removal, removal::Watch};
use crate::model::names::LinkName;
use crate::reconcile::{About, Failure, Warning, preview, summary};
use crate::state::drain::Drain;
use crate::state::records::{self, Effect, Record, Records, Store, effect};

/// Why an event was not, or not wholly, carried out.
#[derive(Debug, Error)]
pub enum Error {
    /// What the caller said cannot be.
    #[error(transparent)]
    Usage(#[from] event::Error),
    /// The configuration, in a dry run: nothing is lost.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The configuration, without which nobody knows whose record the event would go to.
    #[error("{source}; {lost}")]
    Unrecorded {
        /// What is wrong with it.
        source: Box<config::Error>,
        /// What nobody knows of now, and how to say it again.
        lost: String,
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
        link: LinkName,
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
/// device is gone or the configured deadline has passed, and the kernel is looked at once more.
pub fn run(program: &str, event: &Event, options: &Common, wait: bool) -> Result<(), Error> {
    let config = match config::load(&options.config) {
        Err(source) if !options.dry_run => return Err(Error::Unrecorded { source: source.into(), lost: lost(event) }),
        loaded => loaded?,
    };
    let store = Store::new(&options.state_dir);
    let Some(link) = link_of(event, &config, &store) else {
        debug!("{}", unknown(event, &options.config));
        return Ok(());
    };
    if options.dry_run {
        return dry_run(event, link, &config, &store);
    }
    let pass = Pass { config: &config, store, who: format!("{program} {}", event.interface) };
    let hook = Hook { pass, event, link };
    // Before anything else, so that no notice is missed.
    let going_down = event.change == Change::Down(Family::V4);
    let watch = if wait && going_down { watched(Watch::subscribe()) } else { None };
    let mut kernel = Linux::open()?;
    let index = index_if_up(event, link, &mut kernel)?;
    let noted = match hook.note(index) {
        // OpenVPN runs `down` after it has dropped root: when the device is gone the kernel has done
        // its part, and the record counts as stale.
        Err(e) if e.is_permission() && going_down && index.is_none() => {
            let interface = &event.interface;
            info!("{} is down: {interface} is gone, and without privileges there is nothing left to do", link.name);
            return Ok(());
        }
        noted => noted?,
    };
    let effect = &noted.effect;
    if let Some(error) = &noted.unwritten {
        error!("{error}; until that is mended, the next event will not know of this one");
    }
    for displaced in hook.displaced(&noted, index, &mut kernel) {
        warn!("{displaced}");
    }
    // A late word is about a session that is over, and whose connections have been seen to.
    let about = if matches!(effect, Effect::Late(_)) { About::Nothing } else { About::Link(link.name.clone()) };
    let mut failures = hook.reconcile(&hook.headline(&noted), &noted, &about, &mut kernel)?;
    if let (Some(watch), Some(index)) = (watch, dying(effect, index).filter(|_| !noted.taken)) {
        let since = Instant::now();
        let settle = Settle::new(index, since, config.settings.settle_timeout);
        let outcome = watched(watch.wait(&settle, &event.interface, index)).unwrap_or(settle::Outcome::Stayed);
        failures = hook.reconcile(&settled(event, outcome, since.elapsed()), &noted, &About::Nothing, &mut kernel)?;
    }
    match (failures.is_empty(), noted.unwritten) {
        (true, None) => Ok(()),
        (true, Some(error)) => Err(pass::Error::Records(error).into()),
        (false, _) => Err(Error::Incomplete(failures)),
    }
}

/// What is not recorded of an event, and what to do about it. By the link's name, which nobody knows here: the
/// interface may be another one's in the configuration.
fn lost(event: &Event) -> String {
    let interface = &event.interface;
    // In one word with its option: a name may begin with a dash.
    let option = format!("--interface={}", interface.quoted());
    match event.change {
        Change::Up(Addresses::V4 { local, gateway }) => {
            let mut line = format!(
                "{interface} was not recorded as up: once that is mended, reconnect, or say `mhctl link up LINK {option}"
            );
            // Writing to a String cannot fail.
            let _ = local.map(|a| write!(line, " --local={a}"));
            let _ = gateway.map(|a| write!(line, " --gateway={a}"));
            line + "`"
        }
        Change::Down(Family::V4) => {
            format!("{interface} was not recorded as down: once that is mended, say `mhctl link down LINK {option}`")
        }
        Change::Up(Addresses::V6 { .. }) | Change::Down(Family::V6) => {
            format!("what became of IPv6 on {interface} was not recorded: once that is mended, reconnect")
        }
    }
}

/// That the event is none of our business. Its caller's names may be anything, and of any length.
fn unknown(event: &Event, config: &Path) -> String {
    let shown = |name: &String| format!("{:?}", name.chars().take(64).collect::<String>());
    let names: Vec<_> = event.names.iter().map(shown).collect();
    let called = if names.is_empty() { String::new() } else { format!(", called {}", names.join(" and ")) };
    format!("{}{called}, is no link of {}: nothing to do", event.interface, config.display())
}

/// The link that the event is about.
fn link_of<'a>(event: &Event, config: &'a Config, store: &Store) -> Option<&'a Link> {
    recognise(event, config, || store.load(config).0.on(&event.interface, config))
}

/// Not to hear of a device's end is no reason to leave its routes as they are.
fn watched<T>(result: Result<T, removal::Error>) -> Option<T> {
    result.inspect_err(|e| error!("{e}; not waiting for the device to go")).ok()
}

/// Index of the event's interface, without which a link cannot be up.
fn index_if_up(event: &Event, link: &Link, kernel: &mut Linux) -> Result<Option<u32>, Error> {
    let index = kernel.index(&event.interface)?;
    if index.is_none() && matches!(event.change, Change::Up(_)) {
        return Err(Error::NoInterface { interface: event.interface.to_string(), link: link.name.clone() });
    }
    Ok(index)
}

/// Index of the device to wait for: that of the session that ended.
fn dying(effect: &Effect, index: Option<u32>) -> Option<u32> {
    match effect {
        Effect::Remove(record) | Effect::Put(record) => Some(record.index),
        Effect::NotUp => index,
        Effect::Late(_) => None,
    }
}

/// What an event would change, printed.
fn dry_run(event: &Event, link: &Link, config: &Config, store: &Store) -> Result<(), Error> {
    let (mut records, errors) = store.load(config);
    for error in errors {
        warn!("{error}");
    }
    let mut kernel = Linux::open()?;
    let index = index_if_up(event, link, &mut kernel)?;
    let effect = effect(event, records.get(&link.name), index);
    put(&mut records, link, event, &effect);
    let plan = preview(config, &records, &mut kernel)?;
    pass::print(&plan, config.settings.protocol)?;
    if plan.problems.is_empty() {
        Ok(())
    } else {
        Err(Error::Incomplete(plan.problems.into_iter().map(Failure::Problem).collect()))
    }
}

/// What `effect` makes of the records; an interface is one link's at a time.
fn put(records: &mut Records, link: &Link, event: &Event, effect: &Effect) {
    match effect {
        Effect::Put(record) => {
            records.retain(|_, other| other.interface != event.interface);
            records.insert(link.name.clone(), record.clone());
        }
        Effect::Remove(_) => drop(records.remove(&link.name)),
        Effect::NotUp | Effect::Late(_) => {}
    }
}

/// What came of recording an event.
struct Noted {
    effect: Effect,
    /// The record as it was.
    before: Option<Record>,
    /// Why the record could not be written, if it could not: then the effect holds for this hook.
    unwritten: Option<records::Error>,
    /// The other links that are recorded on the interface.
    others: Vec<(LinkName, Record)>,
    /// The interface is one of theirs by now.
    taken: bool,
    /// The link is kept out of use.
    drained: Option<Drain>,
}

struct Hook<'a> {
    pass: Pass<'a>,
    event: &'a Event,
    link: &'a Link,
}

impl Hook<'_> {
    /// Records the event. This has a lock of its own, held for an instant only: the event is
    /// recorded even when somebody sits on the other one, and whoever reconciles next sees it.
    fn note(&self, index: Option<u32>) -> Result<Noted, pass::Error> {
        let lock = self.pass.lock("records.lock")?;
        self.pass.adopt(&lock);
        let records = self.pass.records();
        let effect = effect(self.event, records.get(&self.link.name), index);
        let others: Vec<_> = records
            .iter()
            .filter(|(name, other)| **name != self.link.name && other.interface == self.event.interface)
            .map(|(name, other)| (name.clone(), other.clone()))
            .collect();
        let written = self.pass.store.apply(&self.link.name, &effect).and_then(|()| {
            let mut gone = others.iter().filter(|_| matches!(effect, Effect::Put(_)));
            gone.try_for_each(|(name, other)| self.pass.store.apply(name, &Effect::Remove(other.clone())))
        });
        let taken = others.iter().any(|(_, other)| Some(other.index) == index);
        let before = records.get(&self.link.name).cloned();
        let drained = records.drained.get(&self.link.name).copied();
        Ok(Noted { effect, before, unwritten: written.err(), others, taken, drained })
    }

    /// A pass in which `effect` stands in where it could not be written; logs its line, and returns
    /// what is not as it should be.
    fn reconcile(
        &self,
        headline: &str,
        noted: &Noted,
        about: &About,
        kernel: &mut Linux,
    ) -> Result<Vec<Failure>, Error> {
        let outcome = self.pass.run_about(about, kernel, |records| {
            // Unless somebody has overtaken us since.
            if noted.unwritten.is_some() && records.get(&self.link.name) == noted.before.as_ref() {
                put(records, self.link, self.event, &noted.effect);
            }
        })?;
        self.pass.report(headline, &outcome);
        let mut failures = outcome.failures;
        if matches!(self.event.change, Change::Up(Addresses::V4 { .. })) {
            let unused = Warning::Unused(self.link.name.clone(), self.event.interface.clone());
            if outcome.made.is_empty() && outcome.warnings.contains(&unused) {
                warn!("{unused}");
            }
            if outcome.dead.contains(&self.link.name) {
                failures.push(Failure::Dead(self.link.name.clone(), self.event.interface.clone()));
            }
        }
        Ok(failures)
    }

    /// What the event says, in a few words.
    fn headline(&self, noted: &Noted) -> String {
        let Event { change, interface, .. } = self.event;
        let name = &self.link.name;
        match (change, &noted.effect) {
            (Change::Up(Addresses::V4 { local, gateway }), _) => {
                let mut line = format!("{name} up on {interface}");
                // Writing to a String cannot fail.
                let _ = local.map(|a| write!(line, ", {a}"));
                let _ = gateway.map(|a| write!(line, " via {a}"));
                let _ = noted.drained.map(|drain| write!(line, ", kept out of use by a drill (process {})", drain.pid));
                line
            }
            (Change::Up(Addresses::V6 { local, remote }), _) => {
                format!("{name} has IPv6 on {interface} ({local} to {remote}): recorded, IPv6 is not routed yet")
            }
            (Change::Down(Family::V4), Effect::NotUp) if self.link.gateway.is_some() => {
                format!(
                    "{name} was not recorded as up on {interface}: with its gateway configured it is up while {interface} is"
                )
            }
            (Change::Down(family), Effect::NotUp) => {
                let family = if *family == Family::V4 { "IPv4" } else { "IPv6" };
                format!("{name} was not recorded as up with {family} on {interface}: nothing to take down")
            }
            (Change::Down(Family::V6), Effect::Late(now)) => {
                format!("late word that {name} has no IPv6 on {interface}: it is up on {} since", now.interface)
            }
            (Change::Down(Family::V6), _) => format!("{name} has no IPv6 any more on {interface}"),
            (Change::Down(Family::V4), Effect::Late(now)) => {
                format!("late word that {name} went down on {interface}: it is up on {} since", now.interface)
            }
            (Change::Down(Family::V4), _) => format!("{name} down on {interface}"),
        }
    }
}

fn settled(event: &Event, outcome: settle::Outcome, waited: Duration) -> String {
    let interface = &event.interface;
    let ms = waited.as_millis();
    match outcome {
        settle::Outcome::Gone => format!("{interface} is gone after {ms} ms"),
        settle::Outcome::Back => format!("{interface} has an address again after {ms} ms"),
        settle::Outcome::Terminated => format!("told to end while waiting for {interface} to go"),
        settle::Outcome::Stayed => format!("{interface} is still there after {ms} ms"),
    }
}
