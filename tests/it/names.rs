//! Which link an event is about: names that change, devices that come again under an old name, words that come late.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::*;

/// The first line after a reconnect of pppd with `persist`: another unit, the same process.
const RENAMED: Line = Line { device: "ppp2", ..ISP1 };

/// Makes the command of a hook for a line.
type Hook = fn(&Server, &str, Line) -> Command;

/// A hook that knows the line by LINKNAME only.
fn without_ipparam(server: &Server, program: &str, line: Line) -> Command {
    let mut command = server.hook(program, Line { link: "", ..line });
    command.env("LINKNAME", line.link);
    command
}

#[test]
fn a_line_that_comes_back_under_another_name_is_the_same_line() {
    let by_ipparam = |server: &Server, program: &str, line: Line| {
        let mut command = server.hook(program, line);
        command.env_remove("LINKNAME");
        command
    };
    for (name, hook) in [("ipparam", by_ipparam as Hook), ("LINKNAME", without_ipparam)] {
        apart(move || {
            let server = Server::new(ARTICLE);
            server.up(ISP2);
            ISP1.create();
            ok(&mut hook(&server, UP, ISP1));
            let prober = Prober::start();
            for device in ["ppp2", "ppp0", "ppp7"] {
                let (old, new) = (Line { device: if device == "ppp2" { "ppp0" } else { "ppp2" }, ..ISP1 }, device);
                let old = if device == "ppp7" { ISP1 } else { old };
                old.hang_up();
                let down = start(&mut hook(&server, DOWN, old));
                old.unregister();
                finish(down);
                let line = Line { device: new, ..ISP1 };
                line.create();
                ok(&mut hook(&server, UP, line));
                assert_eq!(
                    defaults("1"),
                    [format!("default via 198.51.100.1 dev {device} table 1 proto 77")],
                    "{name}"
                );
                assert!(defaults("main")[0].contains(&format!("dev {device} weight 8")), "{name}: {:?}", held());
            }
            assert_eq!(prober.stop().unreachable, 0, "{name}");
        });
    }
}

#[test]
fn the_late_down_of_an_old_session_does_not_hurt_the_new_one() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    server.up(ISP2);
    ISP1.unregister();
    let new = Line { pid: 2001, ..RENAMED };
    new.create();
    ok(&mut server.hook(UP, new));
    let up = held();
    assert!(defaults("main")[0].contains("dev ppp2 weight 8"), "{up:?}");
    // It comes with the old process and the old name; its device is gone, and there is nothing to wait for.
    let started = Instant::now();
    ok(&mut server.hook(DOWN, ISP1));
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(held(), up);

    // The same with the same device name.
    let newest = Line { pid: 3001, ..ISP1 };
    new.unregister();
    newest.create();
    ok(&mut server.hook(UP, newest));
    let up = held();
    ok(&mut server.hook(DOWN, ISP1));
    ok(&mut server.hook(DOWN, new));
    assert_eq!(held(), up);
    server.lose(newest);
    assert_eq!(defaults("main"), ["default nhid 7100 via 203.0.113.1 dev ppp1 proto 77"]);
}

#[test]
fn a_down_by_hand_without_names_finds_the_line_on_its_interface() {
    let server = Server::new(&with_settings(ARTICLE, "settle-timeout = \"0s\""));
    server.up(RENAMED);
    ok(&mut server.with_args(DOWN, &["ppp2", "", "", "", ""]));
    assert_eq!(defaults("main"), [""; 0]);
    assert!(!server.state().join("ppp2.ipv4").exists());
}

#[test]
fn a_down_without_names_is_about_the_line_that_is_up_on_the_interface_not_the_one_that_could_be() {
    let server = Server::new(&with_settings(ARTICLE, "settle-timeout = \"0s\""));
    let elsewhere = Line { device: "ppp0", ..ISP2 };
    elsewhere.create();
    let by_hook = ["ppp0", "", "", "", ""];
    let by_mhctl = ["link", "down", "--interface", "ppp0"];
    for (program, args) in [(DOWN, &by_hook[..]), (CTL, &by_mhctl)] {
        ok(&mut server.hook(UP, elsewhere));
        assert_eq!(defaults("main"), ["default nhid 7100 via 203.0.113.1 dev ppp0 proto 77"]);
        ok(&mut server.with_args(program, args));
        assert_eq!(defaults("main"), [""; 0], "{args:?}");
        assert!(!server.state().join("ppp0.ipv4").exists(), "{args:?}");
    }
}

#[test]
fn a_record_of_a_device_that_is_gone_does_not_count_for_the_next_one_of_its_name() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    server.up(ISP2);
    // No ip-down ran: pppd was killed. The next device of that name belongs to somebody else.
    ISP1.unregister();
    ISP1.create();
    ok(&mut server.hook(UP, ISP2));
    assert_eq!(defaults("main"), ["default nhid 7100 via 203.0.113.1 dev ppp1 proto 77"]);
    assert_eq!(defaults("1"), [""; 0]);
    assert!(!held().iter().any(|line| line.starts_with("191:")), "{:?}", held());
    // Its own ip-up makes it the line again.
    ok(&mut server.hook(UP, ISP1));
    assert!(defaults("main")[0].contains("dev ppp0 weight 8"), "{:?}", held());
}

#[test]
fn two_lines_that_swap_their_names_are_told_apart() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    server.up(ISP2);
    server.lose(ISP1);
    server.lose(ISP2);
    let (swapped1, swapped2) = (Line { device: "ppp1", ..ISP1 }, Line { device: "ppp0", ..ISP2 });
    swapped1.create();
    swapped2.create();
    let ups = [start(&mut server.hook(UP, swapped1)), start(&mut server.hook(UP, swapped2))];
    ups.into_iter().for_each(finish);
    assert_eq!(defaults("1"), ["default via 198.51.100.1 dev ppp1 table 1 proto 77"]);
    assert_eq!(defaults("2"), ["default via 203.0.113.1 dev ppp0 table 2 proto 77"]);
    assert!(defaults("main")[0].contains("dev ppp1 weight 8") && defaults("main")[0].contains("dev ppp0 weight 2"));
}

#[test]
fn an_interface_is_one_lines_at_a_time() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    // pppd of the other line gets the name before anybody has said that the first one is down.
    ISP1.unregister();
    let taken = Line { device: "ppp0", ..ISP2 };
    server.up(taken);
    assert_eq!(defaults("main"), ["default nhid 7100 via 203.0.113.1 dev ppp0 proto 77"]);
    // The stale event of the first does not take the second down, nor wait for the second to end.
    let up = held();
    let started = Instant::now();
    ok(&mut server.hook(DOWN, ISP1));
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(held(), up);
}

#[test]
fn hostile_names_are_only_compared() {
    let server = Server::new(ARTICLE);
    ISP1.create();
    let before = held();
    let long = "x".repeat(50_000);
    for name in ["../../etc/passwd", "isp1\n", "$(reboot)", "ppp1.ipv4", long.as_str(), "\u{1b}[2J"] {
        let words = ["ppp0", "/dev/pts/7", "115200", ISP1.local, ISP1.remote, name];
        for program in [UP, DOWN] {
            let mut hook = server.with_args(program, &words);
            let output = ok(hook.option("-v").env("LINKNAME", name).env("PEERNAME", name).env("PPPD_PID", name));
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.lines().count() == 1 && said.len() < 400 && !said.contains('\u{1b}'), "{said:?}");
            assert!(!server.state().exists() && held() == before, "{name:?}");
        }
    }
}
