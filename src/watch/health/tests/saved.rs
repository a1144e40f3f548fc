//! What is kept across a restart.

use super::*;
use crate::model::names::Family;
use crate::watch::health::{Key, Saved, Uplink, Uplinks};

fn key() -> Key {
    Key { uplink: "isp1".parse().unwrap(), family: Family::V4 }
}

fn uplinks(now: Duration, targets: &[&str]) -> Uplinks {
    let targets = targets.iter().map(|target| (*target).to_owned()).collect();
    let mut uplinks =
        Uplinks::new(now, Settings::default(), vec![Uplink { key: key(), tier: 1, metered: false, targets }]);
    uplinks.up(now, &key());
    uplinks
}

/// Answered by both targets, and then dead.
fn experienced(is_dead: bool) -> Saved {
    let mut uplinks = uplinks(Duration::ZERO, &["1.1.1.1", "9.9.9.9"]);
    let mut now = Duration::ZERO;
    while now < seconds(30) {
        now = uplinks.wake().unwrap();
        for (key, probe) in uplinks.poll(now).probes {
            if now < seconds(20) || !is_dead {
                uplinks.health_mut(&key).unwrap().answered(now + ms(25), probe.id);
            }
        }
    }
    uplinks.save(now)
}

#[test]
fn a_new_process_knows_the_targets_and_what_is_dead() {
    for is_dead in [false, true] {
        let saved = Saved::from_json(&experienced(is_dead).to_json()).unwrap();
        // Another order, and one more.
        let mut uplinks = uplinks(seconds(5), &["8.8.8.8", "9.9.9.9", "1.1.1.1"]);
        uplinks.restore(seconds(5), seconds(3), &saved);
        let health = uplinks.health(&key()).unwrap();
        assert_eq!(matches!(health.opinion(), Opinion::Dead { is_cut: false, .. }), is_dead);
        assert_ne!(health.opinion(), Opinion::Unknown);
        let rtts: Vec<_> = health.targets().iter().map(|target| target.rtt.map(|rtt| rtt.smoothed)).collect();
        assert_eq!(rtts, [None, Some(ms(25)), Some(ms(25))]);
    }
}

#[test]
fn who_was_away_for_long_knows_less() {
    let saved = experienced(true);
    let mut minutes = uplinks(seconds(9000), &["1.1.1.1"]);
    minutes.restore(seconds(9000), seconds(120), &saved);
    assert_eq!(minutes.health(&key()).unwrap().opinion(), Opinion::Good);
    let mut hours = uplinks(seconds(9000), &["1.1.1.1"]);
    hours.restore(seconds(9000), seconds(3700), &saved);
    assert_eq!(hours.health(&key()).unwrap().opinion(), Opinion::Unknown);
    // A clock that is younger than the answers.
    let mut young = uplinks(seconds(5), &["1.1.1.1"]);
    young.restore(seconds(5), seconds(3700), &saved);
    assert_eq!(young.health(&key()).unwrap().opinion(), Opinion::Unknown);
}

#[test]
fn a_hostile_file_does_no_harm() {
    for text in ["", "{}", "[]", r#"{"version":2,"uplinks":[]}"#, r#"{"version":1,"uplinks":[{"uplink":"isp1"}]}"#] {
        assert_eq!(Saved::from_json(text), None, "{text}");
    }
    let many = format!(r#"{{"version":1,"uplinks":[{}]}}"#, vec![saved_text("isp1", 4, 0, 0); 300].join(","));
    assert_eq!(Saved::from_json(&many), None);
    let most = u64::MAX;
    for (name, family) in [("isp1", 4), ("isp1", 6), ("isp1", 9), ("../../etc", 4), ("", 4), ("isp2", 4)] {
        for number in [0, 1, most - 1, most] {
            let text = format!(r#"{{"version":1,"uplinks":[{}]}}"#, saved_text(name, family, number, most - number));
            let saved = Saved::from_json(&text).unwrap();
            let mut uplinks = uplinks(seconds(1), &["1.1.1.1"]);
            uplinks.restore(seconds(1), Duration::from_millis(number), &saved);
            let rtts = uplinks.health(&key()).unwrap().targets().iter().filter_map(|target| target.rtt);
            assert!(rtts.into_iter().all(|rtt| rtt.smoothed <= seconds(12) && rtt.variation <= seconds(12)));
            for now in 1..100 {
                uplinks.poll(seconds(now));
                let health = uplinks.health(&key()).unwrap();
                assert!(health.hold() <= seconds(300));
                assert!(health.targets().iter().all(|target| target.timeout() <= seconds(3)));
            }
        }
    }
}

fn saved_text(name: &str, family: u8, ago: u64, rtt: u64) -> String {
    format!(
        r#"{{"uplink":"{name}","family":{family},"targets":[{{"target":"1.1.1.1","answered_ago":{ago},"smoothed_us":{rtt},
        "variation_us":{ago}}}],"relapses":{},"good_for":{rtt},"dead":{{"since_ago":{rtt},"silent":{ago},"lost":{ago},
        "targets":{ago}}}}}"#,
        u32::try_from(ago).unwrap_or(u32::MAX)
    )
}
