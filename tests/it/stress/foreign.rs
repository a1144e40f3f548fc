//! Other programs: they have rules, routes, nexthops and packet filters of their own, which come and go meanwhile and of
//! which nothing may be lost, and they take away what is ours.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::process::{Child, Command, Stdio};

use crate::support::filter::of_iptables;
use crate::support::random::Random;
use crate::support::{Server, held, ip};

/// What others have: each object as it is added and deleted, and as it is then shown.
pub struct Foreign {
    /// Lines of `held()` at the beginning, without those that come with addresses.
    base: BTreeSet<String>,
    /// Objects that are there, by number.
    there: BTreeSet<usize>,
    flood: Option<Child>,
}

/// So many objects there can be.
const OBJECTS: usize = 24;

/// An object of others: how it is added, how it is deleted, and how it is shown.
fn object(n: usize) -> (String, String, String) {
    let k = n / 6;
    match n % 6 {
        0 => {
            // The first of ours stands at 100.
            let priority = [95, 100, 190, 5210][k];
            let rule = format!("priority {priority} from 192.0.2.{n} lookup 77 protocol 186");
            let shown = format!("{priority}:\tfrom 192.0.2.{n} lookup 77 proto 186");
            (format!("rule add {rule}"), format!("rule del {rule}"), shown)
        }
        1 => {
            let route = format!("10.{n}.0.0/16 via 192.0.2.1 dev eth9 proto 186 table {}", [1, 2, 4, 77][k]);
            let shown = format!("10.{n}.0.0/16 via 192.0.2.1 dev eth9 table {} proto 186", [1, 2, 4, 77][k]);
            (format!("route add {route}"), format!("route del {route}"), shown)
        }
        2 => {
            let route = format!("10.{n}.0.0/16 via 192.0.2.1 dev eth9 proto 78");
            (format!("route add {route}"), format!("route del {route}"), route)
        }
        3 => {
            let id = [5, 7050, 7150, 8000][k];
            let shown = format!("id {id} via 192.0.2.1 dev eth9 scope 253 proto 186");
            (format!("nexthop add id {id} via 192.0.2.1 dev eth9 proto 186"), format!("nexthop del id {id}"), shown)
        }
        4 => {
            let metric = 700 + n;
            let route = format!("default via 192.0.2.1 dev eth9 proto 16 metric {metric}");
            (format!("route add {route}"), format!("route del {route}"), route)
        }
        _ => {
            let (table, chain) =
                [("mangle", "PREROUTING"), ("mangle", "OUTPUT"), ("nat", "POSTROUTING"), ("filter", "FORWARD")][k];
            let rule = format!("{chain} -s 192.0.2.{n}/32 -p udp -m udp --dport 7 -j ACCEPT");
            (
                format!("iptables -w -t {table} -A {rule}"),
                format!("iptables -w -t {table} -D {rule}"),
                format!("-A {rule}"),
            )
        }
    }
}

/// Runs ip(8), iptables(8) or nft(8); whether it did what it should.
fn run(command: &str) -> bool {
    let (program, args) = match command.split_once(' ').unwrap() {
        (program @ ("iptables" | "nft"), args) => (program, args),
        _ => ("ip", command),
    };
    let mut command = Command::new(program);
    command.args(args.split(' '));
    command.stderr(Stdio::null()).stdout(Stdio::null()).status().unwrap().success()
}

impl Foreign {
    pub fn new() -> Self {
        ip("link add eth9 type veth peer name far9");
        ip("link set far9 up");
        ip("link set eth9 up");
        ip("addr add 192.0.2.2/24 dev eth9");
        Self { base: held().into_iter().collect(), there: BTreeSet::new(), flood: None }
    }

    /// Another program does something of its own.
    pub fn change(&mut self, random: &mut Random) -> String {
        let n = random.below(OBJECTS);
        let (add, delete, _) = object(n);
        let is_there = self.there.contains(&n);
        let command = if is_there { delete } else { add };
        let done = run(&command);
        if done {
            if is_there {
                self.there.remove(&n)
            } else {
                self.there.insert(n)
            };
        }
        format!("{command}: {done}")
    }

    /// Another program changes so much that dumps are interrupted and notices are lost. It leaves nothing.
    pub fn flood(&mut self, server: &Server) {
        if self.flood.is_some() {
            return;
        }
        let batch = server.config().with_file_name("flood");
        let mut text = String::new();
        for n in 0..400 {
            let rule = format!("priority {} from 192.0.2.250 lookup 77 protocol 186", 21_000 + n % 7);
            let route = format!("10.250.{}.0/24 via 192.0.2.1 dev eth9 proto 186 table {}", n % 200, 1 + n % 4);
            for verb in ["add", "del"] {
                write!(text, "rule {verb} {rule}\nroute {verb} {route}\naddr {verb} 127.9.9.9/32 dev lo\n").unwrap();
            }
        }
        fs::write(&batch, text).unwrap();
        let mut ip = Command::new("ip");
        let ip = ip.arg("-batch").arg(batch).stdout(Stdio::null()).stderr(Stdio::null());
        self.flood = Some(ip.spawn().unwrap());
    }

    /// Waits until the flood is over.
    pub fn calm(&mut self) {
        if let Some(mut flood) = self.flood.take() {
            assert!(flood.wait().unwrap().success(), "the flood was disturbed");
        }
    }

    /// Everything of others is there, and nothing else; `of_lines` says which lines come with the addresses of lines.
    pub fn check(&self, of_lines: impl Fn(&str) -> bool) -> Result<(), String> {
        let (mut routing, mut filter) = (self.base.clone(), BTreeSet::new());
        for (_, _, shown) in self.there.iter().map(|n| object(*n)) {
            if shown.starts_with("-A ") {
                filter.insert(shown)
            } else {
                routing.insert(shown)
            };
        }
        let is_foreign = |line: &String| !line.contains(" proto 77") && !of_lines(line);
        let found: BTreeSet<_> = held().into_iter().filter(is_foreign).collect();
        let routing: BTreeSet<_> = routing.into_iter().filter(is_foreign).collect();
        if found != routing {
            return Err(format!("of others there is\n{found:#?}\ninstead of\n{routing:#?}"));
        }
        let found: BTreeSet<_> = of_iptables().into_iter().filter(|rule| !rule.contains("MULTIHOME")).collect();
        if found == filter { Ok(()) } else { Err(format!("of others there is\n{found:#?}\ninstead of\n{filter:#?}")) }
    }
}

/// Another program, or a hand that slipped, takes away what is ours, or puts something in its way.
pub fn harm(random: &mut Random, device: Option<&str>) -> String {
    let device = device.unwrap_or("lo");
    let command = match random.below(15) {
        0 => "rule flush protocol 77".to_owned(),
        1 => "rule del priority 190 protocol 77".to_owned(),
        2 => format!("route flush table {} proto 77", 1 + random.below(4)),
        3 => "route flush table main proto 77".to_owned(),
        4 => format!("nexthop del id {}", random.pick(&[7001, 7002, 7003, 7100, 7101])),
        5 => "nexthop flush proto 77".to_owned(),
        6 => "nexthop replace id 7100 group 7001,1 proto 77".to_owned(),
        7 => "rule add priority 101 fwmark 0x1/0x1 lookup 2 protocol 77".to_owned(),
        8 => "iptables -w -t mangle -F MULTIHOME-PREROUTING".to_owned(),
        9 => "iptables -w -t mangle -D PREROUTING -j MULTIHOME-PREROUTING".to_owned(),
        12 => "nft flush chain inet multihome prerouting".to_owned(),
        13 => "nft delete table inet multihome".to_owned(),
        14 => "nft add rule inet multihome output meta mark set 0x1".to_owned(),
        // pppd with `defaultroute`.
        10 if device != "lo" => format!("route prepend default dev {device} scope link"),
        11 if device != "lo" => format!("link set {device} group 0"),
        _ => format!("rule add priority 4000 from 192.0.2.9 lookup {} protocol 77", 90 + random.below(3)),
    };
    format!("{command}: {}", run(&command))
}
