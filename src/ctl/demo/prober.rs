//! Asks the kernel for the way to the Internet as fast as it answers, and counts.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Error;
use super::server::Uptime;
use crate::ctl::probe::Probe;
use crate::kernel;

/// A thread that asks, in the network namespace of the one that started it.
pub(super) struct Prober {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Seen, kernel::Error>>,
}

/// What it saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// How often it asked.
    pub(super) asked: u64,
    /// How often a line was up from question to answer.
    pub(super) while_up: u64,
    /// How often there was no way then.
    pub(super) lost: u64,
    /// How long there was none: from each first question without a way to the next way.
    pub(super) without: Duration,
}

/// An address of the Internet, another one for each `n` below 2^30: 20.0.0.0 to 83.255.255.255.
pub(super) fn destination(n: u32) -> Ipv4Addr {
    // Knuth's multiplicative hash: odd, so that no address comes twice.
    Ipv4Addr::from((20 << 24) + (n.wrapping_mul(2_654_435_761) & 0x3fff_ffff))
}

impl Prober {
    /// Starts; returns when the first answer is there.
    pub(super) fn start(uptime: &Arc<Uptime>) -> Result<Self, Error> {
        let stop = Arc::new(AtomicBool::new(false));
        let (first, answered) = mpsc::channel();
        let (told, uptime) = (Arc::clone(&stop), Arc::clone(uptime));
        let ask = move || {
            let mut probe = Probe::open()?;
            let mut seen = Seen::default();
            let mut lost_at = None;
            for n in 0.. {
                let (before, asked_at) = (uptime.now(), Instant::now());
                let way = probe.device_towards(destination(n))?;
                let up = uptime.held(before);
                seen.asked += 1;
                seen.while_up += u64::from(up);
                if way.is_some() {
                    seen.without += lost_at.take().map_or(Duration::ZERO, |at: Instant| at.elapsed());
                } else if up {
                    seen.lost += 1;
                    lost_at.get_or_insert(asked_at);
                }
                if n == 0 {
                    // Nobody waits any more: the demo is ending.
                    let _ = first.send(());
                }
                if told.load(Ordering::Relaxed) {
                    break;
                }
            }
            // A loss that nothing has ended lasts until now.
            seen.without += lost_at.map_or(Duration::ZERO, |at| at.elapsed());
            Ok(seen)
        };
        let thread = thread::Builder::new().spawn(ask).map_err(Error::io("start a thread"))?;
        // If it ended without an answer, `stop` says why.
        let _ = answered.recv();
        Ok(Self { stop, thread })
    }

    /// Stops and tells.
    pub(super) fn stop(self) -> Result<Seen, Error> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(joined(self.thread.join())?)
    }
}

/// What a thread returned; its panic goes on here.
pub(super) fn joined<T>(ended: thread::Result<T>) -> T {
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
