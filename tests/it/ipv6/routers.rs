//! Default routes that somebody else has made by the interface of a link, and by which the link is known: at whatever
//! metric and of whatever protocol, they stay, and the link has IPv6.

use crate::support::ctl::*;
use crate::support::six::*;
use crate::support::*;

/// The default route that carries: ours, in table `default`.
fn carrying() -> String {
    // Nobody else writes there; a table that has never had a route is an error.
    let shown = ip("-6 -o route show table all");
    let shown = shown.lines().find(|line| line.contains(" table default ")).unwrap_or_default();
    shown.replace(" table default", "").replace("\\\t", " ").replace(" pref medium", "").trim_end().replace("  ", " ")
}

/// Both lines have IPv4, and the first nobody's word of IPv6. Devices stay when their lines go: nobody waits for them.
fn server() -> Server {
    let server = Server::new(&format!("{ARTICLE}\n[settings]\nsettle-timeout = \"0s\"\n"));
    for (line, six) in [(ISP1, SIX1), (ISP2, SIX2)] {
        line.create();
        six.create();
        ok(&mut server.hook(UP, line));
    }
    server
}

fn is_settled(server: &Server) {
    assert_eq!(said(server, "plan"), "# nothing to change\n");
}

const OTHERS: [(&str, &str, u32); 8] = [
    ("ra", "9", 512),
    ("static", "4", 512),
    ("dhcp", "16", 512),
    ("boot", "", 512),
    ("ra", "9", 100),
    ("boot", "", 100),
    ("boot", "", 1024),
    // The metric of a tier that no link is in.
    ("ra", "9", 513),
];

#[test]
fn a_link_is_known_by_somebody_elses_default_which_stays() {
    for (name, number, metric) in OTHERS {
        apart(move || {
            let server = server();
            let route = format!("default via fe80::1 dev ppp0 proto {name} metric {metric}");
            // ip(8) leaves out boot.
            let proto = if number.is_empty() { String::new() } else { format!("proto {number} ") };
            let shown = format!("default via fe80::1 dev ppp0 {proto}metric {metric}");
            ip(&format!("-6 route add {route}"));
            let prober = Prober::start6();
            server.apply();
            is_settled(&server);
            assert_eq!(carrying(), "default via fe80::1 dev ppp0 proto 77 metric 512", "{route}");
            assert!(defaults6().contains(&shown), "{route}: {:#?}", defaults6());
            // Another link joins it and leaves, and its own IPv4 goes and comes.
            SIX2.up(&server);
            assert!(carrying().contains("via fe80::2 dev ppp1"), "{route}: {}", carrying());
            is_settled(&server);
            finish(server.down(ISP1));
            assert_eq!(carrying(), "default via fe80::2 dev ppp1 proto 77 metric 512", "{route}");
            assert!(defaults6().contains(&shown), "{route}: {:#?}", defaults6());
            ok(&mut server.hook(UP, ISP1));
            finish(start(&mut SIX2.hook(&server, DOWN)));
            is_settled(&server);
            assert_eq!(carrying(), "default via fe80::1 dev ppp0 proto 77 metric 512", "{route}");
            assert!(defaults6().contains(&shown), "{route}: {:#?}", defaults6());
            let samples = prober.stop();
            assert!(samples.asked > 10 && samples.unreachable == 0, "{route}: {samples:?}");
            // Who made it takes it away.
            ip(&format!("-6 route del {route}"));
            server.apply();
            is_settled(&server);
            assert_eq!((carrying(), defaults6()), (String::new(), Vec::new()), "{route}");
        });
    }
}

/// As systemd-networkd adds it: the kernel makes it a next hop of ours, and tells our protocol for both.
#[test]
fn a_link_is_known_by_a_next_hop_that_has_joined_ours() {
    for protocol in ["ra", "dhcp"] {
        apart(move || {
            let server = server();
            SIX2.up(&server);
            assert_eq!(carrying(), "default via fe80::2 dev ppp1 proto 77 metric 512");
            let prober = Prober::start6();
            ip(&format!("-6 route append default via fe80::1 dev ppp0 proto {protocol} metric 512"));
            server.apply();
            assert!(carrying().contains("nexthop via fe80::1 dev ppp0 weight 8"), "{}", carrying());
            is_settled(&server);
            let number = if protocol == "ra" { 9 } else { 16 };
            assert_eq!(defaults6()[0], format!("default via fe80::1 dev ppp0 proto {number} metric 512"));
            let samples = prober.stop();
            assert!(samples.asked > 0 && samples.unreachable == 0, "{samples:?}");
            // The advertisement's lifetime ends.
            ip(&format!("-6 route del default via fe80::1 dev ppp0 proto {protocol} metric 512"));
            server.apply();
            is_settled(&server);
            assert_eq!(carrying(), "default via fe80::2 dev ppp1 proto 77 metric 512");
            assert_eq!(defaults6()[0], carrying());
        });
    }
}

/// As odhcp6c and babeld make them.
#[test]
fn a_default_from_a_prefix_is_no_default() {
    let server = server();
    for route in [
        "default from 2001:db8:1::/64 via fe80::1 dev ppp0 proto static metric 512",
        "default from 2001:db8:1::/64 via fe80::1 dev ppp0 proto 42 metric 300",
    ] {
        ip(&format!("-6 route add {route}"));
    }
    server.apply();
    assert_eq!(carrying(), "", "it says nothing of a link");
    SIX1.up(&server);
    SIX2.up(&server);
    is_settled(&server);
    let status = json(&server, "status --json");
    assert_eq!(status["kernel"]["as_wanted"], true, "{status}");
    let defaults = status["default_routes_ipv6"].as_array().unwrap();
    assert!(defaults.iter().all(|route| route["ours"] == true), "{status}");
    let expected = ["from 2001:db8:1::/64 via fe80::1 dev ppp0 proto 4 metric 512", "proto 42 metric 300"];
    for part in expected {
        assert!(defaults6().iter().any(|line| line.contains(part)), "{part}: {:#?}", defaults6());
    }
    // Of table main, for a packet of another source and for one of that source.
    ip("-6 rule add priority 50 lookup main");
    for (from, metric) in [("2001:db8:2::10", 512), ("2001:db8:1::10", 300)] {
        let why = said(&server, &format!("why 2620:fe::9 --from {from}"));
        assert!(why.contains(&format!("default metric {metric} in table main")), "{why}");
        assert!(why.contains("The kernel  says the same"), "{why}");
    }
}

/// A hook was killed before it came to the rules, and then IPv6 was switched off.
#[test]
fn routes_without_rules_go_where_no_link_may_have_ipv6_any_more() {
    let server = server();
    SIX1.up(&server);
    SIX2.up(&server);
    ip("-6 rule flush");
    ip("-6 rule add priority 32766 lookup main");
    let mut off = ARTICLE.to_owned();
    for key in ["weight    = 8", "weight    = 2", "[[tunnel]]"] {
        off = off.replace(key, &format!("{key}\nipv6 = \"off\""));
    }
    server.configure(&off);
    ip("-6 route add default via fe80::1 dev ppp0 proto ra metric 1024");
    assert!(held6().iter().any(|line| line.contains(" table 1 ") && line.contains("proto 77")), "{:#?}", held6());
    assert!(said(&server, "plan").contains("ip -6 route del table 253 default metric 512 protocol 77"));
    server.apply();
    assert!(held6().iter().all(|line| !line.contains("proto 77")), "{:#?}", held6());
    assert_eq!(carrying(), "");
    assert_eq!(defaults6(), ["default via fe80::1 dev ppp0 proto 9 metric 1024"]);
    is_settled(&server);
}
