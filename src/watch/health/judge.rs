//! Verdicts about all uplinks: an opinion becomes a verdict where another uplink can carry.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Evidence, Opinion};
use crate::model::names::{Family, LinkName};

/// All uplinks dead within this time have not died each for itself.
const WINDOW: Duration = Duration::from_secs(10);

/// An uplink in one address family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub uplink: LinkName,
    pub family: Family,
}

/// An uplink that is up in a family, and what its machine holds of it; `None`: it has no target of this family, and
/// follows its link's other family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub key: Key,
    pub opinion: Option<Opinion>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verdict {
    #[default]
    Use,
    /// No new connections.
    Drained,
    /// No connections.
    Cut,
}

/// Why an uplink is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It answers, and has been out of use for so long.
    Answers { after: Duration },
    /// It is dead, but so are all others, or none other is up.
    NoOther,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It has been `silent` for so long.
    Drained {
        key: Key,
        silent: Duration,
        evidence: Evidence,
    },
    /// The same.
    Cut {
        key: Key,
        silent: Duration,
        evidence: Evidence,
    },
    Back {
        key: Key,
        why: Why,
    },
    /// No uplink of the family answers: that is not repaired by leaving one, so nothing is changed.
    AllDead {
        family: Family,
        uplinks: usize,
    },
    /// An uplink of the family answers again.
    AllDeadOver {
        family: Family,
        after: Duration,
    },
}

#[derive(Debug, Clone, Copy)]
struct Held {
    verdict: Verdict,
    since: Duration,
}

/// What was decided until now.
#[derive(Debug, Default)]
pub struct Judge {
    /// Those that are not used.
    held: BTreeMap<Key, Held>,
    /// Families of which no uplink answers, since when.
    all_dead: BTreeMap<Family, Duration>,
}

impl Judge {
    pub fn verdict(&self, key: &Key) -> Verdict {
        self.held.get(key).map_or(Verdict::Use, |held| held.verdict)
    }

    /// Judges all uplinks that are up, and tells what has changed.
    pub fn judge(&mut self, now: Duration, up: &[Standing]) -> Vec<Event> {
        self.held.retain(|key, _| up.iter().any(|standing| standing.key == *key));
        let mut events = Vec::new();
        for family in Family::BOTH {
            let opinions: Vec<(&Key, Opinion)> = up
                .iter()
                .filter(|standing| standing.key.family == family)
                .map(|standing| (&standing.key, opinion(standing, up)))
                .collect();
            self.judge_family(now, family, &opinions, &mut events);
        }
        events
    }

    fn judge_family(&mut self, now: Duration, family: Family, opinions: &[(&Key, Opinion)], events: &mut Vec<Event>) {
        for (key, opinion) in opinions {
            if !matches!(opinion, Opinion::Dead { .. })
                && let Some(held) = self.held.remove(key)
            {
                let after = now.saturating_sub(held.since);
                events.push(Event::Back { key: (*key).clone(), why: Why::Answers { after } });
            }
        }
        let is_dead = |opinion: &Opinion| matches!(opinion, Opinion::Dead { .. });
        if !opinions.is_empty() && opinions.iter().all(|(_, opinion)| is_dead(opinion)) {
            self.all_dead(now, family, opinions, events);
            return;
        }
        if let Some(since) = self.all_dead.remove(&family)
            && !opinions.is_empty()
        {
            events.push(Event::AllDeadOver { family, after: now.saturating_sub(since) });
        }
        // One that is suspected will be dead or good within seconds; until then it is no reason to leave another.
        if opinions.iter().any(|(_, opinion)| matches!(opinion, Opinion::Good | Opinion::Unknown)) {
            for (key, opinion) in opinions {
                self.hold(now, key, *opinion, events);
            }
        }
    }

    /// Takes a dead uplink out of use.
    fn hold(&mut self, now: Duration, key: &Key, opinion: Opinion, events: &mut Vec<Event>) {
        let Opinion::Dead { since, is_cut, evidence } = opinion else { return };
        let silent = now.saturating_sub(since);
        let verdict = self.verdict(key);
        if verdict == Verdict::Use {
            self.held.insert(key.clone(), Held { verdict: Verdict::Drained, since: now });
            events.push(Event::Drained { key: key.clone(), silent, evidence });
        }
        if verdict != Verdict::Cut
            && is_cut
            && let Some(held) = self.held.get_mut(key)
        {
            held.verdict = Verdict::Cut;
            events.push(Event::Cut { key: key.clone(), silent, evidence });
        }
    }

    /// Nothing is changed, and what was changed on the way here is undone. One uplink at least is used.
    fn all_dead(&mut self, now: Duration, family: Family, opinions: &[(&Key, Opinion)], events: &mut Vec<Event>) {
        let is_news = !self.all_dead.contains_key(&family);
        self.all_dead.entry(family).or_insert(now);
        let none_used = opinions.iter().all(|(key, _)| self.held.contains_key(*key));
        for (key, _) in opinions {
            let is_recent = self.held.get(*key).is_some_and(|held| is_news && now <= held.since + WINDOW);
            if (is_recent || none_used) && self.held.remove(*key).is_some() {
                events.push(Event::Back { key: (*key).clone(), why: Why::NoOther });
            }
        }
        if is_news {
            events.push(Event::AllDead { family, uplinks: opinions.len() });
        }
    }
}

/// Its own, or that of its link's other family; good where neither has a target.
fn opinion(standing: &Standing, up: &[Standing]) -> Opinion {
    let other = Key { uplink: standing.key.uplink.clone(), family: standing.key.family.other() };
    let others = || up.iter().find(|standing| standing.key == other).and_then(|standing| standing.opinion);
    standing.opinion.or_else(others).unwrap_or(Opinion::Unknown)
}
