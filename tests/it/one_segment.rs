//! Two network cards and two routers in one Ethernet segment. Linux answers ARP for any of its addresses on any card, so
//! that what is sent to one comes in by the other, and is answered by the wrong line.

use std::fs;

use crate::support::ctl::json;
use crate::support::internet::{ECHO, Namespace, ask_tcp};
use crate::support::*;

const CONFIG: &str = "[[uplink]]\nname = 'isp1'\ninterface = 'eth1'\ngateway = '192.0.2.1'\n\
                      [[uplink]]\nname = 'isp2'\ninterface = 'eth2'\ngateway = '192.0.2.2'\n";
const LOCALS: [&str; 2] = ["192.0.2.11", "192.0.2.12"];

/// The segment, a router a line, and the world behind them.
struct Segment {
    bridge: Namespace,
    routers: [Namespace; 2],
    world: Namespace,
}

impl Segment {
    fn new() -> Self {
        let segment =
            Self { bridge: Namespace::new(), routers: [Namespace::new(), Namespace::new()], world: Namespace::new() };
        segment.bridge.ip("link add br0 type bridge");
        segment.bridge.ip("link set br0 up");
        for (n, (router, local)) in (1..).zip(segment.routers.iter().zip(LOCALS)) {
            segment.card(&Namespace::here(), &format!("eth{n}"), local);
            segment.card(router, &format!("r{n}"), &format!("192.0.2.{n}"));
            router.sysctl("ipv4/ip_forward", "1");
            router.ip(&format!("link add far type veth peer name isp{n}"));
            router.run(|| segment.world.adopt(&format!("isp{n}")));
            router.ip(&format!("addr add 10.{n}.0.1/30 dev far"));
            router.ip("link set far up");
            segment.world.ip(&format!("link set isp{n} up"));
            segment.world.ip(&format!("addr add 10.{n}.0.2/30 dev isp{n}"));
            segment.world.ip(&format!("route add {local} via 10.{n}.0.1"));
            // A provider takes nothing but its own customer's address.
            segment.world.sysctl(&format!("ipv4/conf/isp{n}/rp_filter"), "1");
        }
        segment
    }

    /// A card of a machine in the segment.
    fn card(&self, machine: &Namespace, name: &str, address: &str) {
        machine.ip(&format!("link add {name} type veth peer name {name}-port"));
        machine.run(|| self.bridge.adopt(&format!("{name}-port")));
        self.bridge.ip(&format!("link set {name}-port master br0 up"));
        machine.ip(&format!("addr add {address}/24 dev {name}"));
        machine.ip(&format!("link set {name} up"));
    }

    /// How many of 12 connections to each address are answered, each after the routers have forgotten whose it is.
    fn answered(&self) -> [u32; 2] {
        LOCALS.map(|local| {
            let mut answered = 0;
            for _ in 0..12 {
                for (n, router) in (1..).zip(&self.routers) {
                    router.ip(&format!("neigh flush dev r{n}"));
                    ip(&format!("neigh flush dev eth{n}"));
                }
                answered += u32::from(self.world.run(|| ask_tcp((local, ECHO))).is_some());
            }
            answered
        })
    }
}

fn arp(device: &str) -> [String; 2] {
    ["arp_ignore", "arp_announce"]
        .map(|key| fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{device}/{key}")).unwrap().trim().to_owned())
}

#[test]
fn what_comes_by_either_line_is_answered_by_it() {
    let server = Server::new(CONFIG);
    let segment = Segment::new();
    Namespace::here().serve_echo(ECHO);
    server.apply();
    assert_eq!(segment.answered(), [12, 12]);
    assert_eq!([arp("eth1"), arp("eth2")], [["1", "2"], ["1", "2"]].map(|pair| pair.map(str::to_owned)));
    // What the administrator has set more strictly stays.
    fs::write("/proc/sys/net/ipv4/conf/eth2/arp_ignore", "2").unwrap();
    fs::write("/proc/sys/net/ipv4/conf/eth1/arp_announce", "0").unwrap();
    let plan = json(&server, "plan --json");
    let commands: Vec<_> = plan["changes"].as_array().unwrap().iter().map(|c| c["command"].as_str().unwrap()).collect();
    assert_eq!(commands, ["echo 2 > /proc/sys/net/ipv4/conf/eth1/arp_announce"]);
    server.apply();
    assert_eq!([arp("eth1"), arp("eth2")], [["1", "2"], ["2", "2"]].map(|pair| pair.map(str::to_owned)));
}

#[test]
fn cards_in_segments_of_their_own_are_left_as_they_are() {
    let server = Server::new(&CONFIG.replace("192.0.2.2", "198.51.100.2"));
    for (device, address) in [("eth1", "192.0.2.11"), ("eth2", "198.51.100.12")] {
        ip(&format!("link add {device} type veth peer name {device}-far"));
        ip(&format!("link set {device}-far up"));
        ip(&format!("addr add {address}/24 dev {device}"));
        ip(&format!("link set {device} up"));
    }
    server.apply();
    assert_eq!([arp("eth1"), arp("eth2")], [["0", "0"], ["0", "0"]].map(|pair| pair.map(str::to_owned)));
}
