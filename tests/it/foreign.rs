//! What others leave in the kernel: pppd's own default routes, and everything that is nobody's business of ours.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::support::*;
use multihome::kernel::netlink::nexthop::NexthopMessage;
use multihome::kernel::netlink::socket::Socket;
use netlink_packet_core::NLM_F_CREATE;

const RTM_NEWNEXTHOP: u16 = 104;
const MODES: [&str; 2] = ["objects", "multipath"];

fn in_mode(mode: &str) -> String {
    with_settings(ARTICLE, &format!("nexthops = {mode:?}"))
}

/// A device that is no link of ours.
fn other_device() {
    ip("link add eth9 type veth peer name far9");
    ip("link set far9 up");
    ip("link set eth9 up");
    ip("addr add 192.0.2.2/24 dev eth9");
}

#[test]
fn the_default_route_that_pppd_set_before_ip_up_gives_way() {
    for mode in MODES {
        apart(move || {
            let server = Server::new(&in_mode(mode));
            server.up(ISP1);
            let clean = held();
            server.lose(ISP1);
            ISP1.create();
            ip("route add default dev ppp0 scope link");
            let prober = Prober::start();
            ok(&mut server.hook(UP, ISP1));
            assert_eq!(prober.stop().unreachable, 0, "{mode}");
            assert_eq!(held(), clean, "{mode}");
        });
    }
}

/// What bears our protocol and is not what we write goes, and with it nothing else: the kernel compares only what a
/// deletion names, and one that names no device matches a route by a nexthop group (`fib_nh_match()`).
#[test]
fn a_default_route_by_our_number_goes_without_ours_whatever_its_form() {
    for mode in MODES {
        apart(move || {
            let server = Server::new(&in_mode(mode));
            other_device();
            server.up(ISP1);
            server.up(ISP2);
            let both = held();
            let prober = Prober::start();
            for route in [
                "append unreachable default proto 77",
                "prepend prohibit default proto 77 metric 5",
                "append blackhole default proto 77",
                "append default proto 77 nexthop dev ppp0 nexthop via 192.0.2.1 dev eth9",
                "append default proto 77 nexthop via 192.0.2.1 dev eth9 nexthop dev ppp0",
                "append default proto 77 nexthop via 203.0.113.1 dev ppp1 nexthop via 198.51.100.1 dev ppp0",
                "append default via inet6 fe80::1 dev eth9 proto 77",
                "append default proto 77 nexthop via inet6 fe80::1 dev ppp1 nexthop dev ppp0",
                "append default nexthop via 203.0.113.1 dev ppp1 nexthop via 198.51.100.1 dev ppp0",
            ] {
                ip(&format!("-4 route {route}"));
                assert_ne!(held(), both, "{mode}: {route}");
                ok(&mut server.hook(UP, ISP1));
                assert_eq!(held(), both, "{mode}: {route}");
            }
            assert_eq!(prober.stop().unreachable, 0, "{mode}");
        });
    }
}

#[test]
fn default_routes_that_pppd_puts_in_front_of_ours_or_behind_go_without_a_gap() {
    for mode in MODES {
        apart(move || {
            let server = Server::new(&in_mode(mode));
            server.up(ISP1);
            let only1 = held();
            server.up(ISP2);
            let both = held();
            let prober = Prober::start();
            for verb in ["prepend", "append"] {
                for target in ["dev ppp0 scope link", "via 203.0.113.1 dev ppp1", "via 198.51.100.1 dev ppp0 proto 77"]
                {
                    ip(&format!("route {verb} default {target}"));
                    assert_ne!(held(), both);
                    ok(&mut server.hook(UP, ISP1));
                    assert_eq!(held(), both, "{mode}: {verb} {target}");
                }
            }
            // Several at once, and then one more, as SIOCADDRT adds them.
            ip("route prepend default dev ppp1 scope link");
            ip("route prepend default dev ppp0 scope link");
            ip("route append default via 198.51.100.1 dev ppp0");
            server.apply();
            assert_eq!(held(), both, "{mode}");
            // `replacedefaultroute` puts the first nexthop of what it found back when its line ends.
            ip("route prepend default via 198.51.100.1 dev ppp0");
            server.lose(ISP2);
            assert_eq!(held(), only1, "{mode}");
            assert_eq!(prober.stop().unreachable, 0, "{mode}");
        });
    }
}

#[test]
fn a_default_route_that_pppd_took_away_comes_back_with_the_next_event() {
    let server = Server::new(&in_mode("multipath"));
    server.up(ISP1);
    server.up(ISP2);
    let both = held();
    // pppd up to 2.5.2 with `defaultroute`: down deletes the whole route when its device is the first nexthop.
    ip("route del default");
    ok(&mut server.hook(UP, ISP2));
    assert_eq!(held(), both);
}

#[test]
fn a_foreign_default_route_stays_and_the_error_names_it_and_the_way_out() {
    for mode in MODES {
        apart(move || {
            let server = Server::new(&in_mode(mode));
            other_device();
            ip("route add default via 192.0.2.1 dev eth9 proto dhcp");
            let foreign = "default via 192.0.2.1 dev eth9 proto 16";
            ISP1.create();
            let said = fails(1, &mut server.hook(UP, ISP1));
            assert_eq!(said.lines().count(), 1, "{said}");
            for part in ["via 192.0.2.1 dev eth9", "it stays", "make its line an [[uplink]]"] {
                assert!(said.contains(part), "{said}");
            }
            assert_eq!(defaults("main"), [foreign], "{mode}");
            // Everything else is there.
            assert_eq!(defaults("1"), ["default via 198.51.100.1 dev ppp0 table 1 proto 77"]);
            assert_eq!(held().iter().filter(|line| line.contains(" lookup ")).count(), 3 + 12);
            assert_eq!(fails(1, server.hook(UP, ISP1).option("--dry-run")), said);
            // With no line up nothing stands against anything.
            server.lose(ISP1);
            assert_eq!(defaults("main"), [foreign], "{mode}");
            // The way out that the error names: its command, as it stands there.
            let (_, command) = said.split_once("Delete it (").unwrap();
            let (command, _) = command.split_once(')').unwrap();
            ip(command.strip_prefix("ip ").unwrap());
            server.up(ISP1);
            assert_eq!(defaults("main").len(), 1);
            assert!(defaults("main")[0].contains("dev ppp0"), "{:?}", held());
        });
    }
}

#[test]
fn beside_a_foreign_default_route_another_metric_is_a_way_out() {
    let server = Server::new(&with_settings(ARTICLE, "metric = 10"));
    other_device();
    ip("route add default via 192.0.2.1 dev eth9 metric 5");
    server.up(ISP1);
    let defaults = defaults("main");
    assert_eq!(defaults.len(), 2, "{defaults:?}");
    assert!(defaults[0].ends_with("dev eth9 proto 3 metric 5") || defaults[0].ends_with("dev eth9 metric 5"));
    assert!(defaults[1].ends_with("proto 77 metric 10"), "{defaults:?}");
}

#[test]
fn what_others_have_stays_byte_for_byte_through_a_whole_life() {
    for mode in MODES {
        apart(move || {
            let server = Server::new(&in_mode(mode));
            other_device();
            for command in [
                "route add 10.0.0.0/8 via 192.0.2.1",
                "route add 0.0.0.0/1 via 192.0.2.1",
                "route add 128.0.0.0/1 via 192.0.2.1 proto 78",
                "route add default via 192.0.2.1 metric 700 proto dhcp",
                "route add default via 192.0.2.1 tos 0x10",
                "route add unreachable 203.0.113.128/25 proto 186",
                "route add default via 192.0.2.1 table 7",
                "route add default via 192.0.2.1 table 1 metric 9",
                "route add 10.1.0.0/16 via 192.0.2.1 table 2",
                "route add blackhole default table 52 proto 99",
                "nexthop add id 5 via 192.0.2.1 dev eth9 proto 186",
                "nexthop add id 7050 via 192.0.2.1 dev eth9",
                "nexthop add id 7150 group 5,3/7050,4 proto 16",
                "nexthop add id 6 blackhole",
                "route add 10.2.0.0/16 nhid 7150 proto 186",
                "rule add priority 100 fwmark 0x4/0x4 lookup 3",
                "rule add priority 5210 fwmark 0x80000/0xff0000 lookup main",
                "rule add priority 200 from 192.0.2.0/24 lookup 7 proto 78",
                "rule add priority 195 not to 192.0.2.0/24 ipproto tcp dport 25 lookup 7",
                "rule add priority 206 from 192.168.2.31 unreachable proto 16",
            ] {
                ip(command);
            }
            let before = held();
            server.up(ISP1);
            server.up(ISP2);
            VPN0.create();
            ok(&mut server.openvpn(VPN0, "up"));
            server.lose(ISP2);
            server.up(ISP2);
            server.apply();
            VPN0.unregister();
            ok(&mut server.openvpn(VPN0, "down"));
            server.lose(ISP1);
            server.lose(ISP2);
            let mut after = held();
            after.retain(|line| !line.contains(" proto 77"));
            assert_eq!(after, before, "{mode}");
        });
    }
}

#[test]
fn a_foreign_nexthop_with_an_id_of_ours_stays_and_a_multipath_route_carries() {
    let server = Server::new(ARTICLE);
    other_device();
    ip("nexthop add id 7001 via 192.0.2.1 dev eth9 proto 186");
    ISP1.create();
    let said = fails(1, &mut server.hook(UP, ISP1));
    assert!(said.contains("nexthop id 7001 belongs to protocol 186; it stays"), "{said}");
    assert_eq!(shown("nexthop"), ["id 7001 via 192.0.2.1 dev eth9 scope 253 proto 186"]);
    assert_eq!(defaults("main"), ["default via 198.51.100.1 dev ppp0 proto 77"]);
}

/// Routing daemons make groups that are larger than the parts in which the kernel gives its dumps,
/// unless it is shown more room.
#[test]
fn a_foreign_nexthop_group_of_a_thousand_members_is_no_hindrance() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    other_device();
    let shown = ip("-o link show dev eth9");
    let index = shown.split(':').next().unwrap().parse().unwrap();
    let (mut socket, members) = (Socket::open().unwrap(), 20_001..=21_000);
    let mut make = |object| socket.change(RTM_NEWNEXTHOP, NLM_F_CREATE, &object).unwrap();
    for id in members.clone() {
        make(NexthopMessage::device(id, 11, index, None, false));
    }
    make(NexthopMessage::group(30_000, 11, &members.map(|id| (id, 1)).collect::<Vec<_>>()));
    server.up(ISP2);
    assert!(defaults("main")[0].starts_with("default nhid 7100 "));
    server.lose(ISP2);
}

#[test]
fn what_others_have_taken_from_us_is_put_back() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    server.up(ISP2);
    let both = held();
    // A restart of systemd-networkd, a firewall script, a hand that slipped.
    for commands in [
        &["rule flush", "rule add priority 32766 lookup main", "rule add priority 32767 lookup default"][..],
        &["nexthop flush"],
        &["nexthop del id 7001"],
        &["nexthop replace id 7002 via 203.0.113.1 dev ppp1 onlink proto 77"],
        &["nexthop replace id 7100 group 7001,1/7002,1 proto 77"],
        &["route flush table 1", "route flush table 2"],
        &["route replace default via 198.51.100.1 dev ppp0 table 2"],
        &["route del default"],
        &["rule add priority 101 fwmark 0x1/0x1 lookup 2 proto 77"],
        &["rule add priority 4000 from 192.0.2.9 lookup 9 proto 77", "route add default dev ppp0 table 9 proto 77"],
        &["rule del priority 190", "rule add not from 192.0.2.3 priority 190 lookup main proto 77"],
        &["link set ppp1 down", "link set ppp1 up"],
    ] {
        for command in commands {
            ip(command);
        }
        assert_ne!(held(), both, "{commands:?}");
        server.apply();
        assert_eq!(held(), both, "{commands:?}");
    }
}

fn sysctl(name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/sys/net/ipv4/{name}"))
}

#[test]
fn strict_reverse_path_filters_of_links_become_loose_and_no_other() {
    let server = Server::new(ARTICLE);
    other_device();
    let filter = |device: &str| sysctl(&format!("conf/{device}/rp_filter"));
    let value = |device: &str| fs::read_to_string(filter(device)).unwrap().trim().to_owned();
    ISP1.create();
    ISP2.create();
    VPN0.create();
    for device in ["ppp0", "eth9", "tun0"] {
        fs::write(filter(device), "1").unwrap();
    }
    ok(&mut server.hook(UP, ISP1));
    // The others are not up yet; not ours is not ours.
    assert_eq!(["ppp0", "ppp1", "tun0", "eth9", "all"].map(value), ["2", "0", "1", "1", "0"]);
    ok(&mut server.openvpn(VPN0, "up"));
    assert_eq!(value("tun0"), "2");
    // What is in force is the larger of `all` and the interface's own.
    fs::write(filter("all"), "1").unwrap();
    ok(&mut server.hook(UP, ISP2));
    assert_eq!(["ppp0", "ppp1", "tun0", "eth9", "all"].map(value), ["2", "2", "2", "1", "1"]);
}

#[test]
fn the_hash_policy_is_set_where_it_is_configured_and_else_left_alone() {
    let server = Server::new(ARTICLE);
    let value = || fs::read_to_string(sysctl("fib_multipath_hash_policy")).unwrap().trim().to_owned();
    fs::write(sysctl("fib_multipath_hash_policy"), "2").unwrap();
    server.up(ISP1);
    assert_eq!(value(), "2");
    server.configure(&with_settings(ARTICLE, "hash-policy = 1"));
    server.up(ISP1);
    assert_eq!(value(), "1");
}

#[test]
fn a_repeated_event_writes_nothing_to_the_kernel() {
    for mode in MODES {
        apart(move || {
            let policies = "[[policy]]\nname = \"all sorts\"\nfrom = \"192.168.7.0/24\"\nto = [\"192.0.2.0/25\", \"10.0.0.0/8\"]\n\
                iif = \"lo\"\nproto = \"tcp\"\nsport = \"1000-2000\"\ndport = [80, \"8000-8010\"]\nuid = [33, \"1000-1999\"]\n\
                dscp = 46\nfwmark = \"0x100/0xff00\"\nvia = [\"isp2\", \"vpn\"]\notherwise = \"unreachable\"\n";
            let server = Server::new(&with_settings(&format!("{ARTICLE}{policies}"), &format!("nexthops = {mode:?}")));
            // Neighbour discovery and the like would be heard too.
            for name in ["all", "default"] {
                fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1").unwrap();
            }
            server.up(ISP1);
            ISP2.create();
            ok(&mut server.hook(UP, Line { remote: "192.0.2.254", ..ISP2 }));
            VPN0.create();
            ok(&mut server.openvpn(VPN0, "up"));

            let heard = server.state().with_file_name("heard");
            let mut monitor = std::process::Command::new("ip");
            let mut monitor =
                monitor.args(["monitor", "all"]).stdout(fs::File::create(&heard).unwrap()).spawn().unwrap();
            let lines = || fs::read_to_string(&heard).unwrap().lines().count();
            // A mark is heard as soon as the monitor listens, and its last line when it is quiet again.
            let mark = || {
                let before = lines();
                until("the monitor hears", || {
                    ip("addr add 127.9.9.9/32 dev lo");
                    ip("addr del 127.9.9.9/32 dev lo");
                    lines() > before
                });
                thread::sleep(Duration::from_millis(100));
                lines()
            };
            mark();
            let before = mark();
            ok(&mut server.hook(UP, ISP1));
            ok(&mut server.hook(UP, Line { remote: "192.0.2.254", ..ISP2 }));
            ok(&mut server.openvpn(VPN0, "up"));
            server.apply();
            thread::sleep(Duration::from_millis(100));
            let after = lines();
            let marked = mark();
            monitor.kill().unwrap();
            monitor.wait().unwrap();
            let text = fs::read_to_string(&heard).unwrap();
            assert_eq!(after, before, "{mode}: {:#?}", text.lines().skip(before).collect::<Vec<_>>());
            assert!(marked > after, "the monitor was deaf");
            let plan = ok(server.bare(CTL).arg("plan")).stdout;
            assert_eq!(String::from_utf8_lossy(&plan), "# nothing to change\n");
        });
    }
}
