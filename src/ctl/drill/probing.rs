//! Asks the kernel all the time which way a packet to the Internet would go.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::ctl::probe::Probe;
use crate::kernel;

/// Between two questions while nothing is being changed.
const PAUSE: Duration = Duration::from_millis(1);

/// What was seen.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Probed {
    /// How often the kernel was asked.
    pub(super) asked: u64,
    /// Time without a route, as far as it can be told: from the last answer with a way to the next.
    pub(super) without: Duration,
    /// The longest such time.
    pub(super) longest: Duration,
    /// Longest time between two answers: what is shorter could have been missed.
    pub(super) blind: Duration,
}

impl Probed {
    /// Adds an answer that came at `now`; `last` is when the last one came, and the last with a way.
    fn add(&mut self, way: bool, now: Instant, last: &mut (Instant, Instant)) {
        self.asked += 1;
        self.blind = self.blind.max(now - last.0);
        if way && last.0 != last.1 {
            let gap = now - last.1;
            self.without += gap;
            self.longest = self.longest.max(gap);
        }
        last.0 = now;
        if way {
            last.1 = now;
        }
    }

    /// Adds a time without a route that has not ended.
    fn end(&mut self, now: Instant, last: (Instant, Instant)) {
        if last.0 != last.1 {
            self.add(true, now, &mut { last });
            self.asked -= 1;
        }
    }
}

/// A thread that asks.
pub(super) struct Probing {
    stop: Arc<AtomicBool>,
    hurry: Arc<AtomicBool>,
    thread: JoinHandle<Result<Probed, kernel::Error>>,
}

impl Probing {
    /// Starts to ask, without a pause.
    pub(super) fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let hurry = Arc::new(AtomicBool::new(true));
        let thread = thread::spawn({
            let (stop, hurry) = (Arc::clone(&stop), Arc::clone(&hurry));
            move || probe(&stop, &hurry)
        });
        Self { stop, hurry, thread }
    }

    /// Asks without a pause, which takes a processor, or a thousand times a second.
    pub(super) fn hurry(&self, hurry: bool) {
        self.hurry.store(hurry, Ordering::Relaxed);
    }

    /// Ends; none if the kernel could not be asked.
    pub(super) fn stop(self) -> Option<Probed> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(Ok(probed)) => Some(probed),
            Ok(Err(error)) => {
                tracing::warn!("{error}");
                None
            }
            Err(_) => None,
        }
    }
}

fn probe(stop: &AtomicBool, hurry: &AtomicBool) -> Result<Probed, kernel::Error> {
    let mut probe = Probe::open()?;
    let mut probed = Probed::default();
    let start = Instant::now();
    let mut last = (start, start);
    // Each time another host, so that every leg of a multipath route is asked for. No packet is sent.
    // A public network: private ones and those for tests may be routed in their own way.
    let mut host: u32 = 0;
    while !stop.load(Ordering::Relaxed) {
        host = host.wrapping_add(1) & 0x00ff_ffff;
        let to = Ipv4Addr::from(u32::from(Ipv4Addr::new(8, 0, 0, 0)) | host);
        let way = probe.device_towards(to)?;
        probed.add(way.is_some(), Instant::now(), &mut last);
        if !hurry.load(Ordering::Relaxed) {
            thread::sleep(PAUSE);
        }
    }
    probed.end(Instant::now(), last);
    Ok(probed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers at these milliseconds.
    fn probed(answers: &[(u64, bool)], end: u64) -> Probed {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut probed = Probed::default();
        let mut last = (start, start);
        for (ms, way) in answers {
            probed.add(*way, at(*ms), &mut last);
        }
        probed.end(at(end), last);
        probed
    }

    #[test]
    fn a_time_without_a_route_is_from_way_to_way() {
        let ms = Duration::from_millis;
        let none = probed(&[(1, true), (2, true), (7, true)], 8);
        assert_eq!((none.without, none.longest, none.blind, none.asked), (ms(0), ms(0), ms(5), 3));
        let two = probed(&[(1, true), (2, false), (3, false), (4, true), (5, false), (6, true)], 6);
        assert_eq!((two.without, two.longest), (ms(3 + 2), ms(3)));
        let unending = probed(&[(1, true), (2, false)], 50);
        assert_eq!((unending.without, unending.longest, unending.asked), (ms(49), ms(49), 2));
        let never = probed(&[(1, false), (2, false)], 50);
        assert_eq!((never.without, never.longest), (ms(50), ms(50)));
    }
}
