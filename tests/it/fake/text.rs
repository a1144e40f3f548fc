//! What the kernel holds, as text in the words of ip(8), one thing a line:
//!
//! ```text
//! link 11 ppp0 up address 198.51.100.10 peer 198.51.100.1    # or: down, no-carrier; strict-rp-filter; ignores-linkdown; ignores-linkdown6; ethernet; group 7000; addresses may be of IPv6
//! route table 254 default metric 0 protocol 4 via 198.51.100.1 dev ppp0
//! route table 254 default metric 0 protocol 77 nexthop dev ppp0 dead weight 8 nexthop dev ppp1 weight 2
//! route6 table 254 default metric 512 protocol 77 nexthop via fe80::1 dev ppp0 weight 8 nexthop via fe80::1 dev ppp1 weight 2
//! delegated 2001:db8:77::/56                                 # an IPv6 prefix that main refuses
//! lan 9 eth0 2001:db8:77:1::1/64 deprecated                  # an IPv6 address of an interface of no link
//! rule priority 100 fwmark 0x4/0x4 lookup 3 protocol 77      # `and more`: selectors that we have no word for
//! rule6 priority 190 lookup 254 suppress_prefixlength 0 protocol 77    # IPv6; `ipv6 none`: a kernel without it
//! nexthop id 7100 group 7001,8/7002,2 protocol 77            # `nexthops none`: before Linux 5.3
//! hash-policy 1                                              # hash-policy6: of IPv6
//! nftables none                                              # a kernel without nf_tables
//! rules none                                                 # not even those that every kernel starts with
//! ```
//!
//! The three rules that every kernel starts with are left out where they are there.

use std::fmt;
use std::iter::Peekable;
use std::net::IpAddr;
use std::str::{FromStr, SplitWhitespace};

use ipnet::IpNet;
use multihome::model::names::{Family, HostAddr, TableId, Weight};
use multihome::model::observed::{Address, LanAddress, Preference};
use multihome::model::routing::{
    Action, Device, FoundRule, Member, NextHop, NexthopKind, NexthopObject, Rule, Selector, WeightedNextHop,
};
use multihome::model::routing::{FwMark, PortRange, UidRange};

use super::{Fake, Held, Nic, Via};

struct Words<'a>(Peekable<SplitWhitespace<'a>>, &'a str);

impl<'a> Words<'a> {
    fn word(&mut self) -> &'a str {
        self.0.next().unwrap_or_else(|| panic!("something is missing at the end of: {}", self.1))
    }

    fn value<T: FromStr>(&mut self) -> T {
        let word = self.word();
        word.parse().unwrap_or_else(|_| panic!("{word:?} makes no sense in: {}", self.1))
    }

    /// Whether the next word is this one, which is taken then.
    fn is(&mut self, word: &str) -> bool {
        self.0.next_if(|next| *next == word).is_some()
    }

    /// The value after this word, if that is the next one.
    fn after<T: FromStr>(&mut self, word: &str) -> Option<T> {
        self.is(word).then(|| self.value())
    }

    fn has(&mut self, word: &str) {
        assert!(self.is(word), "{word:?} is missing in: {}", self.1);
    }
}

fn pair<T: FromStr>(text: &str, by: char) -> (T, T) {
    let parsed = text.split_once(by).and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    parsed.unwrap_or_else(|| panic!("{text:?} should be two values with {by:?} between them"))
}

impl Fake {
    pub fn parse(text: &str) -> Self {
        let mut fake = Self::default();
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        for line in lines.filter(|line| !line.is_empty()) {
            let mut words = Words(line.split_whitespace().peekable(), line);
            match words.word() {
                "link" => fake.read_link(&mut words),
                "route" => fake.read_route(&mut words),
                "route6" => fake.read_route6(&mut words),
                "lan" => fake.read_lan(&mut words),
                "delegated" => fake.delegated.push(words.value()),
                "rule" => fake.push_rule(rule(&mut words, Family::V4)),
                "rule6" => fake.push_rule(rule(&mut words, Family::V6)),
                "ipv6" => {
                    words.has("none");
                    fake.rules.retain(|held| held.rule.family == Family::V4);
                }
                "rules" => {
                    words.has("none");
                    fake.rules.clear();
                }
                "nexthops" => {
                    words.has("none");
                    fake.nexthops = None;
                }
                "nftables" => {
                    words.has("none");
                    fake.firewall.nft = None;
                }
                "nexthop" => fake.read_nexthop(&mut words),
                "hash-policy" => fake.hash_policy = words.value(),
                "hash-policy6" => fake.hash_policy6 = words.value(),
                other => panic!("what is a {other:?}? in: {line}"),
            }
            assert!(words.0.peek().is_none(), "{:?} is too much in: {line}", words.0.peek());
        }
        fake
    }

    fn read_link(&mut self, words: &mut Words<'_>) {
        let index = words.value();
        let name = words.value();
        let state = words.word();
        assert!(["up", "down", "no-carrier"].contains(&state), "{state:?} is no state of a link");
        let strict_rp_filter = words.is("strict-rp-filter");
        let ignores_linkdown = words.is("ignores-linkdown");
        let ignores_linkdown6 = words.is("ignores-linkdown6");
        let arp = words.is("ethernet");
        let group = words.after("group").unwrap_or_default();
        let (mut addresses, mut addresses6) = (Vec::new(), Vec::new());
        while let Some(net) = words.after::<String>("address") {
            let net: IpNet = net.parse().unwrap_or_else(|_| IpNet::from(net.parse::<IpAddr>().unwrap()));
            let reaches = words.after::<IpAddr>("peer").map_or(net.trunc(), IpNet::from);
            let address = Address { local: HostAddr::new(net.addr()).unwrap(), reaches };
            if net.addr().is_ipv4() { &mut addresses } else { &mut addresses6 }.push(address);
        }
        let nic = Nic {
            index,
            up: state != "down",
            carrier: state == "up",
            strict_rp_filter,
            ignores_linkdown,
            ignores_linkdown6,
            arp,
            group,
            addresses,
            addresses6,
        };
        self.nics.insert(name, nic);
    }

    fn read_lan(&mut self, words: &mut Words<'_>) {
        let device = Device { index: words.value(), name: words.value() };
        let address = words.value();
        let preference = if words.is("deprecated") { Preference::Deprecated } else { Preference::Preferred };
        self.lan6.push(LanAddress { device, address, preference });
    }

    fn read_route(&mut self, words: &mut Words<'_>) {
        words.has("table");
        let table = TableId::observed(words.value());
        words.has("default");
        let metric = words.after("metric").unwrap_or_default();
        let protocol = words.after("protocol").unwrap();
        let mut route = Held::new(table, metric, protocol, Via::Unreachable);
        if let Some(id) = words.after("nhid") {
            route.via = Via::Nexthop(id);
        } else if !words.is("unreachable") {
            let mut next_hops = Vec::new();
            while words.is("nexthop") || next_hops.is_empty() {
                let (hop, is_dead) = self.weighted(words);
                route.dead.extend(is_dead.then_some(hop.next_hop.device.index));
                next_hops.push(hop);
            }
            route.via = Via::NextHops(next_hops);
        }
        let at = self.place(Family::V4, table, metric).end;
        self.routes.insert(at, route);
    }

    fn read_route6(&mut self, words: &mut Words<'_>) {
        words.has("table");
        let table = TableId::observed(words.value());
        words.has("default");
        let metric = words.after("metric").unwrap();
        let protocol = words.after("protocol").unwrap();
        let without = |via| Held { family: Family::V6, ..Held::new(table, metric, protocol, via) };
        if let Some(id) = words.after("nhid") {
            self.append6(without(Via::Nexthop(id))).unwrap();
        } else if words.is("unreachable") {
            self.append6(without(Via::Unreachable)).unwrap();
        } else {
            let mut is_first = true;
            while words.is("nexthop") || is_first {
                let (hop, is_dead) = self.weighted(words);
                let dead = is_dead.then_some(hop.next_hop.device.index).into_iter().collect();
                self.append6(Held { dead, ..Held::by_hop(table, metric, protocol, hop) }).unwrap();
                is_first = false;
            }
        }
    }

    /// A next hop with its weight, and whether it is dead.
    fn weighted(&self, words: &mut Words<'_>) -> (WeightedNextHop, bool) {
        let next_hop = self.next_hop(words);
        let is_dead = words.is("dead");
        let weight = words.after("weight").map_or(Weight::default(), |n| Weight::new(n).unwrap());
        (WeightedNextHop { next_hop, weight }, is_dead)
    }

    fn next_hop(&self, words: &mut Words<'_>) -> NextHop {
        let gateway = words.after("via");
        words.has("dev");
        let name = words.value();
        let nic = self.nics.get(&name).unwrap_or_else(|| panic!("no link {name} before: {}", words.1));
        NextHop { device: Device { index: nic.index, name }, gateway, onlink: words.is("onlink") }
    }

    fn read_nexthop(&mut self, words: &mut Words<'_>) {
        words.has("id");
        let id = words.value();
        let kind = match words.after::<String>("group") {
            Some(members) => NexthopKind::Group(members.split('/').map(member).collect()),
            None => NexthopKind::Single(self.next_hop(words)),
        };
        words.has("protocol");
        let object = NexthopObject { protocol: words.value(), kind };
        self.nexthops.as_mut().expect("this kernel has no nexthops").insert(id, object);
    }
}

fn member(text: &str) -> Member {
    let (id, weight) = pair::<u32>(text, ',');
    Member { id, weight: Weight::new(weight.try_into().unwrap()).unwrap() }
}

fn rule(words: &mut Words<'_>, family: Family) -> FoundRule {
    words.has("priority");
    let priority = words.value();
    let hex = |text: &str| u32::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
    let ports = |text: String| pair(&text, '-');
    let selector = Selector {
        from: words.after("from"),
        to: words.after("to"),
        iif: words.after("iif"),
        fwmark: words.after::<String>("fwmark").map(|mark| {
            let (value, mask) = mark.split_once('/').expect("a mark has a mask");
            FwMark { value: hex(value), mask: hex(mask) }
        }),
        uid: words.after("uidrange").map(|r: String| pair(&r, '-')).map(|(start, end)| UidRange { start, end }),
        proto: words.after("ipproto"),
        sport: words.after("sport").map(ports).map(|(start, end)| PortRange { start, end }),
        dport: words.after("dport").map(ports).map(|(start, end)| PortRange { start, end }),
        dscp: words.after("dscp"),
    };
    let action = if let Some(table) = words.after("lookup") {
        Action::Lookup { table: TableId::observed(table), suppress_prefixlength: words.after("suppress_prefixlength") }
    } else if let Some(priority) = words.after("goto") {
        Action::Goto(priority)
    } else {
        words.has("type");
        words.has("unreachable");
        Action::Unreachable
    };
    words.has("protocol");
    let protocol = words.value();
    let more = words.is("and");
    if more {
        words.has("more");
    }
    FoundRule { rule: Rule { priority, family, selector, action }, protocol, more: more.then(Box::default) }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.family == Family::V4 { "route" } else { "route6" };
        write!(f, "{word} table {} default metric {} protocol {}", self.table, self.metric, self.protocol)?;
        let dead = |next_hop: &NextHop| if self.dead.contains(&next_hop.device.index) { " dead" } else { "" };
        match &self.via {
            Via::Nexthop(id) => write!(f, " nhid {id}"),
            Via::Unreachable => f.write_str(" unreachable"),
            Via::NextHops(next_hops) => match &next_hops[..] {
                [only] => write!(f, " {}{}", only.next_hop, dead(&only.next_hop)),
                _ => next_hops
                    .iter()
                    .try_for_each(|l| write!(f, " nexthop {}{} weight {}", l.next_hop, dead(&l.next_hop), l.weight)),
            },
        }
    }
}

impl fmt::Display for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, nic) in &self.nics {
            let state = if !nic.up {
                "down"
            } else if nic.carrier {
                "up"
            } else {
                "no-carrier"
            };
            let strict = if nic.strict_rp_filter { " strict-rp-filter" } else { "" };
            let ignores = if nic.ignores_linkdown { " ignores-linkdown" } else { "" };
            let ignores6 = if nic.ignores_linkdown6 { " ignores-linkdown6" } else { "" };
            let ethernet = if nic.arp { " ethernet" } else { "" };
            write!(f, "link {} {name} {state}{strict}{ignores}{ignores6}{ethernet}", nic.index)?;
            if nic.group != 0 {
                write!(f, " group {}", nic.group)?;
            }
            for Address { local, reaches } in nic.addresses.iter().chain(&nic.addresses6) {
                if reaches.contains(&local.get()) {
                    write!(f, " address {local}/{}", reaches.prefix_len())?;
                } else {
                    write!(f, " address {local} peer {}", reaches.addr())?;
                }
            }
            writeln!(f)?;
        }
        for route in &self.routes {
            let next_hops = &self.routes[self.place(route.family, route.table, route.metric)];
            let has_siblings = next_hops.iter().filter(|next_hop| next_hop.is_hop()).count() > 1;
            match route.hop().filter(|_| has_siblings) {
                // Alone it would have no weight to be seen.
                Some(hop) => writeln!(f, "{route} weight {}", hop.weight)?,
                None => writeln!(f, "{route}")?,
            }
        }
        for prefix in &self.delegated {
            writeln!(f, "delegated {prefix}")?;
        }
        for LanAddress { device, address, preference } in &self.lan6 {
            let state = if *preference == Preference::Preferred { "" } else { " deprecated" };
            writeln!(f, "lan {} {} {address}{state}", device.index, device.name)?;
        }
        for found @ FoundRule { rule, protocol, .. } in self.rules.iter().filter(|r| r.protocol != 2) {
            let word = if rule.family == Family::V4 { "rule" } else { "rule6" };
            writeln!(f, "{word} {rule} protocol {protocol}{}", if found.is_complete() { "" } else { " and more" })?;
        }
        if self.rules.iter().all(|held| held.rule.family == Family::V4) {
            writeln!(f, "ipv6 none")?;
        }
        if self.firewall.nft.is_none() {
            writeln!(f, "nftables none")?;
        }
        if self.nexthops.is_none() {
            writeln!(f, "nexthops none")?;
        }
        for (id, NexthopObject { protocol, kind }) in self.nexthops.iter().flatten() {
            write!(f, "nexthop id {id} ")?;
            match kind {
                NexthopKind::Single(next_hop) => write!(f, "{next_hop}")?,
                NexthopKind::Group(members) => {
                    let members: Vec<_> = members.iter().map(|m| format!("{},{}", m.id, m.weight)).collect();
                    write!(f, "group {}", members.join("/"))?;
                }
                NexthopKind::ForeignDevice | NexthopKind::Other => f.write_str("of a kind that the fake has not")?,
            }
            writeln!(f, " protocol {protocol}")?;
        }
        if self.hash_policy != 0 {
            writeln!(f, "hash-policy {}", self.hash_policy)?;
        }
        if self.hash_policy6 != 0 {
            writeln!(f, "hash-policy6 {}", self.hash_policy6)?;
        }
        Ok(())
    }
}
