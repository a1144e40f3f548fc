//! Policies by named sets: connections that really travel, what is in a set, and what fills it.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;

use crate::support::ctl::{ctl, json, refused, said};
use crate::support::internet::*;
use crate::support::*;

mod dnsmasq;
mod hostile;

/// All that no policy is about goes by isp1, as good as always.
const LINKS: &str = "[[uplink]]\nname = \"isp1\"\ninterface = \"ppp0\"\nweight = 256\nmasquerade = true\n\
                     [[uplink]]\nname = \"isp2\"\ninterface = \"ppp1\"\nmasquerade = true\n\
                     [[tunnel]]\nname = \"vpn\"\ninterface = \"tun0\"\nmasquerade = true\n";
const STREAMING: &str = "[[policy]]\nname = \"films\"\nto-set = \"streaming\"\nvia = \"isp2\"\n";
const SECRET: &str = "[[policy]]\nname = \"never in the clear\"\nto-set = \"secret\"\nvia = \"vpn\"\n\
                      otherwise = \"unreachable\"\n";

fn config(policies: &str) -> String {
    with_settings(&format!("{LINKS}{policies}"), "firewall = \"nftables\"")
}

fn scene(policies: &str) -> (Server, Internet) {
    let server = Server::new(&config(policies));
    let internet = Internet::new();
    for line in [ISP1, ISP2] {
        internet.connect(line);
        ok(&mut server.hook(UP, line));
    }
    (server, internet)
}

fn by(line: Line) -> Option<Ipv4Addr> {
    line.local.parse().ok()
}

/// By which lines a host of the Internet hears the server and the LAN, in UDP and TCP.
fn seen(host: &str, internet: &Internet) -> [Option<Ipv4Addr>; 4] {
    let to = (host, ECHO);
    let [udp, tcp] = internet.lan.run(|| [ask_udp(to), ask_tcp(to)]);
    [ask_udp(to), ask_tcp(to), udp, tcp]
}

/// Hosts that all go by isp1 while no policy is about them: what the hash makes of them does not change.
fn hosts(net: u8, internet: &Internet) -> Vec<String> {
    let mut hosts: Vec<_> = (1..40).map(|n| format!("100.64.{net}.{n}")).collect();
    hosts.retain(|host| seen(host, internet) == [by(ISP1); 4]);
    hosts
}

#[test]
fn what_is_in_a_set_takes_the_policys_link_from_the_server_and_from_the_lan() {
    let (server, internet) = scene(STREAMING);
    let hosts = hosts(7, &internet);
    let [host, other, third] = &hosts[..3] else { panic!("{hosts:?}") };
    said(&server, &format!("set add streaming {host} 100.64.80.0/24 2001:db8::/32"));
    assert_eq!(seen(host, &internet), [by(ISP2); 4]);
    assert_eq!(seen("100.64.80.9", &internet), [by(ISP2); 4]);
    assert_eq!(seen(other, &internet), [by(ISP1); 4]);

    // An event, a change of the configuration, a reload of our rules: nothing of it is lost.
    let before = json(&server, "set list --json");
    lose_and_regain(&server, &internet);
    server.configure(&config(STREAMING).replace("weight = 256", "weight = 255"));
    server.apply();
    server.configure(&config(&format!("{STREAMING}{SECRET}")));
    server.apply();
    assert_eq!(json(&server, "set list streaming --json")["sets"][0], before["sets"][0]);
    assert_eq!(seen(host, &internet), [by(ISP2); 4]);

    // A time that ends.
    said(&server, &format!("set add streaming {third} --timeout 5s"));
    assert_eq!(ask_udp((third, ECHO)), by(ISP2));
    until("it is out of the set", || ask_udp((third, ECHO)) == by(ISP1));

    said(&server, &format!("set del streaming {host}"));
    assert_eq!(seen(host, &internet), [by(ISP1); 4]);
    said(&server, "set flush streaming");
    assert_eq!(seen("100.64.80.9", &internet), [by(ISP1); 4]);

    // All of it goes, and comes back empty with the next event.
    said(&server, &format!("set add streaming {host}"));
    ok(Command::new("nft").args(["flush", "ruleset"]));
    assert!(refused(&server, "set list").1.contains("`mhctl apply` makes it"));
    ok(&mut server.hook(UP, ISP2));
    assert_eq!(said(&server, "set list"), "streaming  empty\nsecret     empty\n");
    assert_eq!(seen(host, &internet), [by(ISP1); 4]);
    said(&server, &format!("set add streaming {host}"));
    assert_eq!(seen(host, &internet), [by(ISP2); 4]);
}

fn lose_and_regain(server: &Server, internet: &Internet) {
    ISP2.hang_up();
    ISP2.unregister();
    finish(server.down(ISP2));
    internet.connect(ISP2);
    ok(&mut server.hook(UP, ISP2));
}

#[test]
fn a_connection_stays_on_its_link_when_its_host_comes_into_a_set_and_when_it_leaves() {
    let (server, internet) = scene(STREAMING);
    let hosts = hosts(8, &internet);
    let to = (hosts[0].as_str(), ECHO);
    let (mut before, _) = internet.lan.run(|| connect_tcp(to)).unwrap();
    said(&server, &format!("set add streaming {}", hosts[0]));
    let (mut during, seen) = internet.lan.run(|| connect_tcp(to)).unwrap();
    assert_eq!(Some(seen), by(ISP2));
    assert!(talks(&mut before) && talks(&mut during));
    said(&server, "set flush streaming");
    assert!(talks(&mut before) && talks(&mut during));
}

#[test]
fn a_policy_of_two_sets_and_more_selectors_is_about_what_matches_all() {
    let both = "[[policy]]\nname = \"the children's films\"\nfrom-set = \"kids\"\nto-set = \"streaming\"\n\
                proto = \"udp\"\nvia = \"isp2\"\n\
                [[policy]]\nname = \"marked\"\nto-set = \"streaming\"\nfwmark = 0x200\nproto = \"tcp\"\nvia = \"isp2\"\n";
    let (server, internet) = scene(both);
    let lan = &internet.lan;
    let from = |host: &str, to: &str| lan.run(|| ask_udp_from(&format!("{host}:0"), (to, ECHO)));
    let all = ["192.168.2.30", "192.168.2.31"];
    let mut hosts = hosts(9, &internet);
    hosts.retain(|host| all.iter().all(|from_host| from(from_host, host) == by(ISP1)));
    let [host, other] = &hosts[..2] else { panic!("{hosts:?}") };
    said(&server, "set add kids 192.168.2.31");
    said(&server, &format!("set add streaming {host}"));
    assert_eq!(from("192.168.2.31", host), by(ISP2));
    assert_eq!(from("192.168.2.30", host), by(ISP1), "of another");
    assert_eq!(from("192.168.2.31", other), by(ISP1), "to another");
    assert_eq!(lan.run(|| ask_tcp((host, ECHO))), by(ISP1), "of another protocol, and not marked");
    // Whole marks of the administrator's are compared without the bits of sets, and a bit of ours that he sets is none.
    let mark = |rule: &str| {
        let rule = format!("add rule inet own c {rule}");
        let chain = "add chain inet own c { type filter hook prerouting priority -160; }";
        let commands = format!("add table inet own\nflush table inet own\n{chain}\n{rule}\n");
        fs::write(server.config().with_file_name("own.nft"), commands).unwrap();
        ok(Command::new("nft").arg("-f").arg(server.config().with_file_name("own.nft")));
    };
    mark("iifname eth2 meta mark set 0x200");
    assert_eq!(lan.run(|| ask_tcp((host, ECHO))), by(ISP2), "marked, and in the set");
    assert_eq!(lan.run(|| ask_tcp((other, ECHO))), by(ISP1), "marked, and not in the set");
    mark("iifname eth2 meta mark set 0xc0000000");
    assert_eq!(from("192.168.2.31", other), by(ISP1), "with bits of ours, and in no set");
}

/// The server has an IPv6 of its own by isp1.
fn route_ipv6() {
    ip("-6 addr add 2001:db8:1::10/64 dev ppp0 nodad");
    ip("-6 route add default dev ppp0");
    ip("-6 neigh replace 2001:db8:5::1 lladdr 02:00:00:00:00:01 dev ppp0");
    ip("-6 neigh replace 2001:db8:5::2 lladdr 02:00:00:00:00:01 dev ppp0");
}

/// Whether packets to that address leave by ppp0.
fn leaves_in_ipv6(to: &str) -> bool {
    let sent = || -> u64 {
        let path = format!("/proc/{}/task/{}/net/dev", nix::unistd::getpid(), nix::unistd::gettid());
        let text = fs::read_to_string(path).unwrap();
        let line = text.lines().find_map(|line| line.trim().strip_prefix("ppp0:")).unwrap();
        line.split_whitespace().nth(9).unwrap().parse().unwrap()
    };
    let socket = UdpSocket::bind("[::]:0").unwrap();
    let before = sent();
    for _ in 0..50 {
        let _ = socket.send_to(b"x", (to, 9));
    }
    // A neighbour may be asked after in between.
    sent() >= before + 50
}

#[test]
fn a_kill_switch_by_a_set_refuses_in_both_families_and_lets_go_by_its_link() {
    let (server, internet) = scene(SECRET);
    said(&server, "set add secret 10.9.0.0/24 2001:db8:5::1");
    let refused = || seen("10.9.0.5", &internet) == [None; 4];
    assert!(refused());
    internet.tunnel();
    ok(&mut server.openvpn(TUN, "up"));
    assert_eq!(seen("10.9.0.5", &internet), [by(TUN); 4]);
    let (mut stream, _) = internet.lan.run(|| connect_tcp(("10.9.0.5", ECHO))).unwrap();
    for _ in 0..20 {
        assert!(talks(&mut stream), "packets of the tunnel do not inherit the mark");
    }
    ip("link del tun0");
    ok(&mut server.openvpn(TUN, "down"));
    assert!(refused(), "again");
    let status = json(&server, "status --json");
    assert_eq!(status["policies"][0]["rules_missing"], 0);
    assert_eq!(status["kernel"]["as_wanted"], true, "{status}");

    route_ipv6();
    assert!(leaves_in_ipv6("2001:db8:5::2"));
    assert!(!leaves_in_ipv6("2001:db8:5::1"));
}

#[test]
fn sets_are_shown_and_changed_and_what_is_wrong_is_said() {
    let (server, _internet) = scene(&format!("{STREAMING}{SECRET}"));
    assert_eq!(said(&server, "set add streaming 192.0.2.7 198.51.100.0/24 2001:db8::1 192.0.2.7"), "");
    assert_eq!(said(&server, "set add streaming 192.0.2.9 --timeout 1h"), "");
    let list = said(&server, "set list");
    let lines: Vec<_> = list.lines().collect();
    let [first, timed, net, v6, other] = lines[..] else { panic!("{list}") };
    assert_eq!(
        [first, net, v6, other],
        ["streaming  192.0.2.7", "           198.51.100.0/24", "           2001:db8::1", "secret     empty"]
    );
    assert!(timed.starts_with("           192.0.2.9 for ") && timed.ends_with(" of 1h"), "{timed}");
    let facts = json(&server, "set list streaming --json");
    assert_eq!(facts["sets"][0]["policies"][0], "films");
    assert_eq!(facts["sets"][0]["elements"][1]["timeout_seconds"], 3600);
    assert_eq!(facts["sets"][0]["elements"][0]["timeout_seconds"], serde_json::Value::Null);
    // nft(8) finds the same.
    let listed =
        String::from_utf8(ok(Command::new("nft").args("list set inet multihome streaming4".split(' '))).stdout);
    let listed = listed.unwrap();
    assert!(["{ 192.0.2.7,", "192.0.2.9 ", "timeout 1h "].iter().all(|part| listed.contains(part)), "{listed}");

    // Again is no error; a time begins anew, or ends.
    for args in ["192.0.2.7", "198.51.100.99", "192.0.2.9"] {
        said(&server, &format!("set add streaming {args}"));
    }
    assert!(!said(&server, "set list streaming").contains("1h"));
    let wrong = |args: &str, status: i32, expected: &str| {
        let (code, said) = refused(&server, args);
        assert!(code == Some(status) && said.contains(expected), "{args}: {code:?} {said}");
    };
    wrong("set add music 192.0.2.1", 1, "no policy has a set music: write one of streaming, secret");
    wrong("set del streaming 192.0.2.8", 1, "192.0.2.8 is not in streaming; nothing was deleted");
    wrong("set del streaming 198.51.100.7", 1, "but 198.51.100.0/24 is");
    wrong("set add streaming 192.0.2.0/24", 1, "192.0.2.0/24 overlaps 192.0.2.7, which is in streaming");
    wrong("set add streaming", 2, "required");
    wrong("set add streaming netflix.com", 2, "write an address or a network");
    wrong("set add streaming 192.0.2.1/24", 2, "it has bits behind its prefix: write 192.0.2.0/24 or 192.0.2.1");
    wrong("set add streaming ::/0", 2, "this is every address");
    wrong("set add Streaming 192.0.2.1", 2, "lowercase");
    wrong("set add streaming 192.0.2.1 --timeout 1", 2, "write a time");

    // What is printed can be pasted.
    let before = said(&server, "set list");
    let printed = said(&server, "--dry-run set add streaming 203.0.113.80 2001:db8:7::/48 --timeout 90s");
    assert_eq!(said(&server, "set list"), before);
    assert_eq!(
        printed,
        "nft -f - <<'END'\nadd element inet multihome streaming4 { 203.0.113.80 timeout 1m30s }\n\
         add element inet multihome streaming6 { 2001:db8:7::/48 timeout 1m30s }\nEND\n"
    );
    ok(Command::new("sh").args(["-c", &printed]));
    assert!(said(&server, "set list").contains("2001:db8:7::/48 for 1m"));
    // More than one message holds.
    let many: Vec<_> = (0..1500).map(|n| format!("10.0.{}.{}", n / 250, n % 250)).collect();
    said(&server, &format!("set add secret {} 240.0.0.0/4", many.join(" ")));
    let all = json(&server, "set list secret --json");
    let elements = all["sets"][0]["elements"].as_array().unwrap();
    assert_eq!((elements.len(), &elements[1500]["addresses"]), (1501, &"240.0.0.0/4".into()));
    said(&server, &format!("set del secret {} 240.0.0.0/4", many.join(" ")));
    assert!(said(&server, "set list").contains("secret     empty"));
    // A set of no policy any more stays.
    server.configure(&config(SECRET));
    server.apply();
    assert!(said(&server, "set list").contains("of no policy any more: nft delete set inet multihome streaming4"));
}

#[test]
fn why_asks_the_sets() {
    let (server, internet) = scene(&format!("{STREAMING}{SECRET}"));
    let hosts = hosts(6, &internet);
    let (host, other) = (&hosts[0], &hosts[1]);
    said(&server, &format!("set add streaming {host}"));
    let text = said(&server, &format!("why {host}"));
    for expected in [
        &format!("to {host}, mark 0x80000000:\n"),
        &format!("({host} is in set streaming)\n({host} is not in set secret)\n"),
        "Because of  policy \"films\"",
        "Leaves by   isp2 (ppp1)",
        "The kernel  says the same",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let answer = json(&server, &format!("why {host} --from {LAN_HOST} --json"));
    assert_eq!(answer["sets"][0]["membership"], "in");
    assert_eq!(answer["sets"][1]["membership"], "out");
    assert_eq!(answer["packet"]["mark"], 0x8000_0000_u32);
    assert_eq!(answer["end"]["table_name"], "isp2");
    // What somebody else marks so is not in the set.
    let text = said(&server, &format!("why {other} --mark 0x80000000"));
    assert!(text.contains(&format!("({other} is not in set streaming)")) && !text.contains("films"), "{text}");
    said(&server, &format!("set add secret {other}"));
    let (status, _) = refused(&server, &format!("why {other}"));
    let answer = ctl(&server, &format!("why {other} --json")).output().unwrap();
    assert_eq!(status, Some(0));
    assert!(String::from_utf8(answer.stdout).unwrap().contains("\"unreachable\""));
    ok(Command::new("nft").args(["flush", "ruleset"]));
    assert!(said(&server, &format!("why {host}")).contains("(set streaming is not in the kernel: mhctl apply)"));
}

#[test]
fn where_our_table_is_refused_it_is_said_and_a_kill_switch_refuses_what_else_it_selects() {
    let narrow = "[[policy]]\nname = \"this host's\"\nfrom = \"192.168.2.30\"\nto-set = \"secret\"\nvia = \"vpn\"\n\
                  otherwise = \"unreachable\"\n";
    let policies = format!("{LINKS}{STREAMING}{narrow}");
    let server = Server::new(&with_settings(&policies, "firewall = \"auto\""));
    let internet = Internet::new();
    internet.connect(ISP1);
    // A chain that we cannot take away, since it is in use.
    let foreign = "add table inet multihome; add chain inet multihome theirs; \
                   add map inet multihome m { type ipv4_addr : verdict; }; \
                   add element inet multihome m { 192.0.2.1 : goto theirs }";
    ok(Command::new("nft").arg(foreign));
    let told = "policies \"films\", \"this host's\" do not hold: a set needs nftables, and the kernel has refused multihome's table";
    let said = fails(1, &mut server.hook(UP, ISP1));
    assert!(said.contains(told), "{said}");
    let status = json(&server, "status --json");
    assert!(status["kernel"]["problems"][0].as_str().unwrap().starts_with(told), "{status}");
    let found = ctl(&server, "doctor --json").output().unwrap();
    assert!(String::from_utf8(found.stdout).unwrap().contains("do not hold: a set needs nftables"));
    assert_eq!(refused(&server, "set add secret 192.0.2.1").0, Some(1));
    // What it is for cannot be told from the rest of that host's.
    let from = |host: &str| internet.lan.run(|| ask_udp_from(&format!("{host}:0"), ("100.64.7.7", ECHO)));
    assert_eq!((from("192.168.2.30"), from("192.168.2.31")), (None, by(ISP1)));
    // Again, at each event; and it holds when the table is ours.
    assert!(fails(1, &mut server.hook(UP, ISP1)).contains(told));
    server.configure(&with_settings(&policies, "firewall = \"nftables\""));
    server.apply();
    assert_eq!((from("192.168.2.30"), from("192.168.2.31")), (by(ISP1), by(ISP1)));
    self::said(&server, "set add secret 100.64.7.7");
    assert_eq!((from("192.168.2.30"), from("192.168.2.31")), (None, by(ISP1)));
}
