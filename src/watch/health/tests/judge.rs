//! The judge over all uplinks.

use super::*;
use crate::model::names::Family::{self, V4, V6};
use crate::watch::health::{Event, Evidence, Judge, Key, Outcome, Standing, Uplink, Uplinks, Verdict, Why};

const EVIDENCE: Evidence = Evidence { lost: 10, targets: 3, has_replies: false };
const GOOD: Opinion = Opinion::Good;
const SUSPECTED: Opinion = Opinion::Suspected { since: Duration::ZERO };
const DEAD: Opinion = Opinion::Dead { since: Duration::ZERO, is_cut: false, evidence: EVIDENCE };
const GONE: Opinion = Opinion::Dead { since: Duration::ZERO, is_cut: true, evidence: EVIDENCE };

fn key(uplink: &str, family: Family) -> Key {
    Key { uplink: uplink.parse().unwrap(), family }
}

/// `a`, `b`, ... of IPv4.
fn v4(opinions: &[Opinion]) -> Vec<Standing> {
    let names = ["a", "b", "c"];
    names.iter().zip(opinions).map(|(name, opinion)| Standing { key: key(name, V4), opinion: Some(*opinion) }).collect()
}

/// At a time: it has been silent since the beginning.
fn drained(uplink: &str, at: u64) -> Event {
    Event::Drained { key: key(uplink, V4), silent: seconds(at), evidence: EVIDENCE }
}

fn cut(uplink: &str, at: u64) -> Event {
    Event::Cut { key: key(uplink, V4), silent: seconds(at), evidence: EVIDENCE }
}

fn back(uplink: &str, why: Why) -> Event {
    Event::Back { key: key(uplink, V4), why }
}

#[test]
fn a_dead_uplink_is_drained_then_cut_then_back() {
    let mut judge = Judge::default();
    assert_eq!(judge.judge(seconds(0), &v4(&[GOOD, GOOD])), []);
    assert_eq!(judge.judge(seconds(1), &v4(&[DEAD, GOOD])), [drained("a", 1)]);
    assert_eq!(judge.judge(seconds(2), &v4(&[DEAD, GOOD])), []);
    assert_eq!(judge.verdict(&key("a", V4)), Verdict::Drained);
    assert_eq!(judge.judge(seconds(9), &v4(&[GONE, GOOD])), [cut("a", 9)]);
    assert_eq!(judge.judge(seconds(10), &v4(&[GONE, GOOD])), []);
    assert_eq!(judge.verdict(&key("a", V4)), Verdict::Cut);
    assert_eq!(judge.judge(seconds(30), &v4(&[GOOD, GOOD])), [back("a", Why::Answers { after: seconds(29) })]);
    assert_eq!(judge.verdict(&key("a", V4)), Verdict::Use);
}

#[test]
fn the_last_uplink_that_is_up_is_never_left() {
    let mut judge = Judge::default();
    assert_eq!(judge.judge(seconds(0), &v4(&[DEAD])), [Event::AllDead { family: V4, uplinks: 1 }]);
    assert_eq!(judge.judge(seconds(1), &v4(&[GONE])), [], "it is told once");
    assert_eq!(judge.verdict(&key("a", V4)), Verdict::Use);
    assert_eq!(judge.judge(seconds(9), &v4(&[GOOD])), [Event::AllDeadOver { family: V4, after: seconds(9) }]);
    // The other one goes down while the first is drained.
    assert_eq!(judge.judge(seconds(20), &v4(&[DEAD, GOOD])), [drained("a", 20)]);
    let events = judge.judge(seconds(60), &v4(&[DEAD]));
    assert_eq!(events, [back("a", Why::NoOther), Event::AllDead { family: V4, uplinks: 1 }]);
}

#[test]
fn where_all_fail_at_once_nothing_is_changed() {
    let mut judge = Judge::default();
    // The others are suspected: it is waited for what becomes of them.
    assert_eq!(judge.judge(seconds(0), &v4(&[DEAD, SUSPECTED, SUSPECTED])), []);
    assert_eq!(judge.judge(seconds(1), &v4(&[DEAD, DEAD, SUSPECTED])), []);
    assert_eq!(judge.judge(seconds(2), &v4(&[DEAD, DEAD, DEAD])), [Event::AllDead { family: V4, uplinks: 3 }]);
    for uplink in ["a", "b", "c"] {
        assert_eq!(judge.verdict(&key(uplink, V4)), Verdict::Use);
    }
    // Once one answers, the others are left.
    let events = judge.judge(seconds(60), &v4(&[GONE, DEAD, GOOD]));
    assert_eq!(
        events,
        [Event::AllDeadOver { family: V4, after: seconds(58) }, drained("a", 60), cut("a", 60), drained("b", 60)]
    );
}

#[test]
fn what_was_drained_on_the_way_to_that_is_used_again() {
    let mut judge = Judge::default();
    assert_eq!(judge.judge(seconds(0), &v4(&[DEAD, GOOD])), [drained("a", 0)]);
    let events = judge.judge(seconds(5), &v4(&[DEAD, DEAD]));
    assert_eq!(events, [back("a", Why::NoOther), Event::AllDead { family: V4, uplinks: 2 }]);
    // One that was dead long before is no part of it.
    let mut judge = Judge::default();
    judge.judge(seconds(0), &v4(&[DEAD, GOOD]));
    assert_eq!(judge.judge(seconds(60), &v4(&[DEAD, DEAD])), [Event::AllDead { family: V4, uplinks: 2 }]);
    assert_eq!(judge.verdict(&key("a", V4)), Verdict::Drained);
    assert_eq!(judge.verdict(&key("b", V4)), Verdict::Use);
}

#[test]
fn nothing_is_cut_while_no_uplink_is_known_to_live() {
    let mut judge = Judge::default();
    judge.judge(seconds(0), &v4(&[DEAD, GOOD]));
    assert_eq!(judge.judge(seconds(10), &v4(&[GONE, SUSPECTED])), []);
    assert_eq!(judge.verdict(&key("a", V4)), Verdict::Drained);
}

#[test]
fn an_uplink_without_answers_so_far_is_another_uplink_all_the_same() {
    let mut judge = Judge::default();
    assert_eq!(judge.judge(seconds(0), &v4(&[DEAD, Opinion::Unknown])), [drained("a", 0)]);
}

#[test]
fn a_family_without_targets_follows_the_other() {
    let mut judge = Judge::default();
    let up = |opinion| {
        let mut up = v4(&[opinion, GOOD]);
        up.push(Standing { key: key("a", V6), opinion: None });
        up.push(Standing { key: key("b", V6), opinion: None });
        up
    };
    let events = judge.judge(seconds(0), &up(DEAD));
    assert_eq!(events.len(), 2);
    assert_eq!(judge.verdict(&key("a", V6)), Verdict::Drained);
    assert_eq!(judge.verdict(&key("b", V6)), Verdict::Use);
    judge.judge(seconds(9), &up(GOOD));
    assert_eq!(judge.verdict(&key("a", V6)), Verdict::Use);
    // Families are judged each for itself: where the other uplink has none, the first stays.
    let mut up = v4(&[DEAD, GOOD]);
    up.push(Standing { key: key("a", V6), opinion: None });
    judge.judge(seconds(20), &up);
    assert_eq!(judge.verdict(&key("a", V4)), Verdict::Drained);
    assert_eq!(judge.verdict(&key("a", V6)), Verdict::Use);
}

#[test]
fn an_uplink_that_goes_down_is_not_held_when_it_comes_again() {
    let mut judge = Judge::default();
    judge.judge(seconds(0), &v4(&[GOOD, DEAD]));
    assert_eq!(judge.judge(seconds(5), &v4(&[GOOD])), []);
    assert_eq!(judge.verdict(&key("b", V4)), Verdict::Use);
}

/// Two uplinks of different tiers on lines that are made up.
struct Pair {
    uplinks: Uplinks,
    answers: Vec<(Duration, Key, u64)>,
    events: Vec<(Duration, Event)>,
    probes: Vec<(Duration, Key)>,
}

impl Pair {
    fn new(tiers: [u16; 2], metered: bool) -> Self {
        let uplink = |(name, tier): (&str, u16)| Uplink {
            key: key(name, V4),
            tier,
            metered: metered && name == "b",
            targets: ["1.1.1.1", "9.9.9.9", "208.67.222.222"].map(str::to_owned).to_vec(),
        };
        let both = ["a", "b"].into_iter().zip(tiers).map(uplink).collect();
        let mut uplinks = Uplinks::new(Duration::ZERO, Settings::default(), both);
        assert_eq!(uplinks.wake(), None, "none is up");
        uplinks.up(Duration::ZERO, &key("a", V4));
        uplinks.up(Duration::ZERO, &key("b", V4));
        Self { uplinks, answers: Vec::new(), events: Vec::new(), probes: Vec::new() }
    }

    fn run(&mut self, until: Duration, carries: impl Fn(&str, Duration) -> bool) {
        loop {
            let answer = self.answers.iter().map(|(at, ..)| *at).min();
            let next = [self.uplinks.wake(), answer].into_iter().flatten().min().unwrap();
            if next > until {
                return;
            }
            let (due, later) = self.answers.drain(..).partition(|(at, ..)| *at <= next);
            self.answers = later;
            let due: Vec<(Duration, Key, u64)> = due;
            for (_, key, id) in due {
                self.uplinks.health_mut(&key).unwrap().answered(next, id);
            }
            let Outcome { probes, events } = self.uplinks.poll(next);
            self.events.extend(events.into_iter().map(|event| (next, event)));
            for (key, probe) in probes {
                self.probes.push((next, key.clone()));
                if carries(key.uplink.as_str(), next) {
                    self.answers.push((next + ms(30), key, probe.id));
                }
            }
        }
    }
}

#[test]
fn all_dead_at_once_changes_nothing_and_is_told_once() {
    for tiers in [[1, 1], [1, 2]] {
        for dead in (0..1000).step_by(90) {
            let dead = seconds(90) + ms(dead);
            let mut pair = Pair::new(tiers, false);
            pair.run(seconds(300), |_, now| now < dead);
            let events: Vec<_> = pair.events.iter().map(|(_, event)| event).collect();
            assert_eq!(events, [&Event::AllDead { family: V4, uplinks: 2 }], "{tiers:?} {dead:?}");
        }
    }
}

#[test]
fn an_idle_tier_is_probed_once_a_minute_and_asked_when_another_is_suspected() {
    let dead = seconds(330);
    let mut pair = Pair::new([1, 2], false);
    pair.run(seconds(400), |name, now| name == "b" || now < dead);
    let of_b: Vec<_> = pair.probes.iter().filter(|(_, key)| key.uplink.as_str() == "b").map(|(at, _)| *at).collect();
    let idle = of_b.iter().filter(|at| **at > seconds(10) && **at < dead).count();
    assert!(idle <= 7, "{of_b:?}");
    assert!(of_b.iter().any(|at| *at > dead && *at < dead + ms(1500)), "{of_b:?}");
    assert!(matches!(pair.events[0], (at, Event::Drained { .. }) if at < dead + seconds(3)), "{:?}", pair.events);
    assert!(matches!(pair.events[1], (_, Event::Cut { .. })), "{:?}", pair.events);
    // Now it carries.
    let busy = of_b.iter().filter(|at| **at > dead + seconds(10)).count();
    assert!(busy > 50, "{of_b:?}");
}

#[test]
fn a_metered_uplink_is_probed_once_a_minute_though_its_tier_carries() {
    let mut pair = Pair::new([1, 1], true);
    pair.run(seconds(610), |_, _| true);
    let of =
        |name: &str| pair.probes.iter().filter(|(at, key)| *at > seconds(10) && key.uplink.as_str() == name).count();
    assert!(of("a") >= 599 && of("b") <= 10, "{} and {}", of("a"), of("b"));
}
