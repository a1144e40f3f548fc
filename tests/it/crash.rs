//! Every point at which an event can be cut off: the process is killed before and after each request to the kernel, each
//! file operation and each step of running iptables-restore, in turn. At none of them is the default route missing where
//! there was one, and the next event mends everything.
//!
//! `make test` takes the points around calls that change something; `make stress` takes all.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crate::support::filter::{managed, rules};
use crate::support::strace::{CALLS, Call, calls};
use crate::support::*;

const MODES: [&str; 2] = ["objects", "multipath"];

/// Each mode has another packet filter, too. Nobody is waited for: the device of a line that was lost stays in these
/// tests.
fn in_mode(mode: &str) -> String {
    let filter = if mode == "objects" { "nftables" } else { "iptables" };
    with_settings(ARTICLE, &format!("nexthops = {mode:?}\nfirewall = {filter:?}\nsettle-timeout = \"0s\""))
}

/// Everything of ours in the kernel and in the state directory.
#[derive(Debug, Clone, PartialEq)]
struct State {
    held: Vec<String>,
    firewall: Vec<String>,
    files: Vec<String>,
}

impl State {
    fn now(server: &Server) -> Self {
        let entries = fs::read_dir(server.state()).into_iter().flatten();
        let mut files: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        Self { held: held(), firewall: rules(), files }
    }
}

/// Those of `calls` at which to kill their hook.
fn points(calls: &[Call]) -> Vec<&Call> {
    let only_asks = |Call { name, text, .. }: &Call| match name.as_str() {
        "sendto" => text.contains("_GET") || text.contains("NLM_F_DUMP"),
        "openat" => !text.contains("O_CREAT"),
        _ => false,
    };
    // Before a call that changes something, and after it: before whatever comes next.
    let around = |n: usize| !only_asks(&calls[n]) || n > 0 && !only_asks(&calls[n - 1]);
    (0..calls.len()).filter(|n| thorough() || around(*n)).map(|n| &calls[n]).collect()
}

/// Kills `event` at each point; `before` and `after` stand around each. The number of the point is 0 when it is not
/// killed.
fn kill_at_every_point(
    server: &Server,
    what: &str,
    event: impl Fn() -> Command,
    before: impl Fn(),
    mut after: impl FnMut(usize, &str),
) {
    before();
    let calls = calls(&event(), CALLS, &server.state().with_file_name("calls"));
    after(0, "");
    let points = points(&calls);
    println!("{what}: killed at {} points of {}", points.len(), calls.len());
    assert!(points.len() > 15, "{calls:#?}");
    for (n, call) in points.into_iter().enumerate() {
        before();
        let status = call.killed(&event()).output().unwrap().status;
        // How often it waits for iptables-restore depends on how that ends: then the last time may not come.
        let may_not_come = (call.name.ends_with("poll") || call.name == "wait4") && status.success();
        assert!(status.signal() == Some(9) || may_not_come, "{what}, {n}: {status}, {call:?}");
        after(n + 1, &format!("{what}, before {}", call.text));
    }
}

/// Runs `what` in each mode at the same time, each with a server of its own.
fn in_both_modes(what: fn(&str, &Server)) {
    let in_mode = |mode: &'static str| std::thread::spawn(move || what(mode, &Server::new(&in_mode(mode))));
    for thread in MODES.map(in_mode) {
        thread.join().unwrap();
    }
}

/// The next event of another line, or the timer.
fn next_event(server: &Server, n: usize, line: Line) {
    if n.is_multiple_of(2) { server.apply() } else { drop(ok(&mut server.hook(UP, line))) }
}

#[test]
fn strace_kills_before_the_call_and_what_a_killed_hook_leaves_goes() {
    let server = Server::new(&in_mode("objects"));
    server.up(ISP1);
    ISP2.create();
    let calls = calls(&server.hook(UP, ISP2), CALLS, &server.state().with_file_name("calls"));
    let files = State::now(&server).files;
    assert_eq!(files, ["lock", "ppp0.ipv4", "ppp1.ipv4", "records.lock"]);
    ok(&mut server.hook(DOWN, ISP2));
    let rename = calls.iter().find(|call| call.name.starts_with("rename")).unwrap();
    rename.killed(&server.hook(UP, ISP2)).status().unwrap();
    assert_eq!(State::now(&server).files, [".ppp1.new", "lock", "ppp0.ipv4", "records.lock"]);
    ok(&mut server.hook(UP, ISP2));
    assert_eq!(State::now(&server).files, files);
}

#[test]
fn the_first_line_of_all_comes_up() {
    in_both_modes(|mode, server| {
        server.up(ISP1);
        let done = State::now(server);
        kill_at_every_point(
            server,
            &format!("first up, {mode}"),
            || server.hook(UP, ISP1),
            || {
                // As on a machine on which we never ran.
                ok(&mut server.hook(DOWN, ISP1));
                ok(server.bare(CTL).arg("flush"));
                fs::remove_dir_all(server.state()).unwrap();
                assert_eq!((ours(), State::now(server).firewall), (vec![], vec![]));
                ISP1.create();
            },
            |n, at| {
                if n > 0 {
                    ok(&mut server.hook(UP, ISP1));
                }
                assert_eq!(State::now(server), done, "{at}");
            },
        );
    });
}

#[test]
fn a_second_line_comes_up() {
    in_both_modes(|mode, server| {
        server.up(ISP1);
        ISP2.create();
        let without = State::now(server);
        ok(&mut server.hook(UP, ISP2));
        let done = State::now(server);
        let mut recorded = [0, 0];
        kill_at_every_point(
            server,
            &format!("second up, {mode}"),
            || server.hook(UP, ISP2),
            || {
                ok(&mut server.hook(DOWN, ISP2));
                assert_eq!(State::now(server), without);
            },
            |n, at| {
                assert!(has_default(), "{at}: {:#?}", held());
                next_event(server, n, ISP1);
                let mut found = State::now(server);
                found.files.retain(|file| file != ".ppp1.new");
                assert!([&without, &done].contains(&&found), "{at}: {found:#?}");
                recorded[usize::from(found == done)] += 1;
                ok(&mut server.hook(UP, ISP2));
                assert_eq!(State::now(server), done, "{at}");
            },
        );
        assert!(recorded[0] > 5 && recorded[1] > 10, "killed before its record was there and after: {recorded:?}");
    });
}

#[test]
fn one_line_of_two_goes() {
    in_both_modes(|mode, server| {
        server.up(ISP1);
        ISP2.create();
        let without = State::now(server);
        ok(&mut server.hook(UP, ISP2));
        let both = State::now(server);
        kill_at_every_point(
            server,
            &format!("down, {mode}"),
            || server.hook(DOWN, ISP2),
            || {
                ISP2.create();
                ok(&mut server.hook(UP, ISP2));
                assert_eq!(State::now(server), both);
                ISP2.hang_up();
            },
            |n, at| {
                assert!(has_default(), "{at}: {:#?}", held());
                next_event(server, n, ISP1);
                // The line is dead, whether its record is there or not.
                assert!(!ours().iter().any(|line| line.contains("ppp1")), "{at}: {:#?}", held());
                assert!(has_default(), "{at}: {:#?}", held());
                ok(&mut server.hook(DOWN, ISP2));
                ISP2.create();
                assert_eq!(State::now(server), without, "{at}");
            },
        );
    });
}

#[test]
fn a_tunnel_comes_up() {
    in_both_modes(|mode, server| {
        server.up(ISP1);
        VPN0.create();
        let without = State::now(server);
        ok(server.openvpn(VPN0, "up").option("--strict"));
        let done = State::now(server);
        kill_at_every_point(
            server,
            &format!("vpn up, {mode}"),
            || server.openvpn(VPN0, "up"),
            || {
                ok(server.openvpn(VPN0, "route-pre-down").option("--strict"));
                assert_eq!(State::now(server), without);
            },
            |n, at| {
                assert!(has_default(), "{at}: {:#?}", held());
                next_event(server, n, ISP1);
                ok(server.openvpn(VPN0, "up").option("--strict"));
                assert_eq!(State::now(server), done, "{at}");
            },
        );
    });
}

/// The order of changes matters most here: nearly all of ours is exchanged under traffic.
#[test]
fn another_configuration_is_applied() {
    in_both_modes(|mode, server| {
        let other = MODES.into_iter().find(|other| *other != mode).unwrap();
        let config = in_mode(other) + "nexthop-id = 7099\nmetric = 5\nrule-priority = 1000\n";
        server.up(ISP1);
        server.up(ISP2);
        let old = State::now(server);
        server.configure(&config);
        server.apply();
        let new = State::now(server);
        kill_at_every_point(
            server,
            &format!("from {mode} to {other}"),
            || {
                let mut apply = server.bare(CTL);
                apply.arg("apply");
                apply
            },
            || {
                server.configure(&in_mode(mode));
                server.apply();
                assert_eq!(State::now(server), old);
                server.configure(&config);
            },
            |n, at| {
                assert!(has_default(), "{at}: {:#?}", held());
                assert!(managed().len() > 20, "the rules are in one packet filter or in the other: {at}");
                next_event(server, n + 1, ISP1);
                assert_eq!(State::now(server), new, "{at}");
            },
        );
    });
}
