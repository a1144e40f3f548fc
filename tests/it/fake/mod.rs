//! A kernel of the tests' own, which does to routes, nexthops and rules what Linux does, the
//! surprising parts above all. It is written and read as text (`text.rs`).

mod requests;
mod text;
pub mod watched;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;

use multihome::kernel::netlink::socket;
use multihome::kernel::{self, Kernel};
use multihome::model::change::Change;
use multihome::model::firewall::nft::FoundTable;
use multihome::model::firewall::{Firewall, FoundFirewall};
use multihome::model::names::{Family, HostAddr, IfName, TableId, Weight};
use multihome::model::observed::{Address, Interface, InterfaceState, Observed, Scope};
use multihome::model::routing::FwMark;
use multihome::model::routing::{
    Action, Device, FoundNextHop, FoundRoute, FoundRule, FoundTarget, NextHop, NexthopKind, NexthopObject, RouteKind,
    Rule, Selector, WeightedNextHop,
};

pub const EPERM: i32 = 1;
pub const EINVAL: i32 = 22;

/// A network interface.
// Each is one word of ip(8).
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    pub index: u32,
    pub up: bool,
    pub carrier: bool,
    pub strict_rp_filter: bool,
    pub ignores_linkdown: bool,
    pub arp: bool,
    pub group: u32,
    pub addresses: Vec<Address>,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Via {
    Nexthop(u32),
    NextHops(Vec<WeightedNextHop>),
    Unreachable,
}

/// A default route; the devices of its dead next hops with it (`RTNH_F_DEAD`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub table: TableId,
    pub metric: u32,
    pub protocol: u8,
    pub via: Via,
    pub dead: BTreeSet<u32>,
}

/// The kernel.
#[derive(Debug, Clone)]
pub struct Fake {
    pub nics: BTreeMap<IfName, Nic>,
    /// By table and metric; those of one place in the kernel's order.
    pub routes: Vec<Held>,
    /// Those of a family in the kernel's order. One that is not `complete` and has the action `Unreachable` stands
    /// for an action that we have no word for, such as `blackhole`.
    pub rules: Vec<FoundRule>,
    pub nexthops: Option<BTreeMap<u32, NexthopObject>>,
    pub hash_policy: u8,
    /// Our chains, as nftables or iptables-restore has left them.
    pub firewall: FoundFirewall,
    /// Marks of tracked connections.
    pub tracked: BTreeSet<u32>,
    /// Linux before 4.17: skips selectors that it does not know.
    pub forgets_ports: bool,
}

impl Default for Fake {
    fn default() -> Self {
        let own = |family, priority, table| FoundRule {
            rule: Rule {
                priority,
                family,
                selector: Selector::default(),
                action: Action::Lookup { table: TableId::observed(table), suppress_prefixlength: None },
            },
            protocol: 2,
            more: None,
        };
        Self {
            nics: BTreeMap::new(),
            routes: Vec::new(),
            rules: vec![
                own(Family::V4, 0, 255),
                own(Family::V4, 32766, 254),
                own(Family::V4, 32767, 253),
                own(Family::V6, 0, 255),
                own(Family::V6, 32766, 254),
            ],
            nexthops: Some(BTreeMap::new()),
            hash_policy: 0,
            firewall: FoundFirewall { nft: Some(FoundTable::default()), ..FoundFirewall::default() },
            tracked: BTreeSet::new(),
            forgets_ports: false,
        }
    }
}

impl Nic {
    fn reaches(&self, gateway: HostAddr) -> bool {
        self.addresses.iter().any(|a| a.reaches.contains(&gateway.get()))
    }
}

impl Held {
    fn uses(&self, index: u32) -> bool {
        matches!(&self.via, Via::NextHops(next_hops) if next_hops.iter().any(|l| l.next_hop.device.index == index))
    }
}

/// What happens to interfaces.
impl Fake {
    pub fn nic(&self, index: u32) -> Option<&Nic> {
        self.nics.values().find(|nic| nic.index == index)
    }

    /// The interface goes down: its next hops die (`fib_sync_down_dev`), its nexthop objects go.
    pub fn down(&mut self, name: &IfName) {
        if let Some(nic) = self.nics.get_mut(name) {
            nic.up = false;
            let index = nic.index;
            self.sync_down(index, false);
            self.drop_objects(
                |_, kind| matches!(kind, NexthopKind::Single(next_hop) if next_hop.device.index == index),
            );
        }
    }

    /// It comes up: dead next hops by it live again (`fib_sync_up`), nexthop objects do not come back.
    pub fn up(&mut self, name: &IfName) {
        if let Some(nic) = self.nics.get_mut(name) {
            nic.up = true;
            for route in &mut self.routes {
                route.dead.remove(&nic.index);
            }
        }
    }

    /// It is unregistered: every route with a next hop by it goes, survivors and all.
    pub fn unregister(&mut self, name: &IfName) {
        self.down(name);
        if let Some(nic) = self.nics.remove(name) {
            self.sync_down(nic.index, true);
        }
    }

    /// It loses or regains its carrier: routes by it are only passed over meanwhile, and that only where the interface
    /// says so; nexthop objects go for good.
    pub fn carrier(&mut self, name: &IfName, carrier: bool) {
        if let Some(nic) = self.nics.get_mut(name) {
            nic.carrier = carrier;
            let index = nic.index;
            if !carrier {
                self.drop_objects(
                    |_, kind| matches!(kind, NexthopKind::Single(next_hop) if next_hop.device.index == index),
                );
            }
        }
    }

    /// It loses its last address: as down to routes, nothing to nexthop objects.
    pub fn strip(&mut self, name: &IfName) {
        if let Some(nic) = self.nics.get_mut(name) {
            nic.addresses.clear();
            let index = nic.index;
            self.sync_down(index, false);
        }
    }

    fn sync_down(&mut self, index: u32, unregister: bool) {
        self.routes.retain_mut(|route| {
            if !route.uses(index) {
                return true;
            }
            route.dead.insert(index);
            let Via::NextHops(next_hops) = &route.via else { return true };
            !unregister && next_hops.iter().any(|l| !route.dead.contains(&l.next_hop.device.index))
        });
    }

    /// Objects go; groups shrink, empty ones go as well, and what leads to them.
    fn drop_objects(&mut self, goes: impl Fn(u32, &NexthopKind) -> bool) {
        let Some(objects) = &mut self.nexthops else { return };
        objects.retain(|id, object| !goes(*id, &object.kind));
        let left: BTreeSet<u32> = objects.keys().copied().collect();
        objects.retain(|_, object| match &mut object.kind {
            NexthopKind::Group(members) => {
                members.retain(|m| left.contains(&m.id));
                !members.is_empty()
            }
            _ => true,
        });
        let objects = &*objects;
        self.routes.retain(|route| !matches!(route.via, Via::Nexthop(id) if !objects.contains_key(&id)));
    }
}

/// What a lookup finds.
impl Fake {
    /// Devices among which the default route of `table` shares out its flows: those of the first
    /// route that is not wholly dead or passed over.
    pub fn carriers(&self, table: TableId) -> Vec<(u32, Weight)> {
        self.in_use(table).and_then(|route| self.live_next_hops(route)).unwrap_or_default()
    }

    /// The default route of `table` that a lookup ends at.
    pub fn in_use(&self, table: TableId) -> Option<&Held> {
        self.routes.iter().filter(|route| route.table == table).find(|route| self.live_next_hops(route).is_some())
    }

    /// Devices of a route, dead ones left out; `None`: the lookup goes on.
    fn live_next_hops(&self, route: &Held) -> Option<Vec<(u32, Weight)>> {
        match &route.via {
            Via::Unreachable => Some(Vec::new()),
            Via::Nexthop(id) => Some(self.resolve(*id)),
            Via::NextHops(next_hops) => {
                let all = next_hops.iter().map(|l| (l.next_hop.device.index, l.weight));
                let live: Vec<_> =
                    all.filter(|(index, _)| !route.dead.contains(index) && !self.passes_over(*index)).collect();
                (!live.is_empty()).then_some(live)
            }
        }
    }

    /// `ip_ignore_linkdown()` of a device without carrier.
    fn passes_over(&self, index: u32) -> bool {
        self.nic(index).is_some_and(|nic| !nic.carrier && nic.ignores_linkdown)
    }

    fn resolve(&self, id: u32) -> Vec<(u32, Weight)> {
        let Some(objects) = &self.nexthops else { return Vec::new() };
        let device = |id, weight| match objects.get(&id).map(|o| &o.kind) {
            Some(NexthopKind::Single(next_hop)) => Some((next_hop.device.index, weight)),
            _ => None,
        };
        match objects.get(&id).map(|o| &o.kind) {
            Some(NexthopKind::Group(members)) => members.iter().filter_map(|m| device(m.id, m.weight)).collect(),
            _ => device(id, Weight::default()).into_iter().collect(),
        }
    }

    /// Whether packets can leave by the default route of main.
    pub fn has_default(&self) -> bool {
        let carries = |index| self.nic(index).is_some_and(|nic| nic.up && nic.carrier);
        self.carriers(TableId::MAIN).iter().any(|(index, _)| carries(*index))
    }
}

/// An error as the real door would give it.
pub fn refusal(change: &Change, protocol: u8, number: i32) -> kernel::Error {
    let source = socket::Error::Refused { source: io::Error::from_raw_os_error(number), reason: None };
    kernel::Error::Change { command: change.command(protocol).to_string(), source }
}

impl Kernel for Fake {
    fn observe(&mut self, scope: &Scope) -> Result<Observed, kernel::Error> {
        let interface = |(name, nic): (&IfName, &Nic)| Interface {
            device: Device { index: nic.index, name: name.clone() },
            state: match (nic.up, nic.carrier) {
                (false, _) => InterfaceState::Down,
                (true, false) => InterfaceState::NoCarrier,
                (true, true) => InterfaceState::Up,
            },
            arp: nic.arp,
            addresses: nic.addresses.clone(),
            addresses6: vec![],
            routes: Vec::new(),
            strict_rp_filter: nic.strict_rp_filter,
            lax_arp: vec![],
            ignores_linkdown: Some(nic.ignores_linkdown),
            ignores_linkdown6: None,
            group: nic.group,
        };
        let interfaces: BTreeMap<_, _> = self
            .nics
            .iter()
            .filter(|(name, nic)| scope.interfaces.contains(*name) || scope.indices.contains(&nic.index))
            .map(|nic| (nic.0.clone(), interface(nic)))
            .collect();
        let known = |next_hop: &NextHop| interfaces.contains_key(&next_hop.device.name);
        let mut tables: BTreeSet<_> = scope.tables.iter().copied().chain([TableId::MAIN]).collect();
        for rule in self.rules.iter().filter(|r| r.protocol == scope.protocol) {
            if let Action::Lookup { table, .. } = rule.rule.action {
                tables.insert(table);
            }
        }
        let target = |via: &Via| match via {
            Via::Nexthop(id) => FoundTarget::Nexthop {
                id: *id,
                devices: self.resolve(*id).into_iter().map(|(index, _)| index).collect(),
            },
            Via::NextHops(next_hops) if next_hops.iter().all(|l| known(&l.next_hop)) => {
                FoundTarget::NextHops(next_hops.clone())
            }
            Via::NextHops(next_hops) => {
                let hop = |l: &WeightedNextHop| {
                    FoundNextHop::new(l.next_hop.device.index, l.next_hop.gateway.map(HostAddr::get))
                };
                FoundTarget::Other {
                    kind: RouteKind::Unicast,
                    text: FoundTarget::NextHops(next_hops.clone()).to_string(),
                    hops: next_hops.iter().map(hop).collect(),
                }
            }
            Via::Unreachable => {
                FoundTarget::Other { kind: RouteKind::Unreachable, text: String::new(), hops: Vec::new() }
            }
        };
        let routes = self.routes.iter().filter(|r| tables.contains(&r.table)).map(|r| FoundRoute {
            family: Family::V4,
            table: r.table,
            metric: r.metric,
            protocol: r.protocol,
            target: target(&r.via),
        });
        let routes = routes.collect();
        let nexthops = self.nexthops.as_ref().map(|objects| {
            let seen = |object: &NexthopObject| match &object.kind {
                NexthopKind::Single(next_hop) if !known(next_hop) => {
                    NexthopObject { kind: NexthopKind::ForeignDevice, ..object.clone() }
                }
                _ => object.clone(),
            };
            objects.iter().map(|(id, object)| (*id, seen(object))).collect()
        });
        let is_seen = scope.firewall != Firewall::None;
        let firewall = if is_seen { self.firewall.clone() } else { FoundFirewall::default() };
        Ok(Observed {
            interfaces,
            routes,
            rules: self.rules.clone(),
            nexthops,
            hash_policy: Some(self.hash_policy),
            firewall,
            delegated: vec![],
            lan6: vec![],
            private_lan: None,
        })
    }

    fn apply(&mut self, change: &Change, protocol: u8) -> Result<(), kernel::Error> {
        self.change(change, protocol).map_err(|number| refusal(change, protocol, number))
    }

    fn in_groups(&mut self, groups: &Range<u32>) -> Result<Vec<(Device, u32)>, kernel::Error> {
        let all = self.nics.iter().filter(|(_, nic)| groups.contains(&nic.group));
        Ok(all.map(|(name, nic)| (Device { index: nic.index, name: name.clone() }, nic.group)).collect())
    }

    fn has_connections(&mut self, _: Family, pin: FwMark) -> Result<bool, kernel::Error> {
        Ok(self.tracked.iter().any(|mark| mark & pin.mask == pin.value))
    }

    fn flush_route_cache(&mut self) -> Result<(), kernel::Error> {
        Ok(())
    }
}
