//! What holds whatever happens.

use proptest::prelude::*;

use super::*;
use crate::model::names::Family;
use crate::watch::health::Counted::{Anybodys, Ours};
use crate::watch::health::{Evidence, Judge, Key, Standing, Verdict};

/// What may be handed to a machine.
#[derive(Debug, Clone)]
enum Input {
    /// Time goes on to the next wake-up, if there is one.
    Wake,
    /// Time goes on by so many milliseconds.
    Jump(u64),
    /// The youngest probe, or one before it, is answered.
    Answer(usize),
    Refuse(usize),
    /// So many packets more, and so many replies.
    Count(u64, u64),
    /// The same, of all of the interface.
    CountAll(u64, u64),
    NoCounters,
    Restart,
    Quiet(bool),
    Call,
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        20 => Just(Input::Wake),
        2 => (0u64..3000).prop_map(Input::Jump),
        1 => (0u64..100_000_000).prop_map(Input::Jump),
        8 => (0usize..4).prop_map(Input::Answer),
        1 => (0usize..4).prop_map(Input::Refuse),
        4 => (0u64..5, 0u64..3).prop_map(|(sent, replies)| Input::Count(sent, replies)),
        2 => (0u64..5, 0u64..3).prop_map(|(sent, replies)| Input::CountAll(sent, replies)),
        1 => Just(Input::NoCounters),
        1 => Just(Input::Restart),
        1 => any::<bool>().prop_map(Input::Quiet),
        1 => Just(Input::Call),
    ]
}

/// A machine, and what an onlooker knows.
struct Watched {
    health: Health,
    now: Duration,
    counters: Counters,
    probes: Vec<u64>,
    /// The last sign of life, start or stop that the onlooker has seen.
    life: Duration,
    has_answered: bool,
}

impl Watched {
    fn hand_in(&mut self, input: &Input) {
        let (now, wake) = (self.now, self.health.wake());
        match input {
            Input::Wake => self.now = wake.unwrap_or(now).max(now),
            Input::Jump(millis) => {
                self.now += ms(*millis);
                if wake.is_some_and(|wake| self.now > wake + seconds(1)) {
                    self.life = self.now;
                }
            }
            Input::Answer(back) => {
                if let Some(id) = self.probes.iter().rev().nth(*back)
                    && self.health.answered(now, *id).is_some()
                {
                    (self.life, self.has_answered) = (now, true);
                }
            }
            Input::Refuse(back) => {
                if let Some(id) = self.probes.iter().rev().nth(*back) {
                    self.health.refused(now, *id);
                }
            }
            Input::Count(sent, replies) | Input::CountAll(sent, replies) => {
                self.counters.sent += sent;
                self.counters.replies += replies;
                let is_all = matches!(input, Input::CountAll(..));
                self.health.counted(now, Some(if is_all { Anybodys(self.counters) } else { Ours(self.counters) }));
            }
            Input::NoCounters => self.health.counted(now, None),
            Input::Restart => {
                self.health.restarted(now);
                self.life = now;
            }
            Input::Quiet(is_quiet) => self.health.set_quiet(*is_quiet),
            Input::Call => self.health.call(now),
        }
    }
}

fn key(uplink: usize) -> Key {
    Key { uplink: ["a", "b", "c", "d"][uplink % 4].parse().unwrap(), family: Family::V4 }
}

fn opinion() -> impl Strategy<Value = Opinion> {
    let evidence = Evidence { lost: 9, targets: 3, has_replies: false };
    prop_oneof![
        Just(Opinion::Unknown),
        Just(Opinion::Good),
        Just(Opinion::Suspected { since: Duration::ZERO }),
        any::<bool>().prop_map(move |is_cut| Opinion::Dead { since: Duration::ZERO, is_cut, evidence }),
    ]
}

proptest! {
    #[test]
    fn a_verdict_comes_from_evidence_alone(targets in 0usize..5, inputs in prop::collection::vec(input(), 1..400)) {
        let health = Health::new(Duration::ZERO, targets, Settings::default());
        let counters = Counters { sent: 0, replies: 0 };
        let mut it = Watched { health, now: Duration::ZERO, counters, probes: Vec::new(), life: Duration::ZERO,
            has_answered: false };
        for input in &inputs {
            let before = it.health.opinion();
            it.hand_in(input);
            it.probes.extend(it.health.poll(it.now).iter().map(|probe| probe.id));
            if let Some(wake) = it.health.wake() {
                prop_assert!(wake > it.now, "it does not rest: {wake:?} at {:?}", it.now);
            }
            let Opinion::Dead { evidence, .. } = it.health.opinion() else { continue };
            if !matches!(before, Opinion::Dead { .. }) {
                prop_assert!(it.has_answered, "no target ever answered");
                prop_assert!(evidence.lost >= 9 && evidence.targets >= 1);
                let least = if evidence.has_replies { seconds(10) } else { ms(2500) };
                prop_assert!(it.now - it.life >= least, "silent for {:?} only", it.now - it.life);
            }
        }
    }

    #[test]
    fn a_clock_that_jumps_drains_nothing(jumps in prop::collection::vec(1001u64..10_000_000_000, 1..100)) {
        let mut scene = Scene::dead_between(seconds(60), seconds(1_000_000_000));
        scene.run(seconds(60));
        for jump in jumps {
            let late = scene.health.wake().unwrap_or(scene.now) + ms(jump);
            scene.step(late);
            let is_dead = matches!(scene.health.opinion(), Opinion::Dead { .. });
            prop_assert!(!is_dead);
        }
    }

    #[test]
    fn one_uplink_is_always_used(
        rounds in prop::collection::vec((prop::collection::vec(prop::option::weighted(0.8, opinion()), 4), 0u64..20), 1..100),
    ) {
        let mut judge = Judge::default();
        let mut now = Duration::ZERO;
        for (opinions, later) in rounds {
            now += seconds(later);
            let up: Vec<_> = opinions.iter().enumerate()
                .filter_map(|(index, opinion)| Some(Standing { key: key(index), opinion: Some((*opinion)?) }))
                .collect();
            judge.judge(now, &up);
            let used = up.iter().filter(|standing| judge.verdict(&standing.key) == Verdict::Use).count();
            prop_assert!(used > 0 || up.is_empty());
            for standing in &up {
                let is_dead = matches!(standing.opinion, Some(Opinion::Dead { .. }));
                prop_assert!(is_dead || judge.verdict(&standing.key) == Verdict::Use);
            }
            prop_assert_eq!(judge.judge(now, &up), [], "asked twice, it says nothing new");
        }
    }
}
