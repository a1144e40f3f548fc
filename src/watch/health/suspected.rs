//! A suspicion, and the burst that ends it: life, or the verdict.

use std::time::Duration;

use super::burst::{Burst, PROBES};
use super::dead::Dead;
use super::machine::{Health, MOST_RELAPSES, Sent, State, decayed};
use super::{Evidence, Probe};

impl Health {
    pub(super) fn is_suspicious(&self, now: Duration) -> bool {
        let is_late = |probe: &Sent| now >= probe.late && self.is_open(probe) && self.says_something(probe);
        let is_silent = self.traffic.suspicious_at().is_some_and(|at| now >= at) && self.has_usable(now);
        is_silent || self.under_way.iter().any(is_late)
    }

    pub(super) fn poll_suspected(&mut self, now: Duration) -> Vec<Probe> {
        let State::Suspected(mut burst) = self.state else { return Vec::new() };
        if now < self.verdict_at(&burst) {
            return Vec::new();
        }
        // Some may not have been sent, or could not be.
        if !burst.is_sent() || self.lost_at(&burst).is_none() {
            burst.round_sent(now);
            self.state = State::Suspected(burst);
            return self.send_round(now);
        }
        let mut asked: Vec<usize> =
            self.under_way.iter().filter(|probe| probe.id >= burst.first_id).map(|probe| probe.target).collect();
        asked.sort_unstable();
        asked.dedup();
        let lost = self.under_way.iter().filter(|probe| self.is_open(probe)).count();
        let evidence = Evidence { silent: now.saturating_sub(self.life), lost, targets: asked.len() };
        // A late answer would have come by then.
        let overdue = burst.asked + self.longest_timeout();
        let left = decayed(self.relapses, now.saturating_sub(self.good_since));
        self.relapses = (left + 1).min(MOST_RELAPSES);
        self.state = State::Dead(Dead::new(self.life, overdue, now, evidence));
        self.poll_dead(now)
    }

    /// When the verdict falls, unless something answers; before that, when the next round is due.
    pub(super) fn verdict_at(&self, burst: &Burst) -> Duration {
        let Some(lost) = self.lost_at(burst).filter(|_| burst.is_sent()) else { return burst.next_round };
        lost.max(self.life + self.settings.down_after).max(burst.asked + self.settings.least_evidence())
    }

    /// Whether a burst's probes are lost, all of them and enough.
    pub(super) fn lost_at(&self, burst: &Burst) -> Option<Duration> {
        let probes = self.under_way.iter().filter(|probe| probe.id >= burst.first_id);
        let (count, lost) = probes.fold((0, Duration::ZERO), |(n, lost), probe| (n + 1, lost.max(probe.lost)));
        (count >= PROBES).then_some(lost)
    }

    /// When the first of what is unanswered was sent.
    pub(super) fn asked(&self) -> Option<Duration> {
        let probes = self.under_way.iter().filter(|probe| self.is_open(probe)).map(|probe| probe.at);
        probes.chain(self.traffic.asked).min()
    }

    /// Whether nothing that was sent with it or later has been answered.
    pub(super) fn is_open(&self, probe: &Sent) -> bool {
        self.proven.is_none_or(|proven| probe.at > proven)
    }

    pub(super) fn says_something(&self, probe: &Sent) -> bool {
        self.targets[probe.target].is_usable(probe.at)
    }
}
