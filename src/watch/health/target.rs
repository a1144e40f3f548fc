//! What is known of a target by one uplink: when it answered, how fast, and whether it has gone silent by itself.

use std::time::Duration;

use super::rtt::{INITIAL, Rtt, SHORTEST};

/// An answer is worth something for so long.
pub(super) const HOUR: Duration = Duration::from_hours(1);
/// So many probes in a row without an answer, while others answered: this target is silent by itself.
const MISSES: u32 = 4;
/// So many probes are sent to a target that never answered before it is asked less often.
const TRIES: u32 = 3;
/// So many of the first answers may each prove those before them slow: of an address that was still to be resolved, or of
/// a line that had just come up.
const FIRST: u32 = 4;
/// A silent target is asked again after this.
const RECHECK: Duration = Duration::from_mins(1);
/// Suspicion does not wait longer than this beyond the usual round-trip time, though the verdict does.
const LATE: Duration = Duration::from_millis(400);

/// Why a target is one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Role {
    #[default]
    Configured,
    /// The uplink's own resolver.
    Resolver { is_asked: bool },
}

/// What is known of a target by one uplink.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    pub rtt: Option<Rtt>,
    /// When it answered last.
    pub answered: Option<Duration>,
    pub(super) role: Role,
    /// When it was asked last.
    pub(super) asked: Option<Duration>,
    /// Probes in a row that it left unanswered, while others answered.
    pub(super) misses: u32,
    /// Lost probes that no other target's answer has made misses yet: the uplink may be dead.
    pub(super) pending: u32,
    /// Probes that were sent to it, whether answered or not.
    pub(super) tries: u32,
    /// Answers of a known round-trip time, since the start.
    pub(super) answers: u32,
}

impl Target {
    /// It has answered; `None`: how fast nobody knows.
    pub(super) fn answer(&mut self, now: Duration, rtt: Option<Duration>) {
        self.answered = Some(now);
        (self.misses, self.pending) = (0, 0);
        let Some(rtt) = rtt else { return };
        self.answers = self.answers.saturating_add(1);
        match &mut self.rtt {
            Some(known) if self.answers <= FIRST && rtt < known.smoothed / 2 => *known = Rtt::first(rtt),
            Some(known) => known.add(rtt),
            none => *none = Some(Rtt::first(rtt)),
        }
    }

    /// Another target has answered: what this one left unanswered is its own fault. However many that was, it counts once:
    /// a blackout that swallowed a burst is no fault of the target.
    pub(super) fn others_answered(&mut self) {
        self.misses = self.misses.saturating_add(self.pending.min(1));
        self.pending = 0;
    }

    pub fn is_configured(&self) -> bool {
        self.role == Role::Configured
    }

    /// Whether it is among those that are asked.
    pub(super) fn is_asked(&self) -> bool {
        self.role != Role::Resolver { is_asked: false }
    }

    /// Whether its silence says something.
    pub(super) fn is_usable(&self, now: Duration) -> bool {
        self.is_asked() && self.answered.is_some_and(|at| now.saturating_sub(at) < HOUR) && self.misses < MISSES
    }

    /// Whether it is still to be found out whether it answers at all, or whether it is as slow as its first answer.
    pub(super) fn is_new(&self) -> bool {
        let is_slow = self.answers == 1 && self.timeout() > INITIAL;
        (self.answered.is_none() || is_slow) && self.tries < TRIES && self.is_asked()
    }

    /// Whether it has been asked often enough, and has never answered.
    pub fn never_answers(&self) -> bool {
        self.answered.is_none() && self.tries >= TRIES
    }

    /// When it may be asked again, apart from the pace of all probes.
    pub(super) fn eligible_at(&self) -> Duration {
        match self.asked {
            _ if !self.is_asked() => Duration::MAX,
            Some(asked) if self.misses >= MISSES || self.never_answers() => asked + RECHECK,
            _ => Duration::ZERO,
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.rtt.map_or(INITIAL, |rtt| rtt.timeout())
    }

    /// A probe without an answer for so long is a reason to ask again, and others.
    pub(super) fn patience(&self) -> Duration {
        self.rtt.map_or(INITIAL, |rtt| rtt.timeout().min(rtt.smoothed + LATE).max(SHORTEST))
    }
}
