//! Runs commands side by side and says what each took: wall time from exec to exit, CPU time of the
//! process and its children (getrusage(2)), system calls (strace), memory (time).

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

use crate::support::internet::Namespace;

/// Something to be measured.
pub struct Subject<'a> {
    pub name: String,
    pub namespace: &'a Namespace,
    /// What makes the situation anew before each run; not measured.
    pub before: Box<dyn Fn() + 'a + Sync>,
    /// The command that is measured.
    pub command: Box<dyn Fn() -> Command + 'a + Sync>,
}

impl<'a> Subject<'a> {
    /// One that changes nothing, so that there is nothing to make anew.
    pub fn plain(name: &str, namespace: &'a Namespace, command: impl Fn() -> Command + Sync + 'a) -> Self {
        Self { name: name.to_owned(), namespace, before: Box::new(|| {}), command: Box::new(command) }
    }
}

/// Times of one subject, in milliseconds.
#[derive(Default)]
pub struct Series {
    pub wall: Vec<f64>,
    pub cpu: Vec<f64>,
}

/// Median, and the 10th and the 90th of a hundred.
pub struct Spread(pub f64, pub f64, pub f64);

impl Spread {
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |percent: usize| sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)];
        Self(at(50), at(10), at(90))
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} - {})", short(self.0), short(self.1), short(self.2))
    }
}

/// Two or three digits that say something.
pub fn short(value: f64) -> String {
    if value.is_infinite() {
        "for good".to_owned()
    } else if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// CPU time of all children that have been waited for.
fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let micros = |t: nix::sys::time::TimeVal| {
        Duration::from_micros(u64::try_from(t.tv_sec() * 1_000_000 + t.tv_usec()).unwrap())
    };
    micros(usage.user_time()) + micros(usage.system_time())
}

pub fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

/// Runs all subjects in turn, `rounds` times, so that whatever else the machine does meets all of them.
pub fn side_by_side(rounds: usize, subjects: &[Subject<'_>]) -> Vec<Series> {
    let mut all: Vec<Series> = subjects.iter().map(|_| Series::default()).collect();
    for round in 0..=rounds {
        for (subject, series) in subjects.iter().zip(&mut all) {
            let (wall, used) = subject.namespace.run(|| {
                (subject.before)();
                let mut command = (subject.command)();
                quiet(&mut command);
                let (start, before) = (Instant::now(), cpu());
                let status = command.status().unwrap();
                let (wall, used) = (start.elapsed(), cpu().saturating_sub(before));
                assert!(status.success(), "{}: {command:?}: {status}", subject.name);
                (wall, used)
            });
            // The first round only warms the caches.
            if round > 0 {
                series.wall.push(ms(wall));
                series.cpu.push(ms(used));
            }
        }
    }
    all
}

/// What one run of a command is made of.
pub struct Anatomy {
    pub calls: usize,
    pub processes: usize,
    /// Largest resident set of any of its processes, in KiB.
    pub resident: u64,
}

pub fn anatomy(subject: &Subject<'_>, dir: &Path) -> Anatomy {
    let (trace, memory) = (dir.join("strace"), dir.join("memory"));
    let run = |tool: &str, options: &[&str], file: &Path| {
        subject.namespace.run(|| {
            (subject.before)();
            let inner = (subject.command)();
            let mut outer = Command::new(tool);
            outer.args(options).arg("-o").arg(file).arg(inner.get_program()).args(inner.get_args());
            outer
                .env_clear()
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                .envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
            let status = quiet(&mut outer).status().unwrap_or_else(|e| panic!("{tool}: {e}"));
            assert!(status.success(), "{}: {outer:?}: {status}", subject.name);
        });
        fs::read_to_string(file).unwrap()
    };
    let text = run("strace", &["-f"], &trace);
    let is_call = |line: &&str| line.contains('(') && !line.contains(" resumed>") && !line.contains(" --- ");
    let mut pids: Vec<_> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    pids.sort_unstable();
    pids.dedup();
    let memory = run("/usr/bin/time", &["-f", "%M"], &memory);
    Anatomy {
        calls: text.lines().filter(is_call).count(),
        processes: pids.len(),
        resident: memory.lines().last().and_then(|line| line.trim().parse().ok()).unwrap(),
    }
}
