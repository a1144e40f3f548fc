//! The passive part: what the uplink's packet counters say.

use std::time::Duration;

/// From one look at the counters to the next while replies flow.
pub(super) const LOOK: Duration = Duration::from_millis(250);
/// So many packets without a reply are suspicious; fewer may be a datagram that wants no answer.
const SUSPICIOUS: u64 = 3;
/// Packets without a reply for so long are suspicious.
pub(super) const SILENCE: Duration = Duration::from_secs(1);

/// Packets by an uplink since whenever it was. Those of the probes are better left out; they do no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// In original direction.
    pub sent: u64,
    /// In reply direction.
    pub replies: u64,
}

/// Whose packets were counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Those of connections that begin here.
    Ours(Counters),
    /// All of the interface: what comes in may be a stranger's, whom nobody has asked.
    Anybodys(Counters),
}

/// What the counters have said so far.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    last: Option<(Duration, Counted)>,
    /// The last look that found replies, and came soon enough after the one before to date them.
    pub(super) replied: Option<Duration>,
    /// Packets since the last sign of life.
    unanswered: u64,
    /// The look that found the first of them.
    pub(super) asked: Option<Duration>,
}

impl Traffic {
    /// A look at the counters. The time of life that it proves: now, or the look before where that was long ago.
    pub(super) fn look(&mut self, now: Duration, counted: Counted) -> Option<Duration> {
        use Counted::{Anybodys, Ours};
        let (before, old) = self.last.replace((now, counted))?;
        let ((Ours(old), Ours(counters)) | (Anybodys(old), Anybodys(counters))) = (old, counted) else { return None };
        // Made anew, or somebody has zeroed them.
        if counters.sent < old.sent || counters.replies < old.replies {
            return None;
        }
        if counters.replies > old.replies {
            let is_fresh = now.saturating_sub(before) <= LOOK * 2;
            if is_fresh {
                self.replied = Some(now);
            }
            return Some(if is_fresh { now } else { before });
        }
        if counters.sent > old.sent {
            self.unanswered += counters.sent - old.sent;
            self.asked.get_or_insert(now);
        }
        None
    }

    /// Whether what comes in may be a stranger's.
    pub(super) fn is_anybodys(&self) -> bool {
        matches!(self.last, Some((_, Counted::Anybodys(_))))
    }

    /// A sign of life has come.
    pub(super) fn settle(&mut self) {
        (self.unanswered, self.asked) = (0, None);
    }

    /// There are no counters.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// When the counters are wanted again, besides at each probe.
    pub(super) fn look_at(&self, is_quiet: bool, interval: Duration) -> Option<Duration> {
        let (last, _) = self.last?;
        if self.replied.is_some_and(|replied| last < replied + interval) {
            return Some(last + LOOK);
        }
        // On the whole second: quiet uplinks are looked at together.
        is_quiet.then(|| Duration::from_secs(last.as_secs() + 1))
    }

    /// When they are wanted again where each reply counts.
    pub(super) fn next_look(&self) -> Option<Duration> {
        self.last.map(|(last, _)| last + LOOK)
    }

    /// When packets without replies become a suspicion.
    pub(super) fn suspicious_at(&self) -> Option<Duration> {
        Some(self.asked? + SILENCE).filter(|_| self.unanswered >= SUSPICIOUS)
    }
}
