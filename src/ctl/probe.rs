//! Asks the kernel which way a packet would take (`RTM_GETROUTE`), as `ip route get` does: once, or all the time.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::kernel::netlink::socket::Socket;
use crate::kernel::{Error, read, towards};

/// A socket to ask by.
#[derive(Debug)]
pub struct Probe {
    socket: Socket,
}

impl Probe {
    /// A probe of the thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open().map_err(Error::Open)? })
    }

    /// Index of the device by which a packet of this host to `to` would leave; `None`: there is no
    /// way (ENETUNREACH, EHOSTUNREACH).
    pub fn device_towards(&mut self, to: impl Into<IpAddr>) -> Result<Option<u32>, Error> {
        towards::device_towards(to.into(), &mut self.socket).map_err(read("a route"))
    }
}

/// Between two questions while a sampler is not busy.
const PAUSE: Duration = Duration::from_millis(1);

/// An address of the Internet, another one for each `n` below 2^30: 20.0.0.0 to 83.255.255.255. Private networks, and
/// those for tests, may be routed in their own way.
pub fn destination(n: u32) -> Ipv4Addr {
    // Knuth's multiplicative hash: odd, so that no address comes twice.
    Ipv4Addr::from((20 << 24) + (n.wrapping_mul(2_654_435_761) & 0x3fff_ffff))
}

/// The same in IPv6: in `2a00::/12`, which RIPE gives out.
pub fn destination6(n: u32) -> Ipv6Addr {
    Ipv6Addr::from((0x2a00 << 112) + u128::from(n.wrapping_mul(2_654_435_761)))
}

/// A thread that asks all the time which way a packet to the Internet would go, in the network namespace of the one
/// that started it. No packet is sent.
#[derive(Debug)]
pub struct Sampler {
    orders: Arc<Orders>,
    thread: JoinHandle<Result<Samples, Error>>,
}

#[derive(Debug, Default)]
struct Orders {
    stop: AtomicBool,
    rest: AtomicBool,
}

/// What a sampler was answered.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Samples {
    /// How often it asked.
    pub asked: u64,
    /// How often a route was owed: always, unless [`Sampler::start_while`] was told otherwise.
    pub owed: u64,
    /// How often there was none then.
    pub unreachable: u64,
    /// Time without a route, as far as it can be told: from the last answer with one to the next.
    pub without: Duration,
    /// The longest such time.
    pub longest_gap: Duration,
    /// Longest time between two answers: what is shorter could have been missed.
    pub longest_pause: Duration,
    /// Answers with a route, by the index of its interface.
    pub by_interface: BTreeMap<u32, u64>,
}

impl Sampler {
    /// Starts to ask, without a pause; returns when the first answer is there.
    pub fn start() -> Self {
        Self::start_while(|| (), |(), ()| true)
    }

    /// The same in IPv6.
    pub fn start6() -> Self {
        Self::start_towards(|n| destination6(n).into(), || (), |(), ()| true)
    }

    /// The same where a route is owed only at times: `owed` is told what `state` was before the question, and what it
    /// is after the answer.
    pub fn start_while<T>(
        state: impl Fn() -> T + Send + 'static,
        owed: impl Fn(T, T) -> bool + Send + 'static,
    ) -> Self {
        Self::start_towards(|n| destination(n).into(), state, owed)
    }

    fn start_towards<T>(
        to: fn(u32) -> IpAddr,
        state: impl Fn() -> T + Send + 'static,
        owed: impl Fn(T, T) -> bool + Send + 'static,
    ) -> Self {
        let orders = Arc::new(Orders::default());
        let (first, answered) = mpsc::channel();
        let thread = thread::spawn({
            let orders = Arc::clone(&orders);
            move || sample(&orders, to, state, owed, &first)
        });
        // If it ended without an answer, `stop` says why.
        let _ = answered.recv();
        Self { orders, thread }
    }

    /// Asks without a pause, which takes a processor, or a thousand times a second.
    pub fn set_busy(&self, busy: bool) {
        self.orders.rest.store(!busy, Ordering::Relaxed);
    }

    /// Stops and tells; the error says why the kernel could not be asked.
    pub fn stop(self) -> Result<Samples, Error> {
        self.orders.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn sample<T>(
    orders: &Orders,
    to: fn(u32) -> IpAddr,
    state: impl Fn() -> T,
    owed: impl Fn(T, T) -> bool,
    first: &mpsc::Sender<()>,
) -> Result<Samples, Error> {
    let mut probe = Probe::open()?;
    let mut tally = Tally::new(Instant::now());
    // Each time another destination, so that every next hop of a multipath route is asked for.
    for n in 0.. {
        let before = state();
        let interface = probe.device_towards(to(n))?;
        tally.add(interface, owed(before, state()), Instant::now());
        if n == 0 {
            // Nobody waits any more: whoever started it is ending.
            let _ = first.send(());
        }
        if orders.stop.load(Ordering::Relaxed) {
            break;
        }
        if orders.rest.load(Ordering::Relaxed) {
            thread::sleep(PAUSE);
        }
    }
    Ok(tally.end(Instant::now()))
}

/// Samples on the way.
struct Tally {
    samples: Samples,
    last_answer: Instant,
    /// When the last answer with a route came, or one before which none was owed.
    last_good: Instant,
    /// A route that was owed has been missing since then.
    lost: bool,
}

impl Tally {
    fn new(start: Instant) -> Self {
        Self { samples: Samples::default(), last_answer: start, last_good: start, lost: false }
    }

    fn add(&mut self, interface: Option<u32>, owed: bool, now: Instant) {
        let samples = &mut self.samples;
        samples.asked += 1;
        samples.owed += u64::from(owed);
        samples.longest_pause = samples.longest_pause.max(now - self.last_answer);
        self.last_answer = now;
        if let Some(index) = interface {
            *samples.by_interface.entry(index).or_default() += 1;
            self.close_gap(now);
        } else if owed {
            samples.unreachable += 1;
            self.lost = true;
        } else if !self.lost {
            self.last_good = now;
        }
    }

    fn close_gap(&mut self, now: Instant) {
        if std::mem::take(&mut self.lost) {
            let gap = now - self.last_good;
            self.samples.without += gap;
            self.samples.longest_gap = self.samples.longest_gap.max(gap);
        }
        self.last_good = now;
    }

    /// A loss that nothing has ended lasts until now.
    fn end(mut self, now: Instant) -> Samples {
        self.close_gap(now);
        self.samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers at these milliseconds: a route, and whether one is owed.
    fn sampled(answers: &[(u64, bool, bool)], end: u64) -> Samples {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut tally = Tally::new(start);
        for (ms, route, owed) in answers {
            tally.add(route.then_some(1), *owed, at(*ms));
        }
        tally.end(at(end))
    }

    #[test]
    fn a_time_without_a_route_is_from_route_to_route() {
        let ms = Duration::from_millis;
        let owed = |answers: &[(u64, bool)], end| {
            sampled(&answers.iter().map(|(ms, route)| (*ms, *route, true)).collect::<Vec<_>>(), end)
        };
        let none = owed(&[(1, true), (2, true), (7, true)], 8);
        assert_eq!((none.without, none.longest_gap, none.longest_pause, none.asked), (ms(0), ms(0), ms(5), 3));
        let two = owed(&[(1, true), (2, false), (3, false), (4, true), (5, false), (6, true)], 6);
        assert_eq!((two.without, two.longest_gap, two.unreachable), (ms(3 + 2), ms(3), 3));
        let unending = owed(&[(1, true), (2, false)], 50);
        assert_eq!((unending.without, unending.longest_gap, unending.asked), (ms(49), ms(49), 2));
        let never = owed(&[(1, false), (2, false)], 50);
        assert_eq!((never.without, never.longest_gap), (ms(50), ms(50)));
    }

    #[test]
    fn a_route_that_nobody_owes_is_not_missed() {
        let ms = Duration::from_millis;
        let seen = sampled(&[(1, true, true), (2, false, false), (5, false, false), (6, true, true)], 7);
        assert_eq!((seen.asked, seen.owed, seen.unreachable, seen.without), (4, 2, 0, ms(0)));
        let late = sampled(&[(1, true, true), (5, false, false), (6, false, true), (8, true, true)], 9);
        assert_eq!((late.unreachable, late.without, late.by_interface[&1]), (1, ms(3), 2));
    }
}
