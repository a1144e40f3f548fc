//! When passes are due, and how long a fight lasts.

use std::time::Duration;

use super::origin::name_in;
use super::{Budget, Origins, Schedule};
use crate::model::names::Family;
use crate::watch::notice::{Notice, Process, Thing};

const ROUTES: Thing = Thing::Routes(Family::V4, 254);
const RULE: Thing = Thing::Rules(Family::V4, 101);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A schedule whose first pass was begun at 0.
fn begun() -> Schedule {
    let mut schedule = Schedule::new();
    assert_eq!(schedule.due(), ms(0));
    schedule.begin(ms(0), false);
    schedule
}

#[test]
fn a_pass_waits_for_silence_but_not_for_long() {
    let mut schedule = begun();
    assert_eq!(schedule.due(), ms(60_000));
    schedule.noticed(ms(1000));
    assert_eq!(schedule.due(), ms(1020));
    schedule.noticed(ms(1015));
    assert_eq!(schedule.due(), ms(1035));
    for at in 0..10 {
        schedule.noticed(ms(1020 + 10 * at));
    }
    assert_eq!(schedule.due(), ms(1080));
    schedule.begin(ms(1080), false);
    assert_eq!(schedule.due(), ms(61_080));
}

#[test]
fn looks_for_lost_notices_are_a_second_apart() {
    let mut schedule = begun();
    schedule.overrun(ms(1000));
    assert_eq!(schedule.due(), ms(1020));
    schedule.begin(ms(1020), true);
    schedule.overrun(ms(1030));
    assert_eq!(schedule.due(), ms(2040));
    // What was heard for certain does not wait for that.
    schedule.noticed(ms(1100));
    assert_eq!(schedule.due(), ms(1120));
}

#[test]
fn after_failures_the_pauses_grow() {
    let mut schedule = begun();
    let mut pauses = Vec::new();
    for n in 0..9 {
        let now = Duration::from_mins(10 * n);
        schedule.begin(now, false);
        schedule.failed(now);
        pauses.push(schedule.due().as_secs() - 600 * n);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    schedule.done();
    let now = Duration::from_mins(100);
    schedule.begin(now, false);
    schedule.failed(now);
    assert_eq!(schedule.due(), now + ms(1000));
}

#[test]
fn ten_repairs_within_a_minute_are_a_fight_whose_pauses_double() {
    let mut budget = Budget::default();
    let mut now = ms(0);
    assert_eq!(budget.repaired(RULE, now), None);
    for _ in 0..9 {
        now += ms(100);
        assert_eq!(budget.repaired(ROUTES, now), None);
    }
    let fight = budget.repaired(ROUTES, now).unwrap();
    assert_eq!((fight.repairs, fight.pause, fight.is_news), (10, ms(5000), true));
    assert!(budget.holds(ROUTES, now + ms(4999)) && !budget.holds(RULE, now));
    let mut pauses = Vec::new();
    for _ in 0..8 {
        now = budget.next().unwrap();
        assert!(budget.take_ended(now) && !budget.take_ended(now));
        assert!(!budget.holds(ROUTES, now));
        // What a pass of another reason repairs in the pause does not count.
        assert_eq!(budget.repaired(ROUTES, now), None);
        let fight = budget.repaired(ROUTES, now + ms(50)).unwrap();
        assert_eq!(budget.repaired(ROUTES, now + ms(100)), None);
        pauses.push((fight.pause.as_secs(), fight.is_news));
    }
    let expected = [10, 20, 40, 80, 160, 300].map(|pause| (pause, true));
    assert_eq!(pauses, [&expected[..], &[(300, false); 2]].concat());
}

#[test]
fn a_fight_is_over_after_a_while() {
    let mut budget = Budget::default();
    for n in 0..10 {
        budget.repaired(ROUTES, ms(n));
    }
    let end = budget.next().unwrap();
    // One repair at the end of the pause, and then peace.
    assert_eq!(budget.repaired(ROUTES, end), None);
    let later = end + Duration::from_mins(2);
    for n in 0..9 {
        assert_eq!(budget.repaired(ROUTES, later + ms(n)), None);
    }
    assert!(budget.repaired(ROUTES, later + ms(9)).is_some_and(|fight| fight.pause == ms(5000)));
}

#[test]
fn a_repair_now_and_then_is_no_fight() {
    let mut budget = Budget::default();
    for n in 0..1000 {
        assert_eq!(budget.repaired(ROUTES, Duration::from_secs(7 * n)), None);
    }
}

#[test]
fn a_carrier_is_not_missed_for_long() {
    let mut budget = Budget::default();
    let fights: Vec<_> = (0..1000).filter_map(|n| budget.repaired(Thing::Interfaces, ms(n * 500))).collect();
    assert!(fights.len() > 100 && fights.iter().all(|fight| fight.pause == ms(2000)));
    assert_eq!(fights.iter().filter(|fight| fight.is_news).count(), 1);
}

#[test]
fn who_has_done_it_is_named_as_far_as_notices_say() {
    let notice = |thing, protocol, name: Option<&str>| Notice {
        thing,
        protocol,
        port: 0,
        process: name.map(|name| Process { pid: 7, name: name.to_owned() }),
    };
    let mut origins = Origins::default();
    origins.add(&notice(ROUTES, None, None), ms(0));
    origins.add(&notice(Thing::Nftables, None, Some("mh-watch")), ms(0));
    assert_eq!((origins.of(ROUTES), origins.of(Thing::Nftables)), (None, None));
    origins.add(&notice(ROUTES, Some(250), None), ms(0));
    origins.add(&notice(Thing::Nftables, None, Some("nft")), ms(0));
    // A deletion after it.
    origins.add(&notice(ROUTES, None, Some("bird")), ms(0));
    let said = |thing| origins.of(thing).unwrap().to_string();
    assert_eq!(said(ROUTES), "bird (pid 7), whose routes have protocol 250");
    assert_eq!(said(Thing::Nftables), "nft (pid 7)");
    // What comes during a pass is not for that pass.
    origins.add(&notice(RULE, Some(9), None), ms(5));
    origins.forget_before(ms(5));
    assert_eq!((origins.of(ROUTES), origins.of(RULE).is_some()), (None, true));
}

#[test]
fn names_of_protocols_are_read_as_iproute2_writes_them() {
    let text = "# Reserved\n\n0\tunspec\n186 bgp\n0xc0  eigrp # comment\nx y\n12\n";
    for (protocol, name) in [(186, Some("bgp")), (0xc0, Some("eigrp")), (12, None)] {
        assert_eq!(name_in(text, protocol).as_deref(), name);
    }
}
