//! Replies say that the near end of a line lives. Whether anything beyond the provider does, only targets say: while replies
//! flow one is asked now and then, and where all of them fall silent replies are no life any more.

use std::time::Duration;

use super::machine::{Health, Sent};

/// While replies flow, a target is asked after so many intervals,
const SELDOM: u32 = 20;
/// or after this time, where that is sooner.
const SELDOM_AT_MOST: Duration = Duration::from_secs(30);
/// Replies are outweighed after so many times `down_after` without an answer of any target: no latency is so long, and
/// nobody waits for a drain so urgently whose connections still carry something.
const PATIENCE: u32 = 4;
/// So many targets that count have to be silent: fewer may have died, or may limit their answers, each for itself.
const TARGETS: usize = 3;

impl Health {
    /// From one probe to the next while replies flow.
    pub(super) fn seldom(&self) -> Duration {
        (self.settings.interval * SELDOM).min(SELDOM_AT_MOST).max(self.settings.interval)
    }

    /// A probe that was sent then has been answered.
    pub(super) fn heard(&mut self, sent: Duration) {
        if self.unheard.is_some_and(|since| sent >= since) {
            let later = self.under_way.iter().filter(|probe| probe.at > sent && self.says_something(probe));
            self.unheard = later.map(|probe| probe.at).min();
        }
    }

    /// Since when no target has answered, where that outweighs replies.
    pub(super) fn unheard_since(&self) -> Option<Duration> {
        let since = self.unheard?;
        let needed = if self.traffic.is_anybodys() { 1 } else { TARGETS };
        let silent = self.targets.iter().filter(|target| target.is_usable(since));
        (silent.count() >= needed).then_some(since)
    }

    /// When replies are outweighed, unless a target answers.
    pub(super) fn outweighed_at(&self) -> Option<Duration> {
        Some(self.unheard_since()? + self.settings.down_after * PATIENCE)
    }

    /// The probes since the last answer of a target.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = &Sent> {
        self.under_way.iter().filter(|probe| self.unheard.is_some_and(|since| probe.at >= since))
    }

    /// When the first of them is to be repeated, and when the repeat is overdue as well: then a burst is due.
    pub(super) fn doubtful_at(&self) -> (Option<Duration>, Option<Duration>) {
        if self.unheard_since().is_none() {
            return (None, None);
        }
        let mut late: Vec<_> =
            self.unanswered().filter(|probe| self.says_something(probe)).map(|probe| probe.late).collect();
        late.sort_unstable();
        (late.first().copied(), late.get(1).copied())
    }
}
