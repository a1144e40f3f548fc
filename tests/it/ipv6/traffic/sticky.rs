//! Sticky connections in IPv6: answers leave by the line that the question came by, and what has begun stays where it is.

use std::net::{Ipv6Addr, TcpStream};
use std::process::Command;

use super::internet::*;
use crate::support::filter::{flush_marks, nft};
use crate::support::internet::{ECHO, Namespace, talks};
use crate::support::*;

/// Port of the server that is forwarded to the LAN's host.
const FORWARDED: u16 = 8080;

/// The server with both lines up.
pub(super) fn scene(config: &str) -> (Server, Six) {
    let server = Server::new(config);
    let six = Six::new();
    for line in [SIX1, SIX2] {
        six.begin(&server, line);
    }
    (server, six)
}

/// A TCP connection from this address to each of some hosts of the Internet.
fn connect_all(at: &Namespace, local: &str, net: u8) -> Vec<(TcpStream, Ipv6Addr)> {
    let to: Vec<_> = (0..12).map(|n| format!("2001:db8:f:{net}::{n:x}")).collect();
    at.run(|| to.iter().map(|host| connect_from(local, (host, ECHO)).expect("a new connection")).collect())
}

pub(super) fn talking(streams: &mut [(TcpStream, Ipv6Addr)]) -> usize {
    streams.iter_mut().filter_map(|(stream, _)| talks(stream).then_some(())).count()
}

/// How many of these are seen with an address of each line.
pub(super) fn by_line(seen: &[Ipv6Addr]) -> [usize; 2] {
    [SIX1, SIX2].map(|line| seen.iter().filter(|addr| line.has(**addr)).count())
}

/// IPv6 connections with this mark under the mask of both links.
pub(super) fn tracked(mark: &str) -> usize {
    let output = ok(Command::new("conntrack").args(["-L", "-f", "ipv6", "--mark", mark]));
    String::from_utf8(output.stdout).unwrap().lines().count()
}

#[test]
fn unbound_sockets_of_the_server_have_a_source_of_the_line_that_they_leave_by() {
    let (_server, _six) = scene(LINKS);
    let seen: Vec<_> = (0..36).map(|n| ask_from("::", &format!("2001:db8:f::{n:x}")).expect("an answer")).collect();
    let by = by_line(&seen);
    assert_eq!(by[0] + by[1], 36, "{seen:?}");
    assert!(by.iter().all(|n| *n > 5), "{by:?}");
}

/// Each of 12 clients of the Internet asks this address of ours: how many got an answer from it.
fn answered(six: &Six, to: &str, port: u16) -> usize {
    let asked = |n: &u8| ask_by(&bound(&format!("2001:db8:f:3::{n:x}")), (to, port)).is_some();
    six.internet.world.run(|| (1..13).filter(asked).count())
}

#[test]
fn answers_of_the_server_and_of_port_forwards_leave_by_the_line_that_the_question_came_by() {
    let (_server, six) = scene(LINKS);
    serve_echo(&Namespace::here(), ECHO);
    serve_echo(&six.internet.lan, ECHO);
    nft("add table ip6 forwards");
    nft("add chain ip6 forwards in { type nat hook prerouting priority dstnat; }");
    for line in [SIX1, SIX2] {
        assert_eq!(answered(&six, line.local, ECHO), 12, "the server, {}", line.local);
        nft(&format!("add rule ip6 forwards in ip6 daddr {} udp dport {FORWARDED} dnat to [{LAN_ULA}]:7", line.local));
        assert_eq!(answered(&six, line.local, FORWARDED), 12, "a port forward, {}", line.local);
    }
    // A host of the LAN itself, by its address of either provider.
    for host in [LAN_1, LAN_2] {
        assert_eq!(answered(&six, host, ECHO), 12, "{host}");
    }
    assert!(tracked("0x1/0x3") >= 36 && tracked("0x2/0x3") >= 36);
}

#[test]
fn connections_stay_where_they_are_when_weights_change_and_when_the_other_line_goes() {
    let (server, six) = scene(LINKS);
    let lan = &six.internet.lan;
    let mut streams = connect_all(lan, LAN_ULA, 1);
    streams.extend(connect_all(&six.internet.server, "::", 2));
    let seen: Vec<_> = streams.iter().map(|(_, seen)| *seen).collect();
    let by = by_line(&seen);
    assert!(by[0] + by[1] == 24 && by.iter().all(|n| *n > 2), "{by:?}");
    // Nearly everything new goes by the second line.
    server.configure(&LINKS.replace("name = \"isp2\"\n", "name = \"isp2\"\nweight = 250\n"));
    server.apply();
    assert_eq!(talking(&mut streams), 24);
    SIX1.lose(&server);
    streams.retain(|(_, seen)| SIX2.has(*seen));
    let left = streams.len();
    assert_eq!(talking(&mut streams), left);
    assert_eq!((tracked("0x1/0x3"), left), (0, by[1]));
}

/// Those of the other line, those of IPv4, and those of no line are none of its business.
#[test]
fn a_lines_end_frees_its_connections_in_its_family_only() {
    let (server, six) = scene(LINKS);
    let streams = connect_all(&six.internet.lan, LAN_1, 1);
    assert_eq!((streams.len(), tracked("0x1/0x3")), (12, 12));
    let v4 = crate::support::internet::connect_tcp(("100.64.1.1", ECHO)).unwrap();
    let all =
        || String::from_utf8(ok(Command::new("conntrack").args(["-L", "-p", "tcp"])).stdout).unwrap().lines().count();
    assert_eq!(all(), 13);
    ok(&mut hook6(&server, DOWN, SIX1));
    assert_eq!((all(), tracked("0x1/0x3")), (1, 0));
    drop(v4);
}

/// Somebody has flushed our rules, and nobody sends anything until the event that restores them brings a second uplink.
#[test]
fn silent_connections_that_began_while_our_rules_were_away_stay_where_they_are() {
    let server = Server::new(LINKS);
    let six = Six::new();
    six.begin(&server, SIX1);
    flush_marks();
    let mut streams = connect_all(&six.internet.lan, LAN_1, 1);
    streams.extend(connect_all(&six.internet.server, "::", 2));
    assert_eq!(tracked("0x1/0x3"), 0);
    six.connect(SIX2);
    ok(&mut hook6(&server, UP, SIX2));
    assert_eq!(tracked("0x1/0x3"), 24);
    server.configure(&LINKS.replace("name = \"isp2\"\n", "name = \"isp2\"\nweight = 250\n"));
    server.apply();
    assert_eq!(talking(&mut streams), 24);
}

/// What goes to a neighbour goes there, whatever the mark of the connection says.
#[test]
fn link_local_addresses_and_multicast_are_never_marked() {
    let (_server, six) = scene(LINKS);
    for provider in &six.internet.providers {
        serve_echo(provider, ECHO);
    }
    for device in [ISP1.device, ISP2.device] {
        let socket = bound("::");
        for _ in 0..3 {
            assert!(ask_scoped(&socket, "fe80::1", device, ECHO), "{device}");
        }
        // Nobody answers.
        send_scoped(&socket, "ff02::1", device, ECHO);
    }
    serve_echo(&six.internet.server, 9);
    for provider in &six.internet.providers {
        assert!(provider.run(|| ask_scoped(&bound("::"), "fe80::2", "customer", 9)));
    }
    // Neighbours on an uplink's own Ethernet neither.
    let neighbour = "2001:db8:1::5";
    six.internet.providers[0].ip(&format!("-6 addr add {neighbour}/64 dev customer nodad"));
    let socket = bound("::");
    // It hears of being asked for a little later (`addrconf_dad_work()`).
    until("the neighbour answers", || ask_by(&socket, (neighbour, ECHO)).is_some());
    assert!((0..3).all(|_| ask_by(&socket, (neighbour, ECHO)) == SIX1.local.parse().ok()));
    assert_eq!((tracked("0x1/0x3"), tracked("0x2/0x3")), (0, 0));
}

/// The server's own and those of a router of the provider.
#[test]
fn errors_reach_the_host_that_they_are_about() {
    let (_server, six) = scene(LINKS);
    let learnt = |payload: usize| {
        six.internet.lan.run(|| {
            let socket = bound(LAN_1);
            assert!(ask_by(&socket, ("2001:db8:f:5::5", ECHO)).is_some());
            socket.send_to(&vec![0; payload], "[2001:db8:f:5::5]:7").unwrap();
            std::thread::sleep(std::time::Duration::from_millis(200));
            ip("-6 route get 2001:db8:f:5::5 from 2001:db8:1:2::30")
        })
    };
    let provider = &six.internet.providers[0];
    // What is led away does not come back.
    provider.ip(&format!("-6 rule add pref 5 iif customer to {} blackhole", SIX1.prefix));
    // The router sends its errors from there, as a neighbour on the line.
    provider.ip("-6 addr add 2001:db8:1::1/64 dev customer nodad");
    provider.ip("link set veth0 mtu 1400");
    assert!(learnt(1440).contains("mtu 1400"), "{}", learnt(1440));
    ip("link set ppp0 mtu 1300");
    assert!(learnt(1340).contains("mtu 1300"), "{}", learnt(1340));
}

#[test]
fn connections_of_a_prefix_that_a_line_has_lost_are_flushed_and_no_others() {
    let (server, six) = scene(&LINKS.replace("2001:db8:1::/48", "2001:db8:1:2::/64"));
    let mut kept = connect_all(&six.internet.server, SIX1.local, 1);
    let lost = connect_all(&six.internet.lan, LAN_1, 2);
    let others = connect_all(&six.internet.lan, LAN_2, 3);
    assert_eq!((tracked("0x1/0x3"), tracked("0x2/0x3")), (24, 12));
    // That of its interface is left.
    server.configure(&LINKS.replace("prefixes = [\"2001:db8:1::/48\"]\n", ""));
    server.apply();
    assert_eq!((tracked("0x1/0x3"), tracked("0x2/0x3")), (12, 12));
    assert_eq!(talking(&mut kept), 12);
    drop((lost, others));
}

/// A link whose IPv6 is left alone beside one that is used for it.
#[test]
fn ipv6_that_is_off_is_left_alone() {
    let off = LINKS.replace("name = \"isp2\"\n", "name = \"isp2\"\nipv6 = \"off\"\n");
    let (_server, six) = scene(&off);
    ip("-6 route add 2001:db8:f:9::/64 via fe80::1 dev ppp1");
    assert_eq!(ask_from("::", "2001:db8:f:9::1"), SIX2.local.parse().ok());
    assert_eq!(ask_from("::", "2001:db8:f:8::1"), SIX1.local.parse().ok());
    assert_eq!((tracked("0x1/0x3"), tracked("0x2/0x3")), (1, 0));
    drop(six);
}
