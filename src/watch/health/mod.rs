//! Whether an uplink that is up also carries: the pure decision. The clock, the packet counters and the answers to
//! probes are handed in; what comes out are probes to send, the time of the next wake-up, and a verdict per uplink and
//! address family.
//!
//! A machine (`Health`) forms an opinion of one uplink in one family. `Judge` makes verdicts of all opinions, because
//! some rules are about all uplinks: the last one that is up is never drained. `Uplinks` holds both together.
//!
//! Any packet in reply direction is life, as long as one target of many answers now and then. Silence after packets or
//! after a probe is a suspicion; a burst of probes to several targets confirms it or ends it. Latency alone proves nothing:
//! timeouts follow the measured round-trip times.

mod beyond;
mod burst;
mod dead;
mod good;
mod judge;
mod machine;
mod resolvers;
mod rtt;
mod saved;
mod suspected;
mod target;
#[cfg(test)]
mod tests;
mod traffic;
mod uplinks;

use std::time::Duration;

pub use judge::{Event, Judge, Key, Standing, Verdict, Why};
pub use machine::Health;
pub use rtt::Rtt;
pub use saved::{Saved, SavedUplink};
pub(super) use saved::{millis, number};
pub use target::Target;
pub use traffic::{Counted, Counters};
pub use uplinks::{Outcome, Uplink, Uplinks};

/// The times of `[check]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// From one probe to the next while no replies flow.
    pub interval: Duration,
    /// An uplink that has been silent for so long is drained.
    pub down_after: Duration,
    /// An uplink whose answers have been overdue for so long is cut.
    pub cut_after: Duration,
    /// A drained uplink that has answered for so long is used again; doubled per relapse.
    pub up_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            down_after: Duration::from_millis(2500),
            cut_after: Duration::from_secs(10),
            up_after: Duration::from_secs(5),
        }
    }
}

impl Settings {
    /// How long at least something has to have been unanswered before an uplink is drained. An idle uplink may have been
    /// dead for up to `interval` before anything was sent; so much of `down_after` may pass without evidence.
    pub(super) fn least_evidence(&self) -> Duration {
        self.down_after.saturating_sub(self.interval.min(self.down_after * 2 / 5))
    }
}

/// A probe to send now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Index of the target.
    pub target: usize,
    /// Unique within its machine.
    pub id: u64,
}

/// What a machine holds of its uplink. Times are those of the clock that is handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opinion {
    /// No target has answered by this uplink within the hour: there is nothing to judge by.
    Unknown,
    Good,
    Suspected {
        since: Duration,
    },
    Dead {
        /// The last sign of life before the verdict; where replies go on, the first probe that no target has answered.
        since: Duration,
        /// Whether its connections may be forgotten.
        is_cut: bool,
        evidence: Evidence,
    },
}

/// What a verdict rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// Probes without an answer.
    pub lost: usize,
    /// Targets that the last burst asked.
    pub targets: usize,
    /// Replies have come all the same: they are the provider's own, perhaps.
    pub has_replies: bool,
}
