//! What our rules count by uplink for `mh-watch`, with real packets.

use std::net::UdpSocket;

use multihome::model::names::Family;
use multihome::watch::health::{Counters, Key};
use multihome::watch::traffic::Meter;

use crate::support::ctl::ctl;
use crate::support::filter::{feed, listed, nft, table};
use crate::support::internet::{ECHO, Internet, ask_udp, ask_udp_from};
use crate::support::*;

const HOST: (&str, u16) = ("100.64.1.1", ECHO);

fn config(check: &str) -> String {
    format!("{ARTICLE}{check}[settings]\nfirewall = \"nftables\"\n")
}

/// Both lines are up, with a `[check]`.
fn scene() -> (Server, Internet) {
    let server = Server::new(&config("[check]\n"));
    let internet = Internet::new();
    for line in [ISP1, ISP2] {
        internet.connect(line);
        ok(&mut server.hook(UP, line));
    }
    (server, internet)
}

/// IPv4 of a link.
fn counted(link: &str) -> Option<Counters> {
    Meter::open().unwrap().counted().unwrap().get(&Key { uplink: link.parse().unwrap(), family: Family::V4 }).copied()
}

fn since(after: Counters, before: Counters) -> Counters {
    Counters { sent: after.sent - before.sent, replies: after.replies - before.replies }
}

fn ask(line: Line) -> bool {
    ask_udp_from(&format!("{}:0", line.local), HOST).is_some()
}

/// The rules that count, without fingerprints.
fn rules() -> Vec<String> {
    let mut rules = table();
    rules.retain(|rule| rule.contains(" counter "));
    for rule in &mut rules {
        if let Some((before, after)) = rule.split_once("multihome:") {
            *rule = format!("{before}{}", &after[17..]);
        }
    }
    rules
}

#[test]
fn what_leaves_by_an_uplink_and_what_answers_it_is_counted() {
    let (_server, internet) = scene();
    let before = counted("isp1").unwrap();
    let others = counted("isp2").unwrap();
    assert!(ask(ISP1));
    let after = since(counted("isp1").unwrap(), before);
    assert_eq!(after, Counters { sent: 1, replies: 1 });
    assert_eq!(counted("isp2").unwrap(), others);

    // The LAN's, too, which is forwarded.
    let before = [ISP1, ISP2].map(|line| counted(line.link).unwrap());
    nft("add table ip nat");
    nft("add chain ip nat post { type nat hook postrouting priority 100 ; }");
    nft("add rule ip nat post ip saddr 192.168.2.0/24 masquerade");
    assert!(internet.lan.run(|| ask_udp(HOST)).is_some());
    let after = [ISP1, ISP2].map(|line| counted(line.link).unwrap());
    let both = [0, 1].map(|i| since(after[i], before[i]));
    assert_eq!((both[0].sent + both[1].sent, both[0].replies + both[1].replies), (1, 1), "{both:?}");
}

#[test]
fn what_begins_outside_is_no_reply_and_silence_is_seen() {
    let (_server, internet) = scene();
    let socket = UdpSocket::bind((ISP1.local, 4000)).unwrap();
    let before = counted("isp1").unwrap();
    internet.world.run(|| {
        let other = UdpSocket::bind(("100.64.9.9", 4000)).unwrap();
        other.send_to(b"hello", (ISP1.local, 4000)).unwrap();
    });
    let mut packet = [0; 16];
    let (_, from) = socket.recv_from(&mut packet).unwrap();
    assert_eq!(counted("isp1").unwrap(), before);
    // Our answer to it leaves by the line, and expects none.
    socket.send_to(b"hello", from).unwrap();
    assert_eq!(counted("isp1").unwrap(), before);

    // The line is dead beyond the provider's router.
    internet.providers[0].sysctl("ipv4/ip_forward", "0");
    let before = counted("isp1").unwrap();
    assert!(!ask(ISP1));
    let after = since(counted("isp1").unwrap(), before);
    assert!(after.sent > 0 && after.replies == 0, "{after:?}");
}

#[test]
fn a_routers_word_that_there_is_no_way_on_is_no_reply() {
    let (_server, internet) = scene();
    internet.providers[0].sysctl("ipv4/icmp_ratelimit", "0");
    internet.providers[0].ip("route replace prohibit default");
    let before = counted("isp1").unwrap();
    let socket = UdpSocket::bind((ISP1.local, 0)).unwrap();
    socket.connect(HOST).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    socket.send(b"who").unwrap();
    let error = socket.recv(&mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::HostUnreachable, "{error}");
    assert_eq!(since(counted("isp1").unwrap(), before), Counters { sent: 1, replies: 0 });
}

#[test]
fn only_uplinks_that_are_judged_are_counted() {
    let server = Server::new(&config(""));
    let internet = Internet::new();
    internet.connect(ISP1);
    ok(&mut server.hook(UP, ISP1));
    assert_eq!((rules(), Meter::open().unwrap().counted().unwrap().len()), (Vec::new(), 0));
    let without = listed();

    // From a table without counters to one with them, and back.
    server.configure(&config("[check]\n").replace("weight    = 2\n", "weight    = 2\ncheck = false\n"));
    server.apply();
    assert_eq!(
        rules(),
        [
            "replies: meta nfproto ipv4 iifgroup 7000 ct direction reply counter comment \"isp1 IPv4\"",
            "replies: meta nfproto ipv6 iifgroup 7000 ct direction reply counter comment \"isp1 IPv6\"",
            "sent: meta nfproto ipv4 oifgroup 7000 ct direction original counter comment \"isp1 IPv4\"",
            "sent: meta nfproto ipv6 oifgroup 7000 ct direction original counter comment \"isp1 IPv6\"",
        ]
    );
    assert!(ask(ISP1));
    let keys: Vec<_> = Meter::open().unwrap().counted().unwrap().into_keys().collect();
    assert_eq!(keys, Family::BOTH.map(|family| Key { uplink: "isp1".parse().unwrap(), family }));
    // It is in sync: applying it again changes nothing, and the counters go on.
    let before = counted("isp1");
    assert!(before.unwrap().sent > 0);
    server.apply();
    assert_eq!(counted("isp1"), before);
    server.configure(&config(""));
    server.apply();
    assert_eq!(listed(), without);
}

#[test]
fn counters_that_others_have_flushed_come_back() {
    let (server, _internet) = scene();
    assert!(ask(ISP1));
    nft("flush ruleset");
    assert_eq!(Meter::open().unwrap().counted().unwrap().len(), 0);
    server.apply();
    assert_eq!(counted("isp1"), Some(Counters { sent: 0, replies: 0 }));
    assert!(ask(ISP1));
    assert_eq!(counted("isp1"), Some(Counters { sent: 1, replies: 1 }));
    // A rule of somebody else among them is not read for one of ours, and does not stay.
    nft("flush chain inet multihome sent");
    feed("nft", &["-f", "-"], "add rule inet multihome sent counter comment \"other things\"\n");
    assert_eq!(Meter::open().unwrap().counted().unwrap().len(), 0);
    server.apply();
    assert_eq!(rules().len(), 8);
    ok(&mut ctl(&server, "flush"));
    assert_eq!((listed(), Meter::open().unwrap().counted().unwrap().len()), (String::new(), 0));
}

#[test]
fn an_interface_counts_where_nothing_else_comes_in() {
    let _server = Server::new(&config("[check]\n"));
    ISP1.create();
    let mut meter = Meter::open().unwrap();
    let mut of = |name: &str| meter.of_interface(&name.parse().unwrap()).unwrap();
    assert_eq!((of(ISP1.device), of("none9")), (None, None));
    ip("link set ppp0 arp off");
    let before = of(ISP1.device).unwrap();
    let socket = UdpSocket::bind((ISP1.local, 0)).unwrap();
    for _ in 0..5 {
        socket.send_to(b"hello", (ISP1.remote, 9)).unwrap();
    }
    let after = since(of(ISP1.device).unwrap(), before);
    assert!(after.sent >= 5, "{after:?}");
}
