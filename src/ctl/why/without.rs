//! What the kernel would hold if some links were down: what it does by itself when their devices go, and
//! what an apply would change then. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Config;
use crate::ctl::lookup::{FibNextHop, FibRoute};
use crate::model::change::Change;
use crate::model::names::{Family, HostAddr, LinkName, TableId, Weight};
use crate::model::numbering::KERNEL;
use crate::model::observed::{InterfaceState, Observed};
use crate::model::routing::{
    DefaultRoute, Device, FoundNextHop, FoundRoute, FoundRule, FoundTarget, Member, NextHop, NexthopKind, RouteKind,
    Target, WeightedNextHop,
};
use crate::reconcile::link_state::LinkStates;
use crate::reconcile::plan::Plan;
use crate::state::records::LinkRecords;

/// What changes; nothing by default.
#[derive(Debug, Default)]
pub(super) struct Without {
    protocol: u8,
    changes: Vec<Change>,
    /// Indices of the devices that have lost their carrier, and whose routes lookups pass over.
    carrierless: BTreeSet<u32>,
    /// Of the devices that do not exist any more.
    unregistered: BTreeSet<u32>,
    /// Nexthop objects as they are then.
    objects: BTreeMap<u32, NexthopKind>,
}

impl Without {
    /// Without the links of `down`: an Ethernet loses its carrier and stays as a device, anything else hangs up and is
    /// unregistered.
    pub(super) fn new(
        config: &Config,
        records: &LinkRecords,
        observed: &Observed,
        states: &LinkStates<'_>,
        down: &[LinkName],
    ) -> Self {
        let mut then = observed.clone();
        let mut carrierless = BTreeSet::new();
        let mut unregistered = BTreeSet::new();
        for gone in states.routed().iter().filter(|l| down.contains(&l.link.name)) {
            let Device { index, name } = &gone.next_hop.device;
            // A device that a daemon has made goes with it.
            let made = records.record(&gone.link.name, gone.family).is_some_and(|record| record.session.is_some());
            match then.interfaces.get_mut(name) {
                Some(interface) if (interface.arp || gone.link.gateway.is_some()) && !made => {
                    interface.state = InterfaceState::NoCarrier;
                    carrierless.insert(*index);
                }
                _ => {
                    then.interfaces.remove(name);
                    unregistered.insert(*index);
                }
            }
        }
        // What the kernel holds is as it is now; only the links are not.
        let left = LinkStates::new(config, records, &then).routed();
        let changes = Plan::new(config, &left, observed).changes;
        let found = observed.nexthops.iter().flatten().map(|(id, found)| (*id, found.kind.clone()));
        let mut objects: BTreeMap<_, _> = found.collect();
        for change in &changes {
            match change {
                Change::Nexthop { id, next_hop } => objects.insert(*id, NexthopKind::Single(next_hop.clone())),
                Change::Group { id, members } => objects.insert(*id, NexthopKind::Group(members.clone())),
                Change::DeleteNexthop(id) => objects.remove(id),
                _ => None,
            };
        }
        Self { protocol: config.settings.protocol, changes, carrierless, unregistered, objects }
    }

    /// The rules of a family as they are then.
    pub(super) fn rules(&self, family: Family, rules: &mut Vec<FoundRule>) {
        for change in &self.changes {
            match change {
                Change::Rule(new) | Change::KernelRule(new) if new.family == family => {
                    let kernels = matches!(change, Change::KernelRule(_));
                    let protocol = if kernels { KERNEL } else { self.protocol };
                    // After its equals, as fib_nl_newrule() does.
                    let at = rules.iter().position(|found| found.rule.priority > new.priority).unwrap_or(rules.len());
                    rules.insert(at, FoundRule { rule: new.clone(), protocol, more: None });
                }
                Change::DeleteRule(old) => {
                    let old = FoundRule { rule: old.clone(), protocol: self.protocol, more: None };
                    if let Some(at) = rules.iter().position(|found| *found == old) {
                        rules.remove(at);
                    }
                }
                _ => {}
            }
        }
    }

    /// A table's routes to a destination of the family as they are then.
    pub(super) fn routes(&self, family: Family, (table, mut routes): (TableId, Vec<FibRoute>)) -> Vec<FibRoute> {
        for change in &self.changes {
            match change {
                Change::Route(new) if new.table == table && new.family == family => self.put(new, &mut routes),
                Change::DeleteRoute(old) if old.table == table && old.family == family => delete(old, &mut routes),
                _ => {}
            }
        }
        for route in &mut routes {
            let own = route
                .nexthop
                .is_some_and(|id| self.changes.iter().any(|c| matches!(c, Change::Group { id: g, .. } if *g == id)));
            if let (true, Some(id)) = (own, route.nexthop) {
                route.next_hops = self.object(id, &route.next_hops);
            }
        }
        routes.retain_mut(|route| {
            let had = !route.next_hops.is_empty();
            // fib_sync_down_dev(): a multipath route goes whole with a device, however many of its next hops are left. Not
            // so in IPv6 (fib6_ifdown()).
            if route.nexthop.is_none()
                && family == Family::V4
                && route.next_hops.iter().any(|next_hop| self.unregistered.contains(&next_hop.hop.device))
            {
                return false;
            }
            route.next_hops.retain(|next_hop| !self.unregistered.contains(&next_hop.hop.device));
            // The same: without its carrier a device keeps the routes to this host.
            for next_hop in route.next_hops.iter_mut().filter(|_| route.kind != RouteKind::Local) {
                next_hop.hop.dead |= self.carrierless.contains(&next_hop.hop.device);
            }
            !had || !route.next_hops.is_empty()
        });
        routes
    }

    /// Creates a default route, or replaces the first of its metric; in IPv6, adds the next hops to it.
    fn put(&self, new: &DefaultRoute, routes: &mut Vec<FibRoute>) {
        let at = routes.iter().position(|r| is_default(r, new.metric));
        let old = at.map(|at| routes.remove(at));
        let known = old.map(|r| r.next_hops).unwrap_or_default();
        let stays = if new.family == Family::V6 { known.clone() } else { Vec::new() };
        let (nexthop, added) = match &new.target {
            Target::Group(id) => (Some(*id), self.object(*id, &known)),
            Target::NextHops(next_hops) => {
                let next_hops =
                    next_hops.iter().map(|WeightedNextHop { next_hop: l, weight }| next_hop(l, weight.get(), &known));
                (None, next_hops.collect())
            }
        };
        let next_hops: Vec<_> = stays.into_iter().chain(added).collect();
        let (metric, protocol) = (new.metric, self.protocol);
        let route = FibRoute { metric, protocol, nexthop, ..FibRoute::default_by(new.family, new.table, next_hops) };
        let after = routes.iter().position(|r| is_default(r, r.metric) && r.metric >= new.metric);
        let at = at.or(after).unwrap_or(routes.len());
        routes.insert(at, route);
    }

    /// Next hops of a nexthop object; `known` says the groups of their devices.
    fn object(&self, id: u32, known: &[FibNextHop]) -> Vec<FibNextHop> {
        let members = match self.objects.get(&id) {
            Some(NexthopKind::Group(members)) => members.as_slice(),
            _ => &[Member { id, weight: Weight::default() }],
        };
        let mut next_hops = Vec::new();
        for Member { id, weight } in members {
            if let Some(NexthopKind::Single(l)) = self.objects.get(id) {
                next_hops.push(next_hop(l, weight.get(), known));
            }
        }
        next_hops
    }
}

/// Deletes a route; of an IPv6 one, the next hops that are named.
fn delete(old: &FoundRoute, routes: &mut Vec<FibRoute>) {
    let Some(at) = routes.iter().position(|route| is_same(route, old)) else { return };
    if let (Family::V6, FoundTarget::NextHops(gone)) = (old.family, &old.target) {
        routes[at].next_hops.retain(|held| !gone.iter().any(|gone| is_same_next_hop(&gone.next_hop, held)));
        if !routes[at].next_hops.is_empty() {
            return;
        }
    }
    routes.remove(at);
}

fn is_same_next_hop(a: &NextHop, b: &FibNextHop) -> bool {
    a.device.index == b.hop.device && a.gateway.map(HostAddr::get) == b.hop.gateway
}

fn is_default(route: &FibRoute, metric: u32) -> bool {
    route.prefix.prefix_len() == 0 && route.from.is_none() && route.tos == 0 && route.metric == metric
}

/// Whether a route is the observed default route.
fn is_same(route: &FibRoute, old: &FoundRoute) -> bool {
    let nexthop = if let FoundTarget::Nexthop { id, .. } = old.target { Some(id) } else { None };
    let devices: Vec<_> = route.next_hops.iter().map(|next_hop| next_hop.hop.device).collect();
    is_default(route, old.metric)
        && route.protocol == old.protocol
        && route.nexthop == nexthop
        && old.target.devices().iter().all(|device| devices.contains(device))
}

fn next_hop(next_hop: &NextHop, weight: u16, known: &[FibNextHop]) -> FibNextHop {
    let group = known.iter().find(|l| l.hop.device == next_hop.device.index).map_or(0, |l| l.group);
    let hop = FoundNextHop::new(next_hop.device.index, next_hop.gateway.map(HostAddr::get));
    FibNextHop { hop: FoundNextHop { weight, ..hop }, name: next_hop.device.name.device(), group }
}
