//! A machine to which things happen.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Net};
use multihome::config::Config;
use multihome::event::{Addresses, Event, EventKind, Family};
use multihome::model::names::{HostAddr, IfName, LinkName, TableId, Weight};
use multihome::model::observed::Address;
use multihome::model::routing::{
    Action, Device, FoundRule, Member, NextHop, NexthopKind, Rule, Selector, WeightedNextHop,
};
use multihome::reconcile::{FlushScope, reconcile};
use multihome::state::clock::Moment;
use multihome::state::drain::{Drain, Level};
use multihome::state::records::{LinkRecords, Records};

use super::OURS;
use super::step::Step;
use crate::fake::devices::link_local;
use crate::fake::next_hops::RA;
use crate::fake::watched::Watched;
use crate::fake::{EPERM, Fake, Held, Nic, Via};

/// An interface that is no link.
const LAN: &str = "eth0";

fn address(local: HostAddr, len: u8) -> Address {
    Address { local, reaches: IpNet::new(local.get(), len).unwrap().trunc() }
}

/// The global address of this prefix on a link, by its number.
fn address6(link: u16, prefix: u8) -> Option<Address> {
    let local = match prefix {
        0 => return None,
        3 => Ipv6Addr::new(0x2001, 0xdb8, 99, 0, 0, 0, 0, 10 + link),
        4 => Ipv6Addr::new(0xfd00, 0xdb8, link, 0, 0, 0, 0, 10),
        _ => Ipv6Addr::new(0x2001, 0xdb8, link, prefix.into(), 0, 0, 0, 10),
    };
    Some(address(HostAddr::new(local).unwrap(), 64))
}

fn nic(index: u32) -> Nic {
    Nic {
        index,
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
}

pub struct World {
    pub fake: Fake,
    said: Records,
    pub records: LinkRecords,
    drained: BTreeMap<LinkName, Drain>,
    next: u32,
    old: Config,
    pub new: Config,
}

impl World {
    pub fn new(mut fake: Fake, old: Config, new: Config) -> Self {
        let addresses = vec![address("192.0.2.10".parse().unwrap(), 24)];
        let addresses6 = vec![link_local(9), address("2001:db8:ff::10".parse().unwrap(), 64)];
        let lan = Nic { up: true, strict_rp_filter: true, addresses, addresses6, ..nic(9) };
        fake.nics.insert(LAN.parse().unwrap(), lan);
        let (said, records, drained) = Default::default();
        Self { fake, said, records, drained, next: 10, old, new }
    }

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
        self.records.drained = self.drained.clone();
    }

    /// A next hop by an interface, through the peer of its address if it has one.
    fn next_hop(&self, name: &IfName) -> Option<WeightedNextHop> {
        let nic = self.fake.nics.get(name)?;
        let gateway = nic.addresses.first().map(|a| HostAddr::new(a.reaches.hosts().last().unwrap()).unwrap());
        let next_hop = NextHop { device: Device { index: nic.index, name: name.clone() }, gateway, onlink: false };
        Some(WeightedNextHop { next_hop, weight: Weight::default() })
    }

    pub fn step(&mut self, step: &Step) {
        let lookup = |table| Action::Lookup { table: TableId::observed(table), suppress_prefixlength: None };
        match *step {
            Step::Up { link, shared_gateway } => self.up(link, shared_gateway),
            Step::Up6 { link, address, gateway, delegated } => self.up6(link, address, gateway, delegated),
            Step::Down6(link) => self.note(link, EventKind::Down(Family::V6), None),
            Step::Renumber(link, prefix) => self.renumber(link, prefix),
            Step::Advertisement(link, on) => self.advertise(link, on),
            Step::Delegation(n) => {
                let prefix =
                    Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 0x4000 + u16::from(n), 0, 0, 0, 0, 0), 56);
                if !self.fake.delegated.contains(&prefix) {
                    self.fake.delegated.push(prefix);
                }
            }
            Step::HangUp(link) => {
                let name = self.interface(link);
                self.fake.down(&name);
                self.fake.strip(&name, Family::V4);
                self.note(link, EventKind::Down(Family::V4), None);
            }
            Step::Unregister(link) => self.fake.unregister(&self.interface(link)),
            Step::Carrier(link, on) => self.fake.carrier(&self.interface(link), on),
            Step::Strip(link, family) => self.fake.strip(&self.interface(link), family),
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
            Step::ForeignDefault6 { metric, lan, link, gateway, table } => {
                self.foreign_default6(metric, lan, link, gateway, TableId::observed(table));
            }
            Step::OwnDefault6 { metric, link, gateway } => {
                if let Some(hop) = self.hop6(&self.interface(link), gateway) {
                    let _ = self.fake.append_leg(TableId::MAIN, metric, OURS, hop);
                }
            }
            Step::Rule { family, priority, protocol, from, complete, table } => {
                let source = if family == Family::V4 { "192.0.2.7/32" } else { "2001:db8:ff::7/128" };
                let selector = Selector { from: from.then(|| source.parse().unwrap()), ..Selector::default() };
                let rule = Rule { priority, family, selector, action: lookup(table) };
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
            Step::Drain { link, force, levels: [v4, v6] } => {
                let name = self.new.links[link % self.new.links.len()].name.clone();
                // Only drills are forced.
                let is_drill = [v4, v6].into_iter().flatten().all(|level| level == Level::Held);
                let drain = Drain { pid: 1, until: u64::MAX, force: force && is_drill, v4, v6 };
                if drain.v4.or(drain.v6).is_none() {
                    self.drained.remove(&name);
                } else {
                    self.drained.insert(name, drain);
                }
                self.records.drained = self.drained.clone();
            }
            Step::Hook { old, until } => {
                let config = if old { &self.old } else { &self.new };
                let kill = |made, _: &_, _: &mut _| if Some(made) == until { Err(EPERM) } else { Ok(()) };
                let _ = reconcile(config, &self.records, &FlushScope::All, &mut Watched::new(&mut self.fake, kill));
            }
        }
    }

    /// The device of a link, which appears if it is not there, and its name and number.
    fn device(&mut self, link: usize) -> (IfName, u16, &mut Nic) {
        let name = self.interface(link);
        let number = u16::try_from(link % self.new.links.len()).unwrap();
        if !self.fake.nics.contains_key(&name) {
            self.next += 1;
            self.fake.nics.insert(name.clone(), nic(self.next));
        }
        (name.clone(), number, self.fake.nics.get_mut(&name).unwrap())
    }

    fn up(&mut self, link: usize, shared_gateway: bool) {
        let (name, number, nic) = self.device(link);
        let number = u8::try_from(number).unwrap();
        let local = HostAddr::new([198, 18, number, 10]).unwrap();
        let gateway = HostAddr::new([198, 18, if shared_gateway { 99 } else { number }, 1]).unwrap();
        let addresses = vec![Address { local, reaches: IpNet::from(gateway.get()) }];
        (nic.carrier, nic.addresses) = (true, addresses);
        let session = Some(nic.index);
        self.fake.up(&name);
        let addresses = Addresses { local: Some(local), gateway: Some(gateway), ..Addresses::none(Family::V4) };
        self.note(link, EventKind::Up(addresses), session);
    }

    fn up6(&mut self, link: usize, prefix: u8, gateway: bool, delegated: bool) {
        let (name, number, nic) = self.device(link);
        nic.carrier = true;
        nic.addresses6 = [link_local(nic.index)].into_iter().chain(address6(number, prefix)).collect();
        let (local, session) = (Some(nic.addresses6[0].local), Some(nic.index));
        self.fake.up(&name);
        let gateway = gateway.then(|| "fe80::1".parse().unwrap());
        let prefix = Ipv6Addr::new(0x2001, 0xdb8, 0x3000 + number, 0x100 * u16::from(prefix), 0, 0, 0, 0);
        let prefixes = if delegated { vec![Ipv6Net::new_assert(prefix, 56)] } else { vec![] };
        self.note(link, EventKind::Up(Addresses { local, gateway, prefixes, ..Addresses::none(Family::V6) }), session);
    }

    fn renumber(&mut self, link: usize, prefix: u8) {
        let (_, number, nic) = self.device(link);
        if nic.up {
            nic.addresses6 = [link_local(nic.index)].into_iter().chain(address6(number, prefix)).collect();
        }
    }

    fn advertise(&mut self, link: usize, on: bool) {
        let name = self.interface(link);
        let Some(mut hop) = self.hop6(&name, true) else { return };
        hop.next_hop.gateway = Some("fe80::9".parse().unwrap());
        let route = Held::by_hop(TableId::MAIN, 1024, RA, hop);
        if on && self.fake.nics[&name].up {
            let _ = self.fake.append6(route);
        } else {
            self.fake.routes.retain(|held| held.via != route.via || held.protocol != RA);
        }
    }

    /// A next hop of IPv6 by an interface.
    fn hop6(&self, name: &IfName, gateway: bool) -> Option<WeightedNextHop> {
        let nic = self.fake.nics.get(name)?;
        let gateway = gateway.then(|| "fe80::5".parse().unwrap());
        let next_hop = NextHop { device: Device { index: nic.index, name: name.clone() }, gateway, onlink: false };
        Some(WeightedNextHop { next_hop, weight: Weight::default() })
    }

    fn foreign_default6(&mut self, metric: u32, lan: bool, link: Option<usize>, gateway: bool, table: TableId) {
        let lan: Option<IfName> = lan.then(|| LAN.parse().unwrap());
        let names: Vec<IfName> = link.map(|link| self.interface(link)).into_iter().chain(lan).collect();
        if names.is_empty() {
            let via = Via::Unreachable;
            let _ = self.fake.append6(Held { family: Family::V6, ..Held::new(table, metric, 4, via) });
        }
        for name in names {
            if let Some(hop) = self.hop6(&name, gateway) {
                let _ = self.fake.append_leg(table, metric, 4, hop);
            }
        }
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
