//! The main loop: waits for notices, the next wake-up, passes, and signals.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thiserror::Error;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, error, info, warn};

use super::checks::{Checks, answer};
use super::drains::{self, Drains};
use super::failback::Leaving;
use super::health::Key;
use super::links::Links;
use super::loaded::{Loaded, Stamp, stamp};
use super::memory::Memory;
use super::metrics::{self, Textfile};
use super::notice::{Heard, Interest, Notices};
use super::pass::{Running, Task, over};
use super::probe::Answer;
use super::program::{MhWatch, NAME};
use super::repair::{Budget, Origins, Schedule};
use super::service::Service;
use super::stranded::Stranded;
use super::tell::Teller;
use crate::config::{self, Config};
use crate::state::lock::holder;

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
    // The kernel names threads in its notices. One pass at a time is run, and one file of metrics is written.
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(1 + usize::from(options.metrics.is_some()))
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
            (key, answer) = answer(&mut watch.checks) => watch.answered(&key, answer),
            heard = notices.next(&watch.interest) => watch.heard(&heard.map_err(Error::Notices)?),
            passed = over(&mut watch.running) => watch.passed(passed),
            () = watch.teller.next() => {}
            () = watch.textfile.over() => {}
            () = sleep_until(watch.start + wakeup) => {}
            _ = hangup.recv() => watch.reload(),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    watch.service.stopping();
    watch.end().await;
    if watch.textfile.is_running() && timeout(LAST_PASS, watch.textfile.over()).await.is_err() {
        debug!("the file of metrics is left to itself");
    }
    watch.textfile.remove();
    Ok(())
}

/// What is known between two wake-ups. Times are since the start.
pub(super) struct Watch<'a> {
    pub(super) options: &'a MhWatch,
    pub(super) start: Instant,
    pub(super) config: Arc<Config>,
    pub(super) stamp: Option<Stamp>,
    pub(super) interest: Interest,
    pub(super) schedule: Schedule,
    pub(super) budget: Budget,
    pub(super) origins: Origins,
    pub(super) running: Option<Running>,
    /// Notices were lost since the last pass.
    pub(super) is_overrun: bool,
    /// As the last pass has left them.
    pub(super) links: Option<Links>,
    /// There was no pass since the start or since the configuration has changed: what it changes is no repair.
    pub(super) is_new: bool,
    /// What the last pass could not do: said once.
    pub(super) trouble: String,
    pub(super) teller: Teller,
    pub(super) service: Service,
    /// `None`: no uplink is probed.
    pub(super) checks: Option<Checks>,
    drains: Arc<Mutex<Drains>>,
    /// When drains are renewed.
    renewal: Option<Duration>,
    /// Uplinks that connections leave with the next pass that succeeds.
    pub(super) leaving: Leaving,
    /// Connections of this host whose uplink does not carry.
    pub(super) stranded: Stranded,
    memory: Memory,
    textfile: Textfile,
    /// When systemd is told next that all is well.
    pub(super) pulse: Option<Duration>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(options: &'a MhWatch, Loaded { config, stamp }: Loaded) -> io::Result<Self> {
        let teller = Teller::new(options.json, config.settings.event_command.clone())?;
        let service = Service::new();
        let mut memory = Memory::new(&options.state_dir);
        let checks = Checks::new(&config, Duration::ZERO).map(|checks| memory.restored(checks, Duration::ZERO));
        // So that others see that it runs, though no uplink be up.
        memory.keep(checks.as_ref(), Duration::ZERO, true);
        Ok(Self {
            options,
            checks,
            drains: Arc::default(),
            renewal: None,
            leaving: Leaving::new(),
            stranded: Stranded::default(),
            memory,
            textfile: Textfile::new(options.metrics.clone()),
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

    pub(super) fn now(&self) -> Duration {
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
        let check = self.checks.as_ref().and_then(Checks::wake);
        let metrics = self.links.as_ref().and_then(|_| self.textfile.wake(self.teller.counts.events()));
        let ending = self.ending_at().filter(|_| self.running.is_none());
        let next = [Some(pass), pause, check, self.renewal, ending, self.pulse, metrics]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(pass);
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
        if self.budget.take_ended(now) || self.renewal.take_if(|renewal| now >= *renewal).is_some() {
            self.schedule.at(now);
        }
        if self.ending_at().is_some_and(|due| now >= due) {
            self.schedule.at(now);
        }
        self.check(now);
        self.write_metrics(now);
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

    /// When connections of this host are to be ended, with a pass.
    fn ending_at(&self) -> Option<Duration> {
        self.stranded.wake(self.links.as_ref()?)
    }

    /// Begins a pass.
    pub(super) fn begin(&mut self, now: Duration) {
        // Hooks read the configuration at each event: with an older one this would undo what they do.
        if stamp(&self.options.config) != self.stamp {
            self.reload();
        }
        self.schedule.begin(now, self.is_overrun);
        self.is_overrun = false;
        let task = Task {
            config: self.config.clone(),
            state_dir: self.options.state_dir.clone(),
            began: now,
            drains: self.drains.clone(),
            levels: self.checks.as_ref().map(Checks::levels).unwrap_or_default(),
            leaving: self.leaving.clone(),
            ending: self.links.as_ref().map(|links| self.stranded.take_due(links, now)).unwrap_or_default(),
        };
        self.renewal = (!task.levels.is_empty()).then(|| now + drains::RENEWED);
        self.running = Some(task.spawn());
    }

    /// Looks after the uplinks that are probed. A verdict that has changed leads to a pass at once.
    fn check(&mut self, now: Duration) {
        let Some(checks) = self.checks.as_mut().filter(|checks| checks.wake().is_some_and(|wake| now >= wake)) else {
            return;
        };
        let is_changed = checks.poll(now);
        if is_changed {
            self.schedule.at(now);
        }
        self.memory.keep(Some(checks), now, is_changed);
    }

    /// Writes the file of metrics, if that is due. Before the first pass is over there is little to tell.
    fn write_metrics(&mut self, now: Duration) {
        let events = self.teller.counts.events();
        if self.links.is_none() || !self.textfile.is_due(now, events) {
            return;
        }
        let (config, state_dir) = (self.config.clone(), self.options.state_dir.clone());
        let report = self.memory.report(self.checks.as_ref(), now);
        let detections = self.checks.as_ref().map(Checks::detections).unwrap_or_default();
        let counts = self.teller.counts.with_detections(detections);
        let text = move || metrics::text(&config, &state_dir, Some(&report), Some(&counts)).map_err(|e| e.to_string());
        self.textfile.write(now, events, text);
    }

    fn answered(&mut self, key: &Key, answer: Answer) {
        if let Some(checks) = &mut self.checks {
            checks.answered(key, answer, answer.at.saturating_duration_since(self.start.into_std()));
        }
    }

    /// Waits for a pass that goes on, and puts drained links back: without this process nobody would notice that one
    /// answers again.
    async fn end(&mut self) {
        self.checks = None;
        for is_last in [false, true] {
            if !self.finish_pass().await || is_last || self.drains.try_lock().is_ok_and(|drains| drains.is_empty()) {
                return;
            }
            self.begin(self.now());
        }
    }

    /// Waits for the pass that is under way, if there is one; whether it has ended.
    async fn finish_pass(&mut self) -> bool {
        let is_over = self.running.is_none() || timeout(LAST_PASS, over(&mut self.running)).await.is_ok();
        if !is_over {
            debug!("a pass is left to itself");
        }
        is_over
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

    /// Checks what a new configuration says, with what is known.
    fn check_instead(&mut self, config: &Config) {
        let now = self.now();
        let before = self.checks.take().map(|checks| (checks.save(now), checks.detections()));
        self.checks = Checks::new(config, now);
        if let Some(checks) = &mut self.checks {
            if let Some((saved, detections)) = before {
                checks.restore(now, Duration::ZERO, &saved);
                checks.count_on(&detections);
            }
            if let Some(links) = &self.links {
                checks.follow(links, now);
            }
        }
        self.memory.keep(self.checks.as_ref(), now, true);
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
                    self.check_instead(&config);
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
