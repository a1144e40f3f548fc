//! The machine of one uplink in one family: inputs, and the way from good to suspected to dead.

use std::time::Duration;

use super::burst::{Burst, ROUND};
use super::dead::{Cut, Dead, RARE};
use super::target::Target;
use super::traffic::{Counted, Traffic};
use super::{Opinion, Probe, Settings};

/// From one probe to the next by a quiet uplink.
pub(super) const QUIET: Duration = Duration::from_mins(1);
/// Woken so much too late, the machine was stopped or the computer slept: silence until then says nothing.
const STOPPED: Duration = Duration::from_secs(1);
/// An answer that comes later is not waited for.
const KEEP: Duration = Duration::from_secs(10);
/// Good for so long, an uplink has one relapse fewer on its account.
const DECAY: Duration = Duration::from_mins(10);
/// More relapses do not lengthen the hold-down.
pub(super) const MOST_RELAPSES: u32 = 16;
/// Longest hold-down.
const LONGEST_HOLD: Duration = Duration::from_mins(5);

/// A probe under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) id: u64,
    pub(super) target: usize,
    pub(super) at: Duration,
    /// When somebody should have a second look.
    pub(super) late: Duration,
    /// When it is lost.
    pub(super) lost: Duration,
    is_counted: bool,
}

#[derive(Debug)]
pub(super) enum State {
    Good,
    Suspected(Burst),
    Dead(Dead),
}

/// The machine of one uplink in one family. Before each `poll` it wants what has happened: `counted` once, `answered`
/// for each answer. After it has been handed anything, `opinion` and `wake` may have changed.
#[derive(Debug)]
pub struct Health {
    pub(super) settings: Settings,
    pub(super) targets: Vec<Target>,
    /// In the order in which they were sent.
    pub(super) under_way: Vec<Sent>,
    pub(super) next_id: u64,
    /// Metered, or of an idle tier.
    pub(super) is_quiet: bool,
    /// Somebody wanted a probe then.
    pub(super) called: Option<Duration>,
    pub(super) traffic: Traffic,
    /// The last sign of life; before the first one, when the machine was made.
    pub(super) life: Duration,
    /// What was sent until then and is unanswered is only lost: what was sent then has been answered.
    pub(super) proven: Option<Duration>,
    /// The first probe to a target that counts since one has answered last.
    pub(super) unheard: Option<Duration>,
    /// When it wanted to be woken.
    awaited: Option<Duration>,
    pub(super) last_sent: Option<Duration>,
    pub(super) state: State,
    pub(super) good_since: Duration,
    pub(super) relapses: u32,
    /// The latest probes, a bit each: 1 is lost.
    outcomes: u128,
    outcomes_known: u32,
}

impl Health {
    /// A machine without experience: it drains nothing before one of its `targets` has answered.
    pub fn new(now: Duration, targets: usize, settings: Settings) -> Self {
        Self {
            settings,
            targets: vec![Target::default(); targets],
            under_way: Vec::new(),
            next_id: 0,
            is_quiet: false,
            called: None,
            traffic: Traffic::default(),
            life: now,
            proven: None,
            unheard: None,
            awaited: None,
            last_sent: None,
            state: State::Good,
            good_since: now,
            relapses: 0,
            outcomes: 0,
            outcomes_known: 0,
        }
    }

    /// Whether to probe once a minute and on suspicion only: the uplink is metered, or its tier is idle.
    pub fn set_quiet(&mut self, is_quiet: bool) {
        self.is_quiet = is_quiet;
    }

    /// Asks for a probe soon, because another uplink is suspected and this one may have to carry its traffic.
    pub fn call(&mut self, now: Duration) {
        self.notice_stop(now);
        let is_recent = self.last_sent.is_some_and(|sent| now < sent + self.settings.interval);
        if matches!(self.state, State::Good) && !is_recent {
            self.called.get_or_insert(now);
        }
    }

    /// A look at the uplink's counters; `None`: it has none.
    pub fn counted(&mut self, now: Duration, counted: Option<Counted>) {
        self.notice_stop(now);
        let Some(counted) = counted else { return self.traffic.forget() };
        if let Some(life) = self.traffic.look(now, counted) {
            self.replied(now, life);
        }
    }

    /// An answer to a probe: the round-trip time, or `None` for an answer that nobody waits for.
    pub fn answered(&mut self, now: Duration, id: u64) -> Option<Duration> {
        self.answer(now, id, true)
    }

    /// The same of a probe that may have been repeated: it is life, and no round-trip time is learnt (RFC 6298, section 3).
    pub fn answered_ambiguously(&mut self, now: Duration, id: u64) -> Option<Duration> {
        self.answer(now, id, false)
    }

    fn answer(&mut self, now: Duration, id: u64, is_rtt_learnt: bool) -> Option<Duration> {
        self.notice_stop(now);
        let index = self.under_way.iter().position(|probe| probe.id == id)?;
        let probe = self.under_way.remove(index);
        let rtt = now.saturating_sub(probe.at);
        if !probe.is_counted {
            self.note_outcome(false);
        }
        let was_dead = matches!(&self.state, State::Dead(dead) if dead.back.is_none());
        for (index, target) in self.targets.iter_mut().enumerate() {
            if index == probe.target {
                target.answer(now, Some(rtt).filter(|_| is_rtt_learnt));
            } else if was_dead {
                target.pending = 0;
            } else {
                target.others_answered();
            }
        }
        self.live(now, probe.at);
        self.heard(probe.at);
        let needed = self.needed(now);
        match &mut self.state {
            State::Good => {}
            State::Suspected(_) => self.state = State::Good,
            State::Dead(dead) => {
                dead.live(now);
                dead.answered(now, id, probe.target, needed);
            }
        }
        Some(rtt)
    }

    /// A probe could not be sent: that says nothing about the uplink.
    pub fn refused(&mut self, now: Duration, id: u64) {
        self.notice_stop(now);
        let Some(index) = self.under_way.iter().position(|probe| probe.id == id) else { return };
        let target = &mut self.targets[self.under_way.remove(index).target];
        target.tries = target.tries.saturating_sub(1);
        if self.unanswered().next().is_none() {
            self.unheard = None;
        }
    }

    /// The interface has come up anew: silence until now says nothing. An uplink that was dead has to answer for a while
    /// before it is used.
    pub fn restarted(&mut self, now: Duration) {
        self.forget_silence(now);
        self.last_sent = None;
    }

    /// Probes to send now. Answers that have come are handed in before, or they come too late.
    pub fn poll(&mut self, now: Duration) -> Vec<Probe> {
        self.notice_stop(now);
        self.forget_old_look(now);
        let probes = self.probes(now);
        self.forget_old_look(now);
        self.awaited = self.wake();
        probes
    }

    fn probes(&mut self, now: Duration) -> Vec<Probe> {
        self.expire(now);
        match &self.state {
            State::Good if self.is_suspicious(now) => self.suspect(now),
            State::Good => self.poll_good(now),
            State::Suspected(_) => self.poll_suspected(now),
            State::Dead(_) => self.poll_dead(now),
        }
    }

    /// When `poll` is wanted next; `None`: not before something happens.
    pub fn wake(&self) -> Option<Duration> {
        match &self.state {
            State::Good => {
                let late = self.under_way.iter().filter(|probe| self.is_open(probe) && self.says_something(probe));
                let late = late.map(|probe| probe.late).min();
                let silent = self.traffic.suspicious_at().filter(|_| self.has_usable(self.traffic_time()));
                let (_, doubtful) = self.doubtful_at();
                [self.look_at(), self.due_at(), late, silent, doubtful].into_iter().flatten().min()
            }
            State::Suspected(burst) => self.look_at().into_iter().chain([self.verdict_at(burst)]).min(),
            State::Dead(dead) => Some(dead.wake(self)),
        }
    }

    pub fn opinion(&self) -> Opinion {
        match &self.state {
            State::Good if !self.has_usable(self.life.max(self.last_sent.unwrap_or_default())) => Opinion::Unknown,
            State::Good => Opinion::Good,
            State::Suspected(burst) => Opinion::Suspected { since: burst.since },
            State::Dead(dead) => {
                Opinion::Dead { since: dead.since, is_cut: matches!(dead.cut, Cut::Done), evidence: dead.evidence }
            }
        }
    }

    /// By index.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// Of the latest probes (at most 100): how many were lost, and of how many.
    pub fn loss(&self) -> (u32, u32) {
        let mask = (1u128 << self.outcomes_known) - 1;
        ((self.outcomes & mask).count_ones(), self.outcomes_known)
    }

    /// How long a dead uplink has to answer before it is used again.
    pub(super) fn hold(&self) -> Duration {
        let doubled = self.settings.up_after.saturating_mul(1 << self.relapses.saturating_sub(1).min(MOST_RELAPSES));
        doubled.min(LONGEST_HOLD.max(self.settings.up_after))
    }

    /// Between two rounds to a dead uplink, at most.
    pub(super) fn rarest_round(&self) -> Duration {
        if self.is_quiet { QUIET } else { RARE.max(self.settings.interval) }
    }

    pub(super) fn longest_timeout(&self) -> Duration {
        self.targets.iter().filter(|target| target.is_asked()).map(Target::timeout).max().unwrap_or_default()
    }

    pub(super) fn has_usable(&self, now: Duration) -> bool {
        self.targets.iter().any(|target| target.is_usable(now))
    }

    /// A round: to usable targets first, and to those first that were asked the longest time ago.
    pub(super) fn send_round(&mut self, now: Duration) -> Vec<Probe> {
        let mut order: Vec<usize> = (0..self.targets.len()).filter(|index| self.targets[*index].is_asked()).collect();
        order.sort_by_key(|index| {
            let target = &self.targets[*index];
            (!target.is_usable(now), target.asked)
        });
        order
            .into_iter()
            .cycle()
            .take(if self.targets.is_empty() { 0 } else { ROUND })
            .map(|t| self.send(now, t))
            .collect()
    }

    pub(super) fn send(&mut self, now: Duration, index: usize) -> Probe {
        let (id, target) = (self.next_id, &mut self.targets[index]);
        self.next_id += 1;
        self.last_sent = Some(now);
        target.asked = Some(now);
        target.tries = target.tries.saturating_add(1);
        if target.is_usable(now) {
            self.unheard.get_or_insert(now);
        }
        let (late, lost) = (now + target.patience(), now + target.timeout());
        self.under_way.push(Sent { id, target: index, at: now, late, lost, is_counted: false });
        Probe { target: index, id }
    }

    /// When the counters are wanted, besides at each probe.
    fn look_at(&self) -> Option<Duration> {
        match self.state {
            State::Good => self.traffic.look_at(self.is_quiet, self.settings.interval),
            State::Suspected(_) => self.traffic.next_look(),
            State::Dead(_) => None,
        }
    }

    /// Nobody has looked when it wanted that.
    fn forget_old_look(&mut self, now: Duration) {
        if self.look_at().is_some_and(|look| look <= now) {
            self.traffic.forget();
        }
    }

    fn traffic_time(&self) -> Duration {
        self.traffic.asked.unwrap_or(self.life)
    }

    /// A sign of life at `life`, by which what was sent until `proven` is settled.
    fn live(&mut self, life: Duration, proven: Duration) {
        self.life = self.life.max(life);
        self.proven = self.proven.max(Some(proven));
        self.traffic.settle();
    }

    /// A reply has come at `life`, or a packet that may be one.
    fn replied(&mut self, now: Duration, life: Duration) {
        self.live(life, life);
        let (is_anybodys, is_outweighed) = (self.traffic.is_anybodys(), self.unheard_since().is_some());
        match &mut self.state {
            // Whether it comes from beyond the provider, the targets have to say.
            State::Suspected(burst) if is_outweighed => burst.asked = burst.asked.max(life),
            State::Suspected(_) => self.state = State::Good,
            State::Dead(dead) if !is_anybodys => dead.replied(now),
            State::Good | State::Dead(_) => {}
        }
    }

    /// Counts probes as lost, and forgets those that nobody waits for.
    fn expire(&mut self, now: Duration) {
        let mut lost = 0;
        for probe in self.under_way.iter_mut().filter(|probe| !probe.is_counted && now >= probe.lost) {
            probe.is_counted = true;
            self.targets[probe.target].pending += 1;
            lost += 1;
        }
        for _ in 0..lost {
            self.note_outcome(true);
        }
        self.under_way.retain(|probe| now < probe.at + KEEP);
    }

    fn note_outcome(&mut self, is_lost: bool) {
        self.outcomes = self.outcomes << 1 | u128::from(is_lost);
        self.outcomes_known = (self.outcomes_known + 1).min(100);
    }

    /// Was nobody here when the machine wanted to be woken?
    fn notice_stop(&mut self, now: Duration) {
        if self.awaited.take_if(|wake| now > *wake + STOPPED).is_some() {
            self.forget_silence(now);
        }
    }

    fn forget_silence(&mut self, now: Duration) {
        self.under_way.clear();
        self.unheard = None;
        self.traffic.forget();
        self.life = self.life.max(now);
        self.proven = Some(self.life);
        match &mut self.state {
            State::Good | State::Suspected(_) => self.state = State::Good,
            State::Dead(dead) => dead.forget_silence(now),
        }
    }
}

/// The relapses that still count after the uplink has been good for so long.
pub(super) fn decayed(relapses: u32, good_for: Duration) -> u32 {
    let fewer = good_for.as_secs() / DECAY.as_secs();
    relapses.saturating_sub(u32::try_from(fewer).unwrap_or(u32::MAX))
}
