//! The main loop: waits for notices, the next wake-up, passes, and signals.

use std::collections::BTreeSet;
use std::future::pending;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, error, info, warn};

use super::MhWatch;
use super::links::Links;
use super::notice::{Heard, Interest, Notices, Thing};
use super::program::NAME;
use super::repair::{Budget, Origins, Schedule};
use super::service::Service;
use super::tell::{Event, Kind, Teller, between};
use crate::config::{self, Config, Settings};
use crate::hook::pass::{self, Pass, links_up};
use crate::reconcile::{Outcome, summary};
use crate::state::lock::holder;
use crate::state::records::Store;

/// How long a pass may go on when the program is to end. It is safe to stop at any point.
const LAST_PASS: Duration = Duration::from_secs(2);

/// Why it has ended, or not begun.
#[derive(Debug, Error)]
pub(super) enum Error {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error("cannot hear of the kernel's changes: {0}")]
    Notices(#[source] io::Error),
    #[error("cannot run: {0}")]
    Runtime(#[from] io::Error),
}

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(options: &MhWatch) -> Result<(), Error> {
    let config = Loaded::load(&options.config)?;
    // The kernel names threads in its notices, and one pass at a time is run.
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(1)
        .thread_name(NAME)
        .thread_stack_size(512 << 10)
        .build()?;
    let done = runtime.block_on(watch(options, config));
    // A pass may still wait for the lock.
    runtime.shutdown_background();
    done
}

async fn watch(options: &MhWatch, config: Loaded) -> Result<(), Error> {
    // Before the first look, so that no notice is missed.
    let mut notices = Notices::subscribe().map_err(Error::Notices)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut watch = Watch::new(options, config)?;
    watch.service.ready();
    loop {
        watch.begin_what_is_due();
        let wakeup = watch.next_wakeup();
        tokio::select! {
            heard = notices.next(&watch.interest) => watch.heard(&heard.map_err(Error::Notices)?),
            passed = over(&mut watch.running) => watch.passed(passed),
            () = watch.teller.next() => {}
            () = sleep_until(watch.start + wakeup) => {}
            _ = hangup.recv() => watch.reload(),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    watch.service.stopping();
    if watch.running.is_some() && timeout(LAST_PASS, over(&mut watch.running)).await.is_err() {
        debug!("a pass is left to itself");
    }
    Ok(())
}

/// A configuration, and what tells whether its file is still the same.
struct Loaded {
    config: Arc<Config>,
    stamp: Option<Stamp>,
}

/// Changes whenever the file does.
type Stamp = (u64, u64, i64, i64);

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = path.metadata().ok()?;
    Some((meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
}

impl Loaded {
    fn load(path: &Path) -> Result<Self, config::Error> {
        // Before it is read: if it changes meanwhile, it is read again.
        let stamp = stamp(path);
        Ok(Self { config: Arc::new(config::load(path)?), stamp })
    }
}

/// What a pass has come to.
struct Passed {
    outcome: Outcome,
    /// After it.
    links: Links,
    interest: Interest,
    /// When it began, since the start.
    began: Duration,
}

/// A pass that goes on.
struct Running {
    pass: JoinHandle<Result<Passed, pass::Error>>,
    since: Duration,
    /// That it waits for the lock was said.
    is_late: bool,
}

/// Waits for the end of a pass. Never ends while there is none.
async fn over(running: &mut Option<Running>) -> Result<Passed, String> {
    let Some(Running { pass, .. }) = running else { return pending().await };
    let passed = pass.await;
    *running = None;
    match passed {
        Ok(Ok(passed)) => Ok(passed),
        Ok(Err(e)) => Err(e.to_string()),
        Err(e) => Err(e.to_string()),
    }
}

/// Runs a pass, as every event and `mhctl apply` do, and looks at the links after it.
fn pass_and_look(config: &Config, state_dir: &Path, began: Duration) -> Result<Passed, pass::Error> {
    // Each wait for the lock that is given up leaves a thread behind.
    let settings = Settings { lock_timeout: Duration::MAX, ..config.settings.clone() };
    let patient = Config { settings, ..config.clone() };
    let pass = Pass { config: &patient, store: Store::new(state_dir), who: NAME.to_owned() };
    let outcome = pass.run()?;
    // The pass has logged those that cannot be read.
    let (records, _) = pass.store.load_after(&[], config);
    let (links, interest) = Links::look(config, &records)?;
    Ok(Passed { outcome, links, interest, began })
}

/// What is known between two wake-ups. Times are since the start.
struct Watch<'a> {
    options: &'a MhWatch,
    start: Instant,
    config: Arc<Config>,
    stamp: Option<Stamp>,
    interest: Interest,
    schedule: Schedule,
    budget: Budget,
    origins: Origins,
    running: Option<Running>,
    /// Notices were lost since the last pass.
    is_overrun: bool,
    /// As the last pass has left them.
    links: Option<Links>,
    /// There was no pass since the start or since the configuration has changed: what it changes is no repair.
    is_new: bool,
    /// What the last pass could not do: said once.
    trouble: String,
    teller: Teller,
    service: Service,
    /// When systemd is told next that all is well.
    pulse: Option<Duration>,
}

impl<'a> Watch<'a> {
    fn new(options: &'a MhWatch, Loaded { config, stamp }: Loaded) -> io::Result<Self> {
        let teller = Teller::new(options.json, config.settings.event_command.clone())?;
        let service = Service::new();
        Ok(Self {
            options,
            start: Instant::now(),
            interest: Interest::new(&config, &BTreeSet::new(), BTreeSet::new()),
            config,
            stamp,
            schedule: Schedule::new(),
            budget: Budget::default(),
            origins: Origins::default(),
            running: None,
            is_overrun: false,
            links: None,
            is_new: true,
            trouble: String::new(),
            teller,
            pulse: service.pulse(),
            service,
        })
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// When there is something to do without anything happening.
    fn next_wakeup(&self) -> Duration {
        let pass = match &self.running {
            Some(running) if running.is_late => Duration::MAX,
            Some(running) => running.since.saturating_add(self.config.settings.lock_timeout),
            None => self.schedule.due(),
        };
        let pause = self.budget.next();
        let next = [Some(pass), pause, self.pulse].into_iter().flatten().min().unwrap_or(pass);
        // A timer takes no longer ones.
        next.min(self.now() + Duration::from_hours(1))
    }

    /// Does what is due now.
    fn begin_what_is_due(&mut self) {
        let now = self.now();
        if let (Some(at), Some(pulse)) = (self.pulse, self.service.pulse())
            && now >= at
        {
            self.service.alive();
            self.pulse = Some(now + pulse);
        }
        if self.budget.take_ended(now) {
            self.schedule.at(now);
        }
        match &mut self.running {
            Some(running) if !running.is_late && now >= running.since + self.config.settings.lock_timeout => {
                running.is_late = true;
                let lock = self.options.state_dir.join("lock");
                let who = holder(&lock).unwrap_or_else(|| "another program".to_owned());
                warn!("still waits for {}, which is locked by {who}: if that hangs, end it", lock.display());
            }
            None if now >= self.schedule.due() => self.begin(now),
            _ => {}
        }
    }

    /// Begins a pass.
    fn begin(&mut self, now: Duration) {
        // Hooks read the configuration at each event: with an older one this would undo what they do.
        if stamp(&self.options.config) != self.stamp {
            self.reload();
        }
        self.schedule.begin(now, self.is_overrun);
        self.is_overrun = false;
        let (config, state_dir) = (self.config.clone(), self.options.state_dir.clone());
        let pass = spawn_blocking(move || pass_and_look(&config, &state_dir, now));
        self.running = Some(Running { pass, since: now, is_late: false });
    }

    /// Judges what was heard.
    fn heard(&mut self, heard: &Heard) {
        let now = self.now();
        for notice in &heard.notices {
            self.origins.add(notice, now);
            let is_held = self.budget.holds(notice.thing, now);
            debug!("noticed: {}{}", notice.thing, if is_held { ", left alone" } else { "" });
            if !is_held {
                self.schedule.noticed(now);
            }
        }
        if heard.is_overrun {
            debug!("some notices were lost");
            self.is_overrun = true;
            self.schedule.overrun(now);
        }
    }

    /// Tells what a pass has come to, and when the next is due.
    fn passed(&mut self, passed: Result<Passed, String>) {
        let now = self.now();
        let trouble = match passed {
            Ok(passed) => self.tell(passed, now),
            Err(error) => error,
        };
        if trouble.is_empty() {
            if !self.trouble.is_empty() {
                info!("all is done that could not be done before");
            }
            self.schedule.done();
        } else {
            if trouble != self.trouble {
                error!("{trouble}");
            }
            self.schedule.failed(now);
        }
        self.trouble = trouble;
    }

    /// The same of one that could be made; what it has left undone.
    fn tell(&mut self, passed: Passed, now: Duration) -> String {
        let Passed { outcome, links, interest, began } = passed;
        self.interest = interest;
        // What had to be changed although no link has changed, others have changed.
        let is_repair = !self.is_new && self.links.as_ref() == Some(&links);
        if outcome.made.is_empty() {
            self.origins.forget_before(began);
        } else {
            self.tell_of_changes(&outcome, is_repair, now);
        }
        if let Some(before) = &self.links {
            for event in between(before, &links) {
                self.teller.tell(event);
            }
        }
        self.links = Some(links);
        self.is_new = false;
        self.service.status(links_up(&outcome.carrying));
        summary(&outcome.failures)
    }

    fn tell_of_changes(&mut self, outcome: &Outcome, is_repair: bool, now: Duration) {
        let protocol = self.config.settings.protocol;
        let made = pass::headline(outcome, protocol);
        let mut things: Vec<_> = outcome.made.iter().filter_map(Thing::of).collect();
        things.sort_unstable();
        things.dedup();
        if !is_repair || things.is_empty() {
            pass::report(&made, outcome, protocol);
            return;
        }
        let by = things.iter().find_map(|thing| self.origins.of(*thing)).map(ToString::to_string);
        let who = by.as_ref().map(|by| format!(" what {by} has changed")).unwrap_or_default();
        pass::report(&format!("repaired{who}: {made}"), outcome, protocol);
        let reason = "it had been changed, and no link had".to_owned();
        let changes = outcome.made.iter().map(|change| change.command(protocol).to_string()).collect();
        self.teller.tell(Event { by, changes, ..Event::new(Kind::Repair, reason) });
        for thing in things {
            let Some(fight) = self.budget.repaired(thing, now) else { continue };
            if fight.is_news {
                let by = self.origins.of(thing).map(ToString::to_string);
                let who = by.as_deref().unwrap_or("another program");
                let reason = format!(
                    "{thing} had to be repaired {} times, and {who} changes that again and again: nothing is done \
                     about it for {} s; end one of the two",
                    fight.repairs,
                    fight.pause.as_secs()
                );
                let pause = Some(fight.pause.as_secs());
                self.teller.tell(Event { by, pause, ..Event::new(Kind::Fight, reason) });
            }
        }
    }

    /// Reads the configuration again. One with a mistake is not used.
    fn reload(&mut self) {
        self.service.reloading();
        match Loaded::load(&self.options.config) {
            Ok(Loaded { config, stamp }) => {
                self.stamp = stamp;
                if config != self.config {
                    info!("the configuration is read again");
                    self.teller.run_instead(config.settings.event_command.clone());
                    self.config = config;
                    self.is_new = true;
                }
                self.schedule.at(self.now());
            }
            Err(e) => {
                // Not again before the file has changed.
                self.stamp = stamp(&self.options.config);
                error!("{e}; going on with the configuration of before");
            }
        }
        self.service.ready();
    }
}
