//! mh-watch, and faithful models of what other programs do at their defaults, each watching a line.

use std::collections::VecDeque;
use std::time::Duration;

use multihome::watch::health::{Health, Opinion, Settings};

use super::line::Line;

/// A program that watches a line.
pub trait Watcher {
    fn name(&self) -> &'static str;
    /// When it does something next.
    fn wake(&self) -> Duration;
    fn step(&mut self, now: Duration, line: &mut Line);
    /// Whether it keeps new connections off the line.
    fn is_out(&self) -> bool;
    /// Whether it cuts connections.
    fn is_cut(&self) -> bool {
        self.is_out()
    }
}

/// Ours.
pub struct MhWatch {
    health: Health,
    answers: Vec<(Duration, u64)>,
}

impl MhWatch {
    pub fn new() -> Self {
        Self { health: Health::new(Duration::ZERO, 3, Settings::default()), answers: Vec::new() }
    }
}

impl Watcher for MhWatch {
    fn name(&self) -> &'static str {
        "mh-watch"
    }

    fn wake(&self) -> Duration {
        let answer = self.answers.iter().map(|(at, _)| *at).min();
        self.health.wake().into_iter().chain(answer).min().unwrap()
    }

    fn step(&mut self, now: Duration, line: &mut Line) {
        let mut index = 0;
        while let Some((at, id)) = self.answers.get(index).copied() {
            if at > now {
                index += 1;
                continue;
            }
            self.answers.swap_remove(index);
            self.health.answered(now, id);
        }
        self.health.counted(now, line.counters(now));
        for probe in self.health.poll(now) {
            if let Some(rtt) = line.probe(now, probe.target) {
                self.answers.push((now + rtt, probe.id));
            }
        }
    }

    fn is_out(&self) -> bool {
        matches!(self.health.opinion(), Opinion::Dead { .. })
    }

    fn is_cut(&self) -> bool {
        matches!(self.health.opinion(), Opinion::Dead { is_cut: true, .. })
    }
}

/// mwan3 2.12, `mwan3track`: each round asks four hosts in turn until two have answered (ping -c 1 -W 4), then sleeps
/// for 10 s; five bad rounds, or five good ones.
#[derive(Default)]
pub struct Mwan3track {
    next: Duration,
    host: usize,
    answered: u32,
    /// From 10 down to 5, and back.
    score: Option<u32>,
    is_down: bool,
}

impl Watcher for Mwan3track {
    fn name(&self) -> &'static str {
        "mwan3track"
    }

    fn wake(&self) -> Duration {
        self.next
    }

    fn step(&mut self, now: Duration, line: &mut Line) {
        const HOSTS: usize = 4;
        const RELIABILITY: u32 = 2;
        const UP: u32 = 5;
        const DOWN: u32 = 5;
        let timeout = Duration::from_secs(4);
        if self.host < HOSTS && self.answered < RELIABILITY {
            let answer = line.probe(now, self.host).filter(|rtt| *rtt <= timeout);
            self.answered += u32::from(answer.is_some());
            self.host += 1;
            self.next = now + answer.unwrap_or(timeout);
            return;
        }
        let mut score = self.score.unwrap_or(UP + DOWN);
        if self.answered < RELIABILITY {
            score = score.saturating_sub(1);
            if score == UP {
                self.is_down = true;
            }
            if score <= UP {
                score = 0;
            }
        } else {
            score += 1;
            if score >= UP {
                self.is_down = false;
                score = UP + DOWN;
            }
        }
        (self.score, self.host, self.answered) = (Some(score), 0, 0);
        self.next = now + Duration::from_secs(10);
    }

    fn is_out(&self) -> bool {
        self.is_down
    }
}

/// dpinger as pfSense starts it: an echo each 0.5 s, lost after 2 s, means over 60 s; alarm above 20 % of loss or 500 ms,
/// looked at each second, and cleared ten good looks later.
#[derive(Default)]
pub struct Dpinger {
    sent: u64,
    /// When, and the round-trip time of the answer.
    window: VecDeque<(Duration, Option<Duration>)>,
    decay: u32,
}

impl Watcher for Dpinger {
    fn name(&self) -> &'static str {
        "dpinger (pfSense)"
    }

    fn wake(&self) -> Duration {
        Duration::from_millis(500) * u32::try_from(self.sent).unwrap()
    }

    fn step(&mut self, now: Duration, line: &mut Line) {
        self.sent += 1;
        self.window.push_back((now, line.probe(now, 0)));
        if self.window.len() > 124 {
            self.window.pop_front();
        }
        if !self.sent.is_multiple_of(2) {
            return;
        }
        let (mut received, mut lost, mut total) = (0u32, 0u32, Duration::ZERO);
        for (sent, rtt) in &self.window {
            match rtt {
                Some(rtt) if *sent + *rtt <= now => {
                    received += 1;
                    total += *rtt;
                }
                _ if now > *sent + Duration::from_secs(2) => lost += 1,
                _ => {}
            }
        }
        let is_slow = received > 0 && total / received > Duration::from_millis(500);
        let is_lossy = lost > 0 && lost * 100 / (received + lost) > 20;
        self.decay = if is_slow || is_lossy { 10 } else { self.decay.saturating_sub(1) };
    }

    fn is_out(&self) -> bool {
        self.decay > 0
    }
}

/// foolsm, of Shorewall: an echo each second, lost after 1 s; down at 7 lost in a row or 15 of the last 100, up again at 10
/// answered in a row and at most 5 of 100 lost. It looks each second, and not at the youngest echo.
#[derive(Default)]
pub struct Foolsm {
    sent: u32,
    /// When, the answer's round-trip time, and whether it has been counted as lost.
    window: VecDeque<(Duration, Option<Duration>, bool)>,
    lost: usize,
    is_down: bool,
}

impl Watcher for Foolsm {
    fn name(&self) -> &'static str {
        "foolsm"
    }

    fn wake(&self) -> Duration {
        Duration::from_secs(1) * self.sent
    }

    fn step(&mut self, now: Duration, line: &mut Line) {
        let timeout = Duration::from_secs(1);
        self.sent += 1;
        self.window.push_back((now, line.probe(now, 0), false));
        if self.window.len() > 100 && self.window.pop_front().is_some_and(|(_, _, is_lost)| is_lost) {
            self.lost -= 1;
        }
        for (sent, rtt, is_lost) in self.window.iter_mut().rev().skip(1).take(2) {
            if !*is_lost && rtt.is_none_or(|rtt| rtt > timeout) && now >= *sent + timeout {
                *is_lost = true;
                self.lost += 1;
            }
        }
        let before = self.window.iter().rev().skip(1);
        let is_missing = |(sent, rtt, is_lost): &&(Duration, Option<Duration>, bool)| {
            *is_lost || rtt.is_none_or(|rtt| *sent + rtt > now)
        };
        if self.is_down {
            let in_a_row = before.take_while(|echo| !is_missing(echo)).take(10).count();
            self.is_down = self.lost > 5 || in_a_row < 10;
        } else {
            let in_a_row = before.take_while(is_missing).take(7).count();
            self.is_down = self.lost >= 15 || in_a_row >= 7;
        }
    }

    fn is_out(&self) -> bool {
        self.is_down
    }
}

/// VyOS 1.5, `vyos-load-balancer.py`: ping -c 1 -W 5 to one target, then 5 s of sleep; one failure, one success.
#[derive(Default)]
pub struct Vyos {
    next: Duration,
    result: Option<bool>,
    is_down: bool,
}

impl Watcher for Vyos {
    fn name(&self) -> &'static str {
        "VyOS"
    }

    fn wake(&self) -> Duration {
        self.next
    }

    fn step(&mut self, now: Duration, line: &mut Line) {
        let timeout = Duration::from_secs(5);
        if let Some(is_good) = self.result.take() {
            self.is_down = !is_good;
            self.next = now + Duration::from_secs(5);
            return;
        }
        let answer = line.probe(now, 0).filter(|rtt| *rtt <= timeout);
        self.result = Some(answer.is_some());
        self.next = now + answer.unwrap_or(timeout);
    }

    fn is_out(&self) -> bool {
        self.is_down
    }
}
