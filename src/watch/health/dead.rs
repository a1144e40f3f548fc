//! A dead uplink: is it to be cut, and is it back?

use std::time::Duration;

use super::burst::Burst;
use super::machine::{Health, State};
use super::{Evidence, Probe};

/// From one round to the next, at most, to an uplink that has been dead for long.
pub(super) const RARE: Duration = Duration::from_secs(5);
/// Rounds that an uplink which is coming back has to answer, at least.
const ROUNDS: u32 = 3;
/// Targets that have to answer each round, where so many are usable.
const TARGETS: usize = 2;
/// Between two rounds of an uplink that is coming back, at most.
const SLOWEST: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) enum Cut {
    No,
    /// The last look: a burst once `cut_after` is over.
    Looking(Burst),
    Done,
}

/// It answers again, since then.
#[derive(Debug)]
pub(super) struct Back {
    since: Duration,
    rounds: u32,
    /// Rounds in a row that were not answered.
    missed: u32,
}

#[derive(Debug)]
struct Round {
    sent: Duration,
    first_id: u64,
    ends: Duration,
    /// Targets that have answered.
    answered: Vec<usize>,
}

#[derive(Debug)]
pub(super) struct Dead {
    /// As [`super::Opinion::Dead`] has it.
    pub(super) since: Duration,
    /// Answers have been overdue since then.
    overdue: Duration,
    /// The last reply, if any has come since the verdict: connections that get replies are not cut.
    replied: Option<Duration>,
    pub(super) evidence: Evidence,
    pub(super) cut: Cut,
    pub(super) back: Option<Back>,
    round: Option<Round>,
    next_round: Duration,
}

impl Dead {
    pub(super) fn new(since: Duration, overdue: Duration, now: Duration, evidence: Evidence) -> Self {
        Self { since, overdue, replied: None, evidence, cut: Cut::No, back: None, round: None, next_round: now }
    }

    pub(super) fn answered(&mut self, now: Duration, id: u64, target: usize, needed: usize) {
        let Some(round) = &mut self.round else { return };
        if id >= round.first_id && !round.answered.contains(&target) {
            round.answered.push(target);
        }
        if round.answered.len() >= needed {
            round.ends = round.ends.min(now);
        }
    }

    /// A target has answered.
    pub(super) fn live(&mut self, life: Duration) {
        self.back.get_or_insert(Back { since: life, rounds: 0, missed: 0 });
        self.overdue = self.overdue.max(life);
        self.look_later();
    }

    /// A reply has come, from the provider perhaps.
    pub(super) fn replied(&mut self, now: Duration) {
        self.replied = Some(now);
        self.look_later();
    }

    fn look_later(&mut self) {
        if let Cut::Looking(_) = self.cut {
            self.cut = Cut::No;
        }
    }

    /// When the last look is due.
    fn look_at(&self, cut_after: Duration) -> Duration {
        self.replied.map_or(self.overdue, |replied| replied.max(self.overdue)) + cut_after
    }

    pub(super) fn forget_silence(&mut self, now: Duration) {
        (self.back, self.round) = (None, None);
        (self.overdue, self.next_round) = (now, now);
        self.look_later();
    }

    pub(super) fn wake(&self, health: &Health) -> Duration {
        match (&self.cut, &self.round) {
            (Cut::Looking(burst), _) if burst.is_sent(burst.since) => health.lost_at(burst).unwrap_or(burst.next_round),
            (Cut::Looking(burst), _) => burst.next_round,
            (_, Some(round)) => round.ends,
            (Cut::No, None) if self.back.is_none() => self.next_round.min(self.look_at(health.settings.cut_after)),
            (_, None) => self.next_round,
        }
    }

    /// A round is over: was it answered, and when is the next one?
    fn judge_round(&mut self, now: Duration, round: &Round, needed: usize, pace: Pace) {
        let is_good = round.answered.len() >= needed;
        match &mut self.back {
            Some(back) if is_good => {
                (back.rounds, back.missed) = (back.rounds + 1, 0);
                self.next_round = round.sent + pace.back;
            }
            // Once more, at once: one lost round is bad luck.
            Some(back) if back.missed == 0 => {
                back.missed = 1;
                self.next_round = now;
            }
            _ => {
                if self.back.take().is_some() {
                    self.overdue = now;
                }
                let age = now.saturating_sub(self.overdue) / 10;
                self.next_round = round.sent + age.clamp(pace.soonest, pace.rarest);
            }
        }
    }
}

/// How often rounds are sent.
#[derive(Clone, Copy)]
struct Pace {
    back: Duration,
    soonest: Duration,
    rarest: Duration,
}

impl Health {
    /// Targets that have to answer a round.
    pub(super) fn needed(&self, now: Duration) -> usize {
        // Since the verdict nobody could answer: the hour stands still.
        let then = match &self.state {
            State::Dead(dead) if dead.back.is_none() => dead.overdue.min(now),
            _ => now,
        };
        self.targets.iter().filter(|target| target.is_usable(then)).count().clamp(1, TARGETS)
    }

    pub(super) fn poll_dead(&mut self, now: Duration) -> Vec<Probe> {
        let needed = self.needed(now);
        let (hold, interval, timeout) = (self.hold(), self.settings.interval, self.longest_timeout());
        let soonest = interval.min(self.settings.up_after / ROUNDS);
        let back = (hold / 10).clamp(soonest, SLOWEST.max(soonest));
        let pace = Pace { back, soonest: interval, rarest: self.rarest_round() };
        let State::Dead(dead) = &mut self.state else { return Vec::new() };

        if let Some(round) = dead.round.take_if(|round| now >= round.ends) {
            dead.judge_round(now, &round, needed, pace);
        }
        if dead.back.as_ref().is_some_and(|back| back.rounds >= ROUNDS && now >= back.since + hold && back.missed == 0)
        {
            self.state = State::Good;
            self.good_since = now;
            return self.poll(now);
        }

        if matches!(dead.cut, Cut::No) && dead.back.is_none() && now >= dead.look_at(self.settings.cut_after) {
            dead.round = None;
            dead.cut = Cut::Looking(Burst::new(now, now, now, self.next_id));
        }
        if let Cut::Looking(burst) = dead.cut
            && let Some(probes) = self.last_look(now, burst)
        {
            return probes;
        }
        let State::Dead(dead) = &mut self.state else { return Vec::new() };
        if dead.round.is_some() || now < dead.next_round {
            return Vec::new();
        }
        dead.round = Some(Round { sent: now, first_id: self.next_id, ends: now + timeout, answered: Vec::new() });
        self.send_round(now)
    }

    /// The burst before the cut: a blackout that has just ended has to show in it. `None`: it is over.
    fn last_look(&mut self, now: Duration, mut burst: Burst) -> Option<Vec<Probe>> {
        let lost = self.lost_at(&burst);
        let is_over = burst.is_sent(burst.since) && lost.is_some_and(|lost| now >= lost);
        let is_round = now >= burst.next_round && (!burst.is_sent(burst.since) || lost.is_none());
        if is_round {
            burst.round_sent(now);
        }
        if let State::Dead(dead) = &mut self.state {
            dead.cut = if is_over { Cut::Done } else { Cut::Looking(burst) };
            dead.next_round = now;
        }
        match (is_over, is_round) {
            (true, _) => None,
            (false, true) => Some(self.send_round(now)),
            (false, false) => Some(Vec::new()),
        }
    }
}
