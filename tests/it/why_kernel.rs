//! The walk through rules and routes against the kernel's own answer, for thousands of random
//! packets over random configurations. Seeded: `WHY_SEED` repeats one, or tries others.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use crate::support::random::Random;
use multihome::ctl::lookup::read::Fib;
use multihome::ctl::lookup::{Answer, End, Packet, Tables, difference, walk};
use multihome::model::routing::RouteKind;
use nix::sched::{CloneFlags, unshare};

const CONFIGURATIONS: u64 = 120;
const PACKETS: u32 = 60;
/// Devices, each with an address in a /24 of its own.
const DEVICES: [&str; 4] = ["e0", "e1", "e2", "e3"];

/// Few addresses, so that prefixes and packets meet.
const TARGETS: [&str; 6] = ["203.0.113.9", "203.0.113.200", "198.18.5.6", "198.18.77.1", "8.8.8.8", "172.16.3.4"];
const PREFIXES: [&str; 10] = [
    "default",
    "0.0.0.0/1",
    "128.0.0.0/1",
    "203.0.113.0/24",
    "203.0.113.0/28",
    "203.0.113.9/32",
    "198.18.0.0/15",
    "198.18.5.0/24",
    "8.0.0.0/8",
    "172.16.0.0/12",
];
const TABLES: [&str; 5] = ["main", "10", "20", "30", "40"];

fn batch(lines: &[String], force: bool) {
    let mut command = Command::new("ip");
    if force {
        command.arg("-force").stderr(Stdio::null());
    }
    let mut child = command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    let status = child.wait().unwrap();
    assert!(force || status.success(), "{}", lines.join("\n"));
}

fn namespace() {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let mut lines = vec!["link set lo up".to_owned()];
    for (n, device) in DEVICES.iter().enumerate() {
        lines.push(format!("link add {device} type veth peer name {device}f"));
        lines.push(format!("link set {device}f up"));
        lines.push(format!("link set {device} up group {}", n + 1));
        lines.push(format!("addr add 10.0.{n}.1/24 dev {device}"));
    }
    batch(&lines, false);
    for conf in ["all", "default", "e0", "e1", "e2", "e3", "lo"] {
        for (key, value) in [("forwarding", "1"), ("rp_filter", "0"), ("send_redirects", "0")] {
            fs::write(format!("/proc/sys/net/ipv4/conf/{conf}/{key}"), value).unwrap();
        }
    }
}

/// Random routes and rules as lines of ip(8).
fn configuration(random: &mut Random) -> Vec<String> {
    let mut lines = Vec::new();
    for (n, device) in DEVICES.iter().enumerate() {
        lines.push(format!("nexthop add id {} via 10.0.{n}.254 dev {device}", n + 1));
    }
    lines.push("nexthop add id 100 group 1,8/2,2".to_owned());
    lines.push("nexthop add id 101 group 3/4,3".to_owned());
    for _ in 0..4 + random.below(10) {
        let next_hop = |n: usize, random: &mut Random| {
            let weight = if random.once_in(2) { format!(" weight {}", 1 + random.below(9)) } else { String::new() };
            format!("via 10.0.{n}.254 dev e{n}{weight}")
        };
        let n = random.below(4);
        let target = match random.below(10) {
            0 => format!("dev e{n}"),
            1 => format!("nhid {}", 100 + random.below(2)),
            2 => format!("nhid {}", 1 + random.below(4)),
            3 | 4 => format!("nexthop {} nexthop {}", next_hop(n, random), next_hop((n + 1) % 4, random)),
            _ => format!("via 10.0.{n}.254 dev e{n}"),
        };
        let kind = if random.once_in(7) { random.pick(&["blackhole", "unreachable", "prohibit", "throw"]) } else { "" };
        let target = if kind.is_empty() { target } else { String::new() };
        let prefix = random.pick(&PREFIXES);
        let tos = if random.once_in(8) { "tos 0x10" } else { "" };
        let metric = random.below(3) * 10;
        lines.push(format!(
            "route append {kind} {prefix} {tos} table {} metric {metric} {target}",
            random.pick(&TABLES)
        ));
    }
    for _ in 0..3 + random.below(14) {
        lines.push(rule(random));
    }
    if random.once_in(4) {
        lines.push(format!("link set e{} down", random.below(4)));
    }
    lines
}

fn rule(random: &mut Random) -> String {
    let priority = 10 + random.below(40) * 10;
    let mut text = "rule add".to_owned();
    let mut add = |part: String| text = format!("{text} {part}");
    if random.once_in(10) {
        add("not".to_owned());
    }
    let from = random.pick(&["all", "10.0.0.1", "10.0.1.0/24", "192.168.7.0/24", "10.0.0.0/8"]);
    add(format!("from {from}"));
    if random.once_in(4) {
        add(format!("to {}", random.pick(&["203.0.113.0/24", "198.18.0.0/15", "8.8.8.8", "0.0.0.0/1"])));
    }
    if random.once_in(6) {
        add(format!("iif {}", random.pick(&["lo", "e0", "e1", "gone0"])));
    }
    if random.once_in(15) {
        add("oif e2".to_owned());
    }
    if random.once_in(4) {
        add(format!("fwmark {}", random.pick(&["0x1/0x1", "0x2/0x3", "0/0x1", "0x5", "0x80000/0xff0000"])));
    }
    if random.once_in(8) {
        add(format!("uidrange {}", random.pick(&["0-0", "1000-2000", "0-999"])));
    }
    if random.once_in(4) {
        add(format!("ipproto {}", random.pick(&["tcp", "udp", "icmp"])));
    }
    if random.once_in(5) {
        add(format!("dport {}", random.pick(&["25", "1-1023", "1024-65534", "80"])));
    }
    if random.once_in(12) {
        add(format!("sport {}", random.pick(&["1-1023", "40000"])));
    }
    match random.below(14) {
        0 => add("tos 0x10".to_owned()),
        1 => add(format!("dscp {}", random.pick(&["4", "46"]))),
        _ => {}
    }
    add(format!("priority {priority}"));
    match random.below(16) {
        0 => add("blackhole".to_owned()),
        1 => add("unreachable".to_owned()),
        2 => add("prohibit".to_owned()),
        3 => add("nop".to_owned()),
        4 => add(format!("goto {}", priority + 10 + random.below(10) * 10)),
        5 | 6 => add(format!("lookup {} suppress_prefixlength {}", random.pick(&TABLES), random.below(3) * 8)),
        7 => add(format!("lookup {} suppress_ifgroup {}", random.pick(&TABLES), 1 + random.below(4))),
        _ => add(format!("lookup {}", random.pick(&TABLES))),
    }
    text
}

fn packet(random: &mut Random, fib: &mut Fib) -> Packet {
    let forwarded = random.once_in(3);
    let iif = forwarded.then(|| random.pick(&DEVICES).to_string()).map(|name| {
        let index = fib.index(&name.parse().unwrap()).unwrap().unwrap();
        (index, name)
    });
    let from = match (forwarded, random.below(3)) {
        (true, n) => Some(["192.168.7.7", "10.0.1.77", "100.64.1.1"][n]),
        (false, 0) => Some(random.pick(&["10.0.0.1", "10.0.1.1", "10.0.3.1"])),
        (false, _) => None,
    };
    let to = if random.once_in(20) { "10.0.0.1" } else { random.pick(&TARGETS) };
    let proto = random.pick(&[6, 17, 1]);
    let port = |random: &mut Random, all: &[u16]| if proto == 1 { 0 } else { random.pick(all) };
    Packet {
        to: to.parse().unwrap(),
        from: from.map(|from| from.parse::<Ipv4Addr>().unwrap()),
        iif,
        proto,
        sport: port(random, &[0, 1000, 40000]),
        dport: port(random, &[0, 25, 80, 8080]),
        mark: random.pick(&[0, 0, 1, 2, 5, 0x80000]),
        uid: if forwarded { 0 } else { random.pick(&[0, 500, 1000, 65534]) },
        dscp: random.pick(&[0, 0, 0, 4, 46]),
    }
}

#[test]
fn the_walk_ends_where_the_kernels_does() {
    let seed = std::env::var("WHY_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let mut ends: BTreeMap<&str, u32> = BTreeMap::new();
    for n in 0..CONFIGURATIONS {
        let mut random = Random::new(seed * 1_000_003 + n);
        let lines = configuration(&mut random);
        let outcomes = std::thread::spawn(move || {
            namespace();
            // Not everything that is drawn fits together; what fits is the configuration.
            batch(&lines, true);
            let mut fib = Fib::open().unwrap();
            let rules = fib.rules().unwrap();
            let mut outcomes = Vec::new();
            for _ in 0..PACKETS {
                let packet = packet(&mut random, &mut fib);
                let mut tables = Tables::new();
                fib.fill(&rules, &mut tables, &packet, |(_, routes)| routes).unwrap();
                let walk = walk(&rules, &tables, &packet).unwrap();
                let answer = fib.ask(&packet).unwrap().unwrap();
                if let Some(difference) = difference(&walk.end, &answer, &rules) {
                    let found = crate::support::shown("rule show").join("\n");
                    let routes = crate::support::shown("route show table all").join("\n");
                    panic!(
                        "seed {seed}, configuration {n}: {difference}\n{packet:?}\n{:#?}\n{answer:?}\n{found}\n{routes}",
                        walk.end
                    );
                }
                outcomes.push(match (&walk.end, &answer) {
                    (End::Route(route), _) if route.kind == RouteKind::Local => "local",
                    (End::Route(route), _) if route.next_hops.len() > 1 => "multipath",
                    (End::Route(_), Answer::Way { prefix_len: Some(0), .. }) => "default",
                    (End::Route(_), _) => "route",
                    (End::Refused { .. }, _) => "refused",
                    (End::NoWay, _) => "no way",
                    (End::Unknown(_), _) => "unknown",
                });
            }
            outcomes
        });
        for outcome in outcomes.join().unwrap() {
            *ends.entry(outcome).or_default() += 1;
        }
    }
    println!("{ends:?}");
    // All kinds of ends have been met, or there would be nothing to agree about.
    for end in ["local", "multipath", "default", "route", "refused", "no way"] {
        assert!(ends.get(end).is_some_and(|n| *n > 50), "{end}: {ends:?}");
    }
    assert_eq!(ends.get("unknown"), None);
}
