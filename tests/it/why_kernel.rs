//! The walk through rules and routes against the kernel's own answer, for thousands of random
//! packets over random configurations. Seeded: `WHY_SEED` repeats one, or tries others.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use crate::support::random::Random;
use multihome::ctl::lookup::read::Fib;
use multihome::ctl::lookup::{Answer, End, Packet, Tables, difference, walk};
use multihome::model::names::{DeviceName, Family};
use multihome::model::routing::RouteKind;
use nix::sched::{CloneFlags, unshare};

const CONFIGURATIONS: u64 = 120;
const PACKETS: u32 = 60;
/// Devices, each with an address in a subnet of its own.
const DEVICES: [&str; 4] = ["e0", "e1", "e2", "e3"];
const TABLES: [&str; 5] = ["main", "10", "20", "30", "40"];

/// What differs between the families. There are few addresses, so that prefixes and packets meet.
struct Words {
    family: Family,
    /// Option of ip(8).
    option: &'static str,
    /// Of a device's subnet, `N` is the device's number.
    subnet: &'static str,
    targets: [&'static str; 6],
    prefixes: [&'static str; 10],
    /// Of rules.
    sources: [&'static str; 5],
    destinations: [&'static str; 4],
    /// Of packets that come in.
    foreign: [&'static str; 3],
    icmp: (&'static str, u8),
}

static IPV4: Words = Words {
    family: Family::V4,
    option: "-4",
    subnet: "10.0.N.H/24",
    targets: ["203.0.113.9", "203.0.113.200", "198.18.5.6", "198.18.77.1", "8.8.8.8", "172.16.3.4"],
    prefixes: [
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
    ],
    sources: ["all", "10.0.0.1", "10.0.1.0/24", "192.168.7.0/24", "10.0.0.0/8"],
    destinations: ["203.0.113.0/24", "198.18.0.0/15", "8.8.8.8", "0.0.0.0/1"],
    foreign: ["192.168.7.7", "10.0.1.77", "100.64.1.1"],
    icmp: ("icmp", 1),
};

static IPV6: Words = Words {
    family: Family::V6,
    option: "-6",
    subnet: "2001:db8:N::H/64",
    targets: ["2001:db8:f::9", "2001:db8:f::c8", "2001:db8:e:5::6", "2001:db8:e:77::1", "2620:fe::9", "2001:db8:2::"],
    prefixes: [
        "default",
        "2000::/4",
        "::/1",
        "2001:db8:f::/64",
        "2001:db8:f::/124",
        "2001:db8:f::9/128",
        "2001:db8:e::/48",
        "2001:db8:e:5::/64",
        "2620:fe::/32",
        "2000::/3",
    ],
    sources: ["all", "2001:db8:0::1", "2001:db8:1::/64", "fd00:7::/64", "2001:db8::/32"],
    destinations: ["2001:db8:f::/64", "2001:db8:e::/48", "2620:fe::9", "::/1"],
    foreign: ["fd00:7::7", "2001:db8:1::77", "fd00:8::1"],
    icmp: ("ipv6-icmp", 58),
};

impl Words {
    /// An address of a device's subnet, with its length.
    fn of_subnet(&self, n: usize, host: &str) -> String {
        self.subnet.replace('N', &n.to_string()).replace('H', host)
    }

    fn address(&self, n: usize, host: &str) -> String {
        self.of_subnet(n, host).split('/').next().unwrap_or_default().to_owned()
    }
}

/// `options`: of ip(8).
fn batch(options: &[&str], lines: &[String]) {
    let force = options.contains(&"-force");
    let mut command = Command::new("ip");
    command.args(options);
    if force {
        command.stderr(Stdio::null());
    }
    let mut child = command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    let status = child.wait().unwrap();
    assert!(force || status.success(), "{}", lines.join("\n"));
}

/// `is_router`: IPv6 asks a host that is none which gateways answer.
fn namespace(words: &Words, is_router: bool) {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let mut lines = vec!["link set lo up".to_owned()];
    for (n, device) in DEVICES.iter().enumerate() {
        lines.push(format!("link add {device} type veth peer name {device}f"));
        lines.push(format!("link set {device}f up"));
        lines.push(format!("link set {device} up group {}", n + 1));
        let nodad = if words.family == Family::V6 { "nodad" } else { "" };
        lines.push(format!("addr add {} dev {device} {nodad}", words.of_subnet(n, "1")));
    }
    batch(&[], &lines);
    for conf in ["all", "default", "e0", "e1", "e2", "e3", "lo"] {
        for (key, value) in [("forwarding", "1"), ("rp_filter", "0"), ("send_redirects", "0")] {
            fs::write(format!("/proc/sys/net/ipv4/conf/{conf}/{key}"), value).unwrap();
        }
        for family in ["ipv4", "ipv6"] {
            fs::write(format!("/proc/sys/net/{family}/conf/{conf}/ignore_routes_with_linkdown"), "1").unwrap();
        }
    }
    fs::write("/proc/sys/net/ipv6/conf/all/forwarding", if is_router { "1" } else { "0" }).unwrap();
}

/// Waits until the kernel has handled that a device has lost its carrier (`linkwatch_do_dev()`).
fn wait_without_carrier(device: &str) {
    while !crate::support::shown(&format!("-o link show {device}")).join("").contains("state LOWERLAYERDOWN") {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Nexthop objects as lines of ip(8): one of each device, and two groups.
fn objects(words: &Words) -> Vec<String> {
    let mut lines = Vec::new();
    for (n, device) in DEVICES.iter().enumerate() {
        for id in [n + 1, n + 11] {
            lines.push(format!("nexthop add id {id} via {} dev {device}", words.address(n, "254")));
        }
    }
    lines.push("nexthop add id 100 group 11,8/12,2".to_owned());
    lines.push("nexthop add id 101 group 13/14,3".to_owned());
    lines
}

/// Random routes and rules as lines of ip(8).
fn configuration(words: &Words, random: &mut Random) -> Vec<String> {
    let mut lines = Vec::new();
    let mut objects = vec![1, 2, 3, 4, 100, 101];
    for _ in 0..4 + random.below(10) {
        lines.push(route(words, random, &mut objects));
    }
    for _ in 0..3 + random.below(14) {
        lines.push(rule(words, random));
    }
    if random.once_in(4) {
        lines.push(format!("link set e{} down", random.below(4)));
    }
    lines
}

/// `objects`: ids of nexthop objects. In IPv6 no two routes get the same: the kernel caches a route by its object, and says
/// the other route then (`rt6_get_pcpu_route()`).
fn route(words: &Words, random: &mut Random, objects: &mut Vec<usize>) -> String {
    let next_hop = |n: usize, random: &mut Random| {
        let weight = if random.once_in(2) { format!(" weight {}", 1 + random.below(9)) } else { String::new() };
        format!("via {} dev e{n}{weight}", words.address(n, "254"))
    };
    let n = random.below(4);
    let target = match random.below(10) {
        0 => format!("dev e{n}"),
        1 | 2 if !objects.is_empty() => {
            let at = random.below(objects.len());
            format!("nhid {}", if words.family == Family::V6 { objects.remove(at) } else { objects[at] })
        }
        3 | 4 => format!("nexthop {} nexthop {}", next_hop(n, random), next_hop((n + 1) % 4, random)),
        _ => format!("via {} dev e{n}", words.address(n, "254")),
    };
    let kind = if random.once_in(7) { random.pick(&["blackhole", "unreachable", "prohibit", "throw"]) } else { "" };
    let target = if kind.is_empty() { target } else { String::new() };
    let prefix = random.pick(&words.prefixes);
    let mut only = String::new();
    if words.family == Family::V4 && random.once_in(8) {
        only.push_str("tos 0x10");
    }
    if words.family == Family::V6 && random.once_in(5) {
        only = format!("from {}", random.pick(&words.sources));
    }
    if words.family == Family::V6 && random.once_in(6) {
        only = format!("{only} pref {}", random.pick(&["low", "medium", "high"]));
    }
    let (metric, table) = (random.below(3) * 10, random.pick(&TABLES));
    format!("route append {kind} {prefix} {only} table {table} metric {metric} {target}")
}

fn rule(words: &Words, random: &mut Random) -> String {
    let priority = 10 + random.below(40) * 10;
    let mut text = "rule add".to_owned();
    let mut add = |part: String| text = format!("{text} {part}");
    if random.once_in(10) {
        add("not".to_owned());
    }
    let from = random.pick(&words.sources);
    add(format!("from {from}"));
    if random.once_in(4) {
        add(format!("to {}", random.pick(&words.destinations)));
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
        add(format!("ipproto {}", random.pick(&["tcp", "udp", words.icmp.0])));
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

fn packet(words: &Words, random: &mut Random, fib: &mut Fib) -> Packet {
    let forwarded = random.once_in(3);
    let iif = forwarded.then(|| random.pick(&DEVICES).to_string()).map(|name| {
        let index = fib.index(&name.parse().unwrap()).unwrap().unwrap();
        (index, DeviceName::new(name))
    });
    let from = match (forwarded, random.below(3)) {
        (true, n) => Some(words.foreign[n].to_owned()),
        (false, 0) => Some(words.address(random.pick(&[0, 1, 3]), "1")),
        (false, _) => None,
    };
    let to = if random.once_in(20) { words.address(0, "1") } else { random.pick(&words.targets).to_owned() };
    let proto = random.pick(&[6, 17, words.icmp.1]);
    let port = |random: &mut Random, all: &[u16]| if proto == words.icmp.1 { 0 } else { random.pick(all) };
    Packet {
        to: to.parse().unwrap(),
        from: from.map(|from| from.parse::<IpAddr>().unwrap()),
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
    compare(&IPV4);
}

#[test]
fn so_does_that_of_ipv6() {
    compare(&IPV6);
}

fn compare(words: &'static Words) {
    let seed = std::env::var("WHY_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let mut ends: BTreeMap<&str, u32> = BTreeMap::new();
    for n in 0..CONFIGURATIONS {
        let mut random = Random::new(seed * 1_000_003 + n);
        let lines = configuration(words, &mut random);
        let outcomes = std::thread::spawn(move || {
            namespace(words, random.once_in(2));
            batch(&[], &objects(words));
            // Not everything that is drawn fits together; what fits is the configuration.
            batch(&[words.option, "-force"], &lines);
            if random.once_in(8) {
                batch(&[], &["link set e1f down".to_owned(), "link set e1 up".to_owned()]);
                wait_without_carrier("e1");
            }
            let mut fib = Fib::open().unwrap();
            let rules = fib.rules(words.family).unwrap();
            let mut outcomes = Vec::new();
            for _ in 0..PACKETS {
                let packet = packet(words, &mut random, &mut fib);
                let mut tables = Tables::new();
                fib.fill(&rules, &mut tables, &packet, |(_, routes)| routes).unwrap();
                let walk = walk(&rules, &tables, &packet).unwrap();
                let answer = fib.ask(&packet).unwrap().unwrap();
                if let Some(difference) = difference(&walk.end, &answer, &rules) {
                    let found = crate::support::shown(&format!("{} rule show", words.option)).join("\n");
                    let routes = crate::support::shown(&format!("{} route show table all", words.option)).join("\n");
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
                    (End::Unknown(why), _) if why.contains("takes some next hops") => "chosen by a hash",
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
