//! A burst: rounds of probes to several targets within a second, which confirm a suspicion or end it.

use std::time::Duration;

/// Probes of a round.
pub(super) const ROUND: usize = 3;
/// Probes of a burst, all unanswered, that make a verdict.
pub(super) const PROBES: usize = 9;
/// Between two rounds: as long as `down_after` allows, within these.
const CLOSEST: Duration = Duration::from_millis(100);
const WIDEST: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
pub(super) struct Burst {
    pub(super) since: Duration,
    /// Its probes have this id or a higher one.
    pub(super) first_id: u64,
    pub(super) next_round: Duration,
    gap: Duration,
    /// When the first of what is unanswered was sent.
    pub(super) asked: Duration,
    /// Rounds that have been sent.
    rounds: usize,
}

impl Burst {
    /// One that would like to have sent its last probe by `last`.
    pub(super) fn new(now: Duration, last: Duration, asked: Duration, first_id: u64) -> Self {
        let gap = (last.saturating_sub(now) / 2).clamp(CLOSEST, WIDEST);
        Self { since: now, first_id, next_round: now, gap, asked, rounds: 0 }
    }

    pub(super) fn round_sent(&mut self, now: Duration) {
        self.rounds += 1;
        self.next_round = now + if self.is_enough() { WIDEST } else { self.gap };
    }

    /// Whether its rounds are sent, unless probes could not be, where the last is to be sent by `last`.
    pub(super) fn is_sent(&self, last: Duration) -> bool {
        self.is_enough() && self.next_round > last
    }

    fn is_enough(&self) -> bool {
        self.rounds * ROUND >= PROBES
    }
}
