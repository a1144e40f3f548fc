//! How often the same thing is repaired: two programs that undo each other's changes would go on for ever, at a hundred
//! percent of a processor.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::watch::notice::Thing;

/// So many repairs of a thing
const REPAIRS: usize = 10;
/// within this time are a fight.
const WITHIN: Duration = Duration::from_mins(1);
/// After a pause so many are the same fight.
const REPAIRS_AFTER: usize = 2;
/// The first pause. Each further one is twice as long,
const PAUSE: Duration = Duration::from_secs(5);
/// up to this.
const LAST_PAUSE: Duration = Duration::from_mins(5);
/// Notices of interfaces tell of a carrier, too: they cannot wait.
const LAST_PAUSE_OF_INTERFACES: Duration = Duration::from_secs(2);

/// The repairs of one thing.
#[derive(Debug, Default)]
struct Repairs {
    /// When they were made, since the last pause.
    at: VecDeque<Duration>,
    /// The last pause, and its end.
    pause: Option<(Duration, Duration)>,
    /// A pass is due at its end.
    is_waiting: bool,
}

impl Repairs {
    /// For how long the repairs of before count.
    fn memory(&self) -> Duration {
        self.pause.map_or(WITHIN, |(length, _)| WITHIN.max(length * 2))
    }

    /// Whether nothing is left of an earlier fight, and no repair counts any more.
    fn is_over(&self, now: Duration) -> bool {
        let last = self.at.back().copied().into_iter().chain(self.pause.map(|(_, end)| end)).max();
        last.is_none_or(|last| now > last + self.memory())
    }
}

/// A thing that is not repaired for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::watch) struct Fight {
    pub(in crate::watch) thing: Thing,
    /// How many repairs led to it.
    pub(in crate::watch) repairs: usize,
    /// For how long notices of it lead to no pass.
    pub(in crate::watch) pause: Duration,
    /// The pause is longer than the last one: worth a line.
    pub(in crate::watch) is_news: bool,
}

/// The repairs of each thing.
#[derive(Debug, Default)]
pub(in crate::watch) struct Budget(BTreeMap<Thing, Repairs>);

impl Budget {
    /// Whether notices of this thing lead to no pass now.
    pub(in crate::watch) fn holds(&self, thing: Thing, now: Duration) -> bool {
        self.0.get(&thing).and_then(|repairs| repairs.pause).is_some_and(|(_, end)| now < end)
    }

    /// The thing has been repaired. A fight: this was once too often.
    pub(in crate::watch) fn repaired(&mut self, thing: Thing, now: Duration) -> Option<Fight> {
        self.0.retain(|_, repairs| !repairs.is_over(now));
        // For another reason there was a pass in its pause.
        if self.holds(thing, now) {
            return None;
        }
        let repairs = self.0.entry(thing).or_default();
        repairs.at.push_back(now);
        let memory = repairs.memory();
        repairs.at.retain(|at| *at + memory >= now);
        let most = if repairs.pause.is_some() { REPAIRS_AFTER } else { REPAIRS };
        if repairs.at.len() < most {
            return None;
        }
        let longest = if thing == Thing::Interfaces { LAST_PAUSE_OF_INTERFACES } else { LAST_PAUSE };
        let last = repairs.pause.map(|(last, _)| last);
        let pause = last.map_or(PAUSE, |last| last * 2).min(longest);
        let fight = Fight { thing, repairs: repairs.at.len(), pause, is_news: last != Some(pause) };
        *repairs = Repairs { at: VecDeque::new(), pause: Some((pause, now + pause)), is_waiting: true };
        Some(fight)
    }

    /// When the next pause ends, and a pass is due.
    pub(in crate::watch) fn next(&self) -> Option<Duration> {
        self.waiting().min()
    }

    /// Whether a pause has ended since this was asked last: then a pass is due.
    pub(in crate::watch) fn take_ended(&mut self, now: Duration) -> bool {
        let has_ended = self.waiting().any(|end| end <= now);
        for repairs in self.0.values_mut() {
            repairs.is_waiting &= repairs.pause.is_some_and(|(_, end)| end > now);
        }
        has_ended
    }

    /// The ends of the pauses that have not been taken.
    fn waiting(&self) -> impl Iterator<Item = Duration> {
        self.0.values().filter(|repairs| repairs.is_waiting).filter_map(|repairs| repairs.pause).map(|(_, end)| end)
    }
}
