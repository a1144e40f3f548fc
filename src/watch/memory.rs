//! What `mh-watch` knows of the uplinks, kept in the state directory: for its next start, and for whoever asks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tracing::debug;

use super::checks::{Checks, word};
use super::health::{Health, Key, Opinion, Saved};
use crate::model::names::Family;
use crate::state::clock::boot_id;
use crate::state::records::Store;

/// The file's name.
const FILE: &str = "health";

/// Of the file.
const VERSION: u32 = 1;

/// Without news it is written so often, if anything was looked at.
const OFTEN: Duration = Duration::from_secs(10);

/// The file. Times are in milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    version: u32,
    boot: String,
    /// When it was written, since boot, without time asleep.
    at: u64,
    pub pid: u32,
    pub uplinks: Vec<UplinkReport>,
    saved: Saved,
}

/// What is known of an uplink in a family.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UplinkReport {
    pub link: String,
    /// 4 or 6.
    pub family: u8,
    /// `unknown`, `good`, `suspected` or `dead`.
    pub state: String,
    /// How long it has been so; none: always.
    pub for_ms: Option<u64>,
    /// Smoothed, of the target that answers soonest, in microseconds.
    pub rtt_us: Option<u64>,
    /// Of the last probes, at most 100: how many were lost, and of how many.
    pub lost: u32,
    pub probes: u32,
}

impl Report {
    /// What the process that is running, or that ran last in this boot, knew; `None`: nothing that can be read.
    pub fn read(state_dir: &Path) -> Option<Self> {
        let text = Store::new(state_dir).text(FILE).ok().flatten()?;
        let report: Self = serde_json::from_str(&text).ok()?;
        (report.version == VERSION && report.boot == boot_id()).then_some(report)
    }

    /// Time since it was written.
    pub fn age(&self) -> Duration {
        Duration::from_millis(since_boot().saturating_sub(self.at))
    }

    /// The uplink in a family.
    pub fn of(&self, link: &str, family: Family) -> Option<&UplinkReport> {
        self.uplinks.iter().find(|uplink| uplink.link == link && uplink.family == number(family))
    }
}

/// Keeps the file.
#[derive(Debug)]
pub(super) struct Memory {
    state_dir: PathBuf,
    written: Option<Duration>,
}

impl Memory {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.to_owned(), written: None }
    }

    /// With what the last process knew.
    pub(super) fn restored(&self, mut checks: Checks, now: Duration) -> Checks {
        if let Some(report) = Report::read(&self.state_dir) {
            checks.restore(now, report.age(), &report.saved);
        }
        checks
    }

    /// Writes the file, if there is news or the last time is long ago. A full disk is no reason to end.
    pub(super) fn keep(&mut self, checks: &Checks, now: Duration, is_news: bool) {
        if !is_news && self.written.is_some_and(|written| now < written + OFTEN) {
            return;
        }
        self.written = Some(now);
        let uplinks = checks.uplinks().keys().filter_map(|key| {
            let health = checks.uplinks().health(key)?;
            (!health.targets().is_empty()).then(|| report(key, health, now))
        });
        let report = Report {
            version: VERSION,
            boot: boot_id(),
            at: since_boot(),
            pid: std::process::id(),
            uplinks: uplinks.collect(),
            saved: checks.save(now),
        };
        // Strings and numbers only, which always have a JSON.
        let text = serde_json::to_string(&report).unwrap_or_default() + "\n";
        if let Err(e) = Store::new(&self.state_dir).write_text(FILE, &text) {
            debug!("{e}");
        }
    }
}

fn report(key: &Key, health: &Health, now: Duration) -> UplinkReport {
    let opinion = health.opinion();
    let since = match opinion {
        Opinion::Suspected { since } | Opinion::Dead { since, .. } => Some(since),
        Opinion::Unknown | Opinion::Good => None,
    };
    let rtt = health.targets().iter().filter_map(|target| target.rtt).map(|rtt| rtt.smoothed).min();
    let (lost, probes) = health.loss();
    UplinkReport {
        link: key.uplink.to_string(),
        family: number(key.family),
        state: word(opinion).to_owned(),
        for_ms: since.map(|since| millis(now.saturating_sub(since))),
        rtt_us: rtt.and_then(|rtt| u64::try_from(rtt.as_micros()).ok()),
        lost,
        probes,
    }
}

fn number(family: Family) -> u8 {
    if family == Family::V4 { 4 } else { 6 }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since boot, without time asleep: silence in that time says nothing.
fn since_boot() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| millis(Duration::from(time)))
}
