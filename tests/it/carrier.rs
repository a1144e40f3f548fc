//! Lines that lose their carrier and have it back: what the kernel does of that by itself, and what an event in
//! between leaves it.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::support::*;
use multihome::ctl::probe::Probe;

const MODES: [&str; 2] = ["objects", "multipath"];

/// Two static lines; what policies send by the first of them, else the second; what may go by the first only.
const LINKS: &str = r#"
[[uplink]]
name = "isp1"
interface = "ppp0"
gateway = "198.51.100.1"

[[uplink]]
name = "isp2"
interface = "ppp1"
gateway = "203.0.113.1"

[[policy]]
name = "moves"
to = "192.0.2.0/25"
via = ["isp1", "isp2"]

[[policy]]
name = "stays"
to = "192.0.2.128/25"
via = "isp1"
otherwise = "unreachable"
"#;

/// Both lines up, in each mode.
fn in_both_modes(what: fn(&Server, &str)) {
    for mode in MODES {
        apart(move || {
            let server = Server::new(&with_settings(LINKS, &format!("nexthops = {mode:?}")));
            ISP1.create();
            ISP2.create();
            server.apply();
            what(&server, mode);
        });
    }
}

/// The device towards an address.
fn by(to: &str) -> Option<String> {
    let index = Probe::open().unwrap().device_towards(to.parse::<std::net::IpAddr>().unwrap()).unwrap()?;
    let all = shown("-o link");
    let line = all.iter().find(|line| line.starts_with(&format!("{index}: "))).unwrap();
    Some(line.split([' ', '@']).nth(1).unwrap().trim_end_matches(':').to_owned())
}

/// Devices of the default route in use.
fn defaults_by() -> Vec<String> {
    let mut devices: Vec<_> = (0..64).filter_map(|n| by(&format!("100.64.{n}.1"))).collect();
    devices.sort();
    devices.dedup();
    devices
}

#[test]
fn links_interfaces_pass_over_routes_without_carrier() {
    let server = Server::new(ARTICLE);
    let ignores =
        |line: Line| fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{}/ignore_routes_with_linkdown", line.device));
    ISP1.create();
    assert_eq!(ignores(ISP1).unwrap(), "0\n");
    server.up(ISP1);
    VPN0.create();
    ok(&mut server.openvpn(VPN0, "up"));
    for line in [ISP1, VPN0] {
        assert_eq!(ignores(line).unwrap(), "1\n", "{}", line.device);
    }
}

#[test]
fn default_and_policies_move_at_once_when_one_line_loses_its_carrier_and_are_back_at_once() {
    in_both_modes(|server, mode| {
        let before = held();
        ISP1.lose_carrier();
        assert_eq!(defaults_by(), ["ppp1"], "{mode}");
        assert_eq!(by("192.0.2.1").unwrap(), "ppp1", "{mode}");
        assert_eq!(by("192.0.2.200"), None, "{mode}: a policy that says unreachable");
        ISP1.regain_carrier();
        assert_eq!(by("192.0.2.1").unwrap(), "ppp0", "{mode}");
        assert_eq!(by("192.0.2.200").unwrap(), "ppp0", "{mode}");
        // A group has to be made anew; all else is as it was.
        server.apply();
        assert_eq!(held(), before, "{mode}");
    });
}

#[test]
fn the_default_is_back_with_the_first_carrier_after_both_were_lost() {
    in_both_modes(|server, mode| {
        let before = held();
        for event in [false, true] {
            ISP1.lose_carrier();
            ISP2.lose_carrier();
            assert_eq!(defaults_by(), [""; 0], "{mode}");
            // Whatever happens meanwhile takes nothing away that the kernel would take up again.
            if event {
                server.apply();
                assert!(ok(server.bare(CTL).arg("plan")).stdout.starts_with(b"# nothing to change"), "{mode}");
            }
            ISP2.regain_carrier();
            assert_eq!(defaults_by(), ["ppp1"], "{mode}, event: {event}");
            assert_eq!(by("192.0.2.1").unwrap(), "ppp1", "{mode}, event: {event}");
            ISP1.regain_carrier();
            assert_eq!(by("192.0.2.1").unwrap(), "ppp0", "{mode}, event: {event}");
            server.apply();
            assert_eq!(defaults_by(), ["ppp0", "ppp1"], "{mode}");
            assert_eq!(held(), before, "{mode}");
        }
    });
}

#[test]
fn an_event_of_another_line_leaves_a_line_without_carrier_its_way_back() {
    for mode in MODES {
        apart(move || {
            let server = Server::new(&with_settings(ARTICLE, &format!("nexthops = {mode:?}")));
            server.up(ISP1);
            server.up(ISP2);
            ISP1.lose_carrier();
            let prober = Prober::start();
            server.up(ISP2);
            assert!(held().contains(&"191:\tfrom 198.51.100.10 lookup 1 proto 77".to_owned()), "{mode}");
            assert_eq!(prober.stop().unreachable, 0, "{mode}");
            // The other line goes, and the first is all there is: its carrier is back without a word.
            server.lose(ISP2);
            assert_eq!(defaults_by(), [""; 0], "{mode}");
            ISP1.regain_carrier();
            assert_eq!(defaults_by(), ["ppp0"], "{mode}");
            assert_eq!(by("203.0.113.99").unwrap(), "ppp0", "{mode}");
        });
    }
}

#[test]
fn a_line_that_is_said_to_be_up_without_carrier_carries_as_soon_as_it_has_one() {
    for mode in MODES {
        apart(move || {
            let server = Server::new(&with_settings(ARTICLE, &format!("nexthops = {mode:?}")));
            ISP1.create();
            ip("link set ppp0-far down");
            let said = fails(1, server.hook(UP, ISP1).option("-v"));
            assert!(said.contains("isp1 is recorded as up, but ppp0 is down, or has no carrier"), "{said}");
            assert_eq!(defaults_by(), [""; 0], "{mode}");
            ISP1.regain_carrier();
            assert_eq!(defaults_by(), ["ppp0"], "{mode}");
        });
    }
}

#[test]
fn there_is_a_default_while_any_line_has_its_carrier() {
    in_both_modes(|server, mode| {
        let prober = Prober::start();
        for round in 0..4 {
            for (lost, event) in [(ISP1, round % 2 == 0), (ISP2, round % 2 == 1)] {
                lost.lose_carrier();
                if event {
                    server.apply();
                }
                thread::sleep(Duration::from_millis(5));
                lost.regain_carrier();
                // The next loss takes the last member of the group, if this one is not in it again.
                if round == 3 {
                    server.apply();
                }
            }
        }
        let seen = prober.stop();
        assert!(seen.asked > 1000, "{mode}: {seen:?}");
        assert_eq!(seen.unreachable, 0, "{mode}: {seen:?}");
    });
}

#[test]
fn a_backup_carries_while_the_better_line_has_no_carrier() {
    for mode in MODES {
        apart(move || {
            let config = LINKS.replace("gateway = \"203", "tier = 2\ngateway = \"203");
            let server = Server::new(&with_settings(&config, &format!("nexthops = {mode:?}")));
            ISP1.create();
            ISP2.create();
            server.apply();
            let before = held();
            assert_eq!(defaults_by(), ["ppp0"], "{mode}");
            for event in [false, true] {
                ISP1.lose_carrier();
                if event {
                    server.apply();
                }
                assert_eq!(defaults_by(), ["ppp1"], "{mode}, event: {event}");
                ISP1.regain_carrier();
                server.apply();
                assert_eq!(held(), before, "{mode}, event: {event}");
            }
        });
    }
}

#[test]
fn status_tells_a_line_without_carrier_from_one_that_is_down() {
    in_both_modes(|server, mode| {
        let status = || {
            let text = ok(server.bare(CTL).args(["status", "--json"])).stdout;
            let facts: serde_json::Value = serde_json::from_slice(&text).unwrap();
            let words = |key| facts["links"][0][key].as_str().unwrap_or_default().to_owned();
            (words("state"), words("reason"), facts["policies"][0]["link"].as_str().unwrap_or_default().to_owned())
        };
        assert_eq!(status(), ("up".to_owned(), String::new(), "isp1".to_owned()));
        ISP1.lose_carrier();
        let text = String::from_utf8(ok(server.bare(CTL).arg("status")).stdout).unwrap();
        assert!(text.contains("\nDefault route  isp2\n"), "{mode}: {text}");
        assert_eq!(status(), ("no-carrier".to_owned(), "ppp0 has no carrier".to_owned(), "isp2".to_owned()), "{mode}");
        ISP2.lose_carrier();
        let text = String::from_utf8(ok(server.bare(CTL).arg("status")).stdout).unwrap();
        assert!(text.contains("\nDefault route  none: the Internet is not reachable\n"), "{mode}: {text}");
        ip("link set ppp0 down");
        assert_eq!(status().0, "down", "{mode}");
    });
}

#[test]
fn connections_of_a_line_that_has_lost_its_carrier_are_flushed_once_another_carries() {
    let server = Server::new(&with_settings(LINKS, "firewall = \"iptables\""));
    ISP1.create();
    ISP2.create();
    server.apply();
    let entry = "-I -p udp -s 198.51.100.10 -d 192.0.2.1 --sport 9 --dport 9 -t 60 -m 0x1";
    ok(std::process::Command::new("conntrack").args(entry.split(' ')));
    let has_sticky =
        || !ok(std::process::Command::new("conntrack").args(["-L", "--mark", "0x1/0x3"])).stdout.is_empty();
    ISP1.lose_carrier();
    ISP2.lose_carrier();
    server.apply();
    assert!(has_sticky(), "nobody could take it over");
    ISP2.regain_carrier();
    server.apply();
    assert!(!has_sticky());
}
