//! What mh-watch takes while nothing happens, while a routing daemon loads its routes, and how soon it repairs.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use super::house::{House, Keeper, batch};
use super::measure::{Spread, quiet, short};
use crate::support::{ARTICLE, held, ip};

/// How long nothing happens.
const IDLE: Duration = Duration::from_mins(1);

/// How often something is repaired: seldom enough for no fight.
const REPAIRS: usize = 9;

/// What the kernel says of the process.
struct Use {
    resident: u64,
    cpu: f64,
    wakeups: u64,
}

fn used(child: &Child) -> Use {
    let process = Path::new("/proc").join(child.id().to_string());
    let (mut resident, mut wakeups) = (0, 0);
    // Each thread waits for itself.
    for task in fs::read_dir(process.join("task")).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let number = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
        };
        resident = number("VmRSS:");
        wakeups += number("voluntary_ctxt_switches:");
    }
    let stat = fs::read_to_string(process.join("stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u32 = fields[11].parse::<u32>().unwrap() + fields[12].parse::<u32>().unwrap();
    Use { resident, cpu: f64::from(ticks) / 100.0, wakeups }
}

pub fn watching(dir: &Path) -> String {
    let house = House::new(Keeper::Objects, &dir.join("watch"), ARTICLE);
    house.namespace.run(|| {
        let mut command: Command = house.hooks.ours("mh-watch");
        let mut child = quiet(&mut command).spawn().unwrap();
        thread::sleep(Duration::from_secs(5));
        let before = used(&child);
        thread::sleep(IDLE);
        let idle = used(&child);
        let minute = (idle.wakeups - before.wakeups) as f64 * 60.0 / IDLE.as_secs_f64();

        let whole = held();
        let mut repairs = Vec::new();
        for _ in 0..REPAIRS {
            ip("route del default");
            let start = Instant::now();
            while held() != whole {}
            repairs.push(start.elapsed().as_secs_f64() * 1e3);
            thread::sleep(Duration::from_millis(200));
        }

        let routes = |verb: &str| {
            let mut lines = String::new();
            for n in 0..12_500 {
                let _ = writeln!(lines, "route {verb} 100.{}.{}.0/24 dev ppp0 proto bird", 64 + n / 250 % 50, n % 250);
            }
            lines
        };
        let start = (Instant::now(), used(&child).cpu);
        let mut notices = 0.0;
        for _ in 0..5 {
            for verb in ["add", "del"] {
                batch(dir, &routes(verb));
                notices += 12_500.0;
            }
        }
        let (took, cpu) = (start.0.elapsed().as_secs_f64(), used(&child).cpu - start.1);
        child.kill().unwrap();
        child.wait().unwrap();
        format!(
            "\n## mh-watch\n\nTwo lines.\n\n| | |\n|---|---|\n\
             | resident, MiB | {} |\n| idle: wake-ups a minute, of all threads | {} |\n| idle: processor, percent | {} |\n\
             | a default route that was deleted is back, ms, with the looks at it | {} |\n\
             | foreign routes that come and go, a second | {} |\n| the same: processor, percent | {} |\n",
            short(idle.resident as f64 / 1024.0),
            short(minute),
            short((idle.cpu - before.cpu) / IDLE.as_secs_f64() * 100.0),
            Spread::of(&repairs),
            short(notices / took),
            short(cpu / took * 100.0),
        )
    })
}
