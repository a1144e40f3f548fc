//! Simulated lines, and the programs that watch them: how soon a dead line is left, and how often one that lives.

#![allow(clippy::cast_precision_loss, clippy::unchecked_time_subtraction)]

mod line;
mod watchers;

use std::time::Duration;

use line::Random;
pub use line::{Counts, Kind, Line};
pub use watchers::{Dpinger, Foolsm, MhWatch, Mwan3track, Vyos, Watcher};

pub const DAY: f64 = 86400.0;

/// What became of a line that lives.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alarms {
    /// How often it was left.
    pub out: u32,
    /// How often it was cut.
    pub cut: u32,
    /// For which part of the time it was left.
    pub share: f64,
}

/// A line that lives, watched for `length` seconds.
pub fn false_alarms(mut line: Line, length: f64, watcher: &mut dyn Watcher) -> Alarms {
    let mut alarms = Alarms::default();
    let mut before = (false, false);
    let mut out_for = Duration::ZERO;
    let end = Duration::from_secs_f64(length);
    while watcher.wake() < end {
        let now = watcher.wake();
        watcher.step(now, &mut line);
        alarms.out += u32::from(watcher.is_out() && !before.0);
        alarms.cut += u32::from(watcher.is_cut() && !before.1);
        before = (watcher.is_out(), watcher.is_cut());
        if before.0 {
            out_for += watcher.wake() - now;
        }
    }
    alarms.share = out_for.as_secs_f64() / length;
    alarms
}

/// A line that dies after `warm` seconds and up to a minute: seconds until it is left. `None`: it had been left already.
fn detection(kind: Kind, seed: u64, warm: f64, watcher: &mut dyn Watcher) -> Option<f64> {
    let death = warm + Random(seed).unit() * 60.0;
    let mut line = Line::new(kind, seed, death, death);
    let death = Duration::from_secs_f64(death);
    while watcher.wake() < death {
        watcher.step(watcher.wake(), &mut line);
    }
    if watcher.is_out() {
        return None;
    }
    loop {
        let now = watcher.wake();
        watcher.step(now, &mut line);
        if watcher.is_out() {
            return Some((now - death).as_secs_f64());
        }
        assert!(now < death + Duration::from_secs(1000), "{} never finds out", watcher.name());
    }
}

/// Of so many deaths, in ascending order.
pub fn detections(kind: Kind, deaths: u64, warm: f64, watcher: fn() -> Box<dyn Watcher>) -> Vec<f64> {
    let mut all: Vec<f64> = (0..deaths).filter_map(|seed| detection(kind, seed, warm, &mut *watcher())).collect();
    all.sort_by(f64::total_cmp);
    all
}
