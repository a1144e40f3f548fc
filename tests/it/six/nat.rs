//! What is translated in IPv6 where it leaves by an uplink.

use std::net::Ipv6Addr;

use super::internet::*;
use super::sticky::by_line;
use crate::support::filter::{listed, nft};
use crate::support::internet::{ECHO, Namespace};
use crate::support::*;

/// An address of the server in the prefix of the first line, on its LAN.
const SERVER_1: &str = "2001:db8:1:2::1";

fn scene(config: &str) -> (Server, Six) {
    let server = Server::new(config);
    let six = Six::new();
    for line in [SIX1, SIX2] {
        six.begin(&server, line);
    }
    (server, six)
}

/// As whom the Internet sees each of 24 sockets of this address; `None`: no answer.
fn seen_at(at: &Namespace, local: &str, net: u8) -> Vec<Option<Ipv6Addr>> {
    at.run(|| (0..24).map(|n| ask_from(local, &format!("2001:db8:f:{net}::{n:x}"))).collect())
}

fn seen(at: &Namespace, local: &str, net: u8) -> Vec<Ipv6Addr> {
    seen_at(at, local, net).into_iter().map(|seen| seen.expect("an answer")).collect()
}

/// What `seen` says where all are seen as this address.
fn all_as(address: &str) -> Vec<Ipv6Addr> {
    vec![address.parse().unwrap(); 24]
}

#[test]
fn a_foreign_source_is_balanced_and_translated_and_a_prefix_of_a_line_is_not() {
    let (_server, six) = scene(LINKS);
    let lan = &six.internet.lan;
    let by = by_line(&seen(lan, LAN_ULA, 1));
    assert!(by[0] + by[1] == 24 && by.iter().all(|n| *n > 2), "{by:?}");
    for host in [LAN_1, LAN_2] {
        assert_eq!(seen(lan, host, 2), all_as(host), "{host}");
    }
}

#[test]
fn what_has_a_source_of_a_dead_line_goes_on_by_the_other_at_once() {
    let (server, six) = scene(LINKS);
    let lan = &six.internet.lan;
    let socket = lan.run(|| bound(LAN_1));
    let to = ("2001:db8:f::1", ECHO);
    assert_eq!(ask_by(&socket, to), LAN_1.parse().ok());
    let own = bound(SERVER_1);
    assert_eq!(ask_by(&own, to), SERVER_1.parse().ok());
    SIX1.lose(&server);
    let local = SIX2.local.parse().ok();
    assert_eq!((ask_by(&socket, to), ask_by(&own, to)), (local, local));
    assert_eq!(seen(lan, LAN_1, 3), all_as(SIX2.local));
    // And by its own when it is back.
    six.begin(&server, SIX1);
    assert_eq!(seen(lan, LAN_1, 4), all_as(LAN_1));
}

#[test]
fn all_is_everything_and_none_is_nothing() {
    let all = LINKS.replace("[[uplink]]\n", "[[uplink]]\nnat6 = \"all\"\n");
    let (server, six) = scene(&all);
    let lan = &six.internet.lan;
    assert_eq!(seen(lan, LAN_1, 1), all_as(SIX1.local));
    assert_eq!(seen(lan, LAN_2, 1), all_as(SIX2.local));
    server.configure(&all.replace("\"all\"", "\"none\""));
    server.apply();
    assert_eq!(seen_at(lan, LAN_ULA, 2), [None; 24]);
    assert_eq!(seen(lan, LAN_1, 2), all_as(LAN_1));
    assert!(!listed().contains("masquerade"));
}

/// The elements of the set of isp1's prefixes, and our table without them.
fn set_and_rest() -> (String, String) {
    let listed = listed();
    let set = nft("list set inet multihome isp1-prefixes");
    let elements = set.split_once("elements = ").map_or("", |(_, rest)| rest.split('}').next().unwrap());
    (elements.trim_matches(['{', ' ']).to_owned(), listed.replace(elements, ""))
}

#[test]
fn a_new_prefix_is_in_the_set_and_the_rules_stay_as_they_are() {
    let (server, six) = scene(&LINKS.replace("prefixes = [\"2001:db8:1::/48\"]\n", ""));
    let (set, rules) = set_and_rest();
    assert_eq!(set, "2001:db8:1::/64");
    assert!(!seen(&six.internet.lan, LAN_1, 1).contains(&LAN_1.parse().unwrap()));
    server.configure(LINKS);
    ok(&mut hook6(&server, UP, SIX1));
    assert_eq!(set_and_rest(), ("2001:db8:1::/48".to_owned(), rules.clone()));
    assert_eq!(seen(&six.internet.lan, LAN_1, 1), all_as(LAN_1));
    // Somebody empties it.
    nft("flush set inet multihome isp1-prefixes");
    server.apply();
    let whole = set_and_rest();
    assert_eq!(whole, ("2001:db8:1::/48".to_owned(), rules));
    // While the line is down it stays as it is.
    SIX1.lose(&server);
    assert_eq!(set_and_rest().0, whole.0);
}

/// Where these stand in the plan of an event.
fn places<const N: usize>(hook: &mut std::process::Command, what: [&str; N]) -> [usize; N] {
    let said = String::from_utf8(ok(hook.option("--dry-run")).stdout).unwrap();
    what.map(|what| said.lines().position(|line| line.starts_with(what)).unwrap_or_else(|| panic!("{what}: {said}")))
}

/// A connection that begins before would stay as it is.
#[test]
fn what_is_translated_is_settled_before_a_packet_can_leave() {
    let server = Server::new(LINKS);
    let six = Six::new();
    six.connect(SIX1);
    ok(&mut server.hook(UP, ISP1));
    let element = "add element inet multihome isp1-prefixes";
    let first = places(&mut hook6(&server, UP, SIX1), [element, "ip -6 route append"]);
    assert!(first.is_sorted(), "{first:?}");
    SIX1.up(&server);
    six.connect(SIX2);
    let second = places(
        &mut hook6(&server, UP, SIX2),
        [
            "add element inet multihome isp2-prefixes",
            "add rule inet multihome nat6-isp2 masquerade",
            "ip -6 route append",
        ],
    );
    assert!(second.is_sorted(), "{second:?}");
    // It comes back with another prefix.
    SIX1.lose(&server);
    six.connect(SIX1);
    server.configure(&LINKS.replace("2001:db8:1::/48", "2001:db8:1::/49"));
    let again = places(
        &mut hook6(&server, UP, SIX1),
        ["flush set inet multihome isp1-prefixes", element, "ip -6 route append"],
    );
    assert!(again.is_sorted(), "{again:?}");
}

#[test]
fn iptables_has_no_rules_about_ipv6_and_that_is_said() {
    let server = Server::new(&LINKS.replace("\"nftables\"", "\"iptables\""));
    let six = Six::new();
    six.connect(SIX1);
    let warned = |hook: &mut std::process::Command| {
        let said = String::from_utf8(ok(hook.option("-v")).stderr).unwrap();
        said.contains("no IPv6 connection of isp1 is sticky, and no IPv6 source is translated")
    };
    assert!(!warned(&mut server.hook(UP, ISP1)));
    assert!(warned(&mut hook6(&server, UP, SIX1)));
}

#[test]
fn an_uplink_without_ipv6_prefixes_gets_no_rule_of_its_own() {
    let server = Server::new(LINKS);
    server.up(ISP1);
    assert!(!listed().contains("prefixes") && !listed().contains("nat6"));
}
