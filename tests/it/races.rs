//! Events at the same time, devices that go before, during and after ip-down, and hooks that are killed.

use std::fs;
use std::iter;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;
use nix::sys::signal::Signal;

const MODES: [&str; 2] = ["objects", "multipath"];

/// Longer than a hook takes on a machine that is busy with something else, shorter than any timeout here.
const PROMPT: Duration = Duration::from_millis(500);

fn in_mode(mode: &str) -> String {
    with_settings(ARTICLE, &format!("nexthops = {mode:?}"))
}

/// Runs `what` with a server in each mode, both lines up, and what the kernel holds with only the first of them.
fn in_both_modes(what: fn(&Server, &str, &[String])) {
    let in_mode = |mode| {
        thread::spawn(move || {
            let server = Server::new(&in_mode(mode));
            server.up(ISP1);
            let only1 = held();
            server.up(ISP2);
            what(&server, mode, &only1);
        })
    };
    for thread in MODES.map(in_mode) {
        thread.join().unwrap();
    }
}

#[test]
fn two_hooks_at_once_always_end_right() {
    in_both_modes(|server, _, _| {
        let both = held();
        server.lose(ISP1);
        let only2 = held();
        server.lose(ISP2);
        let none = held();
        for round in 0..5 {
            // Both come up.
            ISP1.create();
            ISP2.create();
            let ups = [start(&mut server.hook(UP, ISP1)), start(&mut server.hook(UP, ISP2))];
            ups.into_iter().for_each(finish);
            assert_eq!(held(), both, "two ups, round {round}");

            // One goes, the other comes up once more.
            ISP1.hang_up();
            let down = server.down(ISP1);
            let up = start(&mut server.hook(UP, ISP2));
            ISP1.unregister();
            [down, up].into_iter().for_each(finish);
            assert_eq!(held(), only2, "up and down, round {round}");

            // One goes, the other comes.
            ISP2.hang_up();
            ISP1.create();
            let up = start(&mut server.hook(UP, ISP1));
            let down = server.down(ISP2);
            ISP2.unregister();
            [down, up].into_iter().for_each(finish);
            ISP2.create();
            ok(&mut server.hook(UP, ISP2));
            assert_eq!(held(), both, "down and up, round {round}");

            // Both go.
            ISP1.hang_up();
            ISP2.hang_up();
            let downs = [server.down(ISP1), server.down(ISP2)];
            ISP2.unregister();
            ISP1.unregister();
            downs.into_iter().for_each(finish);
            assert_eq!(held(), none, "two downs, round {round}");
        }
    });
}

#[test]
fn eight_hooks_at_once_end_right() {
    in_both_modes(|server, _, only1| {
        let both = held();
        let hooks: Vec<_> = (0..8).map(|n| start(&mut server.hook(UP, if n % 2 == 0 { ISP1 } else { ISP2 }))).collect();
        hooks.into_iter().for_each(finish);
        assert_eq!(held(), both);
        ISP2.hang_up();
        let downs: Vec<_> = (0..8).map(|_| server.down(ISP2)).collect();
        ISP2.unregister();
        downs.into_iter().for_each(finish);
        assert_eq!(held(), only1);
    });
}

#[test]
fn a_device_that_goes_before_ip_down_leaves_no_gap() {
    in_both_modes(|server, mode, only1| {
        let prober = Prober::start();
        ISP2.unregister();
        // A user of a shell script waits this long and longer: the kernel has nobody to help it meanwhile.
        thread::sleep(Duration::from_millis(20));
        finish(server.down(ISP2));
        assert_eq!(held(), only1, "{mode}");
        thread::sleep(Duration::from_millis(20));
        // The kernel drops the whole multipath route, and nobody can stop it: the spare carries.
        let seen = prober.stop();
        assert_eq!(seen.unreachable, 0, "{mode}: {seen:?}");
    });
}

#[test]
fn a_device_that_goes_after_ip_down_has_looked_leaves_no_gap() {
    in_both_modes(|server, mode, only1| {
        let prober = Prober::start();
        ISP2.hang_up();
        let down = server.down(ISP2);
        until("ip-down has taken the line out", || held() == only1);
        thread::sleep(Duration::from_millis(20));
        ISP2.unregister();
        finish(down);
        let seen = prober.stop();
        assert_eq!(held(), only1, "{mode}");
        assert_eq!(seen.unreachable, 0, "{mode}: {seen:?}");
    });
}

#[test]
fn a_device_that_goes_while_ip_down_runs_changes_nothing() {
    in_both_modes(|server, mode, only1| {
        let both = held();
        for round in 0..12_u32 {
            let prober = Prober::start();
            ISP2.hang_up();
            let down = server.down(ISP2);
            thread::sleep(Duration::from_micros(500) * round);
            ISP2.unregister();
            finish(down);
            let seen = prober.stop();
            assert_eq!(held(), only1, "{mode}, round {round}");
            if mode == "objects" {
                assert_eq!(seen.unreachable, 0, "round {round}: {seen:?}");
            }
            server.up(ISP2);
            assert_eq!(held(), both, "{mode}, round {round}");
        }
    });
}

#[test]
fn ip_down_waits_for_the_device_and_returns_when_it_is_gone() {
    in_both_modes(|server, mode, only1| {
        ISP2.hang_up();
        let mut down = server.down(ISP2);
        until("ip-down has taken the line out", || held() == only1);
        thread::sleep(Duration::from_millis(300));
        assert!(down.try_wait().unwrap().is_none(), "{mode}: it did not wait");
        // The kernel tells of it somewhere within this command.
        let gone = Instant::now();
        ISP2.unregister();
        finish(down);
        println!("{mode}: ip-down returned {:?} after the command that ended the device", gone.elapsed());
        assert!(gone.elapsed() < PROMPT, "{mode}: {:?}", gone.elapsed());
        assert_eq!(held(), only1, "{mode}");
    });
}

#[test]
fn ip_down_waits_for_no_other_device() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    let only1 = held();
    server.up(ISP2);
    ISP2.hang_up();
    let mut down = server.down(ISP2);
    until("ip-down has taken the line out", || held() == only1);
    // Another device goes, another gets an address, and ours changes.
    VPN0.create();
    VPN0.unregister();
    ISP1.create();
    ip("link set ppp1 up");
    ip("link set ppp1 down");
    thread::sleep(Duration::from_millis(100));
    assert!(down.try_wait().unwrap().is_none());
    ISP2.unregister();
    finish(down);
}

#[test]
fn ip_down_ends_although_the_kernels_notices_were_lost() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    let only1 = held();
    server.up(ISP2);
    ISP2.hang_up();
    let down = server.down(ISP2);
    until("ip-down has taken the line out", || held() == only1);
    thread::sleep(Duration::from_millis(50));
    send(Signal::SIGSTOP, &down);
    // More than its socket holds; the end of the device is among what does not fit.
    let batch = server.state().with_file_name("batch");
    fs::write(&batch, "addr add 127.7.7.7/32 dev lo\naddr del 127.7.7.7/32 dev lo\n".repeat(2000)).unwrap();
    ip(&format!("-batch {}", batch.display()));
    ISP2.unregister();
    send(Signal::SIGCONT, &down);
    let told = Instant::now();
    finish(down);
    assert!(told.elapsed() < PROMPT, "{:?}", told.elapsed());
    assert_eq!(held(), only1);
}

#[test]
fn ip_down_ends_when_the_line_is_back_on_its_device() {
    in_both_modes(|server, mode, only1| {
        let both = held();
        ISP2.hang_up();
        let down = server.down(ISP2);
        until("ip-down has taken the line out", || held() == only1);
        thread::sleep(Duration::from_millis(50));
        ISP2.create();
        let back = Instant::now();
        finish(down);
        assert!(back.elapsed() < PROMPT, "{mode}: {:?}", back.elapsed());
        // pppd runs its ip-up now.
        ok(&mut server.hook(UP, ISP2));
        assert_eq!(held(), both, "{mode}");
    });
}

#[test]
fn ip_down_ends_at_sigterm_with_the_kernel_right() {
    in_both_modes(|server, mode, only1| {
        ISP2.hang_up();
        let down = server.down(ISP2);
        until("ip-down has taken the line out", || held() == only1);
        // What the first pass cannot see comes to light in the second.
        ip("rule del priority 190");
        thread::sleep(Duration::from_millis(50));
        let told = Instant::now();
        send(Signal::SIGTERM, &down);
        finish(down);
        assert!(told.elapsed() < PROMPT, "{mode}: {:?}", told.elapsed());
        assert_eq!(held(), only1, "{mode}");
    });
}

#[test]
fn ip_down_ends_at_settle_timeout() {
    let server = Server::new(&with_settings(ARTICLE, "settle-timeout = \"300ms\""));
    server.up(ISP1);
    let only1 = held();
    server.up(ISP2);
    ISP2.hang_up();
    let started = Instant::now();
    finish(server.down(ISP2));
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_millis(300) + PROMPT, "{took:?}");
    assert_eq!(held(), only1);
}

#[test]
fn both_lines_lost_at_once_and_back() {
    in_both_modes(|server, mode, _| {
        let both = held();
        // Their devices go before any ip-down has run.
        ISP1.unregister();
        ISP2.unregister();
        [server.down(ISP1), server.down(ISP2)].into_iter().for_each(finish);
        assert_eq!(defaults("main"), [""; 0], "{mode}");
        assert!(shown("nexthop").is_empty(), "{mode}: {:?}", held());
        let rules = ours().iter().filter(|line| line.contains(" lookup ")).count();
        assert_eq!((rules, ours().len()), (11, 11), "{mode}: {:?}", held());
        ISP1.create();
        ISP2.create();
        [start(&mut server.hook(UP, ISP2)), start(&mut server.hook(UP, ISP1))].into_iter().for_each(finish);
        assert_eq!(held(), both, "{mode}");
    });
}

/// How long `program` runs for the second line, at most 15 ms: ip-down waits at its end, and what it does before that
/// is as long as an ip-up.
fn time_of_a_run(server: &Server, program: &str) -> Duration {
    let started = Instant::now();
    let mut hook = start(&mut server.hook(program, ISP2));
    while hook.try_wait().unwrap().is_none() && started.elapsed() < Duration::from_millis(15) {
        thread::sleep(Duration::from_micros(100));
    }
    let time = started.elapsed();
    hook.kill().unwrap();
    hook.wait().unwrap();
    time
}

/// Kills `program` for the second line at once and at 40 points of its run, every other in each mode; `before` and
/// `after` stand around each.
fn kill_at_many_points(server: &Server, mode: &str, program: &str, before: impl Fn(), mut after: impl FnMut(u32)) {
    const POINTS: u32 = 40;
    let mut fastest = Duration::MAX;
    // The fastest of three: a run on a busy machine would put every point behind the record.
    for _ in 0..3 {
        before();
        fastest = fastest.min(time_of_a_run(server, program));
        after(0);
    }
    let step = fastest / 35;
    let first = if mode == "objects" { 1 } else { 2 };
    for point in iter::once(0).chain((first..=POINTS).step_by(2)) {
        before();
        let mut hook = start(&mut server.hook(program, ISP2));
        thread::sleep(step * point);
        hook.kill().unwrap();
        hook.wait().unwrap();
        after(point);
    }
}

#[test]
fn whenever_an_ip_up_is_killed_the_next_event_mends_it() {
    in_both_modes(|server, mode, only1| {
        let both = held();
        server.configure(&with_settings(ARTICLE, &format!("nexthops = {mode:?}\nsettle-timeout = \"0s\"")));
        server.lose(ISP2);
        let mut states = [0, 0];
        // On a busy machine a whole round may come too late.
        for _ in 0..5 {
            kill_at_many_points(
                server,
                mode,
                UP,
                || ISP2.create(),
                |point| {
                    // An event of the other line: with the record written or without.
                    ok(&mut server.hook(UP, ISP1));
                    let found = held();
                    let whole = found == both;
                    let mut without: Vec<_> = found;
                    without.retain(|line| !line.starts_with("203.0.113.1 "));
                    assert!(whole || without == only1, "{mode}, point {point}: {without:#?}");
                    states[usize::from(whole)] += 1;
                    // And of its own.
                    ok(&mut server.hook(UP, ISP2));
                    assert_eq!(held(), both, "{mode}, point {point}");
                    // The device itself takes too long to make and unmake.
                    ISP2.hang_up();
                    finish(server.down(ISP2));
                    assert_eq!(held(), only1, "{mode}, point {point}");
                },
            );
            if !states.contains(&0) {
                break;
            }
        }
        println!("{mode}: killed before its record was there and after: {states:?}");
        assert!(states[0] > 0 && states[1] > 0, "the points are badly spread: {states:?}");
    });
}

#[test]
fn whenever_an_ip_down_is_killed_the_next_event_mends_it() {
    in_both_modes(|server, mode, only1| {
        let both = held();
        kill_at_many_points(
            server,
            mode,
            DOWN,
            || ISP2.hang_up(),
            |point| {
                ISP2.unregister();
                ok(&mut server.hook(UP, ISP1));
                assert_eq!(held(), only1, "{mode}, point {point}");
                server.up(ISP2);
                assert_eq!(held(), both, "{mode}, point {point}");
            },
        );
    });
}
