//! What `mh-watch` knows of the uplinks, kept in the state directory: for its next start, and for whoever asks.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tracing::debug;

use super::checks::Checks;
use super::health::{Health, Key, Opinion, Saved, millis, number};
use super::program::NAME;
use crate::model::names::Family;
use crate::state::clock::boot_id;
use crate::state::records::Store;

/// The file's name.
const FILE: &str = "health";

/// Of the file.
const VERSION: u32 = 1;

/// Without news it is written so often, if anything was looked at.
const OFTEN: Duration = Duration::from_secs(10);

/// A file older than this says nothing of uplinks: each that is up is looked at once a minute at least.
const STALE: Duration = Duration::from_secs(150);

/// No answer that took longer is waited for.
const LONGEST_RTT: Duration = Duration::from_mins(1);

/// The file. Times are in milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    version: u32,
    boot: String,
    /// When it was written, since boot, without time asleep.
    at: u64,
    pub pid: u32,
    pub uplinks: Vec<UplinkReport>,
    /// `None`: nothing is checked.
    saved: Option<Saved>,
}

/// What an uplink is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Judged {
    /// No target has answered by it within the hour.
    Unknown,
    Good,
    Suspected,
    Dead,
}

impl Judged {
    /// As the file has it, and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Good => "good",
            Self::Suspected => "suspected",
            Self::Dead => "dead",
        }
    }
}

impl From<Opinion> for Judged {
    fn from(opinion: Opinion) -> Self {
        match opinion {
            Opinion::Unknown => Self::Unknown,
            Opinion::Good => Self::Good,
            Opinion::Suspected { .. } => Self::Suspected,
            Opinion::Dead { .. } => Self::Dead,
        }
    }
}

/// What is known of an uplink in a family.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UplinkReport {
    pub link: String,
    /// 4 or 6.
    pub family: u8,
    pub state: Judged,
    /// How long it has been so, as far as the process knows.
    for_ms: u64,
    /// Smoothed, of the target that answers soonest, in microseconds.
    rtt_us: Option<u64>,
    /// Of the last probes, at most 100: how many were lost, and of how many.
    lost: u32,
    probes: u32,
    /// The targets that have never answered, while others did; as the configuration writes them.
    #[serde(default)]
    pub silent: Vec<String>,
}

impl UplinkReport {
    /// How long it has been in its state; `None`: longer than there was a boot.
    pub fn since(&self) -> Option<Duration> {
        (self.for_ms <= since_boot()).then_some(Duration::from_millis(self.for_ms))
    }

    /// Its round-trip time; `None`: no target has answered.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt_us.map(Duration::from_micros).filter(|rtt| *rtt <= LONGEST_RTT)
    }

    /// The part of the last probes that was lost, 0 to 1; `None`: there were none.
    pub fn loss(&self) -> Option<f64> {
        let is_plausible = self.probes > 0 && self.lost <= self.probes;
        is_plausible.then(|| f64::from(self.lost) / f64::from(self.probes))
    }
}

impl Report {
    /// What the process that is running, or that ran last in this boot, knew; `None`: nothing that can be read.
    pub fn read(state_dir: &Path) -> Option<Self> {
        let text = Store::new(state_dir).text(FILE).ok().flatten()?;
        let report: Self = serde_json::from_str(&text).ok()?;
        (report.version == VERSION && report.boot == boot_id()).then_some(report)
    }

    /// What the process that is running knows; `None`: none is.
    pub fn of_running(state_dir: &Path) -> Option<Self> {
        Self::read(state_dir).filter(|report| is_running(report.pid))
    }

    /// Time since it was written.
    pub fn age(&self) -> Duration {
        Duration::from_millis(since_boot().saturating_sub(self.at))
    }

    /// The uplink in a family; `None`: it is not checked, or what is known of it is old.
    pub fn of(&self, link: &str, family: Family) -> Option<&UplinkReport> {
        let mut uplinks = self.uplinks.iter().filter(|_| self.age() <= STALE);
        uplinks.find(|uplink| uplink.link == link && uplink.family == number(family))
    }
}

/// Keeps the file.
#[derive(Debug)]
pub(super) struct Memory {
    state_dir: PathBuf,
    written: Option<Duration>,
    /// What uplinks were taken for when somebody looked last, and since when.
    judged: BTreeMap<Key, (Judged, Duration)>,
}

impl Memory {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.to_owned(), written: None, judged: BTreeMap::new() }
    }

    /// With what the last process knew.
    pub(super) fn restored(&self, mut checks: Checks, now: Duration) -> Checks {
        if let Some(report) = Report::read(&self.state_dir)
            && let Some(saved) = &report.saved
        {
            checks.restore(now, report.age(), saved);
        }
        checks
    }

    /// Writes the file, if there is news or the last time is long ago. Without checks it says that the process runs. A
    /// full disk is no reason to end.
    pub(super) fn keep(&mut self, checks: Option<&Checks>, now: Duration, is_news: bool) {
        self.judge(checks, now);
        if !is_news && self.written.is_some_and(|written| now < written + OFTEN) {
            return;
        }
        self.written = Some(now);
        // Strings and numbers only, which always have a JSON.
        let text = serde_json::to_string(&self.report(checks, now)).unwrap_or_default() + "\n";
        if let Err(e) = Store::new(&self.state_dir).write_text(FILE, &text) {
            debug!("{e}");
        }
    }

    /// What the file says.
    pub(super) fn report(&self, checks: Option<&Checks>, now: Duration) -> Report {
        let mut uplinks = Vec::new();
        for (key, health) in checked(checks) {
            let since = self.judged.get(key).map_or(now, |(_, since)| *since);
            let silent = checks.map(|checks| checks.silent(key)).unwrap_or_default();
            uplinks.push(UplinkReport { silent, ..report(key, health, since, now) });
        }
        let (boot, pid) = (boot_id(), std::process::id());
        let saved = checks.map(|checks| checks.save(now));
        Report { version: VERSION, boot, at: since_boot(), pid, uplinks, saved }
    }

    /// Notes since when uplinks are what they are taken for.
    fn judge(&mut self, checks: Option<&Checks>, now: Duration) {
        for (key, health) in checked(checks) {
            let judged = Judged::from(health.opinion());
            if self.judged.get(key).is_none_or(|(before, _)| *before != judged) {
                self.judged.insert(key.clone(), (judged, now));
            }
        }
    }
}

/// The uplinks that are probed.
fn checked(checks: Option<&Checks>) -> impl Iterator<Item = (&Key, &Health)> {
    let all = checks
        .into_iter()
        .flat_map(|checks| checks.uplinks().keys().filter_map(|key| Some((key, checks.uplinks().health(key)?))));
    all.filter(|(_, health)| !health.targets().is_empty())
}

fn report(key: &Key, health: &Health, noted: Duration, now: Duration) -> UplinkReport {
    let opinion = health.opinion();
    let since = match opinion {
        Opinion::Suspected { since } | Opinion::Dead { since, .. } => since,
        Opinion::Unknown | Opinion::Good => noted,
    };
    let rtt = health.targets().iter().filter_map(|target| target.rtt).map(|rtt| rtt.smoothed).min();
    let (lost, probes) = health.loss();
    UplinkReport {
        link: key.uplink.to_string(),
        family: number(key.family),
        state: Judged::from(opinion),
        for_ms: millis(now.saturating_sub(since)),
        rtt_us: rtt.and_then(|rtt| u64::try_from(rtt.as_micros()).ok()),
        lost,
        probes,
        silent: Vec::new(),
    }
}

/// Whether the process runs and is an mh-watch: the number may be another's by now.
fn is_running(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().filter(|pid| *pid > 0) else { return false };
    match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => name.trim_end() == NAME,
        // Processes of others are hidden, perhaps (proc(5), hidepid).
        Err(_) => kill(Pid::from_raw(pid), None) == Err(Errno::EPERM),
    }
}

/// Milliseconds since boot, without time asleep: silence in that time says nothing.
fn since_boot() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| millis(Duration::from(time)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::health::{Settings, Uplink, Uplinks};

    fn written(pid: u32, at: u64, state: &str, more: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "{{\"version\":1,\"boot\":\"{}\",\"at\":{at},\"pid\":{pid},\"saved\":null,\"uplinks\":[\
             {{\"link\":\"a\",\"family\":4,\"state\":\"{state}\",{more}}}]}}",
            boot_id()
        );
        fs::write(dir.path().join(FILE), text).unwrap();
        dir
    }

    /// Of both families, with as many targets as there may be, which have answered once.
    fn largest() -> Report {
        let name = |n: usize| format!("tcp:[2001:db8:1111:2222:3333:4444:5555:{n:x}]:65535");
        let targets: Vec<_> = (0xf000..0xf018).map(name).collect();
        let mut uplinks = Vec::new();
        for (n, family) in (0..31).flat_map(|n| Family::BOTH.map(|family| (n, family))) {
            let key = Key { uplink: format!("fifteen-char-{n:02}").parse().unwrap(), family };
            uplinks.push(Uplink { key, tier: 1, metered: false, targets: targets.clone() });
        }
        let keys: Vec<_> = uplinks.iter().map(|uplink| uplink.key.clone()).collect();
        let mut checked = Uplinks::new(Duration::ZERO, Settings::default(), uplinks);
        for key in &keys {
            checked.up(Duration::ZERO, key);
        }
        for _ in 0..targets.len() {
            let now = checked.wake().unwrap();
            for (key, probe) in checked.poll(now).probes {
                checked.health_mut(&key).unwrap().answered(now + Duration::from_micros(123_456), probe.id);
            }
        }
        let known = |key| report(key, checked.health(key).unwrap(), Duration::ZERO, Duration::from_hours(1));
        let uplinks = keys.iter().map(|key| UplinkReport { silent: targets.clone(), ..known(key) }).collect();
        let saved = Some(checked.save(Duration::from_hours(1)));
        Report { version: VERSION, boot: boot_id(), at: since_boot(), pid: std::process::id(), uplinks, saved }
    }

    #[test]
    fn the_largest_file_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let text = serde_json::to_string(&largest()).unwrap();
        assert_eq!(text.matches("answered_ago").count(), 31 * 2 * 24);
        println!("{} bytes", text.len());
        Store::new(dir.path()).write_text(FILE, &text).unwrap();
        let read = Report::read(dir.path()).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }

    const PLAUSIBLE: &str = r#""for_ms":5,"rtt_us":1500,"lost":1,"probes":4"#;

    #[test]
    fn what_the_file_says_is_read_and_what_cannot_be_is_not() {
        let read = |state: &str, more: &str| Report::read(written(1, since_boot(), state, more).path());
        let report = read("good", PLAUSIBLE).unwrap();
        let uplink = report.of("a", Family::V4).unwrap();
        assert_eq!((uplink.state, uplink.since()), (Judged::Good, Some(Duration::from_millis(5))));
        assert_eq!((uplink.rtt(), uplink.loss()), (Some(Duration::from_micros(1500)), Some(0.25)));
        assert!(report.of("a", Family::V6).is_none() && report.of("b", Family::V4).is_none());
        assert!(read("\u{1b}[31m", PLAUSIBLE).is_none());
        assert!(read("good", r#""for_ms":-5,"rtt_us":1500,"lost":1,"probes":4"#).is_none());
        let most = u64::MAX;
        let report = read("dead", &format!(r#""for_ms":{most},"rtt_us":{most},"lost":5,"probes":4"#)).unwrap();
        let uplink = report.of("a", Family::V4).unwrap();
        assert_eq!((uplink.since(), uplink.rtt(), uplink.loss()), (None, None, None));
    }

    #[test]
    fn who_does_not_run_knows_nothing_and_what_is_old_says_nothing() {
        for pid in [0, u32::MAX, 1, std::process::id()] {
            // The last two run, and are no mh-watch.
            assert!(Report::of_running(written(pid, since_boot(), "good", PLAUSIBLE).path()).is_none(), "{pid}");
        }
        let long_ago = since_boot().saturating_sub(millis(STALE) + 1000);
        let report = Report::read(written(1, long_ago, "good", PLAUSIBLE).path()).unwrap();
        // On a machine that has just booted nothing is so old.
        assert!(since_boot() < millis(STALE) || report.of("a", Family::V4).is_none());
    }
}
