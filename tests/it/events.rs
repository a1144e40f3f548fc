//! What events do to the kernel, step by step.

use crate::support::*;

/// Rules that are there whatever is up, and the kernel's own; `uplinks` are those of the uplinks' addresses.
fn rules(uplinks: &[&str]) -> Vec<String> {
    let before = [
        "0:\tfrom all lookup 255",
        "100:\tfrom all fwmark 0x4/0x4 lookup 3 proto 77",
        "101:\tfrom all fwmark 0x1/0x1 lookup 1 proto 77",
        "102:\tfrom all fwmark 0x2/0x2 lookup 2 proto 77",
        "190:\tfrom all lookup 254 suppress_prefixlength 0 proto 77",
    ];
    let after = [
        "200:\tfrom all ipproto 6 dport 25 lookup 1 proto 77",
        "201:\tfrom all ipproto 6 dport 465 lookup 1 proto 77",
        "202:\tfrom all ipproto 6 dport 587 lookup 1 proto 77",
        "203:\tfrom all to 203.0.113.99 ipproto 17 dport 1130 lookup 1 proto 77",
        "204:\tfrom all to 203.0.113.99 ipproto 17 dport 1130 lookup 2 proto 77",
        "205:\tfrom all to 203.0.113.80 lookup 2 proto 77",
        "206:\tfrom 192.168.2.30 lookup 1 proto 77",
        "32766:\tfrom all lookup 254",
        "32767:\tfrom all lookup 253",
    ];
    [&before[..], uplinks, &after].concat().into_iter().map(str::to_owned).collect()
}

const RULE1: &str = "191:\tfrom 198.51.100.10 lookup 1 proto 77";
const RULE2: &str = "192:\tfrom 203.0.113.10 lookup 2 proto 77";
const TABLE1: &str = "default via 198.51.100.1 dev ppp0 table 1 proto 77";
const TABLE2: &str = "default via 203.0.113.1 dev ppp1 table 2 proto 77";
const TABLE3: &str = "default via 10.8.0.5 dev tun0 table 3 proto 77";
const SPARE1: &str = "default via 198.51.100.1 dev ppp0 proto 77 metric 4000000";
const SPARE2: &str = "default via 203.0.113.1 dev ppp1 proto 77 metric 4000001";
const NEXTHOP1: &str = "id 7001 via 198.51.100.1 dev ppp0 scope 253 proto 77";
const NEXTHOP2: &str = "id 7002 via 203.0.113.1 dev ppp1 scope 253 proto 77";
// Routes of the kernel that come with an address.
const PEER1: &str = "198.51.100.1 dev ppp0 proto 2 scope 253 src 198.51.100.10";
const PEER2: &str = "203.0.113.1 dev ppp1 proto 2 scope 253 src 203.0.113.10";
const PEER3: &str = "10.8.0.5 dev tun0 proto 2 scope 253 src 10.8.0.6";
const ONLY1: &str = "default nhid 7100 via 198.51.100.1 dev ppp0 proto 77";
const BOTH: &str =
    "default nhid 7100 proto 77 nexthop via 198.51.100.1 dev ppp0 weight 8 nexthop via 203.0.113.1 dev ppp1 weight 2";

/// The kernel holds just this, in whatever order of tables.
#[track_caller]
fn assert_held(uplinks: &[&str], rest: &[&str]) {
    let mut wanted = rules(uplinks);
    wanted.extend(rest.iter().map(|line| (*line).to_owned()));
    let mut found = held();
    wanted.sort();
    found.sort();
    assert_eq!(found, wanted);
}

#[test]
fn the_articles_listing_comes_out_of_the_articles_file_step_by_step() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    let group1 = "id 7100 group 7001,8 proto 77";
    assert_held(&[RULE1], &[NEXTHOP1, group1, TABLE1, SPARE1, ONLY1, PEER1]);

    let prober = Prober::start();
    server.up(ISP2);
    let group = "id 7100 group 7001,8/7002,2 proto 77";
    assert_held(&[RULE1, RULE2], &[NEXTHOP1, NEXTHOP2, group, TABLE1, TABLE2, SPARE1, SPARE2, BOTH, PEER1, PEER2]);

    VPN0.create();
    ok(&mut server.openvpn(VPN0, "up"));
    assert_held(
        &[RULE1, RULE2],
        &[NEXTHOP1, NEXTHOP2, group, TABLE1, TABLE2, TABLE3, SPARE1, SPARE2, BOTH, PEER1, PEER2, PEER3],
    );

    server.lose(ISP2);
    assert_held(&[RULE1], &[NEXTHOP1, group1, TABLE1, TABLE3, SPARE1, ONLY1, PEER1, PEER3]);

    server.up(ISP2);
    assert_held(
        &[RULE1, RULE2],
        &[NEXTHOP1, NEXTHOP2, group, TABLE1, TABLE2, TABLE3, SPARE1, SPARE2, BOTH, PEER1, PEER2, PEER3],
    );
    let seen = prober.stop();
    assert!(seen.asked > 1000, "{seen:?}");
    assert_eq!(seen.unreachable, 0, "{seen:?}");

    VPN0.unregister();
    ok(&mut server.openvpn(VPN0, "down"));
    server.lose(ISP1);
    let group2 = "id 7100 group 7002,2 proto 77";
    assert_held(
        &[RULE2],
        &[NEXTHOP2, group2, TABLE2, SPARE2, "default nhid 7100 via 203.0.113.1 dev ppp1 proto 77", PEER2],
    );
    // No default is left, and nothing of any link; the rules stay.
    server.lose(ISP2);
    assert_held(&[], &[]);
}

#[test]
fn a_multipath_route_carries_where_nexthop_objects_are_not_wanted() {
    let server = Server::new(&with_settings(ARTICLE, "nexthops = \"multipath\""));
    server.up(ISP1);
    let only1 = "default via 198.51.100.1 dev ppp0 proto 77";
    assert_held(&[RULE1], &[TABLE1, SPARE1, only1, PEER1]);
    server.up(ISP2);
    let both = "default proto 77 nexthop via 198.51.100.1 dev ppp0 weight 8 nexthop via 203.0.113.1 dev ppp1 weight 2";
    assert_held(&[RULE1, RULE2], &[TABLE1, TABLE2, SPARE1, SPARE2, both, PEER1, PEER2]);
    server.lose(ISP2);
    assert_held(&[RULE1], &[TABLE1, SPARE1, only1, PEER1]);
    server.lose(ISP1);
    assert_held(&[], &[]);
}

#[test]
fn the_mode_changes_on_a_live_server_without_a_gap() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    server.up(ISP2);
    let objects = held();
    let prober = Prober::start();
    for _ in 0..3 {
        server.configure(&with_settings(ARTICLE, "nexthops = \"multipath\""));
        server.apply();
        assert!(shown("nexthop").is_empty(), "{:?}", held());
        assert!(defaults("main")[0].starts_with("default proto 77 nexthop "), "{:?}", held());
        for mode in ["objects", "auto"] {
            server.configure(&with_settings(ARTICLE, &format!("nexthops = \"{mode}\"")));
            server.apply();
            assert_eq!(held(), objects, "{mode}");
        }
    }
    assert_eq!(prober.stop().unreachable, 0);
}

#[test]
fn numbers_move_on_a_live_server_without_a_gap() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    server.up(ISP2);
    let before = held();
    let prober = Prober::start();
    // 7100 is a group before and a nexthop object after: the kernel does not turn one into the other.
    for settings in ["nexthop-id = 7099", "metric = 50", "rule-priority = 1000", "nexthop-id = 9000\nmetric = 3"] {
        server.configure(&with_settings(ARTICLE, settings));
        server.apply();
        assert_eq!(defaults("main").len(), 1, "{settings}: {:?}", held());
        assert_ne!(held(), before, "{settings}");
    }
    server.configure(ARTICLE);
    server.apply();
    assert_eq!(prober.stop().unreachable, 0);
    assert_eq!(held(), before);
}

#[test]
fn the_last_line_goes_and_both_come_back() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    server.up(ISP2);
    let both = held();
    ISP1.hang_up();
    ISP2.hang_up();
    let downs = [server.down(ISP1), server.down(ISP2)];
    ISP1.unregister();
    ISP2.unregister();
    downs.into_iter().for_each(finish);
    assert_held(&[], &[]);
    server.up(ISP2);
    server.up(ISP1);
    assert_eq!(held(), both);
}

#[test]
fn two_lines_with_the_same_gateway_are_two_lines() {
    let twin = Line { remote: ISP1.remote, ..ISP2 };
    for mode in ["objects", "multipath"] {
        let both = format!("proto 77 nexthop via {0} dev ppp0 weight 8 nexthop via {0} dev ppp1 weight 2", ISP1.remote);
        apart(move || {
            let server = Server::new(&with_settings(ARTICLE, &format!("nexthops = {mode:?}")));
            server.up(ISP1);
            server.up(twin);
            assert!(defaults("main")[0].ends_with(&both), "{:?}", held());
            assert_eq!(defaults("1"), [TABLE1]);
            assert_eq!(defaults("2"), ["default via 198.51.100.1 dev ppp1 table 2 proto 77"]);
            server.lose(ISP1);
            assert!(defaults("main")[0].contains("via 198.51.100.1 dev ppp1 proto 77"), "{:?}", held());
            assert_eq!(defaults("1"), [""; 0]);
        });
    }
}

#[test]
fn a_backup_line_takes_over_and_gives_back() {
    let tiers = "[[uplink]]\nname = \"isp1\"\ninterface = \"ppp0\"\n[[uplink]]\nname = \"isp2\"\ninterface = \"ppp1\"\ntier = 2\n";
    for mode in ["objects", "multipath"] {
        apart(move || {
            let server = Server::new(&with_settings(tiers, &format!("nexthops = {mode:?}")));
            let mut probe = multihome::ctl::probe::Probe::open().unwrap();
            let mut way = || {
                let index = probe.device_towards(std::net::Ipv4Addr::new(192, 0, 2, 1)).unwrap();
                shown("-o link").into_iter().find(|line| line.starts_with(&format!("{}:", index.unwrap())))
            };
            server.up(ISP2);
            server.up(ISP1);
            let both = held();
            let metrics: Vec<_> = defaults("main").iter().map(|line| line.contains(" metric 1")).collect();
            assert_eq!(metrics, [false, true], "{both:?}");
            assert!(way().unwrap().contains("ppp0"));
            let prober = Prober::start();
            server.lose(ISP1);
            assert!(way().unwrap().contains("ppp1"));
            assert_eq!(defaults("main").len(), 1, "{:?}", held());
            server.up(ISP1);
            assert!(way().unwrap().contains("ppp0"));
            assert_eq!(prober.stop().unreachable, 0, "{mode}");
            assert_eq!(held(), both);
        });
    }
}

#[test]
fn a_gateway_outside_of_every_subnet_and_none_at_all_are_taken() {
    let server = Server::new(ARTICLE);
    ISP1.create();
    ok(&mut server.hook(UP, Line { remote: "192.0.2.254", ..ISP1 }));
    assert_eq!(defaults("main"), ["default nhid 7100 via 192.0.2.254 dev ppp0 proto 77 onlink"]);
    ISP2.create();
    // As a device of pppd is, and no veth.
    ip("link set ppp1 arp off");
    ok(&mut server.hook(UP, Line { remote: "0.0.0.0", ..ISP2 }));
    assert_eq!(defaults("2"), ["default dev ppp1 table 2 proto 77 scope 253"]);
}

#[test]
fn a_static_ethernet_line_needs_no_event() {
    let server = Server::new(
        "[[uplink]]\nname = \"cable\"\ninterface = \"eth1\"\ngateway = \"192.0.2.1\"\n[[uplink]]\nname = \"isp1\"\ninterface = \"ppp0\"\n",
    );
    ip("link add eth1 type veth peer name far1");
    ip("link set far1 up");
    ip("link set eth1 up");
    ip("addr add 192.0.2.77/24 dev eth1");
    server.apply();
    assert_eq!(defaults("main"), ["default nhid 7100 via 192.0.2.1 dev eth1 proto 77"]);
    assert!(held().contains(&"191:\tfrom 192.0.2.77 lookup 1 proto 77".to_owned()));
    server.up(ISP1);
    assert!(defaults("main")[0].contains("dev ppp0 weight 1"), "{:?}", held());
    ip("link set eth1 down");
    assert_eq!(defaults("main"), ["default nhid 7100 via 198.51.100.1 dev ppp0 proto 77"]);
    ip("link set eth1 up");
    server.apply();
    assert!(defaults("main")[0].contains("dev eth1 weight 1"), "{:?}", held());
}

#[test]
fn a_packets_dscp_chooses_its_way() {
    let policy = "[[policy]]\nname = \"voice\"\ndscp = 10\nvia = [\"isp2\"]\n";
    let server = Server::new(&format!("{ARTICLE}{policy}"));
    server.up(ISP1);
    server.up(ISP2);
    // 10 << 2; 8 would be the same to the three bits that `tos` compares.
    for to in 1..20 {
        let voice = ip(&format!("route get 192.0.2.{to} tos 0x28"));
        assert!(voice.contains("dev ppp1"), "{voice}");
    }
    let others = (1..60).map(|to| ip(&format!("route get 192.0.2.{to} tos 0x20")));
    assert!(others.into_iter().any(|way| way.contains("dev ppp0")));
}

#[test]
fn a_policy_for_an_interface_that_is_not_there_yet_waits_for_it() {
    let server = Server::new(&format!("{ARTICLE}\n[[policy]]\nname = \"guests\"\niif = \"lan\"\nvia = \"isp2\"\n"));
    server.up(ISP1);
    let rules = || shown("rule show").into_iter().filter(|rule| rule.contains("iif lan")).collect::<Vec<_>>();
    assert_eq!(rules(), ["207:\tfrom all iif lan [detached] lookup 2 proto 77"]);
    ip("link add lan type veth peer name lan-far");
    assert_eq!(rules(), ["207:\tfrom all iif lan lookup 2 proto 77"]);
    let plan = ok(server.bare(CTL).arg("plan"));
    assert_eq!(String::from_utf8_lossy(&plan.stdout), "# nothing to change\n");
}
