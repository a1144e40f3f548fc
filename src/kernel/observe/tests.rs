//! Answers of the kernel as it never gives them: real dumps, with bytes changed, lost and added. Whatever is in them, they
//! are read or refused, and what is made of them is no larger than they are.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ops::ControlFlow;
use std::process::{Command, Stdio};

use netlink_packet_core::Emitable;
use nix::sched::{CloneFlags, unshare};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;

use super::*;
use crate::kernel::netlink::constants::{RTM_GETADDR, RTM_GETLINK, RTM_GETNEXTHOP, RTM_GETROUTE, RTM_GETRULE};
use crate::kernel::netlink::nexthop::NexthopMessage;
use crate::kernel::netlink::route::Route;
use crate::kernel::netlink::socket::{Progress, answers};
use crate::kernel::netlink::{route_request, rule};
use crate::model::firewall::Fingerprint;
use crate::model::routing::{FoundTarget, More};

const SEQUENCE: u32 = 7;

/// Something of everything that is read, in the thread's own network namespace.
fn furnish() {
    unshare(CloneFlags::CLONE_NEWNET).expect("root: run the tests through tests/run-as-root");
    let commands = "link set lo up
        link add ppp0 type veth peer name far0
        link set far0 up
        link set ppp0 up group 7000
        addr add 198.51.100.10 peer 198.51.100.1 dev ppp0
        addr add 203.0.113.10/24 dev ppp0
        nexthop add id 7001 via 198.51.100.1 dev ppp0 proto 77
        nexthop add id 7002 via 203.0.113.1 dev ppp0 proto 77
        nexthop add id 7100 group 7001,8/7002,2 proto 77
        route add default nhid 7100 proto 77
        route add default proto 77 metric 5 nexthop via 198.51.100.1 dev ppp0 weight 3 nexthop via 203.0.113.1 dev ppp0
        route add default via inet6 fe80::1 dev ppp0 metric 6
        route add unreachable default metric 7
        rule add priority 5 from 10.0.0.0/8 to 192.0.2.0/24 iif ppp0 fwmark 1/3 ipproto tcp sport 1-2 dport 3 lookup 7
        rule add priority 6 uidrange 5-6 lookup main suppress_prefixlength 0 protocol 77
        rule add priority 7 not from 192.0.2.1 tos 0x10 unreachable
        rule add priority 8 uidrange 5-6 goto 9 protocol 77
        -6 rule add priority 9 from 2001:db8::/32 uidrange 5-6 unreachable protocol 77";
    for command in commands.lines() {
        let done = Command::new("ip").args(command.split_whitespace()).status().unwrap();
        assert!(done.success(), "{command}");
    }
    let rules = "*mangle\n:MULTIHOME-OUTPUT - [0:0]\n-A MULTIHOME-OUTPUT -m comment --comment multihome:0123456789abcdef \
                 -j MARK --set-mark 1\n-A OUTPUT -j MULTIHOME-OUTPUT\nCOMMIT\n";
    let mut restore = Command::new("iptables-nft-restore").stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut restore.stdin.take().unwrap(), rules.as_bytes()).unwrap();
    assert!(restore.wait().unwrap().success());
}

/// The bodies of an answer's messages.
fn dump(socket: &mut Socket, kind: u16, request: &impl Emitable) -> Vec<Vec<u8>> {
    let each = |all: &mut Vec<Vec<u8>>, body: &[u8]| {
        all.push(body.to_vec());
        Ok(ControlFlow::Continue(()))
    };
    let all = socket.dump(kind, request, Vec::new, each).unwrap();
    assert!(!all.is_empty(), "nothing of kind {kind}");
    all
}

/// `struct ifinfomsg`, all zero.
struct AnyLink;

impl Emitable for AnyLink {
    fn buffer_len(&self) -> usize {
        16
    }

    fn emit(&self, buffer: &mut [u8]) {
        buffer.fill(0);
    }
}

/// One answer of each kind that the hooks ask for.
fn real() -> Vec<Vec<Vec<u8>>> {
    let mut socket = Socket::open().unwrap();
    let routes = dump(&mut socket, RTM_GETROUTE, &route_request::of_table(Family::V4, TableId::MAIN));
    let rules = dump(&mut socket, RTM_GETRULE, &rule::request(None));
    let addresses = dump(&mut socket, RTM_GETADDR, &address::request(AF_UNSPEC, 0));
    let nexthops = dump(&mut socket, RTM_GETNEXTHOP, &NexthopMessage::dump());
    let links = dump(&mut socket, RTM_GETLINK, &AnyLink);
    let chain = nftables::found::rules_of(Socket::open_netfilter().unwrap(), "MULTIHOME-OUTPUT");
    vec![routes, rules, addresses, nexthops, links, chain]
}

/// What is done to an answer.
#[derive(Debug, Clone)]
enum Spoil {
    Set(Index, u8),
    /// Lengths and kinds have two bytes.
    Set16(Index, u16),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Copy(Index, Index, Index),
}

fn spoil() -> impl Strategy<Value = Spoil> {
    let at = any::<Index>;
    let few = prop_oneof![0..40_u16, Just(0x8000), Just(0xffff), any::<u16>()];
    prop_oneof![
        2 => (at(), any::<u8>()).prop_map(|(at, byte)| Spoil::Set(at, byte)),
        4 => (at(), few).prop_map(|(at, number)| Spoil::Set16(at, number)),
        1 => at().prop_map(Spoil::Cut),
        1 => (at(), vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Spoil::Insert(at, bytes)),
        1 => (at(), at(), at()).prop_map(|(from, to, at)| Spoil::Copy(from, to, at)),
    ]
}

fn spoilt(mut bytes: Vec<u8>, how: &[Spoil]) -> Vec<u8> {
    for spoil in how {
        let length = bytes.len();
        if length < 4 {
            break;
        }
        match spoil {
            Spoil::Set(at, byte) => bytes[at.index(length)] = *byte,
            Spoil::Set16(at, number) => {
                let at = at.index(length / 2) * 2;
                bytes[at..at + 2].copy_from_slice(&number.to_ne_bytes());
            }
            Spoil::Cut(at) => bytes.truncate(at.index(length)),
            Spoil::Insert(at, new) => drop(bytes.splice(at.index(length)..at.index(length), new.iter().copied())),
            Spoil::Copy(from, to, at) => {
                let (a, b) = (from.index(length), to.index(length));
                let copy = bytes[a.min(b)..a.max(b)].to_vec();
                let at = at.index(length);
                bytes.splice(at..at, copy);
            }
        }
    }
    bytes
}

/// As the kernel sends it: each body behind a header, and the end.
fn datagram(bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut all = Vec::new();
    let mut push = |kind: u16, body: &[u8]| {
        all.extend(u32::try_from(16 + body.len()).unwrap().to_ne_bytes());
        all.extend(kind.to_ne_bytes());
        all.extend(2_u16.to_ne_bytes());
        all.extend(SEQUENCE.to_ne_bytes());
        all.extend([0; 4]);
        all.extend(body);
        all.resize(all.len().next_multiple_of(4), 0);
    };
    for body in bodies {
        push(24, body);
    }
    push(3, &[0; 4]);
    all
}

/// Reads a message as each of the things that it might be; how much has come of it.
fn read_as_all(body: &[u8], devices: &routes::Devices) -> usize {
    let mut size = 0;
    if let Ok(message) = Route::parse(body) {
        let found = routes::route(&message, devices);
        size += found.target.to_string().len();
        size += if let FoundTarget::NextHops(next_hops) = found.target { next_hops.len() } else { 0 };
    }
    if let Ok(Some(found)) = rule::parse(body) {
        size += found.rule.to_string().len();
    }
    if let Ok(message) = parse::<NexthopMessage>(body) {
        size += nexthops::nexthop(&message, devices).map_or(0, |(_, found)| format!("{found:?}").len());
    }
    let mut by_ethernet = BTreeMap::from([(2, Vec::new()), (3, Vec::new())]);
    let _ = ethernets::add(&mut by_ethernet, body);
    size += by_ethernet.values().map(Vec::len).sum::<usize>();
    let _ = address::with_preferred(body, true);
    size += usize::from(FoundAddress::parse(body).is_ok());
    size += interface::parse(body).map_or(0, |found| found.name.as_str().len());
    size += usize::from(nftables::found::jump(body.get(4..).unwrap_or_default()).is_some());
    let _ = Fingerprint::find(body);
    size
}

#[test]
fn whatever_the_kernel_says_is_read_or_refused() {
    furnish();
    let real = real();
    let name: IfName = "ppp0".parse().unwrap();
    let interface = interface(&mut Socket::open().unwrap(), &name, None).unwrap().unwrap();
    let devices = routes::Devices::new(&BTreeMap::from([(name, interface)]));
    let mut heard = 0;
    for answer in &real {
        let mut complete = true;
        let each = &mut |body: &[u8]| {
            heard += read_as_all(body, &devices).min(1);
            ControlFlow::Continue(())
        };
        assert_eq!(answers(&datagram(answer), SEQUENCE, &mut complete, each).unwrap(), Progress::Done);
    }
    assert!(heard > 20, "real answers are read: {heard}");

    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let strategy = (0..real.len(), vec(spoil(), 1..6), vec(spoil(), 0..3), any::<bool>());
    let done = TestRunner::new(config).run(&strategy, |(which, inside, outside, both)| {
        // Inside of the messages, whose framing stays right, or anywhere.
        let bodies: Vec<_> = real[which].iter().map(|body| spoilt(body.clone(), &inside)).collect();
        let bytes = datagram(&bodies);
        let bytes = if both { spoilt(bytes, &outside) } else { bytes };
        let mut complete = true;
        let mut size = 0;
        let each = &mut |body: &[u8]| {
            size += read_as_all(body, &devices);
            ControlFlow::Continue(())
        };
        if let Err(error) = answers(&bytes, SEQUENCE, &mut complete, each) {
            prop_assert!(error.to_string().len() < 4 * bytes.len() + 1000);
        }
        prop_assert!(size < 100 * bytes.len() + 1000, "{size} of {}", bytes.len());
        Ok(())
    });
    done.unwrap();
}

#[test]
fn routes_of_main_by_an_ethernet_are_seen_with_their_routers() {
    furnish();
    for args in [
        "rule del priority 7",
        "route add 10.1.0.0/16 via 203.0.113.5 dev ppp0",
        "route add 10.2.0.0/16 dev ppp0",
        "route add 10.3.0.0/16 nexthop via 203.0.113.6 dev ppp0 nexthop via 203.0.113.1 dev ppp0",
        "route add 10.4.0.0/16 nhid 7002",
        "route add 10.5.0.0/16 via inet6 fe80::2 dev ppp0",
        "route add 10.6.0.0/16 dev far0",
        "route add blackhole 10.7.0.0/16",
        "route add 10.8.0.0/16 dev ppp0 table 9",
        "route add 224.0.0.0/4 dev ppp0",
    ] {
        assert!(Command::new("ip").args(args.split(' ')).status().unwrap().success(), "{args}");
    }
    let name: IfName = "ppp0".parse().unwrap();
    let mut socket = Socket::open().unwrap();
    let mut interface = interface(&mut socket, &name, None).unwrap().unwrap();
    let mut seen = |arp| {
        interface.arp = arp;
        let mut interfaces = BTreeMap::from([(name.clone(), interface.clone())]);
        ethernets::add_routes(&mut socket, &mut interfaces).unwrap();
        let routes = interfaces.remove(&name).unwrap().routes;
        routes.iter().map(|r| format!("{} {:?}", r.to, r.gateway.map(|g| g.to_string()))).collect::<Vec<_>>()
    };
    assert_eq!(
        seen(true),
        [
            "10.1.0.0/16 Some(\"203.0.113.5\")",
            "10.2.0.0/16 None",
            "10.3.0.0/16 Some(\"203.0.113.6\")",
            "10.3.0.0/16 Some(\"203.0.113.1\")",
            "10.4.0.0/16 Some(\"203.0.113.1\")",
            "10.5.0.0/16 Some(\"fe80::2\")",
            "198.51.100.1/32 None",
            "203.0.113.0/24 None",
        ]
    );
    assert_eq!(seen(false), [""; 0], "behind a point-to-point line there is no other router");
}

#[test]
fn a_rule_says_all_that_no_rule_of_ours_has() {
    unshare(CloneFlags::CLONE_NEWNET).expect("root: run the tests through tests/run-as-root");
    let read = |args: &str| {
        let command = format!("rule add priority 5 {args}");
        assert!(Command::new("ip").args(command.split(' ')).status().unwrap().success(), "{command}");
        let rules = rules::rules(&mut Socket::open().unwrap(), Some(Family::V4)).unwrap();
        assert!(Command::new("ip").args(["rule", "del", "priority", "5"]).status().unwrap().success());
        let found = rules.into_iter().find(|found| found.rule.priority == 5).unwrap();
        (found.rule.action, found.more)
    };
    let main = Action::Lookup { table: TableId::MAIN, suppress_prefixlength: None };
    let more = |more: More| Some(Box::new(more));
    let none = More::default;
    assert_eq!(read("from 10.0.0.0/8 iif lo fwmark 1/3 uidrange 5-6 ipproto tcp dport 3 lookup main"), (main, None));
    assert_eq!(read("type blackhole"), (Action::Blackhole, None));
    assert_eq!(read("type prohibit"), (Action::Prohibit, None));
    assert_eq!(read("nop"), (Action::Nop, None));
    assert_eq!(read("not from 10.0.0.0/8 lookup main"), (main, more(More { invert: true, ..none() })));
    assert_eq!(read("oif lo lookup main"), (main, more(More { oif: Some("lo".to_owned()), ..none() })));
    assert_eq!(read("tos 0x10 lookup main"), (main, more(More { tos: 0x10, ..none() })));
    assert_eq!(read("lookup main realms 7"), (main, more(More { harmless: true, ..none() })));
    let group = More { suppress_ifgroup: Some(9), ..none() };
    assert_eq!(read("lookup main suppress_ifgroup 9"), (main, more(group)));
}
