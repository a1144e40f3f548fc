//! IPv6 routes of a plan, next hop by next hop. Pure.
//!
//! The kernel holds each next hop of an IPv6 multipath route as a route of its own: those of one table and metric belong
//! together (`fib6_add_rt2node()`). So each can be added and deleted alone, and the others carry meanwhile. A replacement
//! of the whole is refused if one device is down.

use super::Change;
use super::routes::Routes;
use crate::model::names::HostAddr;
use crate::model::routing::{
    DefaultRoute, FoundNextHop, FoundRoute, FoundTarget, NextHop, RouteKind, Target, WeightedNextHop,
};

/// Requests with it are about routes of any protocol.
const ANY_PROTOCOL: u8 = 0;

/// A next hop that the kernel holds, as a route of its own. The kernel tells neither the protocol of any but the first,
/// nor the weight of a single one.
struct HeldHop {
    route: FoundRoute,
    hop: FoundNextHop,
    /// Whether it is all of the route that the kernel shows.
    is_alone: bool,
}

impl HeldHop {
    /// Whether it leads by `hop`. For the kernel, too, these are the same (`rt6_duplicate_nexthop()`).
    fn leads_by(&self, hop: &NextHop) -> bool {
        self.hop.device == hop.device.index && self.hop.gateway == hop.gateway.map(HostAddr::get)
    }
}

impl Routes<'_> {
    /// Plans an IPv6 route; none of `found`, those of the same table and metric, is foreign.
    pub(super) fn make_next_hops(&mut self, route: &DefaultRoute, found: &[&FoundRoute]) {
        let Target::NextHops(wanted) = &route.target else { return };
        // Somebody else's spare is as good; and it may be what tells the router.
        let is_spare = self.config.settings.numbers.is_spare(route.metric);
        let mut missing: Vec<&WeightedNextHop> = wanted.iter().collect();
        let mut unwanted: Vec<HeldHop> = Vec::new();
        for held in found.iter().flat_map(|route| held_hops(route)) {
            let is_weighted =
                |hop: &WeightedNextHop| held.is_alone || wanted.len() == 1 || hop.weight.get() == held.hop.weight;
            let place = missing.iter().position(|hop| held.leads_by(&hop.next_hop) && is_weighted(hop));
            match place.filter(|_| is_spare || self.is_ours(&held.route)) {
                Some(place) => _ = missing.remove(place),
                None => unwanted.push(held),
            }
        }
        for held in unwanted.iter_mut().filter(|held| !held.is_alone) {
            // Whoever has added it, it is in the way; but by an interface of no link only ours is.
            let is_on_links = self.is_on_links(&held.route);
            held.route.protocol = if is_on_links { ANY_PROTOCOL } else { self.config.settings.protocol };
        }
        // By nexthop objects, or to nowhere.
        let others = found.iter().filter(|route| held_hops(route).is_empty()).map(|route| (*route).clone());
        self.change_next_hops(route, &missing, unwanted, others.collect());
    }

    /// Adds the missing next hops, then deletes the unwanted ones and other routes. One that the kernel would take for a
    /// missing one is deleted right before that: the others carry meanwhile.
    fn change_next_hops(
        &mut self,
        route: &DefaultRoute,
        missing: &[&WeightedNextHop],
        mut unwanted: Vec<HeldHop>,
        mut others: Vec<FoundRoute>,
    ) {
        let table = (route.family, route.table);
        let is_stale = self.tables.stale.contains(&table);
        if is_stale || self.tables.guarded.contains(&table) {
            others.extend(unwanted.drain(..).map(|held| held.route));
            self.clear(&others.iter().collect::<Vec<_>>());
            others.clear();
        }
        for hop in missing {
            let target = Target::NextHops(vec![(*hop).clone()]);
            let added = DefaultRoute { target, ..route.clone() };
            if is_stale {
                self.deferred.push(added);
                continue;
            }
            let (same, rest) = unwanted.into_iter().partition::<Vec<_>, _>(|held| held.leads_by(&hop.next_hop));
            unwanted = rest;
            self.made.extend(same.into_iter().map(|held| Change::DeleteRoute(held.route)));
            self.made.push(Change::Route(added));
        }
        self.obsolete.extend(unwanted.into_iter().map(|held| held.route).chain(others));
    }
}

/// The next hops of a route; none, if it has none of its own.
fn held_hops(route: &FoundRoute) -> Vec<HeldHop> {
    let mut held = Vec::new();
    match &route.target {
        FoundTarget::NextHops(hops) => {
            for WeightedNextHop { next_hop, weight } in hops {
                let gateway = next_hop.gateway.map(HostAddr::get);
                let hop = FoundNextHop { weight: weight.get(), ..FoundNextHop::new(next_hop.device.index, gateway) };
                let target =
                    FoundTarget::NextHops(vec![WeightedNextHop { next_hop: next_hop.clone(), weight: *weight }]);
                held.push(HeldHop { route: FoundRoute { target, ..route.clone() }, hop, is_alone: hops.len() == 1 });
            }
        }
        FoundTarget::Other { kind: RouteKind::Unicast, text, hops } => {
            let mut texts = text.split("nexthop ").filter(|text| !text.is_empty());
            for hop in hops {
                let text = texts.next().unwrap_or_default().trim_end().to_owned();
                let target = FoundTarget::Other { kind: RouteKind::Unicast, text, hops: vec![*hop] };
                held.push(HeldHop {
                    route: FoundRoute { target, ..route.clone() },
                    hop: *hop,
                    is_alone: hops.len() == 1,
                });
            }
        }
        FoundTarget::Nexthop { .. } | FoundTarget::Other { .. } => {}
    }
    held
}
