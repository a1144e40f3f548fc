//! What an observation shows.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use multihome::kernel::{self, Kernel};
use multihome::model::change::Change;
use multihome::model::firewall::{Firewall, FoundFirewall};
use multihome::model::names::{Family, HostAddr, IfName, TableId, Weight};
use multihome::model::observed::{Interface, InterfaceState, LanAddress, Observed, Preference, Scope};
use multihome::model::routing::{
    Action, Device, FoundNextHop, FoundRoute, FoundTarget, FwMark, NextHop, NexthopKind, NexthopObject, RouteKind,
    WeightedNextHop,
};

use super::{Fake, Held, Nic, Via, refusal};

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
            addresses6: nic.addresses6.clone(),
            routes: Vec::new(),
            strict_rp_filter: nic.strict_rp_filter,
            lax_arp: vec![],
            ignores_linkdown: Some(nic.ignores_linkdown),
            ignores_linkdown6: Some(nic.ignores_linkdown6),
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
        let v4 = self.routes.iter().filter(|r| r.family == Family::V4 && tables.contains(&r.table));
        let mut routes: Vec<_> = v4.map(|held| self.found(held, held.via.clone(), known)).collect();
        let rules6: Vec<_> = self.rules.iter().filter(|found| found.rule.family == Family::V6).collect();
        let ours: Vec<_> = rules6.iter().filter(|found| found.protocol == scope.protocol).collect();
        let is_led = ours.iter().any(|found| found.rule.action.table().is_some());
        let sees_ipv6 = !rules6.is_empty() && (scope.ipv6 || is_led);
        let is_main = |held: &Held| (held.family, held.table) == (Family::V6, TableId::MAIN);
        let sees_tables = !ours.is_empty() || scope.has_ipv6 || self.routes.iter().any(is_main);
        for next_hops in self.dumped6().into_iter().filter(|_| sees_ipv6) {
            let first = next_hops[0];
            if first.table == TableId::MAIN || sees_tables && first.protocol == scope.protocol {
                routes.push(self.found(first, shown(&next_hops), known));
            }
        }
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
            hash_policy6: (scope.hash_policy && is_led).then_some(self.hash_policy6),
            firewall,
            delegated: if sees_ipv6 { self.delegated.clone() } else { Vec::new() },
            lan6: self.lan6_of(scope),
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

    fn has_connections(&mut self, family: Family, wanted: FwMark) -> Result<bool, kernel::Error> {
        Ok(self.tracked.iter().any(|(of, mark)| *of == family && mark & wanted.mask == wanted.value))
    }

    fn flush_route_cache(&mut self) -> Result<(), kernel::Error> {
        Ok(())
    }
}

impl Fake {
    fn lan6_of(&self, scope: &Scope) -> Vec<LanAddress> {
        let mut found = self.lan6.clone();
        for held in &mut found {
            if scope.deprecated.contains(&(held.device.index, held.address.addr())) {
                let is_deprecated = held.preference == Preference::Deprecated;
                held.preference = if is_deprecated { Preference::DeprecatedByUs } else { Preference::PreferredAgain };
            }
        }
        found
    }

    /// A route with these next hops, of which `known` tells the links'.
    fn found(&self, held: &Held, via: Via, known: impl Fn(&NextHop) -> bool) -> FoundRoute {
        let target = match via {
            Via::Nexthop(id) => {
                FoundTarget::Nexthop { id, devices: self.resolve(id).into_iter().map(|(index, _)| index).collect() }
            }
            Via::NextHops(next_hops) if next_hops.iter().all(|l| known(&l.next_hop)) => {
                FoundTarget::NextHops(next_hops)
            }
            Via::NextHops(next_hops) => {
                let hop = |l: &WeightedNextHop| {
                    let gateway = l.next_hop.gateway.map(HostAddr::get);
                    FoundNextHop { weight: l.weight.get(), ..FoundNextHop::new(l.next_hop.device.index, gateway) }
                };
                let hops = next_hops.iter().map(hop).collect();
                FoundTarget::Other {
                    kind: RouteKind::Unicast,
                    text: FoundTarget::NextHops(next_hops).to_string(),
                    hops,
                }
            }
            Via::Unreachable => {
                FoundTarget::Other { kind: RouteKind::Unreachable, text: String::new(), hops: Vec::new() }
            }
        };
        let Held { family, table, metric, protocol, .. } = *held;
        FoundRoute { family, table, metric, protocol, target }
    }
}

/// What a dump shows of the next hops of an IPv6 route: of a single one no weight.
fn shown(next_hops: &[&Held]) -> Via {
    match next_hops {
        [only] => match &only.via {
            Via::NextHops(hops) => {
                Via::NextHops(vec![WeightedNextHop { weight: Weight::default(), ..hops[0].clone() }])
            }
            via => via.clone(),
        },
        _ => Via::NextHops(next_hops.iter().filter_map(|next_hop| next_hop.hop()).cloned().collect()),
    }
}
