//! Asks the kernel for a way to the Internet as fast as it answers, until SIGTERM; then tells how
//! often there was none, and for how long. The guest tests run it beside every loss of a line.
//!
//! Prints `started` with the first answer, and at the end `asked=N unreachable=N gap_us=N pause_us=N` and for each device `ifindex:answers`: `gap` is the
//! longest time from the last answer with a way to the next where answers without one lie between,
//! `pause` the longest between any two answers, which says how far the gap can be trusted.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use multihome::ctl::probe::Probe;
use nix::sys::signal::{SigSet, Signal};

fn main() -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    let stop = Arc::new(AtomicBool::new(false));
    std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            // Whatever it says, there is nothing to wait for any more.
            let _ = signals.wait();
            stop.store(true, Ordering::Relaxed);
        }
    });

    let mut probe = Probe::open()?;
    let (mut asked, mut unreachable) = (0_u64, 0_u64);
    let (mut gap, mut pause) = (Duration::ZERO, Duration::ZERO);
    let mut by_device: BTreeMap<u32, u64> = BTreeMap::new();
    let mut last_answer = Instant::now();
    let mut last_way = last_answer;
    // Another destination each time, so that every leg of a multipath route is asked for.
    let mut to = u32::from(Ipv4Addr::new(100, 64, 0, 1));
    while !stop.load(Ordering::Relaxed) {
        to = to.wrapping_add(1);
        let way = probe.device_towards(Ipv4Addr::from(to))?;
        let now = Instant::now();
        asked += 1;
        if asked == 1 {
            println!("started");
        }
        pause = pause.max(now - last_answer);
        if let Some(device) = way {
            if last_way != last_answer {
                gap = gap.max(now - last_way);
            }
            *by_device.entry(device).or_default() += 1;
            last_way = now;
        } else {
            unreachable += 1;
            gap = gap.max(now - last_way);
        }
        last_answer = now;
    }
    print!("asked={asked} unreachable={unreachable} gap_us={} pause_us={}", gap.as_micros(), pause.as_micros());
    for (device, answers) in by_device {
        print!(" {device}:{answers}");
    }
    println!();
    Ok(())
}
