//! An uplink that is good: when the next probe is due, and whom it asks.

use std::time::Duration;

use super::Probe;
use super::machine::{Health, QUIET};
use super::target::Target;
use super::traffic::LOOK;

impl Health {
    pub(super) fn poll_good(&mut self, now: Duration) -> Vec<Probe> {
        self.choose_resolvers(now);
        if self.due_at().is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.called = None;
        let (repeat, _) = self.doubtful_at();
        let eligible = (0..self.targets.len()).filter(|index| self.targets[*index].eligible_at() <= now);
        let next = eligible.min_by_key(|index| {
            let target = &self.targets[*index];
            (!target.is_new(), repeat.is_some() && !target.is_usable(now), target.asked)
        });
        next.map(|index| self.send(now, index)).into_iter().collect()
    }

    /// When the next probe is due while all is well.
    pub(super) fn due_at(&self) -> Option<Duration> {
        let eligible = self.targets.iter().map(Target::eligible_at).min()?;
        let after = |pace| self.last_sent.map_or(self.life, |sent| sent + pace);
        let interval = self.settings.interval;
        let regular = if let Some(called) = self.called {
            called
        } else if self.targets.iter().any(Target::is_new) {
            after(interval)
        } else if self.is_quiet {
            let asked = self.traffic.asked.filter(|asked| self.last_sent.is_none_or(|sent| sent < *asked));
            after(QUIET.max(interval)).min(asked.map_or(Duration::MAX, |asked| asked + LOOK * 4))
        } else {
            let replied = self.traffic.replied.map_or(Duration::ZERO, |replied| replied + interval);
            after(interval).max(replied).min(after(self.seldom()))
        };
        let (repeat, _) = self.doubtful_at();
        Some(repeat.map_or(regular, |late| regular.min(late.max(after(interval)))).max(eligible))
    }
}
