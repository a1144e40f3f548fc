//! The machine of one uplink.

use super::*;
use crate::watch::health::Evidence;

#[test]
fn a_dead_uplink_is_drained_within_three_seconds_and_cut_after_ten() {
    // Wherever in the interval between two probes it dies.
    for offset in (0..1000).step_by(50) {
        for traffic in [None, Some(100)] {
            let dead = seconds(60) + ms(offset);
            let mut scene = Scene::dead_between(dead, NEVER);
            scene.traffic = traffic;
            scene.run(seconds(120));
            let (drained, cut) = scene.verdicts();
            let (drained, cut) = (drained.unwrap() - dead, cut.unwrap() - dead);
            assert!(drained < seconds(3) && drained >= ms(1500), "{drained:?} at {offset}, {traffic:?}");
            assert!(cut >= seconds(10) && cut < seconds(13), "{cut:?} at {offset}, {traffic:?}");
        }
    }
}

#[test]
fn at_a_round_trip_of_two_seconds_it_takes_less_than_five() {
    for offset in (0..1000).step_by(50) {
        let dead = seconds(60) + ms(offset);
        let mut scene = Scene::new(3, seconds(2), move |now, _| now < dead);
        scene.run(seconds(120));
        let drained = scene.verdicts().0.unwrap() - dead;
        assert!(drained < seconds(5), "{drained:?} at {offset}");
    }
}

#[test]
fn just_below_two_hundred_milliseconds_it_takes_less_than_three_seconds() {
    for offset in (0..1000).step_by(50) {
        let dead = seconds(60) + ms(offset);
        let mut scene = Scene::new(3, ms(199), move |now, _| now < dead);
        scene.run(seconds(120));
        let drained = scene.verdicts().0.unwrap() - dead;
        assert!(drained < seconds(3), "{drained:?} at {offset}");
    }
}

#[test]
fn the_evidence_is_told_in_numbers() {
    let mut scene = Scene::dead_between(seconds(60), NEVER);
    scene.run(seconds(64));
    let Opinion::Dead { evidence, since, is_cut } = scene.health.opinion() else { panic!() };
    let Evidence { lost, targets, has_replies } = evidence;
    assert!((9..=11).contains(&lost), "{lost}");
    assert_eq!((targets, has_replies, is_cut), (3, false, false));
    assert!(since >= seconds(59) && since < seconds(60), "{since:?}");
}

#[test]
fn a_blackout_below_ten_seconds_never_cuts() {
    for length in (9000..10_000).step_by(90) {
        for offset in (0..1000).step_by(130) {
            let start = seconds(60) + ms(offset);
            let mut scene = Scene::dead_between(start, start + ms(length));
            scene.run(seconds(120));
            assert_eq!(scene.verdicts().1, None, "{length} at {offset}");
        }
    }
}

#[test]
fn a_blackout_of_a_second_and_a_quarter_is_nothing() {
    for offset in (0..1000).step_by(50) {
        let start = seconds(60) + ms(offset);
        let mut scene = Scene::dead_between(start, start + ms(1250));
        scene.run(seconds(120));
        assert_eq!(scene.verdicts().0, None, "{offset}");
    }
}

#[test]
fn an_idle_uplink_costs_one_wake_up_a_second_and_a_quiet_one_a_probe_a_minute() {
    let mut scene = Scene::dead_between(NEVER, NEVER);
    scene.run(seconds(600));
    assert!((600..=602).contains(&scene.wakes), "{}", scene.wakes);
    assert!((600..=602).contains(&scene.sent.len()));
    let mut quiet = Scene::dead_between(NEVER, NEVER);
    quiet.health.set_quiet(true);
    quiet.run(seconds(600));
    assert!(quiet.sent.len() <= 13 && quiet.wakes <= 13, "{:?}", quiet.sent);
}

#[test]
fn a_quiet_uplink_is_suspected_by_its_traffic() {
    let dead = seconds(330);
    let mut scene = Scene::dead_between(dead, NEVER).with_traffic(100);
    scene.health.set_quiet(true);
    scene.run(seconds(340));
    let drained = scene.verdicts().0.unwrap() - dead;
    assert!(drained < seconds(3), "{drained:?}");
}

#[test]
fn a_call_makes_a_quiet_uplink_ask_at_once() {
    let mut scene = Scene::dead_between(NEVER, NEVER);
    scene.health.set_quiet(true);
    scene.run(seconds(90));
    scene.health.call(seconds(90));
    scene.step(seconds(90));
    assert_eq!(scene.sent.last().unwrap().0, seconds(90));
    scene.health.call(seconds(90));
    assert!(scene.health.poll(seconds(90)).is_empty(), "it has just been asked");
}

#[test]
fn no_uplink_is_judged_whose_targets_never_answered() {
    let mut scene = Scene::new(3, ms(20), |_, _| false).with_traffic(100);
    scene.run(seconds(600));
    assert_eq!(scene.opinions, [(Duration::ZERO, Opinion::Unknown)]);
    // Nor does it ask each second for ever.
    assert!(scene.sent.len() < 60, "{}", scene.sent.len());
}

#[test]
fn without_targets_nothing_happens() {
    let mut scene = Scene::new(0, ms(20), |_, _| false);
    assert_eq!(scene.health.wake(), None);
    scene.run(seconds(600));
    assert_eq!((scene.sent.len(), scene.wakes), (0, 0));
}

#[test]
fn a_target_that_stops_or_never_answered_is_no_evidence() {
    // One never answers, one stops after a minute.
    let mut scene = Scene::new(3, ms(20), |now, target| match target {
        0 => false,
        1 => now < seconds(60),
        _ => true,
    });
    scene.run(seconds(1200));
    assert_eq!(scene.verdicts().0, None);
    // They cost a second look each now and then, no burst each second.
    let late = scene.sent.iter().filter(|(at, target)| *at > seconds(120) && *target != 2).count();
    assert!(late < 60, "{late}");
    let suspicions = scene.opinions.iter().filter(|(_, opinion)| matches!(opinion, Opinion::Suspected { .. })).count();
    assert!(suspicions <= 5, "{suspicions}");
    assert!(!scene.health.targets()[1].is_usable(seconds(1200)));
}

#[test]
fn traffic_in_one_direction_is_no_death_while_probes_are_answered() {
    let mut scene = Scene::dead_between(NEVER, NEVER).with_traffic(0);
    for second in 1..600 {
        scene.counters.sent += 100;
        scene.run(seconds(second));
    }
    assert_eq!(scene.verdicts().0, None);
}

#[test]
fn slow_first_answers_do_not_make_it_slow_to_notice() {
    for traffic in [None, Some(100)] {
        let mut scene = Scene::dead_between(seconds(60), NEVER);
        (scene.rtt, scene.traffic) = (ms(1900), traffic);
        scene.run(ms(2500));
        scene.rtt = ms(20);
        scene.run(seconds(70));
        let dead = scene.verdicts().0.unwrap();
        assert!(dead <= seconds(63), "{traffic:?}: {dead:?}");
    }
}

#[test]
fn latency_alone_drains_nothing() {
    // From 20 ms to 2 s within two seconds, idle, and back.
    let mut scene = Scene::dead_between(NEVER, NEVER);
    for tenth in 600..2400 {
        let bloat = if tenth < 1200 { (tenth - 600).min(20) * 100 } else { 0 };
        scene.rtt = ms(20 + bloat);
        scene.run(ms(tenth * 100));
    }
    assert_eq!(scene.verdicts().0, None, "{:?}", scene.opinions);
}

#[test]
fn it_is_back_after_up_after_and_doubled_per_relapse() {
    let mut backs = Vec::new();
    // Five seconds dead in each ten minutes, the first ones closer.
    let dead = |now: Duration| now >= seconds(60) && now.as_secs() % 400 < 5 && now < seconds(4000);
    let mut scene = Scene::new(3, ms(20), move |now, _| !dead(now));
    scene.run(seconds(6000));
    let mut alive_at = Duration::ZERO;
    for (at, opinion) in &scene.opinions {
        match opinion {
            Opinion::Dead { .. } => alive_at = seconds(at.as_secs() / 400 * 400 + 5),
            Opinion::Good if !alive_at.is_zero() => {
                backs.push((*at - alive_at).as_secs());
                alive_at = Duration::ZERO;
            }
            _ => {}
        }
    }
    assert_eq!(backs.len(), 9, "{backs:?}");
    let wanted = [5, 10, 20, 40, 80, 160, 300, 300, 300];
    for (back, wanted) in backs.iter().zip(wanted) {
        assert!((wanted..=wanted + 12).contains(back), "{backs:?}");
    }
}

#[test]
fn relapses_are_forgotten_while_it_is_good() {
    use crate::watch::health::machine::decayed;
    assert_eq!(decayed(3, seconds(599)), 3);
    assert_eq!(decayed(3, seconds(601)), 2);
    assert_eq!(decayed(3, NEVER), 0);
}

#[test]
fn one_target_alone_brings_nothing_back_where_two_are_usable() {
    let mut scene = Scene::new(3, ms(20), |now, target| now < seconds(60) || (now >= seconds(80) && target == 0));
    scene.run(seconds(88));
    assert!(matches!(scene.health.opinion(), Opinion::Dead { .. }));
    // The others are gone for good, it seems.
    scene.run(seconds(150));
    assert_eq!(scene.health.opinion(), Opinion::Good);
    // With one target there is none other to wait for.
    let mut scene = Scene::new(1, ms(20), |now, _| now < seconds(60) || now >= seconds(80));
    scene.run(seconds(95));
    assert_eq!(scene.health.opinion(), Opinion::Good);
}

#[test]
fn an_uplink_dead_for_hours_is_asked_rarely_and_still_comes_back() {
    let alive = seconds(6 * 3600);
    let mut scene = Scene::dead_between(seconds(60), alive);
    scene.run(alive);
    let rounds = scene.sent_since(alive - seconds(600)) / 3;
    assert!((110..=121).contains(&rounds), "{rounds}");
    assert!(matches!(scene.health.opinion(), Opinion::Dead { is_cut: true, .. }));
    scene.run(alive + seconds(12));
    assert_eq!(scene.health.opinion(), Opinion::Good);
}

#[test]
fn a_stop_of_the_process_says_nothing() {
    for stopped in [2, 5, 60, 100_000] {
        let mut scene = Scene::dead_between(seconds(60), NEVER);
        // In the middle of a suspicion.
        scene.run(seconds(61));
        assert!(matches!(scene.health.opinion(), Opinion::Suspected { .. }));
        let later = seconds(62 + stopped);
        scene.step(later);
        assert!(!matches!(scene.health.opinion(), Opinion::Dead { .. } | Opinion::Suspected { .. }));
        if stopped < 3600 {
            scene.run(later + seconds(4));
            let drained = scene.verdicts().0.unwrap() - later;
            assert!(drained >= ms(2400), "it was drained for old silence, {drained:?} after {stopped}");
        }
    }
}

#[test]
fn a_stop_does_not_cut_a_drained_uplink() {
    let mut scene = Scene::dead_between(seconds(60), NEVER);
    scene.run(seconds(66));
    assert!(matches!(scene.health.opinion(), Opinion::Dead { is_cut: false, .. }));
    scene.step(seconds(700));
    scene.run(seconds(709));
    assert!(matches!(scene.health.opinion(), Opinion::Dead { is_cut: false, .. }));
    scene.run(seconds(714));
    assert!(matches!(scene.health.opinion(), Opinion::Dead { is_cut: true, .. }));
}

#[test]
fn probes_that_could_not_be_sent_are_no_evidence() {
    let mut scene = Scene::dead_between(NEVER, NEVER);
    scene.run(seconds(60) + ms(500));
    let mut now = scene.now;
    while now < seconds(120) {
        now = scene.health.wake().unwrap();
        for probe in scene.health.poll(now) {
            scene.health.refused(now, probe.id);
        }
        assert_eq!(scene.health.opinion(), Opinion::Good);
    }
}

#[test]
fn a_new_start_of_the_interface_forgets_silence() {
    let mut scene = Scene::dead_between(seconds(60), NEVER);
    scene.run(seconds(61));
    scene.health.restarted(seconds(61));
    assert_eq!(scene.health.opinion(), Opinion::Good);
    scene.run(seconds(63));
    assert_eq!(scene.verdicts().0, None);
    // One that was dead has to answer first.
    scene.run(seconds(70));
    scene.health.restarted(seconds(70));
    assert!(matches!(scene.health.opinion(), Opinion::Dead { .. }));
    scene.carries = Box::new(|_, _| true);
    scene.run(seconds(80));
    assert_eq!(scene.health.opinion(), Opinion::Good);
}

#[test]
fn loss_is_that_of_the_last_hundred_probes() {
    let mut scene = Scene::new(3, ms(20), |now, _| now.as_secs() % 10 != 0);
    scene.run(seconds(400));
    let (lost, of) = scene.health.loss();
    assert_eq!(of, 100);
    assert!((20..40).contains(&lost), "a second look each, too: {lost}");
}

#[test]
fn long_times_of_the_configuration_hold() {
    let settings =
        Settings { interval: seconds(5), down_after: seconds(30), cut_after: seconds(60), up_after: seconds(20) };
    let mut scene = Scene::dead_between(seconds(60), NEVER);
    scene.health = Health::new(Duration::ZERO, 3, settings);
    scene.run(seconds(300));
    let (drained, cut) = scene.verdicts();
    assert!((seconds(85)..seconds(96)).contains(&drained.unwrap()), "{drained:?}");
    assert!((seconds(120)..seconds(135)).contains(&cut.unwrap()), "{cut:?}");
}

#[test]
fn a_quiet_uplink_is_not_drained_for_a_silence_in_which_nobody_asked() {
    let dead = seconds(330);
    let mut scene = Scene::dead_between(dead, NEVER);
    scene.health.set_quiet(true);
    scene.run(seconds(420));
    let asked = scene.sent.iter().map(|(at, _)| *at).find(|at| *at >= dead).unwrap();
    let drained = scene.verdicts().0.unwrap() - asked;
    assert!(drained >= ms(1500) && drained < ms(1600), "{drained:?}");
}
