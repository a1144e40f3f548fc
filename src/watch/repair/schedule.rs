//! When the next pass is due.

use std::time::Duration;

/// Notices come in bursts: the pass waits until there was none for this long,
const SILENCE: Duration = Duration::from_millis(20);
/// but no longer than this after the first.
const PATIENCE: Duration = Duration::from_millis(80);
/// Passes for notices that were lost are this far apart: where so many come, more will be lost.
const OVERRUN: Duration = Duration::from_secs(1);
/// Not all that matters causes notices: legacy iptables, most sysctls.
const LOOK: Duration = Duration::from_mins(1);
/// After a pass that has failed; doubled each time,
const RETRY: Duration = Duration::from_secs(1);
/// up to this.
const LAST_RETRY: Duration = Duration::from_mins(1);

/// When the next pass is due. All times are since the start.
#[derive(Debug)]
pub(in crate::watch) struct Schedule {
    /// The first and the last notice that no pass has heeded.
    burst: Option<(Duration, Duration)>,
    /// For any other reason.
    next: Duration,
    last_overrun: Option<Duration>,
    /// How many passes have failed in a row.
    failures: u32,
}

impl Schedule {
    /// The first pass is due at once.
    pub(in crate::watch) fn new() -> Self {
        Self { burst: None, next: Duration::ZERO, last_overrun: None, failures: 0 }
    }

    /// A notice that matters has come.
    pub(in crate::watch) fn noticed(&mut self, now: Duration) {
        let first = self.burst.map_or(now, |(first, _)| first);
        self.burst = Some((first, now));
    }

    /// Notices were lost.
    pub(in crate::watch) fn overrun(&mut self, now: Duration) {
        let after = self.last_overrun.map_or(now, |last| now.max(last + OVERRUN));
        self.at(after + SILENCE);
    }

    /// A pass is wanted at this time at the latest.
    pub(in crate::watch) fn at(&mut self, time: Duration) {
        self.next = self.next.min(time);
    }

    /// When the next pass is due.
    pub(in crate::watch) fn due(&self) -> Duration {
        self.burst.map_or(self.next, |(first, last)| self.next.min(last + SILENCE).min(first + PATIENCE))
    }

    /// A pass begins, which heeds all that has been noticed.
    pub(in crate::watch) fn begin(&mut self, now: Duration, is_for_overrun: bool) {
        self.burst = None;
        self.next = now + LOOK;
        if is_for_overrun {
            self.last_overrun = Some(now);
        }
    }

    /// The pass has done all.
    pub(in crate::watch) fn done(&mut self) {
        self.failures = 0;
    }

    /// The pass has failed, or has left something undone.
    pub(in crate::watch) fn failed(&mut self, now: Duration) {
        let pause = RETRY.saturating_mul(1 << self.failures.min(6)).min(LAST_RETRY);
        self.failures = self.failures.saturating_add(1);
        self.at(now + pause);
    }
}
