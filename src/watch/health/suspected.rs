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
        let (_, doubtful) = self.doubtful_at();
        is_silent || self.under_way.iter().any(is_late) || doubtful.is_some_and(|at| now >= at)
    }

    pub(super) fn suspect(&mut self, now: Duration) -> Vec<Probe> {
        let asked = self.asked().unwrap_or(now);
        self.state = State::Suspected(Burst::new(now, self.last_round(asked), asked, self.next_id));
        self.poll_suspected(now)
    }

    pub(super) fn poll_suspected(&mut self, now: Duration) -> Vec<Probe> {
        let State::Suspected(mut burst) = self.state else { return Vec::new() };
        if now < self.verdict_at(&burst) {
            return Vec::new();
        }
        // Some may not have been sent, or could not be.
        if !burst.is_sent(self.last_round(burst.asked)) || self.lost_at(&burst).is_none() {
            burst.round_sent(now);
            self.state = State::Suspected(burst);
            return self.send_round(now);
        }
        let mut asked: Vec<usize> =
            self.under_way.iter().filter(|probe| probe.id >= burst.first_id).map(|probe| probe.target).collect();
        asked.sort_unstable();
        asked.dedup();
        let has_replies = now < self.silent_at(burst.asked);
        let evidence = Evidence { lost: self.unanswered().count(), targets: asked.len(), has_replies };
        let since = self.unheard.filter(|_| has_replies).unwrap_or(self.life);
        // A late answer would have come by then.
        let overdue = burst.asked + self.longest_timeout();
        let left = decayed(self.relapses, now.saturating_sub(self.good_since));
        self.relapses = (left + 1).min(MOST_RELAPSES);
        self.state = State::Dead(Dead::new(since, overdue, now, evidence));
        self.poll_dead(now)
    }

    /// When the verdict falls, unless something answers; before that, when the next round is due.
    pub(super) fn verdict_at(&self, burst: &Burst) -> Duration {
        let is_sent = burst.is_sent(self.last_round(burst.asked));
        self.lost_at(burst).filter(|_| is_sent).map_or(burst.next_round, |lost| lost.max(self.decided_at(burst.asked)))
    }

    /// When it has been silent for long enough, if what was sent at `asked` is the first that is unanswered.
    fn silent_at(&self, asked: Duration) -> Duration {
        (self.life + self.settings.down_after).max(asked + self.settings.least_evidence())
    }

    /// The same, or replies are outweighed.
    fn decided_at(&self, asked: Duration) -> Duration {
        let silent = self.silent_at(asked);
        self.outweighed_at().map_or(silent, |outweighed| outweighed.min(silent))
    }

    /// What is sent later is not lost by then.
    fn last_round(&self, asked: Duration) -> Duration {
        self.decided_at(asked).saturating_sub(self.longest_timeout())
    }

    /// Whether a burst's probes are lost, all of them and enough.
    pub(super) fn lost_at(&self, burst: &Burst) -> Option<Duration> {
        let probes = self.under_way.iter().filter(|probe| probe.id >= burst.first_id);
        let (count, lost) = probes.fold((0, Duration::ZERO), |(n, lost), probe| (n + 1, lost.max(probe.lost)));
        (count >= PROBES).then_some(lost)
    }

    /// When the first of what is unanswered was sent.
    fn asked(&self) -> Option<Duration> {
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
