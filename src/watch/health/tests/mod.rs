//! The rules of the decision, one by one, with a clock that is handed in.

// A panic is as good as an assertion here.
#![allow(clippy::unchecked_time_subtraction)]

mod beyond;
mod judge;
mod machine;
mod parts;
mod properties;
mod resolvers;
mod saved;

use std::time::Duration;

use super::{Counted, Counters, Health, Opinion, Settings};

const NEVER: Duration = Duration::from_hours(1000);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Whether a packet gets through at a time, and to which target.
type Carries = Box<dyn Fn(Duration, usize) -> bool>;

/// A machine on a line that is made up.
struct Scene {
    health: Health,
    now: Duration,
    rtt: Duration,
    carries: Carries,
    /// Packets a second that are sent and, while it carries, answered.
    traffic: Option<u64>,
    /// They are answered though it carries nothing: by the provider.
    has_provider: bool,
    counters: Counters,
    counted: fn(Counters) -> Counted,
    /// When, and to which probe.
    answers: Vec<(Duration, u64)>,
    /// When probes were sent, and to which target.
    sent: Vec<(Duration, usize)>,
    /// When the opinion changed, and what it became.
    opinions: Vec<(Duration, Opinion)>,
    wakes: u64,
}

impl Scene {
    fn new(targets: usize, rtt: Duration, carries: impl Fn(Duration, usize) -> bool + 'static) -> Self {
        Self {
            health: Health::new(Duration::ZERO, targets, Settings::default()),
            now: Duration::ZERO,
            rtt,
            carries: Box::new(carries),
            traffic: None,
            has_provider: false,
            counters: Counters { sent: 0, replies: 0 },
            counted: Counted::Ours,
            answers: Vec::new(),
            sent: Vec::new(),
            opinions: Vec::new(),
            wakes: 0,
        }
    }

    /// Three targets that answer within 20 ms until `dead` and not until `alive`.
    fn dead_between(dead: Duration, alive: Duration) -> Self {
        Self::new(3, ms(20), move |now, _| now < dead || now >= alive)
    }

    fn with_traffic(mut self, per_second: u64) -> Self {
        self.traffic = Some(per_second);
        self
    }

    fn run(&mut self, until: Duration) {
        loop {
            let answer = self.answers.iter().map(|(at, _)| *at).min();
            let next = [self.health.wake(), answer].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            assert!(next >= self.now, "it wants to be woken in the past");
            if answer != Some(next) {
                self.wakes += 1;
            }
            self.step(next);
            let wake = self.health.wake();
            assert!(wake.is_none_or(|wake| wake > next), "it does not rest at {next:?}");
        }
        self.now = until;
    }

    /// All that happens at a time.
    fn step(&mut self, now: Duration) {
        if let Some(per_second) = self.traffic {
            for tenth in self.now.as_millis() / 10..now.as_millis() / 10 {
                let at = ms(u64::try_from(tenth).unwrap() * 10);
                let packets = per_second / 100;
                self.counters.sent += packets;
                self.counters.replies += if self.has_provider || (self.carries)(at, 0) { packets } else { 0 };
            }
        }
        self.now = now;
        let (due, later) = self.answers.iter().partition(|(at, _)| *at <= now);
        self.answers = later;
        let due: Vec<(Duration, u64)> = due;
        for (_, id) in due {
            self.health.answered(now, id);
        }
        self.health.counted(now, self.traffic.map(|_| (self.counted)(self.counters)));
        for probe in self.health.poll(now) {
            self.sent.push((now, probe.target));
            if (self.carries)(now, probe.target) && (self.carries)(now + self.rtt, probe.target) {
                self.answers.push((now + self.rtt, probe.id));
            }
        }
        let opinion = self.health.opinion();
        if self.opinions.last().is_none_or(|(_, last)| *last != opinion) {
            self.opinions.push((now, opinion));
        }
    }

    /// When it was first held dead, and when first cut.
    fn verdicts(&self) -> (Option<Duration>, Option<Duration>) {
        let first =
            |wanted: fn(&Opinion) -> bool| self.opinions.iter().find(|(_, opinion)| wanted(opinion)).map(|(at, _)| *at);
        let dead = first(|opinion| matches!(opinion, Opinion::Dead { .. }));
        (dead, first(|opinion| matches!(opinion, Opinion::Dead { is_cut: true, .. })))
    }

    /// Probes sent from a time on.
    fn sent_since(&self, since: Duration) -> usize {
        self.sent.iter().filter(|(at, _)| *at >= since).count()
    }
}
