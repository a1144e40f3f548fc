//! Random configurations, and what random histories leave behind.

use std::fmt::{self, Write as _};
use std::path::Path;

use ipnet::IpNet;
use multihome::config::{self, Config};
use multihome::event::{Addresses, Event, EventKind, Family};
use multihome::model::names::{HostAddr, IfName, TableId, Weight};
use multihome::model::observed::Address;
use multihome::model::routing::{
    Action, Device, FoundRule, Member, NextHop, NexthopKind, Rule, Selector, WeightedNextHop,
};
use multihome::reconcile::{FlushScope, reconcile};
use multihome::state::clock::Moment;
use multihome::state::records::{LinkRecords, Records};
use proptest::prelude::*;
use proptest::sample::select;

use crate::fake::watched::Watched;
use crate::fake::{EPERM, Fake, Held, Nic, Via};

/// Our protocol number.
pub const OURS: u8 = 77;
/// An interface that is no link.
const LAN: &str = "eth0";

/// An event that is about to be carried out.
pub struct Scene {
    /// The configuration as text, and what has happened.
    story: String,
    pub config: Config,
    pub records: LinkRecords,
    pub fake: Fake,
}

impl fmt::Debug for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records: Vec<_> =
            self.records.iter().map(|(name, r)| format!("{name}: {} {}", r.interface, r.index)).collect();
        write!(f, "{}\n{}\nrecords: {records:?}", self.story, self.fake)
    }
}

/// Something that has happened.
#[derive(Debug, Clone)]
enum Step {
    /// The link's device appears, gets its address and is reported.
    Up {
        link: usize,
        shared_gateway: bool,
    },
    /// Down, its address gone, reported.
    HangUp(usize),
    Unregister(usize),
    Carrier(usize, bool),
    /// The address goes, or the device does down, and nobody says so.
    Strip(usize),
    Down(usize),
    /// pppd's `defaultroute`.
    PppdDefault(usize),
    /// A default route of somebody's: by no link, by a link as well, by none but links.
    ForeignDefault {
        metric: u32,
        lan: bool,
        link: Option<usize>,
        table: u32,
    },
    Rule {
        priority: u32,
        protocol: u8,
        from: bool,
        complete: bool,
        table: u32,
    },
    /// One of our rules once more, or somebody else's equal one.
    SameRule {
        which: usize,
        protocol: u8,
    },
    Nexthop {
        id: u32,
        protocol: u8,
        group: bool,
    },
    OwnDefault {
        metric: u32,
        link: usize,
    },
    Strict(usize),
    /// `ip rule flush`.
    FlushRules,
    /// Somebody has put a link's device, or the LAN's, into a group: one of ours, or another.
    Group {
        link: Option<usize>,
        group: u32,
    },
    /// One of our hooks ran, with the old or the new configuration, and perhaps was killed.
    Hook {
        old: bool,
        until: Option<usize>,
    },
}

fn steps() -> impl Strategy<Value = Step> {
    let link = 0..7_usize;
    let protocol = select(vec![OURS, 4]);
    let metric = select(vec![0_u32, 1, 2, 7, 50, 51, 4_000_000, 4_000_002]);
    let table = select(vec![254_u32, 254, 1, 2, 101]);
    let ids = select(vec![7001_u32, 7002, 7050, 7100, 7101, 7102, 7200, 9000]);
    prop_oneof![
        8 => (link.clone(), any::<bool>()).prop_map(|(link, shared_gateway)| Step::Up { link, shared_gateway }),
        3 => link.clone().prop_map(Step::HangUp),
        3 => link.clone().prop_map(Step::Unregister),
        2 => (link.clone(), any::<bool>()).prop_map(|(link, on)| Step::Carrier(link, on)),
        1 => link.clone().prop_map(Step::Strip),
        1 => link.clone().prop_map(Step::Down),
        2 => link.clone().prop_map(Step::PppdDefault),
        1 => (metric.clone(), any::<bool>(), proptest::option::of(link.clone()), table.clone())
            .prop_map(|(metric, lan, link, table)| Step::ForeignDefault { metric, lan, link, table }),
        1 => (90..230_u32, protocol.clone(), any::<bool>(), any::<bool>(), 1..4_u32).prop_map(
            |(priority, protocol, from, complete, table)| Step::Rule { priority, protocol, from, complete, table }
        ),
        1 => (0..20_usize, protocol.clone()).prop_map(|(which, protocol)| Step::SameRule { which, protocol }),
        1 => (ids, protocol, any::<bool>()).prop_map(|(id, protocol, group)| Step::Nexthop { id, protocol, group }),
        1 => (metric, link.clone()).prop_map(|(metric, link)| Step::OwnDefault { metric, link }),
        1 => link.clone().prop_map(Step::Strict),
        1 => Just(Step::FlushRules),
        1 => (proptest::option::of(link), select(vec![7000, 7001, 7006, 7031, 7032, 42]))
            .prop_map(|(link, group)| Step::Group { link, group }),
        6 => (any::<bool>(), proptest::option::of(0..12_usize)).prop_map(|(old, until)| Step::Hook { old, until }),
    ]
}

/// Text of a configuration with this many uplinks and tunnels.
fn configs(uplinks: usize, tunnels: usize) -> impl Strategy<Value = (String, Config)> {
    let ranks = proptest::collection::vec((select(vec![1_u16, 2, 8, 256]), 1..4_u8), uplinks);
    let selectors = select(vec![
        "proto = \"tcp\"\ndport = [25, \"6000-6010\"]",
        "from = \"192.0.2.7\"",
        "from = [\"192.0.2.0/24\", \"198.18.0.0/15\"]\nproto = \"udp\"",
        "to = \"203.0.113.99\"\nproto = \"udp\"\ndport = 1130",
        "dscp = 46",
        "uid = 1000\niif = \"eth0\"",
        "fwmark = \"0x10000/0x30000\"",
        "to-set = \"streaming\"",
        "from-set = \"kids\"\nto-set = \"streaming\"\nproto = \"udp\"",
    ]);
    let links = uplinks + tunnels;
    let via = proptest::sample::subsequence((0..links).collect::<Vec<_>>(), 1..=links);
    let policies = proptest::collection::vec((selectors, via, any::<bool>()), 0..4);
    let modes = select(vec!["auto", "objects", "multipath"]);
    let numbers = (select(vec![0_u32, 50]), select(vec![7000_u32, 6900, 7050]), select(vec![0_usize, 100]));
    let hash = proptest::option::of(0..2_u8);
    (ranks, policies, modes, numbers, hash, select(vec![100_u32, 120])).prop_map(
        move |(ranks, policies, mode, (metric, id, tables), hash, priority)| {
            let mut text = String::new();
            for i in 0..links {
                let kind = if i < uplinks { "uplink" } else { "tunnel" };
                let table = tables + i + 1;
                writeln!(text, "[[{kind}]]\nname = \"l{i}\"\ninterface = \"ppp{i}\"\ntable = {table}").unwrap();
                if let Some((weight, tier)) = ranks.get(i) {
                    writeln!(text, "weight = {weight}\ntier = {tier}").unwrap();
                }
            }
            let has_sets = policies.iter().any(|(selector, ..)| selector.contains("-set"));
            for (i, (selector, via, unreachable)) in policies.iter().enumerate() {
                // Owners go with no set.
                let selector = if has_sets { selector.trim_start_matches("uid = 1000\n") } else { selector };
                let via: Vec<_> = via.iter().map(|i| format!("l{i}")).collect();
                let otherwise = if *unreachable { "unreachable" } else { "default" };
                writeln!(text, "[[policy]]\nname = \"p{i}\"\n{selector}\nvia = {via:?}\notherwise = \"{otherwise}\"")
                    .unwrap();
            }
            writeln!(text, "[settings]\nmetric = {metric}\nnexthop-id = {id}\nnexthops = \"{mode}\"").unwrap();
            writeln!(text, "rule-priority = {priority}").unwrap();
            if let Some(hash) = hash {
                writeln!(text, "hash-policy = {hash}").unwrap();
            }
            let config = config::parse(&text, Path::new("random.toml")).unwrap_or_else(|e| panic!("{e}\n{text}"));
            (text, config)
        },
    )
}

/// Random scenes; one in eight on a kernel without nexthop objects.
pub fn scenes() -> impl Strategy<Value = Scene> {
    scenes_on(Fake::default())
}

/// Random scenes that began with this kernel.
pub fn scenes_on(kernel: Fake) -> impl Strategy<Value = Scene> {
    (1..=5_usize, 0..=2_usize)
        .prop_flat_map(|(uplinks, tunnels)| (configs(uplinks, tunnels), configs(uplinks, tunnels)))
        .prop_flat_map(|(old, new)| {
            (Just(old), Just(new), any::<bool>(), proptest::collection::vec(steps(), 0..25), 0..8_u8)
        })
        .prop_map(move |(old, new, same, steps, objects)| {
            let (text, new) = if same { old.clone() } else { new };
            let (said, records) = Default::default();
            let mut world = World { fake: kernel.clone(), said, records, next: 10, old: old.1, new };
            if objects == 0 {
                world.fake.nexthops = None;
            }
            let address = address("192.0.2.10".parse().unwrap(), 24);
            let nic = Nic {
                index: 9,
                up: true,
                carrier: true,
                strict_rp_filter: true,
                ignores_linkdown: false,
                ignores_linkdown6: false,
                arp: false,
                group: 0,
                addresses: vec![address],
                addresses6: vec![],
            };
            world.fake.nics.insert(LAN.parse().unwrap(), nic);
            for step in &steps {
                world.step(step);
            }
            Scene { story: format!("{text}\n{steps:?}"), config: world.new, records: world.records, fake: world.fake }
        })
}

fn address(local: HostAddr, len: u8) -> Address {
    Address { local, reaches: IpNet::new(local.get(), len).unwrap().trunc() }
}

struct World {
    fake: Fake,
    said: Records,
    records: LinkRecords,
    next: u32,
    old: Config,
    new: Config,
}

impl World {
    fn interface(&self, link: usize) -> IfName {
        self.new.links[link % self.new.links.len()].interface.clone()
    }

    /// The event as a hook records it.
    fn note(&mut self, link: usize, kind: EventKind, session: Option<u32>) {
        let interface = self.interface(link);
        let index = self.fake.nics.get(&interface).map(|nic| nic.index);
        let event = Event { kind, interface, names: vec![], session };
        let now = Moment { unix: 0, since_boot: self.next.into(), boot: String::new() };
        let effect = self.said.effect(&event, index, Some(&self.new), now);
        self.said.carry_out(&effect);
        self.records = self.said.by_link(&self.new);
    }

    /// A next hop by an interface, through the peer of its address if it has one.
    fn next_hop(&self, name: &IfName) -> Option<WeightedNextHop> {
        let nic = self.fake.nics.get(name)?;
        let gateway = nic.addresses.first().map(|a| HostAddr::new(a.reaches.hosts().last().unwrap()).unwrap());
        let next_hop = NextHop { device: Device { index: nic.index, name: name.clone() }, gateway, onlink: false };
        Some(WeightedNextHop { next_hop, weight: Weight::default() })
    }

    fn step(&mut self, step: &Step) {
        let lookup = |table| Action::Lookup { table: TableId::observed(table), suppress_prefixlength: None };
        match *step {
            Step::Up { link, shared_gateway } => self.up(link, shared_gateway),
            Step::HangUp(link) => {
                let name = self.interface(link);
                self.fake.down(&name);
                self.fake.strip(&name, Family::V4);
                self.note(link, EventKind::Down(Family::V4), None);
            }
            Step::Unregister(link) => self.fake.unregister(&self.interface(link)),
            Step::Carrier(link, on) => self.fake.carrier(&self.interface(link), on),
            Step::Strip(link) => self.fake.strip(&self.interface(link), Family::V4),
            Step::Down(link) => self.fake.down(&self.interface(link)),
            Step::PppdDefault(link) => {
                if let Some(next_hop) = self.next_hop(&self.interface(link)) {
                    self.fake.prepend_route(Held::new(TableId::MAIN, 0, 3, Via::NextHops(vec![next_hop])));
                }
            }
            Step::ForeignDefault { metric, lan, link, table } => {
                let lan = lan.then(|| self.next_hop(&LAN.parse().unwrap())).flatten();
                let next_hops: Vec<_> =
                    link.and_then(|l| self.next_hop(&self.interface(l))).into_iter().chain(lan).collect();
                let via = if next_hops.is_empty() { Via::Unreachable } else { Via::NextHops(next_hops) };
                self.fake.prepend_route(Held::new(TableId::observed(table), metric, 4, via));
            }
            Step::Rule { priority, protocol, from, complete, table } => {
                let selector = Selector { from: from.then(|| "192.0.2.7/32".parse().unwrap()), ..Selector::default() };
                let rule = Rule { priority, family: Family::V4, selector, action: lookup(table) };
                self.fake.push_rule(FoundRule { rule, protocol, more: (!complete).then(Box::default) });
            }
            Step::SameRule { which, protocol } => {
                let own: Vec<_> = self.fake.rules.iter().filter(|r| r.protocol == OURS).cloned().collect();
                if let Some(rule) = own.get(which) {
                    self.fake.push_rule(FoundRule { protocol, ..rule.clone() });
                }
            }
            Step::Nexthop { id, protocol, group } => self.nexthop(id, protocol, group),
            Step::OwnDefault { metric, link } => {
                if let Some(next_hop) = self.next_hop(&self.interface(link)) {
                    let _ =
                        self.fake.replace_route(Held::new(TableId::MAIN, metric, OURS, Via::NextHops(vec![next_hop])));
                }
            }
            Step::Strict(link) => {
                if let Some(nic) = self.fake.nics.get_mut(&self.interface(link)) {
                    nic.strict_rp_filter = true;
                }
            }
            Step::FlushRules => self.fake.rules.retain(|found| found.rule.priority == 0),
            Step::Group { link, group } => {
                let name = link.map_or_else(|| LAN.parse().unwrap(), |link| self.interface(link));
                if let Some(nic) = self.fake.nics.get_mut(&name) {
                    nic.group = group;
                }
            }
            Step::Hook { old, until } => {
                let config = if old { &self.old } else { &self.new };
                let kill = |made, _: &_, _: &mut _| if Some(made) == until { Err(EPERM) } else { Ok(()) };
                let _ = reconcile(config, &self.records, &FlushScope::All, &mut Watched::new(&mut self.fake, kill));
            }
        }
    }

    fn up(&mut self, link: usize, shared_gateway: bool) {
        let name = self.interface(link);
        let number = u8::try_from(link % self.new.links.len()).unwrap();
        let local = HostAddr::new([198, 18, number, 10]).unwrap();
        let gateway = HostAddr::new([198, 18, if shared_gateway { 99 } else { number }, 1]).unwrap();
        let addresses = vec![Address { local, reaches: IpNet::from(gateway.get()) }];
        let next = &mut self.next;
        let new = || {
            *next += 1;
            Nic {
                index: *next,
                up: false,
                carrier: true,
                strict_rp_filter: false,
                ignores_linkdown: false,
                ignores_linkdown6: false,
                arp: false,
                group: 0,
                addresses: vec![],
                addresses6: vec![],
            }
        };
        let nic = self.fake.nics.entry(name.clone()).or_insert_with(new);
        (nic.carrier, nic.addresses) = (true, addresses);
        let session = Some(nic.index);
        self.fake.up(&name);
        self.note(
            link,
            EventKind::Up(Addresses { local: Some(local), gateway: Some(gateway), ..Addresses::none(Family::V4) }),
            session,
        );
    }

    fn nexthop(&mut self, id: u32, protocol: u8, group: bool) {
        let lan = self.next_hop(&LAN.parse().unwrap()).unwrap().next_hop;
        let kind = if group {
            // A group wants a member, somebody's own.
            let _ = self.fake.put_object(9001, 4, NexthopKind::Single(lan));
            NexthopKind::Group(vec![Member { id: 9001, weight: Weight::default() }])
        } else {
            NexthopKind::Single(lan)
        };
        let taken = self.fake.nexthops.as_ref().is_some_and(|all| all.contains_key(&id));
        if !taken {
            let _ = self.fake.put_object(id, protocol, kind);
        }
    }
}
