//! Smoothed round-trip time, its variation, and the timeout that follows from them (RFC 6298, section 2).

use std::time::Duration;

/// No probe is lost before this: 200 ms.
pub(super) const SHORTEST: Duration = Duration::from_millis(200);
/// A probe without an answer for so long is lost: 3 s.
pub(super) const LONGEST: Duration = Duration::from_secs(3);
/// Before the first answer (RFC 6298, 2.1).
pub(super) const INITIAL: Duration = Duration::from_secs(1);

/// Round-trip time of a target by one uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rtt {
    pub smoothed: Duration,
    pub variation: Duration,
}

impl Rtt {
    pub(super) fn first(sample: Duration) -> Self {
        Self { smoothed: sample, variation: sample / 2 }
    }

    pub(super) fn add(&mut self, sample: Duration) {
        self.variation = (self.variation * 3 + self.smoothed.abs_diff(sample)) / 4;
        self.smoothed = (self.smoothed * 7 + sample) / 8;
    }

    /// After so long a probe is lost.
    pub(super) fn timeout(&self) -> Duration {
        (self.smoothed + self.variation * 4).clamp(SHORTEST, LONGEST)
    }
}
