//! Asks the kernel for a route to the Internet as fast as it answers, until SIGTERM; then tells how
//! often there was none, and for how long. The guest tests run it beside every loss of a line.
//! Its argument is the family, `-4` or `-6`.
//!
//! Prints `started` with the first answer, and at the end `asked=N unreachable=N gap_us=N pause_us=N` and for each device `ifindex:answers`: `gap` is the
//! longest time from the last answer with a route to the next where answers without one lie between,
//! `pause` the longest between any two answers, which says how far the gap can be trusted.

use anyhow::{Result, bail};
use multihome::ctl::probe::{Sampler, Samples};
use nix::sys::signal::{SigSet, Signal};

fn main() -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    let sampler = match std::env::args().nth(1).as_deref() {
        Some("-4") => Sampler::start(),
        Some("-6") => Sampler::start6(),
        _ => bail!("usage: route-sampler -4|-6"),
    };
    println!("started");
    signals.wait()?;
    let Samples { asked, unreachable, longest_gap, longest_pause, by_interface, .. } = sampler.stop()?;
    let (gap, pause) = (longest_gap.as_micros(), longest_pause.as_micros());
    print!("asked={asked} unreachable={unreachable} gap_us={gap} pause_us={pause}");
    for (index, answers) in by_interface {
        print!(" {index}:{answers}");
    }
    println!();
    Ok(())
}
