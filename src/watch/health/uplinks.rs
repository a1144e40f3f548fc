//! All machines and the judge: one clock, one wake-up, one list of probes and of events.

use std::collections::BTreeMap;
use std::time::Duration;

use super::judge::{Event, Judge, Key, Standing, Verdict};
use super::machine::Health;
use super::saved::Saved;
use super::{Opinion, Probe, Settings};

/// An uplink in one family, as the configuration has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    pub key: Key,
    pub tier: u16,
    pub metered: bool,
    /// As the configuration writes them; none: it follows its link's other family. One with `check = false` has none in
    /// either: it is never left, and others may be left for it.
    pub targets: Vec<String>,
}

/// What a look at all uplinks comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub probes: Vec<(Key, Probe)>,
    pub events: Vec<Event>,
}

#[derive(Debug)]
struct Member {
    uplink: Uplink,
    health: Health,
    is_up: bool,
}

/// All uplinks that are checked.
#[derive(Debug)]
pub struct Uplinks {
    members: BTreeMap<Key, Member>,
    judge: Judge,
}

impl Uplinks {
    /// All are down until `up` says otherwise.
    pub fn new(now: Duration, settings: Settings, uplinks: Vec<Uplink>) -> Self {
        let member = |uplink: Uplink| {
            let health = Health::new(now, uplink.targets.len(), settings);
            (uplink.key.clone(), Member { uplink, health, is_up: false })
        };
        Self { members: uplinks.into_iter().map(member).collect(), judge: Judge::default() }
    }

    /// What an earlier process knew, `away` ago.
    pub fn restore(&mut self, now: Duration, away: Duration, saved: &Saved) {
        for saved in &saved.uplinks {
            let Some(member) = saved.key().and_then(|key| self.members.get_mut(&key)) else { continue };
            member.health.restore(now, away, saved, &member.uplink.targets);
        }
    }

    pub fn save(&self, now: Duration) -> Saved {
        Saved::of(
            self.members.values().map(|member| member.health.save(now, &member.uplink.key, &member.uplink.targets)),
        )
    }

    /// The uplink is up, or its interface has come up anew.
    pub fn up(&mut self, now: Duration, key: &Key) {
        if let Some(member) = self.members.get_mut(key) {
            member.is_up = true;
            member.health.restarted(now);
        }
    }

    pub fn down(&mut self, key: &Key) {
        if let Some(member) = self.members.get_mut(key) {
            member.is_up = false;
        }
    }

    /// The machine of an uplink that is up: for `counted`, `answered`, `refused`.
    pub fn health_mut(&mut self, key: &Key) -> Option<&mut Health> {
        self.members.get_mut(key).filter(|member| member.is_up).map(|member| &mut member.health)
    }

    /// For status and metrics, whether up or not.
    pub fn health(&self, key: &Key) -> Option<&Health> {
        self.members.get(key).map(|member| &member.health)
    }

    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.members.keys()
    }

    pub fn verdict(&self, key: &Key) -> Verdict {
        self.judge.verdict(key)
    }

    /// When `poll` is wanted next; `None`: not before something happens.
    pub fn wake(&self) -> Option<Duration> {
        self.members.values().filter(|member| member.is_up).filter_map(|member| member.health.wake()).min()
    }

    /// To be called at `wake`, and after anything was handed in. Counters and answers come first.
    pub fn poll(&mut self, now: Duration) -> Outcome {
        let mut outcome = Outcome::default();
        self.set_quiet();
        let was_suspected = self.is_any_suspected();
        for (key, member) in self.members.iter_mut().filter(|(_, member)| member.is_up) {
            outcome.probes.extend(member.health.poll(now).into_iter().map(|probe| (key.clone(), probe)));
        }
        if !was_suspected && self.is_any_suspected() {
            // Who may have to carry in a moment should be known to be alive.
            for (key, member) in self.members.iter_mut().filter(|(_, member)| member.is_up) {
                member.health.call(now);
                outcome.probes.extend(member.health.poll(now).into_iter().map(|probe| (key.clone(), probe)));
            }
        }
        outcome.events = self.judge.judge(now, &self.standings());
        outcome
    }

    fn standings(&self) -> Vec<Standing> {
        let up = self.members.iter().filter(|(_, member)| member.is_up);
        let standing = |(key, member): (&Key, &Member)| {
            let opinion = (!member.uplink.targets.is_empty()).then(|| member.health.opinion());
            Standing { key: key.clone(), opinion }
        };
        up.map(standing).collect()
    }

    fn is_any_suspected(&self) -> bool {
        let is_suspected = |member: &Member| matches!(member.health.opinion(), Opinion::Suspected { .. });
        self.members.values().any(|member| member.is_up && is_suspected(member))
    }

    /// Metered ones, and those of tiers above the lowest that carries.
    fn set_quiet(&mut self) {
        let mut carrying = BTreeMap::new();
        for (key, member) in &self.members {
            if member.is_up && self.judge.verdict(key) == Verdict::Use {
                let lowest = carrying.entry(key.family).or_insert(member.uplink.tier);
                *lowest = member.uplink.tier.min(*lowest);
            }
        }
        for (key, member) in &mut self.members {
            let is_idle = carrying.get(&key.family).is_some_and(|lowest| member.uplink.tier > *lowest);
            member.health.set_quiet(member.uplink.metered || is_idle);
        }
    }
}
