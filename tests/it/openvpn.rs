//! Real OpenVPN calls mh-vpn-up, with the files of etc-openvpn as they are installed.

use std::io::ErrorKind;
use std::thread;
use std::time::Duration;

use crate::support::openvpn::*;
use crate::support::openvpn_traffic::*;
use crate::support::six::held6;
use crate::support::*;
use nix::sys::signal::Signal;

/// The article's set-up, and what must never be sent in the clear.
pub fn never_in_the_clear() -> String {
    format!(
        "{ARTICLE}\n[[policy]]\nname = 'company, never in the clear'\nto = '10.9.0.0/24'\nvia = ['vpn']\n\
         otherwise = 'unreachable'\n"
    )
}

/// Both lines up, no tunnel.
pub fn world() -> World {
    let world = World::new(&never_in_the_clear());
    world.up(ISP1);
    world.up(ISP2);
    world
}

pub const BY_DEVICE: &str = "default dev tun0 table 3 proto 77 scope 253";

/// The tunnel is up with this address, its table, record and traffic are right, and nothing else has changed.
pub fn assert_up(world: &World, without: &[String], local: &str, default: &str) {
    assert_eq!(defaults("3"), [default]);
    let others: Vec<_> = held().into_iter().filter(|l| !l.contains("tun0")).collect();
    assert_eq!(others, without);
    let record = world.record("vpn").expect("a record");
    assert!(record.contains("interface = \"tun0\"") && record.contains(&format!("local = \"{local}\"")), "{record}");
    assert_eq!(ask().unwrap().to_string(), local);
}

/// The tunnel is down, and its traffic is refused at once.
pub fn assert_down(without: &[String]) {
    assert_eq!(held(), without);
    // fib4_rule_action(): what the `unreachable` rule says.
    assert_eq!(ask().unwrap_err().kind(), ErrorKind::NetworkUnreachable);
}

/// Every call was short, and none had anything to complain about.
pub fn assert_quiet(log: &str, calls: usize) {
    let times = times(log);
    assert_eq!(times.len(), calls, "{log}");
    // Some milliseconds on a machine with nothing else to do; seen: 1.2 s with seven others at work on two cores.
    assert!(times.iter().all(|time| *time < Duration::from_secs(5)), "{times:?}:\n{log}");
    assert!(!log.contains("mh-vpn-up: "), "{log}");
}

#[test]
fn a_tunnel_comes_and_goes_in_every_topology() {
    for (topology, local, default) in [
        ("p2p", "10.8.0.4", "default via 10.8.0.1 dev tun0 table 3 proto 77"),
        ("net30", "10.8.0.6", "default via 10.8.0.5 dev tun0 table 3 proto 77"),
        ("subnet", "10.8.0.2", BY_DEVICE),
    ] {
        apart(move || {
            let world = world();
            let without = held();
            assert_down(&without);
            let _server = world.openvpn_server(topology, "10.8.0.0", PORT);
            let client = world.client("company", "");
            client.says(DONE);
            assert_up(&world, &without, local, default);
            let log = client.stop();
            // up and route-pre-down.
            assert_quiet(&log, 2);
            assert_down(&without);
            assert_eq!(world.record("vpn"), None);
        });
    }
}

/// Whether the tunnel's table has its IPv6 route.
fn has_ipv6() -> bool {
    held6().iter().any(|line| line.starts_with("default dev tun0 table 3 proto 77"))
}

#[test]
fn a_tunnel_of_both_families_and_of_ipv6_alone() {
    let world = world();
    let without = held();
    let address6 = "local = \"fd00:8::1000\"";
    let server = world.far_end(PORT, "server 10.8.0.0 255.255.255.0\ntopology subnet\nserver-ipv6 fd00:8::/64");
    let client = world.client("company", "");
    client.says(DONE);
    assert_up(&world, &without, "10.8.0.2", BY_DEVICE);
    assert!(world.record("vpn").is_some_and(|r| r.contains(address6)) && has_ipv6(), "{:#?}", held6());
    assert_quiet(&client.stop(), 2);
    assert_down(&without);
    assert_eq!(world.record("vpn"), None);
    assert!(!held6().iter().any(|line| line.contains("tun0")), "{:#?}", held6());
    server.stop();
    let _server = world.far_end(PORT, "topology subnet\nserver-ipv6 fd00:8::/64");
    let client = world.client("company", "");
    client.says(DONE);
    // No IPv4 goes that way.
    assert!(world.record("vpn").is_some_and(|r| r.contains(address6) && !r.contains("[v4]")) && has_ipv6());
    assert_down(&held());
    assert_eq!(defaults("3"), [""; 0]);
    assert_quiet(&client.stop(), 2);
    assert_down(&without);
    assert_eq!(world.record("vpn"), None);
}

/// A server that pushes an IPv6 address that no host can have, and which the kernel takes all the same.
#[test]
fn a_hostile_push_of_ipv6_does_not_cost_the_ipv4() {
    let world = world();
    let without = held();
    let push = "server 10.8.0.0 255.255.255.0\ntopology subnet\npush \"ifconfig-ipv6 ::2/64 ::1\"";
    let _server = world.far_end(PORT, push);
    let conf = CLIENT_CONF.replace("up /usr/sbin/mh-vpn-up", "up \"/usr/sbin/mh-vpn-up --strict -v\"");
    let client = world.client_of(&[], "company", &format!("{conf}\nconnect-retry 1 1\n"));
    client.says(DONE);
    assert_up(&world, &without, "10.8.0.2", BY_DEVICE);
    assert!(!world.record("vpn").unwrap().contains("[v6]"));
    let log = client.stop();
    let said = "IPv6 address \"::2\" is not valid: no host on a line can have it; the tunnel's IPv6 is left out";
    assert_eq!(log.matches(said).count(), 1, "{log}");
    assert_down(&without);
    assert_eq!(world.record("vpn"), None);
}

/// Behind a tap there is an Ethernet, and the default needs its router's address. OpenVPN 2.6 says it only where there is
/// a route besides; otherwise the configuration has to.
#[test]
fn a_tap_device() {
    let in_config = never_in_the_clear().replace("\"tun0\"", "\"tap0\"\ngateway = \"10.8.0.1\"");
    let by_route = never_in_the_clear().replace("tun0", "tap0");
    for (config, options) in [(in_config, ""), (by_route, "push 'route 10.99.0.0 255.255.255.0'")] {
        apart(move || {
            let world = World::new(&config);
            world.up(ISP1);
            let without = held();
            let _server = world.far_end(PORT, &format!("dev-type tap\nserver 10.8.0.0 255.255.255.0\n{options}"));
            let conf = CLIENT_CONF.replace("dev tun0", "dev tap0").replace("dev-type tun", "dev-type tap");
            let client = world.client_of(&[], "company", &conf);
            client.says(DONE);
            assert_eq!(defaults("3"), ["default via 10.8.0.1 dev tap0 table 3 proto 77"]);
            assert_eq!(ask().unwrap().to_string(), "10.8.0.2");
            assert_quiet(&client.stop(), 2);
            assert_down(&without);
            assert_eq!(world.record("vpn"), None);
        });
    }
}

#[test]
fn two_ends_without_a_server() {
    let world = world();
    let without = held();
    let _peer = world.far_end(PORT, "ifconfig 10.8.0.1 10.8.0.2\nroute 10.8.0.2\nfloat");
    let client = world.client_of(
        &[],
        "pair",
        "dev tun0\nproto udp\nremote 203.0.113.99 1130\ntls-client\nca ca.crt\ncert client.crt\nkey client.key\n\
         ifconfig 10.8.0.2 10.8.0.1\nkeepalive 1 4\nscript-security 2\n\
         up /usr/sbin/mh-vpn-up\ndown /usr/sbin/mh-vpn-up\n",
    );
    client.says(DONE);
    assert_up(&world, &without, "10.8.0.2", "default via 10.8.0.1 dev tun0 table 3 proto 77");
    assert_quiet(&client.stop(), 2);
    assert_down(&without);
    assert_eq!(world.record("vpn"), None);
}

/// Each way of restarting in a thread and namespace of its own, all at once.
#[test]
fn a_server_that_restarts_and_gives_other_addresses() {
    let down = "down /usr/sbin/mh-vpn-up";
    let ways = [("", false), ("persist-tun", true), (&format!("persist-tun\nup-restart\n{down}"), false)];
    thread::scope(|scope| {
        for (options, stays) in ways {
            scope.spawn(move || restarts(options, stays));
        }
    });
}

fn restarts(options: &str, stays: bool) {
    let world = world();
    let without = held();
    let server = world.openvpn_server("subnet", "10.8.0.0", PORT);
    let chatter = Chatter::start();
    let client = world.client("company", options);
    client.says(DONE);
    // The same addresses again.
    server.stop();
    client.says("process restarting");
    if stays {
        // The device is there: packets are lost in it, none goes another way.
        assert_eq!(defaults("3"), [BY_DEVICE]);
        assert_eq!(ask().unwrap_err().kind(), ErrorKind::WouldBlock);
    } else {
        let without_device: Vec<_> = held().into_iter().filter(|l| !l.contains("tun0")).collect();
        assert_eq!((defaults("3"), without_device), (vec![], without.clone()), "{options}");
        assert_eq!(ask().unwrap_err().kind(), ErrorKind::NetworkUnreachable);
    }
    let server = world.openvpn_server("subnet", "10.8.0.0", PORT);
    client.says(DONE);
    assert_up(&world, &without, "10.8.0.2", BY_DEVICE);
    // Others.
    server.stop();
    client.says("process restarting");
    let _server = world.openvpn_server("subnet", "10.8.77.0", PORT);
    client.says(DONE);
    assert_up(&world, &without, "10.8.77.2", BY_DEVICE);
    // By hand, too.
    client.signal(Signal::SIGUSR1);
    client.says(DONE);
    client.signal(Signal::SIGHUP);
    client.says(DONE);
    assert_up(&world, &without, "10.8.77.2", BY_DEVICE);
    let log = client.stop();
    assert_quiet(&log, times(&log).len());
    assert_down(&without);
    assert_eq!(world.record("vpn"), None);
    drop(chatter);
    assert_eq!(world.in_the_clear(), 0);
}

#[test]
fn without_the_policy_it_is_sent_in_the_clear() {
    // What `restarts` would see if the policy did not hold.
    let world = World::new(ARTICLE);
    world.up(ISP1);
    assert_eq!(ask().unwrap().to_string(), ISP1.local);
    assert_eq!(world.in_the_clear(), 1);
}

#[test]
fn the_outer_packets_go_by_the_line_that_the_policy_prefers() {
    let world = world();
    let without = held();
    let _server = world.openvpn_server("subnet", "10.8.0.0", PORT);
    let client = world.client("company", "");
    client.says(DONE);
    let assert_by = |by: Line, other: Option<Line>| {
        let before = (packets(by), other.map(packets));
        for _ in 0..20 {
            assert_eq!(ask().unwrap().to_string(), "10.8.0.2");
        }
        assert!(packets(by) >= before.0 + 20, "{}", by.device);
        // Nothing else leaves here: not a packet.
        assert_eq!(other.map(packets), before.1);
    };
    assert_by(ISP1, Some(ISP2));
    // That line's device goes, and the next packet leaves by the other one: nobody has been told yet.
    ISP1.unregister();
    assert_by(ISP2, None);
    finish(world.server.down(ISP1));
    assert_by(ISP2, None);
    world.up(ISP1);
    assert_by(ISP1, Some(ISP2));
    // The other line's end is nothing to it.
    world.server.lose(ISP2);
    assert_by(ISP1, None);
    world.up(ISP2);
    assert_up(&world, &without, "10.8.0.2", BY_DEVICE);
    let log = client.stop();
    assert_eq!(log.matches(DONE).count(), 1, "{log}");
}

#[test]
fn two_tunnels_at_once() {
    const LAB: Line = Line { device: "tun1", local: "10.8.1.2", remote: "10.8.1.1", link: "lab", pid: 1004 };
    let config =
        never_in_the_clear().replacen("[[policy]]", "[[tunnel]]\nname = 'lab'\ninterface = 'tun1'\n\n[[policy]]", 1);
    let world = World::new(&config);
    world.up(ISP1);
    world.up(ISP2);
    let without = held();
    let _servers = [world.openvpn_server("subnet", "10.8.0.0", PORT), world.openvpn_server("net30", "10.8.1.0", 1131)];
    // The administrator's copy for the second tunnel.
    let lab_conf = CLIENT_CONF.replace("dev tun0", "dev tun1").replace("99 1130", "99 1131");
    for _ in 0..3 {
        let company = world.client("company", "");
        let lab = world.client_of(&[], "lab", &lab_conf);
        company.says(DONE);
        lab.says(DONE);
        assert_eq!(defaults("3"), [BY_DEVICE]);
        assert_eq!(defaults("4"), ["default via 10.8.1.5 dev tun1 table 4 proto 77"]);
        assert_eq!(ask().unwrap().to_string(), "10.8.0.2");
        assert!(world.record(LAB.link).is_some_and(|r| r.contains("local = \"10.8.1.6\"")));
        // Both end at once.
        company.signal(Signal::SIGTERM);
        lab.signal(Signal::SIGTERM);
        for openvpn in [company, lab] {
            let (status, log) = openvpn.ended();
            assert!(status.success(), "{log}");
            assert_quiet(&log, 2);
        }
        assert_down(&without);
        assert_eq!((world.record("vpn"), world.record("lab")), (None, None));
    }
    let company = world.client("company", "");
    let lab = world.client_of(&[], "lab", &lab_conf);
    company.says(DONE);
    lab.says(DONE);
    // One dies without a word; the other does not notice.
    lab.signal(Signal::SIGKILL);
    drop(lab);
    until("tun1 is gone", || defaults("4").is_empty());
    assert_eq!(ask().unwrap().to_string(), "10.8.0.2");
    company.stop();
    // Its record has stayed behind; an OpenVPN that is started again has its tunnel.
    let lab = world.client_of(&[], "lab", &lab_conf);
    lab.says(DONE);
    assert_eq!(defaults("4").len(), 1);
    lab.stop();
    assert_down(&without);
}
