//! What the kernel holds for a server whose lines have both families, or one.

use crate::support::six::*;
use crate::support::*;

const CONFIG: &str = r#"
[[uplink]]
name = "isp1"
interface = "ppp0"
weight = 8
prefixes = ["2001:db8:100::/48"]

[[uplink]]
name = "isp2"
interface = "ppp1"
weight = 2

[[tunnel]]
name = "vpn"
interface = "tun0"

[[policy]]
name = "mail"
proto = "tcp"
dport = 25
via = ["isp1"]

[[policy]]
name = "ping"
proto = "icmp"
via = ["isp2"]

[[policy]]
name = "mixed"
to = ["203.0.113.80", "2001:db8:ff::/48", "2001:db8:fe::1"]
via = ["isp2", "vpn"]
otherwise = "unreachable"

[[policy]]
name = "four only"
to = "203.0.113.81"
via = ["isp1"]
"#;

#[test]
fn both_families_have_the_same_numbers() {
    let server = Server::new(CONFIG);
    server.up(ISP1);
    server.up(ISP2);
    SIX1.up(&server);
    SIX2.up(&server);
    let expected = [
        "0:\tfrom all lookup 255",
        "100:\tfrom all fwmark 0x4/0x4 lookup 3 proto 77",
        "101:\tfrom all fwmark 0x1/0x1 lookup 1 proto 77",
        "102:\tfrom all fwmark 0x2/0x2 lookup 2 proto 77",
        "186:\tfrom all lookup 254 suppress_prefixlength 0 proto 77",
        "189:\tfrom all to 2001:db8:fe::1 goto 200 proto 77",
        "189:\tfrom all to 2001:db8:ff::/48 goto 200 proto 77",
        "190:\tfrom all lookup 254 suppress_prefixlength 0 proto 77",
        "191:\tfrom 2001:db8:1::/64 lookup 1 proto 77",
        "191:\tfrom 2001:db8:100::/48 lookup 1 proto 77",
        "192:\tfrom 2001:db8:2::/64 lookup 2 proto 77",
        "200:\tfrom all ipproto 6 dport 25 lookup 1 proto 77",
        "201:\tfrom all ipproto 58 lookup 2 proto 77",
        "202:\tfrom all to 2001:db8:ff::/48 lookup 2 proto 77",
        "203:\tfrom all to 2001:db8:ff::/48 lookup 3 proto 77",
        "204:\tfrom all to 2001:db8:ff::/48 unreachable proto 77",
        "205:\tfrom all to 2001:db8:fe::1 lookup 2 proto 77",
        "206:\tfrom all to 2001:db8:fe::1 lookup 3 proto 77",
        "207:\tfrom all to 2001:db8:fe::1 unreachable proto 77",
        "32765:\tfrom all lookup 253 proto 77",
        "32766:\tfrom all lookup 254",
        "default via fe80::1 dev ppp0 table 1 proto 77 metric 1024",
        "default via fe80::2 dev ppp1 table 2 proto 77 metric 1024",
        "default table 253 proto 77 metric 512 nexthop via fe80::1 dev ppp0 weight 8 nexthop via fe80::2 dev ppp1 weight 2",
        "default proto 77 metric 512 nexthop via fe80::1 dev ppp0 weight 8 nexthop via fe80::2 dev ppp1 weight 2",
        "default via fe80::1 dev ppp0 proto 77 metric 4000000",
        "default via fe80::2 dev ppp1 proto 77 metric 4000001",
    ];
    assert_eq!(held6(), expected, "{:#?}", held6());
    // IPv4 has what it had without IPv6.
    let with = held();
    let without = apart(|| {
        let server = Server::new(CONFIG);
        server.up(ISP1);
        server.up(ISP2);
        held()
    });
    assert_eq!(with, without);
}

#[test]
fn a_server_without_ipv6_lines_has_rules_that_refuse_only() {
    let server = Server::new(CONFIG);
    server.up(ISP1);
    let expected = [
        "0:\tfrom all lookup 255",
        "190:\tfrom all lookup 254 suppress_prefixlength 0 proto 77",
        "204:\tfrom all to 2001:db8:ff::/48 unreachable proto 77",
        "207:\tfrom all to 2001:db8:fe::1 unreachable proto 77",
        "32766:\tfrom all lookup 254",
    ];
    assert_eq!(held6(), expected);
}

#[test]
fn off_is_off() {
    let server = Server::new(&CONFIG.replace("weight = 2", "weight = 2\nipv6 = \"off\""));
    server.up(ISP1);
    server.up(ISP2);
    SIX1.up(&server);
    SIX2.up(&server);
    assert_eq!(
        defaults6(),
        ["default via fe80::1 dev ppp0 proto 77 metric 512", "default via fe80::1 dev ppp0 proto 77 metric 4000000"]
    );
}

#[test]
fn tiers_stand_behind_one_another_and_before_what_routers_advertise() {
    let server = Server::new(&CONFIG.replace("weight = 2", "weight = 2\ntier = 3"));
    ISP1.create();
    SIX1.create();
    ip("-6 route add default via fe80::1 dev ppp0 proto ra metric 1024");
    SIX1.up(&server);
    ISP2.create();
    SIX2.up(&server);
    let expected = [
        "default via fe80::1 dev ppp0 proto 77 metric 512",
        "default via fe80::2 dev ppp1 proto 77 metric 514",
        "default via fe80::1 dev ppp0 proto 9 metric 1024",
        "default via fe80::1 dev ppp0 proto 77 metric 4000000",
        "default via fe80::2 dev ppp1 proto 77 metric 4000001",
    ];
    assert_eq!(defaults6(), expected);
}

#[test]
fn a_weight_and_a_default_without_a_gateway_change_next_hop_by_next_hop() {
    let server = Server::new(CONFIG);
    for (line, six) in [(ISP1, SIX1), (ISP2, SIX2)] {
        server.up(line);
        six.up(&server);
    }
    let both = held6();
    // Of ours, and without a gateway: a deletion that says none would take all of that metric.
    ip("-6 route append default dev ppp0 proto 77 metric 512");
    server.configure(&CONFIG.replace("weight = 8", "weight = 5"));
    server.apply();
    // The changed one is the last now.
    let before = "nexthop via fe80::1 dev ppp0 weight 8 nexthop via fe80::2 dev ppp1 weight 2";
    let after = "nexthop via fe80::2 dev ppp1 weight 2 nexthop via fe80::1 dev ppp0 weight 5";
    assert_eq!(held6(), both.iter().map(|line| line.replace(before, after)).collect::<Vec<_>>());
}

#[test]
fn a_flush_takes_all_of_ours_in_both_families() {
    let server = Server::new(CONFIG);
    for (line, six) in [(ISP1, SIX1), (ISP2, SIX2)] {
        server.up(line);
        six.up(&server);
    }
    ip("-6 route add default via fe80::9 dev ppp0 proto ra metric 1024");
    ok(server.bare(CTL).arg("flush"));
    let is_ours = |line: &String| line.contains("proto 77");
    assert!(!held6().iter().any(is_ours), "{:?}", held6());
    assert!(!held().iter().any(is_ours), "{:?}", held());
    assert_eq!(defaults6(), ["default via fe80::9 dev ppp0 proto 9 metric 1024"]);
}
