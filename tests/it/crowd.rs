//! Many hooks at once: all are served, in about the order in which they came, and the state is right.

use std::fmt::Write;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;
use nix::sched::{CloneFlags, setns};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

const HOOKS: usize = 64;
const LINKS: usize = 16;

/// Sixteen lines.
fn config() -> String {
    let mut text = String::new();
    for n in 0..LINKS {
        writeln!(text, "[[uplink]]\nname = \"isp{n}\"\ninterface = \"ppp{n}\"").unwrap();
    }
    text
}

fn line(n: usize) -> Line {
    let keep = |text: String| -> &'static str { text.leak() };
    let (device, link) = (keep(format!("ppp{n}")), keep(format!("isp{n}")));
    let (local, remote) = (keep(format!("198.18.{n}.2")), keep(format!("198.18.{n}.1")));
    Line { device, local, remote, link, pid: 1000 + u32::try_from(n).unwrap() }
}

#[test]
fn sixty_four_hooks_at_once_are_all_served() {
    let server = Server::new(&config());
    (0..LINKS).for_each(|n| line(n).create());
    // One after the other, as a measure.
    let started = Instant::now();
    (0..LINKS).for_each(|n| drop(ok(&mut server.hook(UP, line(n)))));
    let single = started.elapsed() / u32::try_from(LINKS).unwrap();
    let all = held();
    assert_eq!(defaults("main")[0].matches("nexthop").count(), LINKS);

    ok(server.bare(CTL).arg("flush"));
    let started = Instant::now();
    let hooks: Vec<Child> = (0..HOOKS).map(|n| start(&mut server.hook(UP, line(n % LINKS)))).collect();
    let begun = started.elapsed();
    let mut ended = Vec::new();
    let pids: Vec<_> = hooks.iter().map(|hook| Pid::from_raw(hook.id().try_into().unwrap())).collect();
    // In the order in which they end, as the kernel tells it.
    let mut left = pids.clone();
    while !left.is_empty() {
        let before = left.len();
        left.retain(|pid| match waitpid(*pid, Some(nix::sys::wait::WaitPidFlag::WNOHANG)).unwrap() {
            WaitStatus::StillAlive => true,
            WaitStatus::Exited(_, 0) => {
                ended.push((*pid, started.elapsed()));
                false
            }
            other => panic!("{other:?}"),
        });
        if left.len() == before {
            thread::sleep(Duration::from_micros(200));
        }
    }
    assert_eq!(held(), all);
    let place = |pid: &Pid| pids.iter().position(|p| p == pid).unwrap();
    let late = ended.iter().enumerate().map(|(rank, (pid, _))| rank.saturating_sub(place(pid))).max().unwrap();
    let (median, last) = (ended[HOOKS / 2].1, ended[HOOKS - 1].1);
    println!(
        "{HOOKS} hooks begun within {begun:?}: half are done after {median:?}, all after {last:?}, where one alone takes \
         {single:?}; the one that lost most places to others lost {late}"
    );
    assert!(last < Duration::from_secs(15), "half of lock-timeout: {last:?}");
}

#[test]
fn nobody_starves_among_hooks_that_never_end() {
    let server = Server::new(&config());
    (0..8).for_each(|n| server.up(line(n)).status.success().then_some(()).unwrap());
    let namespace = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
    let stop = AtomicBool::new(false);
    // Seven that come again as soon as they are done, and the one that counts.
    let (times, others) = thread::scope(|scope| {
        let crowd: Vec<_> = (0..7)
            .map(|n| {
                let (server, namespace, stop) = (&server, &namespace, &stop);
                scope.spawn(move || {
                    setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                    let mut done = 0_u32;
                    while !stop.load(Ordering::Relaxed) {
                        ok(&mut server.hook(UP, line(n)));
                        done += 1;
                    }
                    done
                })
            })
            .collect();
        let times: Vec<_> = (0..20)
            .map(|_| {
                let started = Instant::now();
                ok(&mut server.hook(UP, line(7)));
                started.elapsed()
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        (times, crowd.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>())
    });
    println!("among hooks that ran {others:?} times, 20 were served after {:?} at most", times.iter().max().unwrap());
    assert!(times.iter().max().unwrap() < &Duration::from_secs(10), "{times:?}");
    // Nor among the others.
    assert!(others.iter().min().unwrap() * 5 > *others.iter().max().unwrap(), "{others:?}");
}
