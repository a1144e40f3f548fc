//! mh-watch's decision on simulated lines, and its goals: a dead uplink is noticed soon, and one that lives is not held
//! dead. `make bench` takes a month of each line, beside models of other programs (examples/health).

mod simulation;

use simulation::{
    Counts, DAY, Dpinger, Foolsm, Kind, Line, MhWatch, Mwan3track, Vyos, Watcher, detections, false_alarms,
};

type New = fn() -> Box<dyn Watcher>;

const TRAFFIC: Kind = Kind { traffic: 50.0, ..Kind::PLAIN };

fn worst(kind: Kind, deaths: u64) -> f64 {
    *detections(kind, deaths, 30.0, || Box::new(MhWatch::new())).last().unwrap()
}

fn drained_and_cut(kind: Kind, seed: u64, days: f64) -> (u32, u32) {
    let alarms = false_alarms(Line::new(kind, seed, days * DAY, f64::INFINITY), days * DAY, &mut MhWatch::new());
    (alarms.out, alarms.cut)
}

#[test]
fn a_dead_line_is_left_within_three_seconds_below_a_round_trip_of_200_ms() {
    for base in [Kind::PLAIN, TRAFFIC] {
        for rtt in [0.001, 0.03, 0.19] {
            for loss in [0.0, 0.02, 0.1] {
                let worst = worst(Kind { rtt, jitter: rtt / 10.0, loss, ..base }, 60);
                assert!(worst < 3.0, "{worst} s at {rtt} s and a loss of {loss}");
            }
        }
    }
}

#[test]
fn a_dead_line_is_left_within_five_seconds_at_a_round_trip_of_two_seconds() {
    for base in [Kind::PLAIN, TRAFFIC] {
        for (rtt, jitter) in [(0.6, 0.05), (2.0, 0.05), (2.0, 0.5)] {
            let worst = worst(Kind { rtt, jitter, loss: 0.01, ..base }, 60);
            assert!(worst < 5.0, "{worst} s at {rtt} s, jitter {jitter} s");
        }
    }
    // In the middle of bufferbloat, and just after it.
    for warm in [30.0, 603.0] {
        let bloated = || detections(Kind { is_bloated: true, ..TRAFFIC }, 12, warm, || Box::new(MhWatch::new()));
        let worst = *bloated().last().unwrap();
        assert!(worst < 5.0, "{worst} s after {warm} s");
    }
}

#[test]
fn a_line_whose_provider_alone_answers_is_left_within_half_a_minute() {
    for counts in [Counts::Replies, Counts::Anything] {
        for (rtt, loss) in [(0.03, 0.0), (0.03, 0.02), (0.19, 0.1), (2.0, 0.01)] {
            let worst = worst(Kind { rtt, jitter: rtt / 10.0, loss, counts, has_provider: true, ..TRAFFIC }, 60);
            assert!(worst < 31.0, "{worst} s at {rtt} s and a loss of {loss}");
        }
    }
    // What lasts for some seconds only drains nothing, and whatever it is it cuts nothing.
    let blackouts = Kind { blackouts: (2000.0, 5.0), loss: 0.02, has_provider: true, ..TRAFFIC };
    assert_eq!(drained_and_cut(Kind { longest_blackout: 8.0, ..blackouts }, 6, 0.1), (0, 0));
    let (drained, cut) = drained_and_cut(blackouts, 6, 0.1);
    assert!(drained > 0 && cut == 0, "{drained}, {cut}");
}

#[test]
fn random_loss_is_no_death() {
    for (loss, days) in [(0.005, 0.2), (0.02, 1.0), (0.05, 0.2)] {
        assert_eq!(drained_and_cut(Kind { loss, ..Kind::PLAIN }, 1, days), (0, 0), "{loss}");
        assert_eq!(drained_and_cut(Kind { loss, ..TRAFFIC }, 1, days / 2.0), (0, 0), "{loss}");
    }
    assert_eq!(drained_and_cut(Kind { loss: 0.3, ..TRAFFIC }, 1, 0.1), (0, 0));
    let satellite = Kind { rtt: 0.6, jitter: 0.08, loss: 0.02, ..Kind::PLAIN };
    assert_eq!(drained_and_cut(satellite, 2, 0.5), (0, 0));
}

#[test]
fn neither_bufferbloat_nor_a_dead_target_nor_one_that_limits_its_answers_is_a_death() {
    let bloated = Kind { is_bloated: true, loss: 0.01, ..Kind::PLAIN };
    for kind in [
        Kind { traffic: 50.0, ..bloated },
        Kind { counts: Counts::Nothing, ..bloated },
        Kind { counts: Counts::Anything, traffic: 50.0, ..bloated },
        Kind { dead_targets: 1, loss: 0.02, ..Kind::PLAIN },
        Kind { dead_targets: 2, loss: 0.02, ..Kind::PLAIN },
        Kind { rate_limit: 1.0, loss: 0.02, ..Kind::PLAIN },
        Kind { dead_targets: 1, loss: 0.02, ..TRAFFIC },
        Kind { rate_limit: 3.0, loss: 0.02, ..TRAFFIC },
    ] {
        assert_eq!(drained_and_cut(kind, 3, 0.3), (0, 0));
    }
}

#[test]
fn a_blackout_below_ten_seconds_cuts_nothing() {
    // Some thousand a day, of 2 s on average.
    for traffic in [0.0, 50.0] {
        let kind = Kind { blackouts: (5000.0, 2.0), longest_blackout: 9.99, loss: 0.02, traffic, ..Kind::PLAIN };
        let line = Line::new(kind, 4, 0.5 * DAY, f64::INFINITY);
        let alarms = false_alarms(line, 0.5 * DAY, &mut MhWatch::new());
        assert_eq!(alarms.cut, 0);
        assert!(alarms.out > 20, "there was something to drain: {alarms:?}");
    }
}

/// The models do what the programs' sources and their users say.
#[test]
fn the_models_of_other_programs_are_as_slow_or_as_hasty_as_they_are() {
    let range = |watcher: New| {
        let all = detections(Kind::PLAIN, 40, 120.0, watcher);
        (all[0], all[all.len() - 1])
    };
    let models: [(New, f64, f64); 4] = [
        (|| Box::<Mwan3track>::default(), 110.0, 131.0),
        (|| Box::<Dpinger>::default(), 13.0, 16.0),
        (|| Box::<Foolsm>::default(), 6.9, 8.1),
        (|| Box::<Vyos>::default(), 5.0, 10.1),
    ];
    for (model, soonest, latest) in models {
        let (first, last) = range(model);
        let name = model().name();
        assert!(first >= soonest && last <= latest, "{name}: {first} to {last} s");
    }
    let lossy = Line::new(Kind { loss: 0.02, ..Kind::PLAIN }, 5, DAY, f64::INFINITY);
    let alarms = false_alarms(lossy, DAY, &mut Vyos::default());
    assert!((250..450).contains(&alarms.out), "10,368 a month by calculation: {alarms:?} a day");
}
