//! Everything at once, at random: lines that come, go, and come again elsewhere; hooks at the same time, killed, stopped
//! and lied to by the system; other programs that change what is theirs, and what is ours; a state directory that is full
//! or read-only; records from a clock that was wrong. When a round is quiet, and after one more event, the kernel holds
//! what a reading of the design says, and what the others left.
//!
//! `make test` runs a fixed seed, `make stress` another one each time, which it prints; `make stress SEED=1 EVENTS=500` is
//! what `make test` runs. The same seed gives the same decisions, not the same interleaving.
//!
//! The wall clock is the machine's, and time namespaces do not cover it: that it jumps between two events is told by
//! changing the time that the records bear.

mod disturb;
mod foreign;
mod lines;

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;

use self::disturb::Disturbance;
use self::foreign::Foreign;
use self::lines::{LINKS, Lines, Session, config, is_tunnel, normalised, wanted};
use crate::support::filter::managed;
use crate::support::random::{Random, given};
use crate::support::*;

/// A hook that runs.
struct Running {
    child: Child,
    /// Link that it is about, by number; none: all of them.
    link: Option<usize>,
    what: String,
}

/// The state directory has little room, so that it can be filled.
const DISK: &str = "size=64k,mode=755";

/// A server under stress.
struct Stress {
    server: Server,
    random: Random,
    mode: &'static str,
    lines: Lines,
    foreign: Foreign,
    running: Vec<Running>,
    /// Links whose last word may not have been heard.
    unheard: [bool; LINKS.len()],
    /// Devices of lines that are lost, which stay until the end of the round.
    stale: Vec<String>,
    /// Our rules in the packet filter, which no event changes.
    firewall: Vec<String>,
    /// What has happened in this round.
    history: Vec<String>,
    events: usize,
    failed: usize,
    killed: usize,
}

impl Stress {
    fn new(mode: &'static str, seed: u64) -> Self {
        let server = Server::new(&config(mode));
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        fs::create_dir(server.state()).unwrap();
        mount(Some("none"), &server.state(), Some("tmpfs"), MsFlags::empty(), Some(DISK)).unwrap();
        let foreign = Foreign::new();
        server.apply();
        Self {
            server,
            random: Random::new(seed),
            mode,
            lines: Lines::new(),
            foreign,
            running: Vec::new(),
            unheard: [false; LINKS.len()],
            stale: Vec::new(),
            firewall: managed(),
            history: Vec::new(),
            events: 0,
            failed: 0,
            killed: 0,
        }
    }

    fn note(&mut self, what: impl Into<String>) {
        self.history.push(what.into());
    }

    fn command(&self, program: &str, link: usize, session: &Session) -> Command {
        let told = session.line(link);
        if is_tunnel(link) {
            let mut hook = self.server.openvpn(told, if program == UP { "up" } else { "down" });
            hook.option("--strict");
            hook
        } else {
            self.server.hook(program, told)
        }
    }

    /// Starts a hook, and has something befall it, or not.
    fn start(&mut self, command: Command, link: Option<usize>, what: &str) {
        let disturbance = Disturbance::any(&mut self.random);
        let what = format!("{what} {disturbance:?}");
        self.note(what.clone());
        let child = start(&mut disturbance.of(command));
        disturbance.strike(&child);
        self.events += 1;
        self.running.push(Running { child, link, what });
    }

    /// Starts `program` for a session of a link.
    fn tell(&mut self, program: &str, link: usize, session: &Session) {
        let what = format!("{} {} {session:?}", program.rsplit('/').next().unwrap(), LINKS[link]);
        self.start(self.command(program, link, session), Some(link), &what);
    }

    /// Takes the hooks that have ended out of those that run.
    fn reap(&mut self) {
        let mut running = Vec::new();
        for mut hook in self.running.drain(..) {
            let Some(status) = hook.child.try_wait().unwrap() else {
                running.push(hook);
                continue;
            };
            let killed = status.signal() == Some(Signal::SIGKILL as i32);
            assert!(killed || matches!(status.code(), Some(0 | 1)), "{status}: {}", hook.what);
            if !status.success() {
                self.history.push(format!("{status}: {}", hook.what));
                *(if killed { &mut self.killed } else { &mut self.failed }) += 1;
                if let Some(link) = hook.link {
                    self.unheard[link] = true;
                }
            }
        }
        self.running = running;
    }

    /// Waits until no hook runs or `time` is over.
    fn wait(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        self.reap();
        while !self.running.is_empty() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
            self.reap();
        }
    }

    /// Something happens to a line, or nobody knows why somebody calls `mhctl apply`.
    fn event(&mut self, steady: Option<usize>) {
        let link = self.random.below(LINKS.len());
        // Its caller runs one hook of a line after the other. If one of them still runs, whichever ends last counts.
        self.unheard[link] |= self.running.iter().any(|hook| hook.link == Some(link));
        match self.lines.up[link].clone() {
            _ if self.random.once_in(8) => {
                let mut apply = self.server.bare(CTL);
                apply.arg("apply");
                self.start(apply, None, "mhctl apply");
            }
            None => {
                let session = self.lines.dial(link, &mut self.random);
                self.tell(UP, link, &session);
            }
            Some(session) if steady == Some(link) => self.tell(UP, link, &session),
            Some(session) => match self.random.below(9) {
                0 => self.tell(UP, link, &session),
                1 => {
                    let session = self.lines.renumber(link);
                    self.tell(UP, link, &session);
                }
                2 => {
                    self.note(format!("{session:?} vanishes"));
                    self.lines.lose(link);
                    session.line(link).unregister();
                }
                3 => {
                    // Dialled anew by another process, while the old one is still about to end.
                    self.lines.lose(link);
                    session.line(link).hang_up();
                    if is_tunnel(link) {
                        session.line(link).unregister();
                    }
                    let new = self.lines.dial(link, &mut self.random);
                    self.tell(DOWN, link, &session);
                    self.tell(UP, link, &new);
                    if !is_tunnel(link) {
                        session.line(link).unregister();
                    }
                }
                4 => {
                    // The plug is loose.
                    let far = format!("{}-far", session.device);
                    self.note(format!("{far} loses the carrier"));
                    ip(&format!("link set {far} down"));
                    self.tell(UP, link, &session);
                    thread::sleep(Duration::from_micros(self.random.number() % 12_000));
                    ip(&format!("link set {far} up"));
                }
                5 => match self.lines.last[link].clone() {
                    Some(old) if old.pid != session.pid => self.tell(DOWN, link, &old),
                    _ => self.tell(UP, link, &session),
                },
                _ => {
                    self.lines.lose(link);
                    session.line(link).hang_up();
                    self.tell(DOWN, link, &session);
                    if !is_tunnel(link) && self.random.once_in(3) {
                        self.stale.push(session.device);
                    } else {
                        thread::sleep(Duration::from_micros(self.random.number() % 12_000));
                        session.line(link).unregister();
                    }
                }
            },
        }
    }

    /// The state directory is full, or read-only.
    fn fill_disk(&mut self) {
        let full = self.random.once_in(2);
        self.note(if full { "the disk is full" } else { "the disk is read-only" });
        if full {
            let mut file = fs::File::create(self.server.state().join("full")).unwrap();
            while file.write_all(&[0; 4096]).is_ok() {}
        } else {
            self.remount(MsFlags::MS_RDONLY);
        }
    }

    fn remount(&self, flags: MsFlags) {
        let none = None::<&str>;
        // Somebody may just be writing there.
        until("it can be remounted", || {
            mount(none, &self.server.state(), none, MsFlags::MS_REMOUNT | flags, Some(DISK)).is_ok()
        });
    }

    /// A round of events, and what has become of it.
    fn round(&mut self) {
        self.history.clear();
        let up: Vec<_> = (0..LINKS.len()).filter(|n| !is_tunnel(*n) && self.lines.up[*n].is_some()).collect();
        // In some rounds a line stays up, and nobody harms us: then there is a default route at every instant.
        let steady = if up.is_empty() || self.random.once_in(2) { None } else { Some(self.random.pick(&up)) };
        let disk = self.random.once_in(6);
        if disk {
            self.fill_disk();
        }
        for _ in 0..4 + self.random.below(12) {
            self.event(steady);
            if self.random.once_in(3) {
                let what = self.foreign.change(&mut self.random);
                self.note(what);
            }
            if steady.is_none() && self.random.once_in(6) {
                let device = self.lines.up.iter().flatten().next().map(|session| session.device.clone());
                let what = foreign::harm(&mut self.random, device.as_deref());
                self.note(what);
            }
            if self.random.once_in(25) {
                self.note("a flood");
                self.foreign.flood(&self.server);
            }
            if self.random.once_in(3) {
                self.go_on();
            }
            let time = Duration::from_millis(self.random.number() % 40);
            self.wait(time);
            if steady.is_some() {
                assert!(has_default(), "{}\n{:#?}", self.history.join("\n"), held());
            }
        }
        let deadline = Instant::now() + Duration::from_mins(1);
        while !self.running.is_empty() && Instant::now() < deadline {
            // Some are stopped only later.
            self.go_on();
            self.wait(Duration::from_millis(5));
        }
        let hanging: Vec<_> =
            self.running.iter().map(|hook| (&hook.what, disturb::waits_in(hook.child.id()))).collect();
        assert!(hanging.is_empty(), "they hang: {hanging:?}\n{}", self.history.join("\n"));
        self.foreign.calm();
        if disk {
            self.remount(MsFlags::empty());
            let _ = fs::remove_file(self.server.state().join("full"));
        }
        self.mend();
        if let Err(why) = self.check() {
            panic!("{}\n{why}", self.history.join("\n"));
        }
    }

    /// Hooks that were stopped go on.
    fn go_on(&mut self) {
        self.reap();
        for hook in &self.running {
            send(Signal::SIGCONT, &hook.child);
        }
    }

    /// One more event: of each link whose last word may not have been heard, and of all.
    fn mend(&mut self) {
        let mut untold: Vec<_> = (0..LINKS.len()).filter(|link| std::mem::take(&mut self.unheard[*link])).collect();
        // A default by a device of which no link has told yet is a stranger's, and an error: once all are
        // told there is none.
        for last in [false, true] {
            untold.retain(|&link| {
                let (program, session) = match (&self.lines.up[link], &self.lines.last[link]) {
                    (Some(session), _) => (UP, session),
                    (None, Some(session)) => (DOWN, session),
                    (None, None) => return false,
                };
                let output = self.command(program, link, session).output().unwrap();
                self.events += 1;
                let said = String::from_utf8_lossy(&output.stderr);
                let stranger =
                    !last && output.status.code() == Some(1) && said.contains("a default route that is not ours");
                let history = || self.history.join("\n");
                assert!(output.status.success() || stranger, "{} {session:?}: {said}\n{}", LINKS[link], history());
                stranger
            });
        }
        for device in self.stale.drain(..) {
            ip(&format!("link del {device}"));
        }
        self.jump();
        self.server.apply();
        self.events += 1;
    }

    /// The clock was wrong when a record was written.
    fn jump(&mut self) {
        let mut records: Vec<_> =
            fs::read_dir(self.server.state()).unwrap().map(|entry| entry.unwrap().path()).collect();
        records.retain(|path| path.extension().is_some_and(|extension| extension == "ipv4"));
        records.sort();
        let Some(path) = records.first() else { return };
        let Ok(text) = fs::read_to_string(path) else { return };
        let since = self.random.pick(&["since = 0", "since = 4000000000"]);
        let lines: Vec<_> = text.lines().map(|line| if line.starts_with("since = ") { since } else { line }).collect();
        fs::write(path, lines.join("\n")).unwrap();
    }

    /// The kernel holds what is wanted and what others have left, and the state directory is clean.
    fn check(&mut self) -> Result<(), String> {
        let (found, wanted) = (normalised(ours()), wanted(self.mode, &self.lines));
        if found != wanted {
            return Err(format!("the kernel holds\n{found:#?}\ninstead of\n{wanted:#?}"));
        }
        let firewall = managed();
        if firewall != self.firewall {
            return Err(format!("the packet filter holds\n{firewall:#?}\ninstead of\n{:#?}", self.firewall));
        }
        for (n, session) in self.lines.up.iter().enumerate() {
            let Some(Session { device, .. }) = session else { continue };
            let link = shown(&format!("-o link show dev {device}"));
            if !link[0].contains(&format!(" group {} ", lines::group(n))) {
                return Err(format!("{link:?} is in the wrong group"));
            }
        }
        for entry in fs::read_dir(self.server.state()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let interface = name.strip_suffix(".ipv4").or_else(|| name.strip_prefix('.')?.strip_suffix(".new"));
            let is_known =
                interface.is_some_and(|name| ["ppp", "tun", "eth"].iter().any(|kind| name.starts_with(kind)));
            if !["lock", "records.lock"].contains(&name.as_str()) && !is_known {
                return Err(format!("{name} in the state directory"));
            }
        }
        self.foreign.check(|line| ["ppp", "tun"].iter().any(|kind| line.contains(&format!(" dev {kind}"))))
    }
}

#[test]
fn nothing_breaks_it() {
    let seed = given("STRESS_SEED").unwrap_or(1);
    let events = usize::try_from(given("STRESS_EVENTS").unwrap_or(500)).unwrap();
    println!("seed {seed}, {events} events");
    let stress = |(n, mode): (u64, &'static str)| {
        thread::spawn(move || {
            let mut stress = Stress::new(mode, seed.wrapping_mul(2).wrapping_add(n));
            let mut rounds = 0;
            while stress.events < events / 2 {
                stress.round();
                rounds += 1;
            }
            let Stress { events, killed, failed, .. } = stress;
            println!("{mode}: {events} events in {rounds} rounds; {killed} hooks were killed, {failed} failed");
        })
    };
    let modes = [(0, "objects"), (1, "multipath")].map(stress);
    for mode in modes {
        mode.join().unwrap_or_else(|_| panic!("seed {seed}"));
    }
}
