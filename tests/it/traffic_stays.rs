//! Connections that stay on their line while weights and other lines change, and those of a line that dies.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::filter::iptables;
use crate::support::flow::*;
use crate::support::internet::*;
use crate::support::*;
use crate::traffic::*;

fn lose(server: &Server, line: Line) {
    line.hang_up();
    line.unregister();
    finish(server.down(line));
}

/// How many tracked connections bear a mark.
fn tracked(mark: &str) -> usize {
    let output = ok(Command::new("conntrack").args(["-L", "-f", "ipv4", "--mark", mark]));
    String::from_utf8(output.stdout).unwrap().lines().count()
}

#[test]
fn a_packet_too_big_for_the_line_is_told_to_the_lan_although_its_connection_is_sticky() {
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
fn a_sticky_flow_loses_no_packet_when_weights_change_and_the_other_line_goes_and_comes() {
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
fn it_is_the_marks_that_keep_connections_where_they_are() {
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
fn the_articles_own_marks_choose_the_line_and_connection_marks_keep_it() {
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
