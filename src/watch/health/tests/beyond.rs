//! Replies that may be the provider's own, or a stranger's packets.

use super::*;

/// Packets go out and are answered all the time; from `dead` until `alive` by the provider alone.
fn dead_beyond(dead: Duration, alive: Duration) -> Scene {
    let mut scene = Scene::dead_between(dead, alive).with_traffic(100);
    scene.has_provider = true;
    scene
}

fn is_dead(scene: &Scene) -> bool {
    matches!(scene.health.opinion(), Opinion::Dead { .. })
}

#[test]
fn while_replies_flow_a_target_is_asked_each_twenty_seconds() {
    let mut scene = Scene::dead_between(NEVER, NEVER).with_traffic(100);
    scene.run(seconds(60));
    scene.run(seconds(3660));
    let asked = scene.sent_since(seconds(60));
    assert!((178..=180).contains(&asked), "{asked}");
    assert!(scene.wakes <= 3660 * 5, "{}", scene.wakes);
    // They still count after hours of it, and so an uplink that dies is found dead.
    scene.carries = Box::new(|now, _| now < seconds(7200));
    scene.run(seconds(7210));
    assert!(scene.verdicts().0.unwrap() < seconds(7203));
}

#[test]
fn a_line_whose_provider_alone_answers_is_left_within_half_a_minute_and_not_cut() {
    for offset in (0..20_000).step_by(700) {
        let dead = seconds(100) + ms(offset);
        let mut scene = dead_beyond(dead, NEVER);
        scene.run(seconds(300));
        let (drained, cut) = scene.verdicts();
        let drained = drained.unwrap() - dead;
        assert!(drained >= seconds(10) && drained < ms(30_500), "{drained:?} at {offset}");
        assert_eq!(cut, None, "its connections get replies");
        let Opinion::Dead { since, evidence, .. } = scene.health.opinion() else { panic!() };
        assert!(since >= dead && since <= dead + seconds(21), "{since:?} at {offset}");
        assert!(evidence.has_replies && evidence.targets == 3 && evidence.lost >= 9, "{evidence:?}");
        // Asked as rarely as one that is silent.
        assert!(scene.sent_since(seconds(240)) <= 60, "{}", scene.sent_since(seconds(240)));
    }
}

#[test]
fn once_replies_have_ceased_for_ten_seconds_it_is_cut() {
    let mut scene = dead_beyond(seconds(100), NEVER);
    scene.run(seconds(200));
    assert!(is_dead(&scene) && scene.verdicts().1.is_none());
    scene.has_provider = false;
    scene.run(seconds(204));
    assert_eq!(scene.verdicts().1, None);
    // Nobody looks more often than each five seconds.
    scene.run(seconds(217));
    assert!(scene.verdicts().1.is_some());
}

#[test]
fn it_is_back_once_targets_answer() {
    let mut scene = dead_beyond(seconds(100), seconds(7000));
    scene.run(seconds(7000));
    assert!(is_dead(&scene));
    scene.run(seconds(7012));
    assert_eq!(scene.health.opinion(), Opinion::Good);
}

#[test]
fn a_quiet_line_is_asked_once_a_minute_all_the_same_and_left_a_moment_after_that() {
    let mut scene = dead_beyond(seconds(630), NEVER);
    scene.health.set_quiet(true);
    scene.run(seconds(630));
    assert!(scene.sent.len() <= 13, "{:?}", scene.sent);
    scene.run(seconds(720));
    let drained = scene.verdicts().0.unwrap() - seconds(630);
    assert!(drained < seconds(71), "{drained:?}");
}

#[test]
fn a_reply_now_and_then_keeps_no_dead_line() {
    for gap in [1, 3, 7] {
        let dead = seconds(100);
        let mut scene = Scene::dead_between(dead, NEVER).with_traffic(0);
        for second in 1..200 {
            scene.counters.sent += 3;
            scene.counters.replies += u64::from(second % gap == 0 || second < 100);
            scene.run(seconds(second));
        }
        let drained = scene.verdicts().0.unwrap() - dead;
        assert!(drained < ms(31_000), "{drained:?} with one each {gap} s");
    }
}

#[test]
fn replies_outweigh_two_targets_and_one_that_dies() {
    for targets in [1, 2] {
        let mut scene = Scene::new(targets, ms(20), |now, _| now < seconds(100)).with_traffic(100);
        scene.has_provider = true;
        scene.run(seconds(3000));
        assert_eq!(scene.verdicts().0, None, "{targets}");
        assert!(scene.sent.len() < 200, "it asks no more often than before: {}", scene.sent.len());
    }
    for dies in 0..4 {
        let mut scene = Scene::new(4, ms(20), move |now, target| target != dies || now < seconds(100));
        scene.traffic = Some(100);
        scene.has_provider = true;
        scene.run(seconds(3000));
        let suspected = scene.opinions.iter().any(|(_, opinion)| matches!(opinion, Opinion::Suspected { .. }));
        assert!(!suspected, "{:?}", scene.opinions);
    }
}

#[test]
fn a_blackout_beyond_the_provider_drains_nothing_below_eight_seconds_and_cuts_nothing() {
    for (length, may_drain) in [(1000, false), (4000, false), (8000, false), (9900, true)] {
        for offset in (0..20_000).step_by(900) {
            let start = seconds(100) + ms(offset);
            let mut scene = dead_beyond(start, start + ms(length));
            scene.run(seconds(180));
            let (drained, cut) = scene.verdicts();
            assert!(cut.is_none() && (may_drain || drained.is_none()), "{length} at {offset}: {drained:?}");
        }
    }
}

#[test]
fn no_latency_drains_while_replies_flow() {
    let mut scene = dead_beyond(NEVER, NEVER);
    for tenth in 600..6000 {
        // To eight seconds, as fast as twice of what the line carries fills a buffer.
        let bloat = if tenth % 1200 < 600 { (tenth % 1200).min(80) * 100 } else { 0 };
        scene.rtt = ms(20 + bloat);
        scene.run(ms(tenth * 100));
    }
    assert_eq!(scene.verdicts().0, None, "{:?}", scene.opinions);
}

#[test]
fn one_that_falls_silent_while_its_targets_are_in_doubt_is_left_as_soon_as_another() {
    for into in (0..9000).step_by(300) {
        let mut scene = dead_beyond(seconds(100), NEVER);
        while !matches!(scene.health.opinion(), Opinion::Suspected { .. }) {
            let wake = scene.health.wake().unwrap();
            assert!(wake < seconds(150), "nobody doubts");
            scene.run(wake);
        }
        let silent = scene.now + ms(into);
        scene.run(silent);
        scene.has_provider = false;
        scene.run(silent + seconds(3));
        assert!(is_dead(&scene), "{into}: {:?}", scene.opinions);
    }
}

#[test]
fn packets_that_nobody_has_asked_for_keep_no_dead_line() {
    // One target is enough against them: without counters it would be, too.
    for targets in [1, 3] {
        for offset in (0..20_000).step_by(1300) {
            let dead = seconds(100) + ms(offset);
            let mut scene = Scene::new(targets, ms(20), move |now, _| now < dead).with_traffic(100);
            scene.has_provider = true;
            scene.counted = Counted::Anybodys;
            scene.run(seconds(300));
            let (drained, cut) = scene.verdicts();
            let (drained, cut) = (drained.unwrap() - dead, cut.unwrap() - dead);
            assert!(drained < ms(30_500), "{drained:?} at {offset}");
            assert!(cut >= drained + seconds(9) && cut < drained + seconds(12), "{drained:?}, {cut:?} at {offset}");
        }
    }
}
