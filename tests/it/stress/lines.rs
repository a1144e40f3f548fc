//! The lines of the server, what is true of them, and what the kernel should hold for that: a reading of the design of
//! its own, in the words of ip(8).

use std::fmt::Write;
use std::path::Path;

use crate::support::random::Random;
use crate::support::{Line, ip};

/// The links in the order of the configuration.
pub const LINKS: [&str; 4] = ["dsl", "cable", "lte", "vpn"];
const WEIGHTS: [u32; 3] = [8, 2, 1];
const TIERS: [u32; 3] = [1, 1, 2];

/// The configuration.
pub fn config(mode: &str) -> String {
    let mut text = String::new();
    for (n, link) in LINKS.iter().enumerate() {
        let kind = if is_tunnel(n) { "tunnel" } else { "uplink" };
        // Uplinks are known by pppd's ipparam, and their interfaces change; OpenVPN has no such thing.
        let interface = if is_tunnel(n) { "tun0".to_owned() } else { format!("ppp9{n}") };
        write!(text, "[[{kind}]]\nname = {link:?}\ninterface = {interface:?}\n").unwrap();
        if !is_tunnel(n) {
            write!(text, "weight = {}\ntier = {}\n", WEIGHTS[n], TIERS[n]).unwrap();
        }
    }
    text += "[[policy]]\nname = \"mail\"\nproto = \"tcp\"\ndport = 25\nvia = [\"cable\", \"dsl\"]\n\
             [[policy]]\nname = \"never in the clear\"\nfrom = \"192.168.2.30\"\nvia = \"vpn\"\notherwise = \"unreachable\"\n";
    let filter = if mode == "objects" { "nftables" } else { "iptables" };
    text + &format!("[settings]\nnexthops = {mode:?}\nfirewall = {filter:?}\nsettle-timeout = \"50ms\"\n")
}

/// Whether the link is a tunnel.
pub fn is_tunnel(link: usize) -> bool {
    LINKS[link] == "vpn"
}

/// Device group of the link's interface.
pub fn group(link: usize) -> usize {
    7000 + link
}

/// One time that a line was up.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    pub device: String,
    pub local: String,
    pub remote: String,
    pub pid: u32,
}

impl Session {
    /// As the hooks' callers know it.
    pub fn line(&self, link: usize) -> Line {
        let keep = |text: &str| -> &'static str { text.to_owned().leak() };
        let (device, local, remote) = (keep(&self.device), keep(&self.local), keep(&self.remote));
        Line { device, local, remote, link: LINKS[link], pid: self.pid }
    }
}

/// What is true.
pub struct Lines {
    /// The session of each link that is up.
    pub up: [Option<Session>; 4],
    /// The one before.
    pub last: [Option<Session>; 4],
    sessions: u32,
}

impl Lines {
    pub fn new() -> Self {
        Self { up: [const { None }; 4], last: [const { None }; 4], sessions: 0 }
    }

    /// The line is dialled: a device of any free name, other addresses, another process. It is up.
    pub fn dial(&mut self, link: usize, random: &mut Random) -> Session {
        let free = |name: &String| !Path::new(&format!("/proc/sys/net/ipv4/conf/{name}")).exists();
        let mut names: Vec<_> = (0..8).map(|n| format!("ppp{n}")).filter(free).collect();
        let device = if is_tunnel(link) { "tun0".to_owned() } else { names.swap_remove(random.below(names.len())) };
        self.sessions += 1;
        let net = format!("198.18.{}", 16 * link + random.below(3));
        let local = format!("{net}.{}", 10 + random.below(3));
        let session =
            Session { device, local, remote: format!("{net}.{}", 1 + random.below(3)), pid: 10_000 + self.sessions };
        session.line(link).create();
        self.up[link] = Some(session.clone());
        session
    }

    /// The line has another address by now, on the same device.
    pub fn renumber(&mut self, link: usize) -> Session {
        let session = self.up[link].as_mut().unwrap();
        ip(&format!("addr flush dev {}", session.device));
        session.local = format!("198.18.{}.{}", 16 * link + 5, 10 + session.pid % 5);
        session.remote = format!("198.18.{}.1", 16 * link + 5);
        session.line(link).create();
        session.clone()
    }

    /// The line is lost; its device stays until it is told to go.
    pub fn lose(&mut self, link: usize) -> Session {
        let session = self.up[link].take().unwrap();
        self.last[link] = Some(session.clone());
        session
    }
}

/// What `ours()` should show, normalised.
pub fn wanted(mode: &str, lines: &Lines) -> Vec<String> {
    let mut all: Vec<String> = [
        "100:\tfrom all fwmark 0x8/0x8 lookup 4",
        "101:\tfrom all fwmark 0x1/0x1 lookup 1",
        "102:\tfrom all fwmark 0x2/0x2 lookup 2",
        "103:\tfrom all fwmark 0x4/0x4 lookup 3",
        "190:\tfrom all lookup 254 suppress_prefixlength 0",
        "200:\tfrom all ipproto 6 dport 25 lookup 2",
        "201:\tfrom all ipproto 6 dport 25 lookup 1",
        "202:\tfrom 192.168.2.30 lookup 4",
        "203:\tfrom 192.168.2.30 7",
    ]
    .map(|rule| format!("{rule} proto 77"))
    .to_vec();
    for (n, session) in lines.up.iter().enumerate() {
        let Some(Session { device, local, remote, .. }) = session else { continue };
        let table = n + 1;
        all.push(format!("default via {remote} dev {device} table {table} proto 77"));
        if is_tunnel(n) {
            continue;
        }
        // The tiers are in the order of the links.
        all.push(format!("default via {remote} dev {device} proto 77 metric {}", 4_000_000 + n));
        all.push(format!("{}:\tfrom {local} lookup {table} proto 77", 191 + n));
        if mode == "objects" {
            all.push(format!("id {} via {remote} dev {device} scope 253 proto 77", 7001 + n));
        }
    }
    for tier in 1..=2 {
        let up = |n: &usize| TIERS[*n] == tier && lines.up[*n].is_some();
        let members: Vec<_> = (0..TIERS.len()).filter(up).collect();
        if members.is_empty() {
            continue;
        }
        let group = 7099 + tier;
        let share = |n: &usize| if WEIGHTS[*n] == 1 { String::new() } else { format!(",{}", WEIGHTS[*n]) };
        let ids: Vec<_> = members.iter().map(|n| format!("{}{}", 7001 + n, share(n))).collect();
        let next_hop = |n: &usize| lines.up[*n].as_ref().map(|s| format!("via {} dev {}", s.remote, s.device)).unwrap();
        let next_hops: Vec<_> =
            members.iter().map(|n| format!("nexthop {} weight {}", next_hop(n), WEIGHTS[*n])).collect();
        let nhid = if mode == "objects" { format!("nhid {group} ") } else { String::new() };
        let metric = if tier == 1 { String::new() } else { format!(" metric {}", tier - 1) };
        if mode == "objects" {
            all.push(format!("id {group} group {} proto 77", ids.join("/")));
        }
        match &members[..] {
            [only] => all.push(format!("default {nhid}{} proto 77{metric}", next_hop(only))),
            _ => all.push(format!("default {nhid}proto 77{metric} {}", next_hops.join(" "))),
        }
    }
    normalised(all)
}

/// Sorted, and so the next hops of a route.
pub fn normalised(lines: Vec<String>) -> Vec<String> {
    let sorted = |line: String| {
        let mut parts: Vec<_> = line.split(" nexthop ").map(str::to_owned).collect();
        parts[1..].sort();
        parts.join(" nexthop ")
    };
    let mut lines: Vec<_> = lines.into_iter().map(sorted).collect();
    lines.sort();
    lines
}
