//! What a machine knows, kept across a restart of the process. The file may hold anything: what is not plausible is left
//! out.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::dead::Dead;
use super::judge::Key;
use super::machine::{Health, MOST_RELAPSES, State, decayed};
use super::rtt::{LONGEST, Rtt};
use super::target::HOUR;
use super::{Evidence, Opinion};
use crate::model::names::Family;

/// Of this file.
const VERSION: u32 = 1;
/// More uplinks, or targets of one, are not read.
const MOST: usize = 256;
/// Who was away for longer does not know whether an uplink is still dead.
const LONGEST_AWAY: Duration = Duration::from_mins(1);
/// Ages beyond this are not believed.
const OLDEST: u64 = 366 * 24 * 3600 * 1000;

/// All uplinks. Times are ages in milliseconds, or microseconds where the field says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    version: u32,
    pub(super) uplinks: Vec<SavedUplink>,
}

/// An uplink in one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedUplink {
    uplink: String,
    /// 4 or 6.
    family: u8,
    targets: Vec<SavedTarget>,
    relapses: u32,
    good_for: u64,
    dead: Option<SavedDead>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SavedTarget {
    target: String,
    answered_ago: u64,
    smoothed_us: u64,
    variation_us: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SavedDead {
    since_ago: u64,
    lost: usize,
    targets: usize,
    #[serde(default)]
    has_replies: bool,
}

impl Saved {
    pub(super) fn of(uplinks: impl Iterator<Item = SavedUplink>) -> Self {
        Self { version: VERSION, uplinks: uplinks.collect() }
    }

    /// `None`: of another version, or not plausible as a whole.
    pub fn from_json(text: &str) -> Option<Self> {
        let saved: Self = serde_json::from_str(text).ok()?;
        let is_plausible = saved.version == VERSION
            && saved.uplinks.len() <= MOST
            && saved.uplinks.iter().all(|uplink| uplink.targets.len() <= MOST);
        is_plausible.then_some(saved)
    }

    /// One line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl SavedUplink {
    pub(super) fn key(&self) -> Option<Key> {
        let family = match self.family {
            4 => Family::V4,
            6 => Family::V6,
            _ => return None,
        };
        Some(Key { uplink: self.uplink.parse().ok()?, family })
    }
}

impl SavedTarget {
    fn rtt(&self) -> Option<Rtt> {
        let (smoothed, variation) = (Duration::from_micros(self.smoothed_us), Duration::from_micros(self.variation_us));
        (smoothed <= LONGEST * 4 && variation <= LONGEST * 4).then_some(Rtt { smoothed, variation })
    }
}

impl Health {
    pub(super) fn save(&self, now: Duration, key: &Key, names: &[String]) -> SavedUplink {
        let target = |(target, name): (&super::Target, &String)| {
            let (rtt, answered) = (target.rtt?, target.answered?);
            Some(SavedTarget {
                target: name.clone(),
                answered_ago: millis(now.saturating_sub(answered)),
                smoothed_us: u64::try_from(rtt.smoothed.as_micros()).unwrap_or(u64::MAX),
                variation_us: u64::try_from(rtt.variation.as_micros()).unwrap_or(u64::MAX),
            })
        };
        let dead = match self.opinion() {
            Opinion::Dead { since, evidence, .. } => Some(SavedDead {
                since_ago: millis(now.saturating_sub(since)),
                lost: evidence.lost,
                targets: evidence.targets,
                has_replies: evidence.has_replies,
            }),
            _ => None,
        };
        SavedUplink {
            uplink: key.uplink.as_str().to_owned(),
            family: number(key.family),
            targets: self.targets.iter().zip(names).filter_map(target).collect(),
            relapses: self.relapses,
            good_for: millis(now.saturating_sub(self.good_since)),
            dead,
        }
    }

    /// Takes over what is known: of targets that are still configured, and whether the uplink was dead a moment ago. It is
    /// not cut before it has been silent in front of this process for `cut_after`.
    pub(super) fn restore(&mut self, now: Duration, away: Duration, saved: &SavedUplink, names: &[String]) {
        for (target, name) in self.targets.iter_mut().zip(names) {
            let Some(saved) = saved.targets.iter().find(|saved| saved.target == *name) else { continue };
            let ago = Duration::from_millis(saved.answered_ago.min(OLDEST)).saturating_add(away);
            let Some(rtt) = saved.rtt().filter(|_| ago < HOUR) else { continue };
            // Of a clock younger than that the answer is believed from its beginning on.
            (target.answered, target.rtt) = (Some(now.saturating_sub(ago)), Some(rtt));
        }
        let good_for = Duration::from_millis(saved.good_for.min(OLDEST)).saturating_add(away);
        self.good_since = now;
        self.relapses = decayed(saved.relapses.min(MOST_RELAPSES), good_for);
        if let Some(dead) = &saved.dead
            && away <= LONGEST_AWAY
            && self.has_usable(now)
        {
            let evidence = Evidence { lost: dead.lost, targets: dead.targets, has_replies: dead.has_replies };
            let since = now.saturating_sub(Duration::from_millis(dead.since_ago.min(OLDEST)));
            self.state = State::Dead(Dead::new(since, now, now, evidence));
        }
    }
}

/// A family as this file and that of `memory` have it.
pub(in crate::watch) fn number(family: Family) -> u8 {
    if family == Family::V4 { 4 } else { 6 }
}

pub(in crate::watch) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
