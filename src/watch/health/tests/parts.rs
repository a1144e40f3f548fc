//! What a machine is made of: a target, a round-trip time, counters.

use super::*;
use crate::watch::health::traffic::Traffic;
use crate::watch::health::{Rtt, Target};

#[test]
fn an_answer_counts_for_an_hour() {
    let mut health = Health::new(Duration::ZERO, 1, Settings::default());
    let probe = health.poll(Duration::ZERO)[0];
    assert_eq!(health.answered(ms(10), probe.id), Some(ms(10)));
    assert!(health.targets()[0].is_usable(seconds(3599)));
    assert!(!health.targets()[0].is_usable(seconds(3601)));
}

#[test]
fn an_answer_counts_once_and_only_if_somebody_asked() {
    let mut health = Health::new(Duration::ZERO, 1, Settings::default());
    let probe = health.poll(Duration::ZERO)[0];
    assert_eq!(health.answered(ms(5), probe.id + 1), None);
    assert_eq!(health.answered(ms(5), probe.id), Some(ms(5)));
    assert_eq!(health.answered(ms(6), probe.id), None);
}

#[test]
fn an_answer_that_may_be_to_a_repeated_probe_is_life_and_teaches_no_round_trip_time() {
    let mut health = Health::new(Duration::ZERO, 1, Settings::default());
    let probe = health.poll(Duration::ZERO)[0];
    assert_eq!(health.answered_ambiguously(ms(1010), probe.id), Some(ms(1010)));
    assert_eq!((health.opinion(), health.targets()[0].rtt), (Opinion::Good, None));
    let probe = health.poll(ms(1010))[0];
    health.answered(ms(1030), probe.id);
    assert_eq!(health.targets()[0].rtt.unwrap().smoothed, ms(20));
    let probe = health.poll(ms(2030))[0];
    health.answered_ambiguously(ms(3050), probe.id);
    assert_eq!(health.targets()[0].rtt.unwrap().smoothed, ms(20));
}

#[test]
fn a_blackout_is_no_fault_of_the_targets() {
    let mut scene = Scene::dead_between(seconds(60), seconds(61) + ms(300));
    let mut target = Target { pending: 9, ..Target::default() };
    target.others_answered();
    assert_eq!((target.misses, target.pending), (1, 0));
    scene.run(seconds(64));
    assert!(scene.health.targets().iter().all(|target| target.is_usable(seconds(64))), "{:?}", scene.health.targets());
}

#[test]
fn suspicion_waits_for_less_than_the_verdict_does() {
    let mut target = Target::default();
    assert_eq!((target.patience(), target.timeout()), (seconds(1), seconds(1)));
    target.rtt = Some(Rtt { smoothed: seconds(2), variation: ms(300) });
    assert_eq!((target.patience(), target.timeout()), (ms(2400), seconds(3)));
    target.rtt = Some(Rtt { smoothed: ms(20), variation: ms(1) });
    assert_eq!((target.patience(), target.timeout()), (ms(200), ms(200)));
}

#[test]
fn the_round_trip_time_is_smoothed_as_rfc_6298_has_it() {
    let mut rtt = Rtt::first(ms(100));
    assert_eq!((rtt.smoothed, rtt.variation, rtt.timeout()), (ms(100), ms(50), ms(300)));
    rtt.add(ms(180));
    assert_eq!((rtt.smoothed, rtt.variation), (ms(110), Duration::from_micros(57_500)));
    rtt.add(seconds(60));
    assert_eq!(rtt.timeout(), seconds(3));
}

#[test]
fn replies_date_life_only_as_exactly_as_somebody_looked() {
    let mut traffic = Traffic::default();
    let count = |sent, replies| Counted::Ours(Counters { sent, replies });
    assert_eq!(traffic.look(seconds(1), count(10, 10)), None, "nobody knows when that was");
    assert_eq!(traffic.look(ms(1250), count(11, 11)), Some(ms(1250)));
    assert_eq!(traffic.look(seconds(9), count(12, 12)), Some(ms(1250)));
    assert_eq!(traffic.look(ms(9250), count(13, 12)), None);
    assert_eq!(traffic.asked, Some(ms(9250)));
    // Made anew.
    assert_eq!(traffic.look(ms(9500), count(1, 13)), None);
}
