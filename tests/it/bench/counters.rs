//! What a look at the counters of uplinks costs mh-watch, which takes four a second.

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use multihome::ctl::probe::{Probe, destination};
use multihome::watch::traffic::Meter;

use super::measure::{Spread, short};
use crate::support::{Server, apart};

/// How often each of the two is asked.
const LOOKS: usize = 2000;

pub fn counters(_: &Path) -> String {
    let mut text =
        "\n## Counters of mh-watch\n\nAll uplinks in both families at once, and beside it the smallest question to \
                    the kernel, for one route.\n\n| uplinks | counters, µs | route, µs | ratio |\n|---|---|---|---|\n"
            .to_owned();
    for uplinks in [2, 4, 31] {
        let [counters, route] = apart(move || looks(uplinks));
        let ratio = short(counters.0 / route.0);
        let _ = writeln!(text, "| {uplinks} | {} | {} | {ratio} |", short(counters.0), short(route.0));
    }
    text
}

/// Microseconds of a look at the counters, and of a question for a route, in turn.
fn looks(uplinks: usize) -> [Spread; 2] {
    let links = (0..uplinks).map(|i| format!("[[uplink]]\nname = \"isp{i}\"\ninterface = \"ppp{i}\"\n"));
    let config = format!("{}[check]\n[settings]\nfirewall = \"nftables\"\n", links.collect::<String>());
    Server::new(&config).apply();
    let (mut meter, mut probe) = (Meter::open().unwrap(), Probe::open().unwrap());
    assert_eq!(meter.counted().unwrap().len(), 2 * uplinks);
    let mut all = [Vec::with_capacity(LOOKS), Vec::with_capacity(LOOKS)];
    for n in 0..LOOKS {
        let start = Instant::now();
        black_box(meter.counted().unwrap());
        let between = Instant::now();
        black_box(probe.device_towards(destination(u32::try_from(n).unwrap())).unwrap());
        let end = Instant::now();
        for (all, time) in all.iter_mut().zip([between - start, end - between]) {
            all.push(time.as_secs_f64() * 1e6);
        }
    }
    all.map(|all| Spread::of(&all))
}
