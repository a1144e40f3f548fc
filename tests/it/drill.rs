//! `mhctl drill` against the kernel, and against everything that can end it.

use std::process::Stdio;

use std::net::UdpSocket;
use std::thread::sleep;
use std::time::Duration;

use crate::support::ctl::*;
use crate::support::internet::*;
use crate::support::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

fn drill(server: &Server, args: &str) -> std::process::Child {
    let child = ctl(server, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("isp1 is drained", || json(server, "status --json")["links"][0]["state"] == "held");
    until("the default has moved", || default_route() == "default nhid 7100 via 203.0.113.1 dev ppp1 proto 77");
    // Its pass has ended when another one has been made: who is stopped in the midst of one has the lock.
    server.apply();
    child
}

fn send(child: &std::process::Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

fn two_lines() -> Server {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    server.up(ISP2);
    server
}

#[test]
fn a_drill_takes_a_link_out_and_puts_it_back() {
    let server = two_lines();
    let prober = Prober::start();
    let child = drill(&server, "drill isp1 --for 3s --json");
    // An event of another link leaves it out, and so does an apply.
    ok(&mut ctl(&server, "apply"));
    ok(&mut server.hook(UP, ISP2));
    assert_eq!(default_route(), "default nhid 7100 via 203.0.113.1 dev ppp1 proto 77");
    // One of its own says why it is not used.
    let said = String::from_utf8(ok(server.hook(UP, ISP1).option("-v")).stderr).unwrap();
    let why = format!("via 198.51.100.1, drained by a drill (process {}); links up: isp2;", child.id());
    assert!(said.contains(&why), "{said}");
    let (code, error) = refused(&server, "drill isp1");
    assert_eq!(code, Some(1));
    assert!(error.contains("isp1 is drained by process"), "{error}");
    let before = ours();
    let (code, error) = refused(&server, "flush");
    assert_eq!(code, Some(1));
    assert!(error.contains(&format!("end it first (kill {})", child.id())), "{error}");
    assert_eq!(ours(), before);
    let (code, error) = refused(&server, "drill isp2");
    assert_eq!(code, Some(1));
    assert!(error.contains("no other uplink is up"), "{error}");
    // Something for the other line to carry.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.send_to(&[0; 1000], "192.0.2.1:9").unwrap();

    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["back"], true);
    assert_eq!(report["no_route_seconds"], 0.0);
    assert_eq!(report["cut_short"], false);
    assert!(report["seconds"].as_f64().unwrap() >= 3.0);
    assert!(report["asked"].as_u64().unwrap() > 100, "{report}");
    assert_eq!(report["others"][0]["link"], "isp2");
    assert_eq!(report["connections"]["pinned"], 0);
    assert!(default_route().starts_with(BOTH));
    assert_eq!(prober.stop().unreachable, 0);
    assert!(!server.state().join("isp1.hold").exists());
    assert_eq!(json(&server, "status --json")["kernel"]["as_wanted"], true);
}

#[test]
fn a_signal_ends_a_drill_early() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let server = two_lines();
        let child = drill(&server, "drill isp1 --for 10m");
        send(&child, signal);
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{signal}: {text}");
        assert!(text.contains("ended early, and is in use again"), "{text}");
        assert!(default_route().starts_with(BOTH), "{signal}");
    }
}

/// Nobody is left to put isp1 back; nobody has waited for the drill either, and a zombie has no lock.
fn killed() -> (Server, std::process::Child) {
    let server = two_lines();
    let child = drill(&server, "drill isp1 --for 10m");
    send(&child, Signal::SIGKILL);
    let stat = format!("/proc/{}/stat", child.id());
    until("it is a zombie", || std::fs::read_to_string(&stat).unwrap().contains(") Z "));
    assert!(server.state().join("isp1.hold").exists(), "otherwise this shows nothing");
    assert_eq!(default_route(), "default nhid 7100 via 203.0.113.1 dev ppp1 proto 77");
    (server, child)
}

/// `multihome.timer` runs `mhctl apply` within a minute.
#[test]
fn a_drill_that_is_killed_is_undone_by_the_next_event_or_apply() {
    let (server, mut child) = killed();
    ok(&mut server.hook(UP, ISP2));
    assert!(default_route().starts_with(BOTH), "{}", default_route());
    child.wait().unwrap();
    let (server, mut child) = killed();
    server.apply();
    assert!(default_route().starts_with(BOTH), "{}", default_route());
    assert_eq!(json(&server, "status --json")["links"][0]["state"], "up");
    child.wait().unwrap();
    // What it has left behind keeps no other drill out.
    assert!(said(&server, "drill isp1 --for 1s").contains("and is in use again"));
    assert!(!server.state().join("isp1.hold").exists());
}

#[test]
fn who_is_not_root_sees_a_drill_and_cannot_pretend_one() {
    let server = two_lines();
    let child = drill(&server, "drill isp1 --for 10m");
    let lock = std::fs::metadata(server.state().join("isp1.hold.lock")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&lock) & 0o7777, 0o600);
    let mut command = std::process::Command::new("unshare");
    command.arg("--user").args(server.for_others(&server.bare(CTL))).args(["status", "--json"]);
    let status: Value = serde_json::from_slice(&ok(&mut command).stdout).unwrap();
    assert_eq!(status["links"][0]["state"], "held", "{status:#}");
    send(&child, Signal::SIGINT);
    assert!(child.wait_with_output().unwrap().status.success());
}

#[test]
fn a_forced_drill_whose_other_line_goes_says_how_long_there_was_no_route() {
    let server = two_lines();
    let child = drill(&server, "drill isp1 --for 2s --force --json");
    let down = server.down(ISP2);
    ISP2.hang_up();
    ISP2.unregister();
    finish(down);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["no_route_seconds"].as_f64().unwrap() > 0.1, "{report}");
    assert_eq!(report["back"], true);
    assert_eq!(report["cut_short"], false);
    assert_eq!(default_route(), "default nhid 7100 via 198.51.100.1 dev ppp0 proto 77");
}

/// The other line's end is an event, and the drill's process does nothing for now: whoever makes the next pass puts
/// the link back.
#[test]
fn any_event_ends_a_drill_that_would_leave_no_uplink() {
    let server = two_lines();
    let child = drill(&server, "drill isp1 --for 10m");
    send(&child, Signal::SIGSTOP);
    server.lose(ISP2);
    assert_eq!(default_route(), "default nhid 7100 via 198.51.100.1 dev ppp0 proto 77");
    let status = json(&server, "status --json");
    assert_eq!((&status["links"][0]["state"], &status["kernel"]["as_wanted"]), (&"up".into(), &true.into()));
    assert!(server.state().join("isp1.hold").exists(), "otherwise this shows nothing");
    send(&child, Signal::SIGCONT);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("s, ended early since no other uplink was up, and is in use again\n"), "{text}");
    assert!(!server.state().join("isp1.hold").exists());
}

/// A modem is pulled out: nobody runs a hook.
#[test]
fn a_drill_ends_when_the_other_lines_device_vanishes() {
    let server = two_lines();
    let child = drill(&server, "drill isp1 --for 10m --json");
    ISP2.unregister();
    until("isp1 carries", || default_route() == "default nhid 7100 via 198.51.100.1 dev ppp0 proto 77");
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!([&report["back"], &report["cut_short"], &report["no_other_uplink"]], [true; 3]);
}

/// The same while a third line carries: the drill goes on.
#[test]
fn a_drill_whose_own_line_goes_says_so_and_fails() {
    let server = two_lines();
    let child = drill(&server, "drill isp1 --for 2s");
    ok(&mut ctl(&server, "link down isp1"));
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("and is NOT in use again"), "{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
}

#[test]
fn a_drill_goes_on_while_any_other_uplink_is_up() {
    let server = Server::new(&format!("{ARTICLE}\n[[uplink]]\nname = \"lte\"\ninterface = \"ppp2\"\ntier = 2\n"));
    let lte = Line { device: "ppp2", local: "192.0.2.10", remote: "192.0.2.1", link: "lte", pid: 1004 };
    for line in [ISP1, ISP2, lte] {
        server.up(line);
    }
    let child = ctl(&server, "drill isp1 --for 3s --json").stdout(Stdio::piped()).spawn().unwrap();
    until("isp1 is drained", || json(&server, "status --json")["links"][0]["state"] == "held");
    ISP2.unregister();
    server.apply();
    assert_eq!(json(&server, "status --json")["links"][0]["state"], "held");
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!([&report["back"], &report["cut_short"]], [&true.into(), &Value::from(false)]);
}

#[test]
fn a_drill_is_only_shown_by_a_dry_run() {
    let server = two_lines();
    let before = held_by_the_kernel();
    let text = said(&server, "drill isp1 --dry-run");
    assert!(text.contains("ip nexthop replace id 7100 group 7002,2 protocol 77"), "{text}");
    assert_eq!(held_by_the_kernel(), before);
    assert!(refused(&server, "drill vpn").1.contains("vpn is not up"));
}

/// A TCP connection of the LAN by the first line.
fn lan_tcp(internet: &Internet) -> std::net::TcpStream {
    let by_isp1 = |n| {
        let (stream, seen) = connect_tcp((&format!("100.64.9.{n}"), ECHO)).unwrap();
        (seen.to_string() == ISP1.local).then_some(stream)
    };
    internet.lan.run(|| (1..200).find_map(by_isp1).unwrap())
}

#[test]
fn a_drill_tells_what_became_of_each_connection() {
    let links = "[[uplink]]\nname = \"isp1\"\ninterface = \"ppp0\"\nweight = 256\nmasquerade = true\n\
                 [[uplink]]\nname = \"isp2\"\ninterface = \"ppp1\"\nmasquerade = true\n";
    let server = Server::new(links);
    let internet = Internet::new();
    internet.server.serve_echo(ECHO);
    for line in [ISP1, ISP2] {
        internet.connect(line);
        ok(&mut server.hook(UP, line));
    }
    let mut talking = lan_tcp(&internet);
    let idle = lan_tcp(&internet);
    let mut incoming = internet.world.run(|| connect_tcp((ISP1.local, ECHO)).unwrap().0);
    let datagrams = internet.lan.run(|| {
        // Two packets are a question and its answer, and no connection that a drill could break.
        let by_isp1 = |to: &String| ask_udp((to, ECHO)).is_some_and(|seen| seen.to_string() == ISP1.local);
        let to = (1..200).map(|n| format!("100.64.8.{n}")).find(by_isp1).unwrap();
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        assert_eq!(ask_again(&socket, (&to, ECHO)).unwrap().to_string(), ISP1.local);
        // The kernel counts it as one when it goes on for two seconds (udp_packet()).
        sleep(Duration::from_millis(2500));
        ask_again(&socket, (&to, ECHO)).unwrap();
        (socket, to)
    });
    let end = |stream: &std::net::TcpStream| stream.local_addr().unwrap().to_string();
    let (broken, silent, back) = (end(&talking), end(&idle), end(&incoming));
    let moved = format!("{LAN_HOST}:{}", datagrams.0.local_addr().unwrap().port());

    let child = drill(&server, "drill isp1 --for 10m --json");
    // That the far end knows nothing of it by the other line it says at once.
    assert!(!talks(&mut talking));
    assert_eq!(ask_again(&datagrams.0, (&datagrams.1, ECHO)).unwrap().to_string(), ISP2.local);
    // What the far end sends still comes by the first line; no answer goes back there.
    incoming.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(!talks(&mut incoming));
    send(&child, Signal::SIGINT);
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let connections = &report["connections"];
    let fates: Vec<_> = connections["listed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            [&one["fate"], &one["by"], &one["proto"], &one["from"]].map(|v| v.as_str().unwrap_or("-").to_owned())
        })
        .collect();
    let expected = [
        ["broken", "isp2", "tcp", &broken],
        ["moved", "isp2", "udp", &moved],
        ["back", "isp1", "tcp", &back],
        ["silent", "-", "tcp", &silent],
    ];
    assert_eq!(fates, expected, "{connections:#}");
    assert_eq!(connections["pinned"], 4);
    for fate in ["broken", "moved", "back", "silent"] {
        assert_eq!(connections[fate], 1, "{connections:#}");
    }

    // As it is read; and one more than fit.
    let more: Vec<_> = (0..11).map(|_| lan_tcp(&internet)).collect();
    let text = said(&server, "drill isp1 --for 1s");
    assert!(text.contains("and ") && text.lines().last().unwrap().trim().starts_with("and "), "{text}");
    drop(more);
}

#[test]
fn a_drill_without_pins_says_so() {
    let server = Server::new(&with_settings(ARTICLE, "firewall = \"none\""));
    server.up(ISP1);
    server.up(ISP2);
    let text = said(&server, "drill isp1 --for 1s");
    assert!(text.contains("  sticky   connections are not known: firewall = \"none\""), "{text}");
}
