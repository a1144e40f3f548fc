//! What is translated in IPv6 where it leaves by an uplink.

use std::net::Ipv6Addr;

use super::internet::*;
use super::sticky::{by_line, scene};
use crate::support::ctl::said;
use crate::support::filter::{flush_marks, ip6tables, listed, managed, nft};
use crate::support::internet::{ECHO, Namespace};
use crate::support::*;

/// An address of the server in the prefix of the first line, on its LAN.
const SERVER_1: &str = "2001:db8:1:2::1";

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
    assert!(!managed().iter().any(|rule| rule.to_lowercase().contains("masquerade")), "{:#?}", managed());
}

/// The prefixes of isp1 that are not translated, and all rules of ours without them.
fn prefixes_and_rest() -> (String, Vec<String>) {
    if firewall() == "auto" {
        let set = nft("list set inet multihome isp1-prefixes");
        let elements = set.split_once("elements = ").map_or("", |(_, rest)| rest.split('}').next().unwrap());
        let rest = listed().replace(elements, "").lines().map(str::to_owned).collect();
        return (elements.trim_matches(['{', ' ']).to_owned(), rest);
    }
    let saved = of_table("nat");
    let (own, others): (Vec<_>, Vec<_>) = saved.into_iter().partition(|rule| rule.starts_with("-A MULTIHOME-isp1 "));
    let nets = own.iter().filter_map(|rule| rule.split_once(" -s ")?.1.strip_suffix(" -j RETURN")?.split(' ').next());
    (nets.collect::<Vec<_>>().join(", "), [others, of_table("mangle")].concat())
}

/// Rules of ours in a table of ip6tables.
fn of_table(table: &str) -> Vec<String> {
    let saved = ok(std::process::Command::new("ip6tables-save").args(["-t", table])).stdout;
    let saved = String::from_utf8(saved).unwrap();
    saved.lines().filter(|line| line.starts_with("-A MULTIHOME")).map(str::to_owned).collect()
}

#[test]
fn a_new_prefix_is_not_translated_and_the_other_rules_stay_as_they_are() {
    let (server, six) = scene(&LINKS.replace("prefixes = [\"2001:db8:1::/48\"]\n", ""));
    let (prefixes, rules) = prefixes_and_rest();
    assert_eq!(prefixes, "2001:db8:1::/64");
    assert!(!seen(&six.internet.lan, LAN_1, 1).contains(&LAN_1.parse().unwrap()));
    server.configure(LINKS);
    ok(&mut hook6(&server, UP, SIX1));
    assert_eq!(prefixes_and_rest(), ("2001:db8:1::/48".to_owned(), rules.clone()));
    assert_eq!(seen(&six.internet.lan, LAN_1, 1), all_as(LAN_1));
    // Somebody empties it.
    match firewall().as_str() {
        "auto" => nft("flush set inet multihome isp1-prefixes"),
        _ => ip6tables("-w -t nat -F MULTIHOME-isp1"),
    };
    server.apply();
    let whole = prefixes_and_rest();
    assert_eq!(whole, ("2001:db8:1::/48".to_owned(), rules));
    // While the line is down it stays as it is, also when the rest is made anew.
    SIX1.lose(&server);
    assert_eq!(prefixes_and_rest().0, whole.0);
    flush_marks();
    server.apply();
    assert_eq!(prefixes_and_rest().0, whole.0);
}

/// Where these stand in the plan of an event.
fn places<const N: usize>(hook: &mut std::process::Command, what: [&str; N]) -> [usize; N] {
    let said = String::from_utf8(ok(hook.option("--dry-run")).stdout).unwrap();
    what.map(|what| said.lines().position(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {said}")))
}

/// A connection that begins before would stay as it is.
#[test]
fn what_is_translated_is_settled_before_a_packet_can_leave() {
    let is_nft = firewall() == "auto";
    let server = Server::new(LINKS);
    let six = Six::new();
    six.connect(SIX1);
    ok(&mut server.hook(UP, ISP1));
    let own = if is_nft { "add element inet multihome isp1-prefixes" } else { "-s 2001:db8:1::/48 -j RETURN" };
    let first = places(&mut hook6(&server, UP, SIX1), [own, "ip -6 route append"]);
    assert!(first.is_sorted(), "{first:?}");
    SIX1.up(&server);
    six.connect(SIX2);
    let [own, others] = if is_nft {
        ["add element inet multihome isp2-prefixes", "add rule inet multihome nat6-isp2 masquerade"]
    } else {
        ["-s 2001:db8:2::/48 -j RETURN", "-A MULTIHOME-isp2 -j MASQUERADE"]
    };
    let second = places(&mut hook6(&server, UP, SIX2), [own, others, "ip -6 route append"]);
    assert!(second.is_sorted(), "{second:?}");
    // It comes back with another prefix.
    SIX1.lose(&server);
    six.connect(SIX1);
    server.configure(&LINKS.replace("2001:db8:1::/48", "2001:db8:1::/49"));
    let [old, new] = if is_nft {
        ["flush set inet multihome isp1-prefixes", "add element inet multihome isp1-prefixes"]
    } else {
        [":MULTIHOME-isp1 ", "-s 2001:db8:1::/49 -j RETURN"]
    };
    let again = places(&mut hook6(&server, UP, SIX1), [old, new, "ip -6 route append"]);
    assert!(again.is_sorted(), "{again:?}");
}

#[test]
fn what_is_all_translated_is_settled_before_a_packet_can_leave_too() {
    let server = Server::new(&LINKS.replace("[[uplink]]\n", "[[uplink]]\nnat6 = \"all\"\n"));
    let six = Six::new();
    six.connect(SIX1);
    let own = if firewall() == "auto" { "nat-postrouting meta nfproto ipv6" } else { "-j MASQUERADE" };
    let first = places(&mut hook6(&server, UP, SIX1), [own, "ip -6 route append"]);
    assert!(first.is_sorted(), "{first:?}");
}

/// `masquerade` is about IPv4 and its routes. What began before would stay as it is for as long as it lives.
#[test]
fn what_is_masqueraded_is_so_before_a_packet_can_leave() {
    let server = Server::new(&LINKS.replace("[[uplink]]\n", "[[uplink]]\nmasquerade = true\n"));
    ISP1.create();
    let own = if firewall() == "auto" { "nat-postrouting meta nfproto ipv4" } else { "-j MASQUERADE" };
    let first = places(&mut server.hook(UP, ISP1), [own, "ip route replace table 254 default"]);
    assert!(first.is_sorted(), "{first:?}");
    // Where all is there, nobody waits for anything.
    ok(&mut server.hook(UP, ISP1));
    ISP2.create();
    let second = String::from_utf8(ok(server.hook(UP, ISP2).option("--dry-run")).stdout).unwrap();
    assert!(!second.contains("asquerade") && !second.contains("MASQUERADE"), "{second}");
}

#[test]
fn what_is_translated_is_so_until_no_packet_can_leave() {
    let (server, _six) = scene(LINKS);
    let (first, second) = LINKS.split_at(LINKS.rfind("[[uplink]]").unwrap());
    server.configure(&format!("{first}{}", second.replace("[[uplink]]\n", "[[uplink]]\nipv6 = \"off\"\n")));
    let own = if firewall() == "auto" { "delete chain inet multihome nat6-isp2" } else { "-X MULTIHOME-isp2" };
    let said = said(&server, "plan");
    let place = |what: &str| said.lines().position(|line| line.starts_with(what)).unwrap_or_else(|| panic!("{said}"));
    assert!(place("ip -6 route del") < place(own), "{said}");
}

#[test]
fn an_uplink_without_ipv6_prefixes_gets_no_rule_of_its_own() {
    let server = Server::new(LINKS);
    server.up(ISP1);
    assert!(!listed().contains("prefixes") && !listed().contains("nat6"));
    assert_eq!(of_table("nat"), [""; 0]);
}
