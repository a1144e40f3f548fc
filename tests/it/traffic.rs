//! Connections that really travel, from the server and from its LAN, by two providers that drop
//! what does not come from their own customer.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::filter::iptables;
use crate::support::flow::*;
use crate::support::internet::*;
use crate::support::*;

/// Two uplinks 8:2 and a tunnel, all masqueraded; `more` follows.
fn masqueraded(more: &str) -> String {
    let links = "[[uplink]]\nname = \"isp1\"\ninterface = \"ppp0\"\nweight = 8\nmasquerade = true\n\
                 [[uplink]]\nname = \"isp2\"\ninterface = \"ppp1\"\nweight = 2\nmasquerade = true\n\
                 [[tunnel]]\nname = \"vpn\"\ninterface = \"tun0\"\nmasquerade = true\n";
    format!("{links}{more}")
}

fn scene(config: &str) -> (Server, Internet) {
    let server = Server::new(config);
    let internet = Internet::new();
    for line in [ISP1, ISP2] {
        internet.connect(line);
        ok(&mut server.hook(UP, line));
    }
    (server, internet)
}

fn lose(server: &Server, line: Line) {
    line.hang_up();
    line.unregister();
    finish(server.down(line));
}

fn addr(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

/// The answer of an echo service that has heard us by the line.
#[allow(clippy::unnecessary_wraps)]
fn by(line: Line) -> Option<Ipv4Addr> {
    Some(addr(line.local))
}

/// The address that the server itself would use towards `to`, before any packet and any NAT.
fn source_towards(to: (&str, u16)) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect(to).ok()?;
    let std::net::IpAddr::V4(source) = socket.local_addr().unwrap().ip() else { return None };
    Some(source)
}

/// How many tracked connections bear a mark.
fn tracked(mark: &str) -> usize {
    let output = ok(Command::new("conntrack").args(["-L", "-f", "ipv4", "--mark", mark]));
    String::from_utf8(output.stdout).unwrap().lines().count()
}

#[test]
fn new_connections_are_shared_out_by_weight_and_every_one_is_answered() {
    let (_server, internet) = scene(&masqueraded(""));
    let hosts: Vec<_> = (0..256).map(|n| format!("100.64.{}.{}", n % 7, n)).collect();
    let ask = |ask: fn((&str, u16)) -> Option<Ipv4Addr>| {
        let seen: Vec<_> = hosts.iter().map(|host| ask((host, ECHO))).collect();
        let count = |line| seen.iter().filter(|s| **s == by(line)).count();
        (count(ISP1), count(ISP2))
    };
    for (what, shares) in [
        ("server UDP", ask(ask_udp)),
        ("server TCP", ask(ask_tcp)),
        ("LAN UDP", internet.lan.run(|| ask(ask_udp))),
        ("LAN TCP", internet.lan.run(|| ask(ask_tcp))),
    ] {
        assert_eq!(shares.0 + shares.1, 256, "{what}: {shares:?}");
        // Expected are 204.8; the standard deviation is 6.4, and 35 are more than five of it.
        assert!((170..=240).contains(&shares.0), "{what}: {shares:?}");
    }
}

#[test]
fn every_kind_of_policy_takes_its_link_with_the_right_source_at_once() {
    let policies = r#"
[[policy]]
name = "mail"
proto = "tcp"
dport = [25, 465]
via = ["isp2"]
[[policy]]
name = "to"
to = "100.64.80.0/24"
via = ["isp2"]
[[policy]]
name = "from"
from = "192.168.2.31"
via = ["isp2"]
[[policy]]
name = "iif"
iif = "eth2"
to = "100.64.81.0/24"
via = ["isp2"]
[[policy]]
name = "sport"
proto = "udp"
sport = "4000-4010"
via = ["isp2"]
[[policy]]
name = "uid"
uid = 4242
via = ["isp2"]
[[policy]]
name = "fwmark"
fwmark = "0x100/0xff00"
via = ["isp2"]
[[policy]]
name = "the tunnel's own packets"
to = "100.64.200.1"
via = ["isp2", "isp1"]
[[policy]]
name = "kill switch"
to = "10.9.0.0/24"
via = ["vpn"]
otherwise = "unreachable"
"#;
    // Weights that leave nothing to chance: all else goes by the first.
    let config = masqueraded(policies).replace("weight = 8", "weight = 256").replace("weight = 2\n", "weight = 1\n");
    let (server, internet) = scene(&config);
    let lan = &internet.lan;
    internet.world.serve_echo(25);
    internet.world.serve_echo(7777);

    // Somewhere that goes by the first line when no policy says otherwise.
    let plain = |n: u8| format!("100.64.7.{n}");
    let ordinary = (0..20).find(|n| ask_udp((&plain(*n), ECHO)) == by(ISP1)).unwrap();
    let host = plain(ordinary);

    assert_eq!(source_towards(("100.64.80.9", ECHO)), by(ISP2));
    assert_eq!(ask_tcp((&host, 25)), by(ISP2), "mail");
    assert_eq!(lan.run(|| ask_tcp((&host, 25))), by(ISP2), "mail of the LAN");
    for (what, answer) in [("UDP", ask_udp(("100.64.80.9", ECHO))), ("TCP", ask_tcp(("100.64.80.9", ECHO)))] {
        assert_eq!(answer, by(ISP2), "to, {what}");
    }
    assert_eq!(lan.run(|| ask_udp(("100.64.80.9", ECHO))), by(ISP2), "to, LAN");
    let lan_host = (0..20).map(plain).find(|h| lan.run(|| ask_udp((h, ECHO))) == by(ISP1)).unwrap();
    assert_eq!(lan.run(|| ask_udp_from("192.168.2.31:0", (&lan_host, ECHO))), by(ISP2), "from");
    assert_eq!(lan.run(|| ask_tcp(("100.64.81.9", ECHO))), by(ISP2), "iif");
    assert_eq!(ask_udp_from("0.0.0.0:4005", (&host, ECHO)), by(ISP2), "sport");
    let as_user = internet.server.run(|| {
        nix::unistd::setfsuid(4242.into());
        ask_udp((&host, ECHO))
    });
    assert_eq!(as_user, by(ISP2), "uid");
    iptables("-t mangle -A OUTPUT -p udp --dport 7777 -j MARK --set-xmark 0x100/0xff00");
    iptables("-t mangle -A PREROUTING -i eth2 -p udp --dport 7777 -j MARK --set-xmark 0x100/0xff00");
    assert_eq!(ask_udp((&host, 7777)), by(ISP2), "fwmark");
    assert_eq!(lan.run(|| ask_udp((&lan_host, 7777))), by(ISP2), "fwmark, LAN");

    // The kill switch: no way out while the tunnel is down, though everything there would answer.
    let refused = |from: &Namespace| {
        from.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            ask_again(&socket, ("10.9.0.5", ECHO)).is_none() && ask_tcp(("10.9.0.5", ECHO)).is_none()
        })
    };
    assert!(refused(&internet.server) && refused(lan));
    internet.tunnel();
    ok(&mut server.openvpn(TUN, "up"));
    assert_eq!(ask_udp(("10.9.0.5", ECHO)), by(TUN), "the tunnel");
    assert_eq!(lan.run(|| ask_tcp(("10.9.0.5", ECHO))), by(TUN), "the tunnel, LAN");
    let stream = lan.run(|| connect_tcp(("10.9.0.5", ECHO)));
    let (mut stream, _) = stream.unwrap();
    for _ in 0..20 {
        assert!(talks(&mut stream), "a pinned connection in packets that are pinned themselves");
    }
    ip("link del tun0");
    ok(&mut server.openvpn(TUN, "down"));
    assert!(refused(&internet.server) && refused(lan), "the kill switch, again");
}

#[test]
fn replies_leave_by_the_line_that_the_question_came_by() {
    let (_server, internet) = scene(&masqueraded(""));
    internet.server.serve_echo(ECHO);
    internet.lan.serve_echo(ECHO);
    // A port forward on both lines, and by the public address from inside as well.
    for line in [ISP1, ISP2] {
        for proto in ["tcp", "udp"] {
            iptables(&format!(
                "-t nat -A PREROUTING -d {} -p {proto} --dport 8080 -j DNAT --to {LAN_HOST}:7",
                line.local
            ));
        }
    }
    iptables("-t nat -A POSTROUTING -s 192.168.2.0/24 -o eth2 -j MASQUERADE");
    // The provider's staff sits in the subnet of the other line.
    ip("route add 203.0.113.0/24 dev ppp1");

    for line in [ISP1, ISP2] {
        // Many clients: chance would send some of the answers the wrong way.
        for n in 0..24 {
            let client = format!("100.64.3.{n}");
            let ask = |port| ask_udp_from(&format!("{client}:0"), (line.local, port));
            assert_eq!(internet.world.run(|| ask(ECHO)), Some(addr(&client)), "{}", line.link);
            assert_eq!(internet.world.run(|| ask(8080)), Some(addr(&client)), "{} forwarded", line.link);
        }
        for port in [ECHO, 8080] {
            assert!(internet.world.run(|| ask_tcp((line.local, port))).is_some(), "{} TCP {port}", line.link);
        }
        // Nobody listens there: the error, too, comes back by the line.
        let refused = internet.world.run(|| {
            let socket = UdpSocket::bind("100.64.3.99:0").unwrap();
            socket.connect((line.local, 9)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            socket.send(b"?").unwrap();
            socket.recv(&mut [0; 9]).map_err(|e| e.kind())
        });
        assert_eq!(refused, Err(ErrorKind::ConnectionRefused), "{}", line.link);
        // From inside by the public address, to the server and back into the LAN.
        let inside = |port| internet.lan.run(|| ask_tcp((line.local, port)));
        assert_eq!(inside(ECHO), Some(addr(LAN_HOST)));
        assert_eq!(inside(8080), Some(addr(LAN_GATEWAY)), "hairpin");
    }
    let staff = |port| {
        let local = format!("{STAFF}:0");
        internet.providers[1].run(|| ask_udp_from(&local, (ISP1.local, port)))
    };
    assert_eq!(staff(ECHO), Some(addr(STAFF)));
    assert_eq!(staff(8080), Some(addr(STAFF)));
}

#[test]
fn a_packet_too_big_for_the_line_is_told_to_the_lan_although_its_connection_is_pinned() {
    let (_server, internet) = scene(&masqueraded(""));
    for device in ["ppp0", "ppp1"] {
        ip(&format!("link set {device} mtu 1400"));
    }
    let learnt = internet.lan.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        assert!(ask_again(&socket, ("100.64.5.5", ECHO)).is_some());
        socket.send_to(&[0; 1440], "100.64.5.5:7").unwrap();
        std::thread::sleep(Duration::from_millis(50));
        ip("route get 100.64.5.5")
    });
    assert!(learnt.contains("mtu 1400"), "{learnt}");
}

#[test]
fn a_pinned_flow_loses_no_packet_when_weights_change_and_the_other_line_goes_and_comes() {
    let (server, internet) = scene(&masqueraded(""));
    let server = &server;
    let from_lan = |h: &String| internet.lan.run(|| ask_udp((h, ECHO))) == by(ISP1);
    let hosts: Vec<_> = (0..200).map(|n| format!("100.64.9.{n}")).collect();
    let lan_host = hosts.iter().find(|h| from_lan(h)).unwrap();
    let own_host = hosts.iter().find(|h| ask_udp((h, ECHO)) == by(ISP1)).unwrap();

    let (lan_flow, own_flow) = (internet.lan.run(Flow::new), Flow::new());
    let mut own = None;
    // Commands run in the server's namespace, which this thread is in.
    let lan = lan_flow.during(lan_host, || {
        own = Some(own_flow.during(own_host, || {
            std::thread::sleep(Duration::from_millis(300));
            let config = masqueraded("").replace("weight = 8", "weight = 1").replace("weight = 2\n", "weight = 256\n");
            server.configure(&config);
            ok(&mut server.with_args(CTL, &["apply"]));
            std::thread::sleep(Duration::from_millis(300));
            lose(server, ISP2);
            std::thread::sleep(Duration::from_millis(300));
            internet.connect(ISP2);
            ok(&mut server.hook(UP, ISP2));
            std::thread::sleep(Duration::from_millis(300));
        }));
    });
    for (what, (sent, back, seen)) in [("LAN", lan), ("server", own.unwrap())] {
        assert!(sent > PER_SECOND, "{what}: {sent}");
        assert_eq!(back, sent, "{what} lost packets");
        assert_eq!(seen, [addr(ISP1.local)], "{what} changed its line");
    }
}

#[test]
fn it_is_the_pins_that_keep_connections_where_they_are() {
    let moved = |settings: &str| {
        let config = masqueraded("").replace("weight = 8", "weight = 1").replace("weight = 2\n", "weight = 1\n");
        let (server, internet) = scene(&format!("{config}{settings}"));
        let leaves = || -> Vec<_> {
            // The LAN's own address does not depend on the line; a port nobody listens at.
            let device = |n: u8| {
                let before = counters("ppp1");
                internet.lan.run(|| {
                    let socket = UdpSocket::bind(("0.0.0.0", 20_000 + u16::from(n))).unwrap();
                    for _ in 0..50 {
                        socket.send_to(b"x", (Ipv4Addr::new(100, 64, 11, n), 9)).unwrap();
                    }
                });
                // A neighbour may be asked after in between.
                counters("ppp1") >= before + 50
            };
            (0..40).map(device).collect()
        };
        let before = leaves();
        let config = masqueraded("").replace("weight = 8", "weight = 1").replace("weight = 2\n", "weight = 256\n");
        server.configure(&format!("{config}{settings}"));
        ok(&mut server.with_args(CTL, &["apply"]));
        before.iter().zip(leaves()).filter(|(a, b)| *a != b).count()
    };
    assert_eq!(apart(move || moved("")), 0);
    assert!(apart(move || moved("[settings]\nfirewall = \"none\"\n")) > 5, "this test would see it");
}

/// Packets that a device of the thread's namespace has sent.
fn counters(device: &str) -> u64 {
    let path = format!("/proc/{}/task/{}/net/dev", nix::unistd::getpid(), nix::unistd::gettid());
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|l| l.trim().strip_prefix(&format!("{device}:")).map(str::to_owned)).unwrap();
    line.split_whitespace().nth(9).unwrap().parse().unwrap()
}

#[test]
fn connections_of_a_dead_line_move_or_fail_at_once_and_all_others_live() {
    let policy = "[[policy]]\nname = \"second\"\nto = \"100.64.80.0/24\"\nvia = [\"isp2\"]\n\
                  [[policy]]\nname = \"first\"\nto = \"100.64.70.0/24\"\nvia = [\"isp1\"]\n";
    // SNAT by hand, whose entries the kernel does not purge.
    let (server, internet) = scene(&masqueraded(policy).replace("masquerade = true\n", ""));
    for line in [ISP1, ISP2] {
        iptables(&format!("-t nat -A POSTROUTING -o {} -j SNAT --to-source {}", line.device, line.local));
    }
    let (dying, living) = (("100.64.80.1", ECHO), ("100.64.70.1", ECHO));
    let clients = |from: &Namespace| {
        from.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            assert_eq!(ask_again(&socket, dying), by(ISP2));
            let (stream, seen) = connect_tcp(dying).unwrap();
            assert_eq!(Some(seen), by(ISP2));
            let (other, seen) = connect_tcp(living).unwrap();
            assert_eq!(Some(seen), by(ISP1));
            (socket, stream, other)
        })
    };
    let mut all = [clients(&internet.lan), clients(&internet.server)];
    let others = tracked("0x1/0x7");
    assert!(tracked("0x2/0x7") >= 4 && others >= 2);
    lose(&server, ISP2);
    assert_eq!(tracked("0x2/0x7"), 0);
    assert_eq!(tracked("0x1/0x7"), others);
    for (socket, _, other) in &mut all {
        assert!(talks(other), "a connection of the line that lives");
        assert_eq!(ask_again(socket, dying), by(ISP1), "a socket goes on by the other line");
    }
    // The far end knows nothing of the LAN's connection from there, and says so. (The server's own was
    // bound to an address that it has no more: that is a matter of its socket, not of its route.)
    let start = Instant::now();
    assert!(!talks(&mut all[0].1));
    assert!(start.elapsed() < Duration::from_secs(1), "hung for {:?}", start.elapsed());

    // With nobody to take over, connections wait for their line.
    let waiting = tracked("0x1/0x7");
    lose(&server, ISP1);
    assert_eq!(tracked("0x1/0x7"), waiting);
    // Another line comes: now it can.
    internet.connect(ISP2);
    ok(&mut server.hook(UP, ISP2));
    assert_eq!(tracked("0x1/0x7"), 0);
}

#[test]
fn the_articles_own_marks_choose_the_line_and_pins_keep_it() {
    let (server, internet) = scene(&masqueraded(""));
    internet.server.serve_echo(ECHO);
    // From the article, with PREROUTING where it errs, and one more of two bits: the first that is up.
    for chain in ["OUTPUT", "PREROUTING -i eth2"] {
        iptables(&format!("-t mangle -A {chain} -p tcp -m tcp --dport 7 -d 100.64.20.0/24 -j MARK --set-mark 0x1"));
        iptables(&format!("-t mangle -A {chain} -d 100.64.21.0/24 -j MARK --set-mark 0x2"));
        iptables(&format!("-t mangle -A {chain} -d 100.64.22.0/24 -j MARK --set-mark 0x3"));
        // 100.64.23.9 is a client below, too.
        iptables(&format!("-t mangle -A {chain} -d 100.64.23.0/24 -j MARK --set-mark 0x2"));
    }
    for n in 0..12 {
        for from in [&internet.server, &internet.lan] {
            let ask = |net: u8| from.run(|| ask_tcp((&format!("100.64.{net}.{n}"), ECHO)));
            assert_eq!((ask(20), ask(21), ask(22)), (by(ISP1), by(ISP2), by(ISP1)));
        }
    }
    // An answer leaves by the line that it came by, whatever a mark says of the client's address,
    // once an event has put our rules behind those.
    let client = |line: Line| internet.world.run(|| ask_udp_from("100.64.23.9:0", (line.local, ECHO)));
    ok(&mut server.hook(UP, ISP2));
    assert_eq!(client(ISP1), Some(addr("100.64.23.9")));
    assert_eq!(client(ISP2), Some(addr("100.64.23.9")));

    // Two bits: by the second while the first is down, and there it stays when the first is back.
    lose(&server, ISP1);
    let socket = internet.lan.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    assert_eq!(ask_again(&socket, ("100.64.22.200", ECHO)), by(ISP2));
    internet.connect(ISP1);
    ok(&mut server.hook(UP, ISP1));
    assert_eq!(ask_again(&socket, ("100.64.22.200", ECHO)), by(ISP2));
    assert_eq!(internet.lan.run(|| ask_udp(("100.64.22.201", ECHO))), by(ISP1));
}
