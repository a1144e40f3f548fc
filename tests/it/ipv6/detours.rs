//! IPv6 traffic that somebody else's rules and routes take: status and doctor ask the kernel, and say who takes what.

use std::process::Command;

use serde_json::Value;

use crate::support::ctl::{json, said};
use crate::support::six::*;
use crate::support::*;

const KILL_SWITCH: &str = "\n[[policy]]\nname = 'k'\nuid = 1234\nvia = 'isp2'\notherwise = 'unreachable'\n";

fn lines() -> &'static str {
    ARTICLE.split("[[policy]]").next().unwrap()
}

/// A server with IPv4 by both lines, and devices that are no links.
fn server4(config: &str) -> Server {
    let server = Server::new(config);
    for (device, address) in [("tun9", "fd09::2/64"), ("lan", "fd01::1/64")] {
        ip(&format!("link add {device} type veth peer name {device}-far"));
        ip(&format!("link set {device}-far up"));
        ip(&format!("link set {device} up"));
        ip(&format!("-6 addr add {address} dev {device} nodad"));
    }
    std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    server.up(ISP1);
    server.up(ISP2);
    server
}

fn server(config: &str) -> Server {
    let server = server4(config);
    SIX1.up(&server);
    SIX2.up(&server);
    ip("-6 route add default dev tun9 table 77");
    well(&server, "at first");
    server
}

/// What status tells of, in one line each, with what to do; doctor says the same.
fn detours(server: &Server) -> Vec<[String; 2]> {
    let status = json(server, "status --json");
    let detours = status["kernel"]["detours"].as_array().unwrap();
    assert_eq!(status["kernel"]["as_wanted"], detours.is_empty(), "{status}");
    let output = server.bare(CTL).args(["doctor", "--json"]).output().unwrap();
    let doctor: Value = serde_json::from_slice(&output.stdout).unwrap();
    let all: Vec<_> =
        detours.iter().map(|d| [&d["what"], &d["mend"]].map(|v| v.as_str().unwrap().to_owned())).collect();
    for [what, _] in &all {
        let findings = doctor["findings"].as_array().unwrap();
        assert!(findings.iter().any(|f| f["weight"] == "trouble" && f["what"] == what.as_str()), "{doctor}");
    }
    all
}

/// That just this is told of, and that what is printed to mend it does.
fn told(server: &Server, parts: &[&str], command: &str) {
    let all = detours(server);
    let [[what, mend]] = &all[..] else { panic!("{all:#?}") };
    for part in parts {
        assert!(what.contains(part), "{part}: {what}");
    }
    assert!(mend.contains(command), "{mend}");
    ok(Command::new("sh").args(["-c", command]));
    well(server, command);
}

fn well(server: &Server, what: &str) {
    assert_eq!(detours(server).concat().concat(), "", "{what}");
}

#[test]
fn large_parts_of_the_internet_in_main_are_told_of() {
    let server = server(ARTICLE);
    ip("-6 route add 2000::/4 dev tun9");
    ip("-6 route add 3000::/4 dev tun9");
    ip("-6 route add ::/1 dev tun9");
    let all = detours(&server);
    assert!(all.len() == 1 && all[0][0].starts_with("route 2000::/4 of table 254, which is foreign, takes traffic to"));
    assert!(all[0][0].ends_with(": by tun9") && all[0][1].contains("pull-filter ignore route-ipv6"), "{all:?}");
    ip("-6 route del 2000::/4 dev tun9");
    // Each family has a line of its own.
    ip("addr add 10.9.9.2/24 dev tun9");
    ip("route add 0.0.0.0/1 dev tun9");
    assert_eq!(detours(&server).len(), 2);
    ip("route del 0.0.0.0/1");
    told(
        &server,
        &["route ::/1 of table 254, which is foreign, takes traffic to the Internet, and that of polic", "prefixes of"],
        "ip -6 route del ::/1 table 254 metric 1024 via :: dev tun9 protocol 3",
    );
}

#[test]
fn a_rule_before_ours_is_told_of() {
    let server = server(ARTICLE);
    for (rule, takes) in [
        ("priority 50 lookup 77", "takes traffic to the Internet, and that of polic"),
        ("priority 50 from 2001:db8:1::/64 lookup 77", "takes what comes from prefixes of isp1: by tun9"),
        ("priority 50 unreachable", "it is refused"),
        ("priority 32764 lookup 77", "takes traffic to the Internet: by tun9"),
    ] {
        ip(&format!("-6 rule add {rule}"));
        told(&server, &["IPv6 rule ", takes], &format!("ip -6 rule del {rule}"));
    }
}

#[test]
fn somebody_elses_default_is_told_of_where_it_carries() {
    let server = server(ARTICLE);
    ip("-6 route add default via fd09::1 dev tun9 metric 100 proto dhcp");
    well(&server, "ours is asked before main");
    ip("-6 rule add priority 32764 lookup main");
    told(
        &server,
        &["IPv6 rule 32764: lookup 254, which is foreign, takes traffic to the Internet: by tun9"],
        "ip -6 rule del priority 32764 lookup 254",
    );
    ip("-6 route add default via fd09::1 dev tun9 metric 100 table default proto dhcp");
    told(
        &server,
        &["the IPv6 default route of metric 100 of table 253, of dhcp, takes traffic to the Internet: by tun9"],
        "ip -6 route del default table 253 metric 100 via fd09::1 dev tun9 protocol 16",
    );
    ip("-6 route add default via fd09::1 dev tun9 metric 100 table 1 proto dhcp");
    told(
        &server,
        &["the IPv6 default route of metric 100 of table 1, of dhcp, leads by tun9 and not by isp1"],
        "ip -6 route del default table 1 metric 100 via fd09::1 dev tun9 protocol 16",
    );
}

#[test]
fn a_kill_switch_that_does_not_hold_is_told_of() {
    let server = server(&format!("{}{KILL_SWITCH}", lines()));
    let shown = || said(&server, "status");
    ip("-6 rule add priority 50 uidrange 1000-2000 lookup 77");
    assert!(shown().contains("k  by isp2; IPv6 by tun9, not by isp2\n"), "{}", shown());
    // Also while no line has IPv6.
    for six in [SIX1, SIX2] {
        finish(start(&mut six.hook(&server, DOWN)));
    }
    assert_eq!(json(&server, "status --json")["links"][0]["ipv6"], Value::Null);
    told(
        &server,
        &["IPv6 rule 50: uidrange 1000-2000 lookup 77, which is foreign, takes the traffic of policy \"k\": by tun9"],
        "ip -6 rule del priority 50 uidrange 1000-2000 lookup 77",
    );
}

#[test]
fn each_kind_of_policy_is_asked_about() {
    let policies = [
        "from = 'fd01::/64'",
        "from = 'fd09::2'",
        "iif = 'lan'",
        "iif = 'lo'\nuid = '1000-2000'",
        "proto = 'udp'\nsport = 4000",
        "proto = 'icmp'",
        "proto = 'gre'",
        "dscp = 46",
        "fwmark = '0x100/0x100'",
        "to = ['198.18.0.0/15', '2001:db8:f0::/48']",
        "proto = 'tcp'\ndport = '6000-6010'",
    ];
    let mut config = lines().to_owned();
    for (n, keys) in policies.iter().enumerate() {
        config = format!("{config}[[policy]]\nname = 'p{n}'\nvia = ['isp2']\n{keys}\n");
    }
    let server = server(&config);
    ip("-6 rule add priority 50 lookup 77");
    let status = json(&server, "status --json");
    let taken = status["kernel"]["detours"][0]["policies"].as_array().unwrap();
    // That of no policy, and what the links have by its source.
    let names: Vec<_> = taken.iter().filter_map(Value::as_str).collect();
    assert_eq!(names.len(), policies.len(), "{status}");
}

#[test]
fn what_is_the_administrators_own_is_no_trouble() {
    let server = server(ARTICLE);
    for own in [
        "rule add priority 50 from fd07::/16 lookup 77",
        "rule add priority 50 to 2620:fe::9 lookup 77",
        "rule add priority 50 uidrange 0-0 lookup 77",
        "rule add priority 50 lookup 78",
        "rule add priority 50 lookup 77 suppress_prefixlength 0",
    ] {
        ip(&format!("-6 {own}"));
        well(&server, own);
        ip("-6 rule del priority 50");
    }
    for own in ["2620:fe::9", "2620::/12", "2001:4860::/32"] {
        ip(&format!("-6 route add {own} dev tun9"));
        well(&server, own);
    }
}

#[test]
fn where_no_link_has_ipv6_nothing_is_asked_about_it() {
    let server = server4(ARTICLE);
    ip("-6 route add default dev tun9 table 77");
    ip("-6 rule add priority 50 lookup 77");
    ip("-6 route add ::/1 dev tun9");
    well(&server, "nobody has IPv6 by us");
    assert!(!said(&server, "status").contains("IPv6"));
}

/// The rules of sources stand before those of policies.
#[test]
fn a_policy_says_what_the_prefix_of_its_hosts_decides() {
    let policy = "[[policy]]\nname = \"guests\"\niif = \"lan\"\nvia = [\"isp2\"]\n";
    let config = format!("{}{policy}", lines()).replacen("weight", "prefixes = [\"2001:db8:100::/48\"]\nweight", 1);
    let server = server(&config);
    assert!(said(&server, "status").contains("IPv6 of hosts that have an address of a line goes by that line"));
    // Hosts with another address than that of a line go as the policy says.
    assert!(said(&server, "status").contains("guests  by isp2\n"), "{}", said(&server, "status"));
    ip("-6 addr flush dev lan scope global");
    ip("-6 addr add 2001:db8:100:1::1/64 dev lan nodad");
    let status = said(&server, "status");
    assert!(status.contains("guests  by isp2; IPv6 by isp1: so goes what comes from its prefixes\n"), "{status}");
    assert!(status.contains("in sync"), "{status}");
    let why = said(&server, "why 2620:fe::9 --from 2001:db8:100:1::9");
    assert!(why.contains("\nBecause of  its source: isp1 has what comes from 2001:db8:100::/48\n"), "{why}");
    let check = said(&server, "check");
    assert!(check.contains("no errors, no warnings") && check.contains("before policies"), "{check}");
}

/// Such a route is main's own, which comes before kill switches.
#[test]
fn what_somebody_behind_a_line_has_advertised_as_being_there_is_told_of() {
    let server = server(ARTICLE);
    for (protocol, number, key) in [("kernel", 2, "accept_ra_pinfo"), ("ra", 9, "accept_ra_rt_info_max_plen")] {
        ip(&format!("-6 route add 2001:db8:f000::/36 dev ppp0 proto {protocol} metric 256"));
        told(
            &server,
            &["route 2001:db8:f000::/36 of table 254, which a router's advertisement on ppp0 of isp1 has made, takes"],
            &format!("ip -6 route del 2001:db8:f000::/36 table 254 metric 256 via :: dev ppp0 protocol {number}"),
        );
        ip(&format!("-6 route add 2001:db8:f000::/36 dev ppp0 proto {protocol} metric 256"));
        let [[_, mend]] = &detours(&server)[..] else { panic!() };
        assert!(mend.contains(&format!("echo 0 > /proc/sys/net/ipv6/conf/ppp0/{key}")), "{mend}");
        ip("-6 route del 2001:db8:f000::/36 dev ppp0");
    }
    // A line's own subnet, one that an address has brought along, and one of the LAN.
    ip("-6 route add 2001:db8:d::/64 dev ppp0 proto kernel metric 256");
    ip("-6 addr add 2001:db8:e::1/48 dev ppp0 nodad");
    ip("-6 route add 2001:db8:f000::/36 dev lan proto kernel metric 256");
    server.apply();
    well(&server, "an administrator's");
}
