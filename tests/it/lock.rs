//! The lock while its holder hangs, and what an event costs in a full table.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;
use fs2::FileExt;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

/// Whether somebody holds the lock of that name.
fn is_locked(server: &Server, name: &str) -> bool {
    let Ok(file) = OpenOptions::new().write(true).open(server.state().join(name)) else { return false };
    file.try_lock_exclusive().is_err()
}

/// A hook that was stopped while it holds the lock, and not the records' own.
fn stopped_in_the_middle(server: &Server) -> Child {
    for _ in 0..500 {
        let mut hook = start(&mut server.hook(UP, ISP1));
        while !is_locked(server, "lock") && hook.try_wait().unwrap().is_none() {}
        if hook.try_wait().unwrap().is_some() {
            ip("rule flush protocol 77");
            continue;
        }
        send(Signal::SIGSTOP, &hook);
        let id = Id::Pid(Pid::from_raw(hook.id().try_into().unwrap()));
        waitid(id, WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
        // Not in the instant before it has written who it is.
        let named = || fs::read_to_string(server.state().join("lock")).unwrap().ends_with(&format!(" {}\n", hook.id()));
        if is_locked(server, "lock") && !is_locked(server, "records.lock") && named() {
            return hook;
        }
        send(Signal::SIGCONT, &hook);
        finish(hook);
        // So that the next one has something to do under the lock.
        ip("rule flush protocol 77");
    }
    panic!("no hook was ever caught with the lock");
}

/// Descriptors that a process has opened itself and a child of it would inherit.
fn inheritable(process: &Child) -> Vec<String> {
    const O_CLOEXEC: u32 = 0o2_000_000;
    let opened = |process: &str| {
        let entries = fs::read_dir(format!("/proc/{process}/fd")).unwrap().map(|entry| entry.unwrap().path());
        entries.filter_map(|path| Some((fs::read_link(&path).ok()?, path))).collect::<Vec<_>>()
    };
    let mine = opened("self");
    let mut own = opened(&process.id().to_string());
    // What the tests themselves were given by whoever runs them goes through to all.
    own.retain(|(target, _)| mine.iter().all(|(m, _)| m != target) && !target.starts_with("/dev/null"));
    assert!(!own.is_empty(), "it has opened nothing?");
    own.retain(|(_, path)| {
        let text = fs::read_to_string(path.to_str().unwrap().replace("/fd/", "/fdinfo/")).unwrap();
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        u32::from_str_radix(flags.trim(), 8).unwrap() & O_CLOEXEC == 0
    });
    own.into_iter().map(|(target, _)| target.display().to_string()).collect()
}

#[test]
fn a_hook_that_hangs_with_the_lock_is_named_and_loses_no_event() {
    let server = Server::new(&with_settings(ARTICLE, "lock-timeout = \"400ms\""));
    ISP1.create();
    ISP2.create();
    let hanging = stopped_in_the_middle(&server);

    let started = Instant::now();
    let said = fails(1, &mut server.hook(UP, ISP2));
    assert!(started.elapsed() >= Duration::from_millis(400));
    let holder = format!("lock is still locked after 400ms by mh-ip-up ppp0, pid {}", hanging.id());
    assert!(said.contains(&holder) && said.contains("the next event repairs everything that is recorded"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(fs::read_to_string(server.state().join("ppp1.ipv4")).unwrap().contains("203.0.113.10"));
    let said = fails(1, server.bare(CTL).arg("apply"));
    assert!(said.contains(&holder), "{said}");

    // One that waits holds nothing that it could pass on.
    server.configure(ARTICLE);
    let waiting = start(&mut server.hook(UP, ISP2));
    until("the second waits for the lock", || {
        fs::read_dir(format!("/proc/{}/fd", waiting.id()))
            .unwrap()
            .any(|entry| fs::read_link(entry.unwrap().path()).is_ok_and(|path| path == server.state().join("lock")))
    });
    thread::sleep(Duration::from_millis(20));
    assert_eq!(inheritable(&waiting), [""; 0]);
    assert_eq!(inheritable(&hanging), [""; 0]);

    // It goes on, and so do all.
    send(Signal::SIGCONT, &hanging);
    finish(hanging);
    finish(waiting);
    let main = defaults("main");
    assert!(main[0].contains("dev ppp0 weight 8") && main[0].contains("dev ppp1 weight 2"), "{main:?}");
    assert!(inheritable_of_a_waiting_ip_down(&server).is_empty());
}

/// The same of an ip-down that waits for its device.
fn inheritable_of_a_waiting_ip_down(server: &Server) -> Vec<String> {
    ISP2.hang_up();
    let down = server.down(ISP2);
    until("ip-down has taken the line out", || !held().iter().any(|line| line.starts_with("192:")));
    // Others can have the lock meanwhile.
    until("it has let go", || !is_locked(server, "lock") && !is_locked(server, "records.lock"));
    let found = inheritable(&down);
    ISP2.unregister();
    finish(down);
    found
}

/// As a backup may that locks what it reads: the file names the hook that had the lock last.
#[test]
fn another_program_with_the_lock_is_not_taken_for_the_hook_that_had_it_before() {
    let server = Server::new(&with_settings(ARTICLE, "lock-timeout = \"100ms\""));
    server.up(ISP1);
    let locked = OpenOptions::new().read(true).open(server.state().join("records.lock")).unwrap();
    locked.lock_exclusive().unwrap();
    let said = fails(1, &mut server.hook(DOWN, ISP1));
    assert!(said.contains("records.lock is still locked after 100ms by another program; "), "{said}");
    assert!(said.contains("; ppp0 is not recorded as down: when that is fixed, report it again"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn after_a_hook_that_hung_was_killed_the_next_event_repairs_everything() {
    let server = Server::new(&with_settings(ARTICLE, "lock-timeout = \"100ms\""));
    ISP1.create();
    ISP2.create();
    let mut hanging = stopped_in_the_middle(&server);
    fails(1, &mut server.hook(UP, ISP2));
    hanging.kill().unwrap();
    hanging.wait().unwrap();
    VPN0.create();
    ok(&mut server.openvpn(VPN0, "up"));
    let main = defaults("main");
    assert!(main[0].contains("dev ppp0 weight 8") && main[0].contains("dev ppp1 weight 2"), "{main:?}");
}

/// Processor time of a process from exec to exit, the least of a few runs.
fn processor_time(mut hook: impl FnMut() -> Command) -> Duration {
    let run = |mut command: Command| {
        let mut child = start(&mut command);
        let id = Id::Pid(Pid::from_raw(child.id().try_into().unwrap()));
        waitid(id, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
        let text = fs::read_to_string(format!("/proc/{}/schedstat", child.id())).unwrap();
        assert!(child.wait().unwrap().success());
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    };
    (0..7).map(|_| run(hook())).min().unwrap()
}

#[test]
fn an_event_costs_the_same_in_a_main_table_of_100_000_routes() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    server.up(ISP2);
    let small = processor_time(|| server.hook(UP, ISP1));
    let mut batch = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut lines = String::new();
    for n in 0..100_000_u32 {
        use std::fmt::Write;
        writeln!(lines, "route add 11.{}.{}.{}/32 via 198.51.100.1", n >> 16, n >> 8 & 255, n & 255).unwrap();
    }
    // Right behind the default route.
    lines.push_str("route add 0.0.0.0/1 via 198.51.100.1\nroute add 128.0.0.0/1 via 198.51.100.1\n");
    batch.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    finish(batch);
    let large = processor_time(|| server.hook(UP, ISP1));
    println!("an event that changes nothing: {small:?} of processor time, {large:?} with 100 000 routes");
    assert!(small > Duration::ZERO && large < small * 3, "{small:?} and then {large:?}");
    server.lose(ISP2);
    assert_eq!(defaults_of_main(), ["default nhid 7100 via 198.51.100.1 dev ppp0 proto 77"]);
}

/// Without a listing of all the tables.
fn defaults_of_main() -> Vec<String> {
    without_spares(shown("route show exact 0.0.0.0/0"))
}
