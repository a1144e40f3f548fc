//! A line that is made up: loss, bursts of loss, blackouts, bufferbloat, targets of all kinds. All programs meet the same
//! one: what happens when is drawn from the seed before the first probe.

use std::time::Duration;

use multihome::watch::health::{Counted, Counters};

/// Numbers at random (splitmix64), the same for the same seed.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to 1, without 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Exponential.
    pub fn after(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }
}

/// Which packets are counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// What is sent, and what answers it.
    Replies,
    /// The interface's: whatever goes and comes.
    Anything,
    Nothing,
}

/// How a line behaves.
#[derive(Clone, Copy)]
pub struct Kind {
    /// Of probes and their answers together.
    pub loss: f64,
    /// Seconds; half of the jitter is below it, half above.
    pub rtt: f64,
    pub jitter: f64,
    /// Packets a second, answered while the line carries; 0: it is idle.
    pub traffic: f64,
    /// What is counted of them.
    pub counts: Counts,
    /// They are answered by the provider: in blackouts, too, and after the line's death.
    pub has_provider: bool,
    /// Blackouts a day, and their mean length in seconds.
    pub blackouts: (f64, f64),
    /// None is longer.
    pub longest_blackout: f64,
    /// Bursts of loss (Gilbert): mean seconds between them, mean length, loss within them.
    pub bursts: Option<(f64, f64, f64)>,
    /// For ten minutes each hour the round-trip time is up to 2 s.
    pub is_bloated: bool,
    /// Each target answers at most once in so many seconds.
    pub rate_limit: f64,
    /// Targets that never answer.
    pub dead_targets: usize,
}

impl Kind {
    pub const PLAIN: Self = Self {
        loss: 0.0,
        rtt: 0.03,
        jitter: 0.005,
        traffic: 0.0,
        counts: Counts::Replies,
        has_provider: false,
        blackouts: (0.0, 0.0),
        longest_blackout: f64::INFINITY,
        bursts: None,
        is_bloated: false,
        rate_limit: 0.0,
        dead_targets: 0,
    };
}

pub struct Line {
    kind: Kind,
    random: Random,
    /// From, to: nothing gets through.
    dark: Vec<(f64, f64)>,
    bursts: Vec<(f64, f64)>,
    /// When each target answered last.
    answered: Vec<f64>,
    /// Until when the counters have been counted.
    counted: f64,
    sent: f64,
    replies: f64,
}

impl Line {
    /// A line of `length` seconds that is dead from `death` on.
    pub fn new(kind: Kind, seed: u64, length: f64, death: f64) -> Self {
        let mut random = Random(seed);
        let mut dark = Vec::new();
        let (a_day, mean) = kind.blackouts;
        if a_day > 0.0 {
            dark = intervals(&mut random, length, 86400.0 / a_day, mean);
            for (from, to) in &mut dark {
                *to = to.min(*from + kind.longest_blackout);
            }
        }
        dark.push((death, f64::INFINITY));
        let bursts =
            kind.bursts.map(|(apart, mean, _)| intervals(&mut random, length, apart, mean)).unwrap_or_default();
        Self { kind, random, dark, bursts, answered: vec![f64::NEG_INFINITY; 8], counted: 0.0, sent: 0.0, replies: 0.0 }
    }

    /// A probe, and what becomes of it: the round-trip time of its answer.
    pub fn probe(&mut self, now: Duration, target: usize) -> Option<Duration> {
        let now = now.as_secs_f64();
        let rtt = self.rtt(now) + (self.random.unit() - 0.5) * self.kind.jitter;
        let is_lost = self.random.unit() < self.loss(now);
        if is_lost || target < self.kind.dead_targets || within(&self.dark, now) || within(&self.dark, now + rtt) {
            return None;
        }
        if now < self.answered[target] + self.kind.rate_limit {
            return None;
        }
        self.answered[target] = now;
        Some(Duration::from_secs_f64(rtt))
    }

    /// The packet counters, at ever later times.
    pub fn counters(&mut self, now: Duration) -> Option<Counted> {
        let now = now.as_secs_f64();
        if self.kind.traffic > 0.0 {
            // In steps, so that a blackout shows as what it is.
            while self.counted < now {
                let step = (now - self.counted).min(0.05);
                self.counted += step;
                let packets = self.kind.traffic * step;
                self.sent += packets;
                let sent_at = (self.counted - self.rtt(self.counted)).max(0.0);
                if self.kind.has_provider || !within(&self.dark, self.counted) && !within(&self.dark, sent_at) {
                    self.replies += packets * (1.0 - self.loss(sent_at));
                }
            }
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let counters = Counters { sent: self.sent as u64, replies: self.replies as u64 };
        match self.kind.counts {
            Counts::Replies => Some(Counted::Ours(counters)),
            Counts::Anything => Some(Counted::Anybodys(counters)),
            Counts::Nothing => None,
        }
    }

    fn loss(&self, now: f64) -> f64 {
        match self.kind.bursts {
            Some((_, _, loss)) if within(&self.bursts, now) => loss,
            _ => self.kind.loss,
        }
    }

    /// Bufferbloat comes at a second a second (twice as much is sent as the line carries), and goes as fast.
    fn rtt(&self, now: f64) -> f64 {
        let minute = now % 3600.0;
        let is_bloated = self.kind.is_bloated && minute < 602.0;
        let bloat = if is_bloated { minute.min(602.0 - minute).min(2.0) } else { 0.0 };
        self.kind.rtt.max(bloat)
    }
}

fn within(intervals: &[(f64, f64)], at: f64) -> bool {
    let next = intervals.partition_point(|(from, _)| *from <= at);
    next > 0 && at < intervals[next - 1].1
}

fn intervals(random: &mut Random, length: f64, apart: f64, mean: f64) -> Vec<(f64, f64)> {
    let mut all = Vec::new();
    // Targets answer before the first one.
    let mut at = 60.0 + random.after(apart);
    while at < length {
        let end = at + random.after(mean);
        all.push((at, end));
        at = end + random.after(apart);
    }
    all
}
