//! IPv6 routes of a plan, next hop by next hop. Pure.
//!
//! The kernel holds each next hop of an IPv6 multipath route as a route of its own: those of one table and metric belong
//! together (`fib6_add_rt2node()`). So each can be added and deleted alone, and the others carry meanwhile. A replacement
//! of the whole is refused if one device is down.

use super::Change;
use super::routes::Routes;
use crate::model::routing::{DefaultRoute, FoundRoute, FoundTarget, Target, WeightedNextHop};

/// A next hop that the kernel holds.
struct HeldHop<'a> {
    hop: &'a WeightedNextHop,
    /// The kernel does not show the weight of a single one.
    is_alone: bool,
    route: &'a FoundRoute,
}

impl HeldHop<'_> {
    /// The route of this next hop alone.
    fn route(&self) -> FoundRoute {
        FoundRoute { target: FoundTarget::NextHops(vec![self.hop.clone()]), ..self.route.clone() }
    }
}

impl Routes<'_> {
    /// Plans an IPv6 route; none of `found`, those of the same table and metric, is foreign.
    pub(super) fn make_next_hops(&mut self, route: &DefaultRoute, found: &[&FoundRoute]) {
        let Target::NextHops(wanted) = &route.target else { return };
        let all: Vec<_> = found.iter().flat_map(|route| held_hops(route)).collect();
        let mut missing: Vec<&WeightedNextHop> = wanted.iter().collect();
        let mut unwanted: Vec<FoundRoute> = Vec::new();
        for held in &all {
            let place = missing.iter().position(|hop| hop.next_hop == held.hop.next_hop);
            let is_right = |hop: &WeightedNextHop| held.is_alone || wanted.len() == 1 || hop.weight == held.hop.weight;
            match place.filter(|_| self.is_ours(held.route)).filter(|place| is_right(missing[*place])) {
                Some(place) => _ = missing.remove(place),
                None => unwanted.push(held.route()),
            }
        }
        // By nexthop objects, or to nowhere.
        let others = found.iter().filter(|route| !matches!(route.target, FoundTarget::NextHops(_)));
        unwanted.extend(others.map(|route| (*route).clone()));
        self.change_next_hops(route, &missing, unwanted);
    }

    /// Adds the missing next hops, then deletes the unwanted ones. One that the kernel would take for a missing one is
    /// deleted before.
    fn change_next_hops(&mut self, route: &DefaultRoute, missing: &[&WeightedNextHop], unwanted: Vec<FoundRoute>) {
        let added = missing.iter().map(|hop| {
            let target = Target::NextHops(vec![(*hop).clone()]);
            DefaultRoute { target, ..route.clone() }
        });
        if self.tables.stale.contains(&route.table) {
            self.clear(&unwanted.iter().collect::<Vec<_>>());
            self.deferred.extend(added);
            return;
        }
        if self.tables.guarded.contains(&route.table) {
            self.clear(&unwanted.iter().collect::<Vec<_>>());
            self.made.extend(added.map(Change::Route));
            return;
        }
        let (same, others): (Vec<_>, Vec<_>) =
            unwanted.into_iter().partition(|route| missing.iter().any(|hop| leads_by(route, hop)));
        self.made.extend(same.into_iter().map(Change::DeleteRoute));
        self.made.extend(added.map(Change::Route));
        self.obsolete.extend(others);
    }
}

fn held_hops(route: &FoundRoute) -> Vec<HeldHop<'_>> {
    let FoundTarget::NextHops(hops) = &route.target else { return Vec::new() };
    hops.iter().map(|hop| HeldHop { hop, is_alone: hops.len() == 1, route }).collect()
}

/// Whether it has the next hop, with whatever weight.
fn leads_by(route: &FoundRoute, hop: &WeightedNextHop) -> bool {
    matches!(&route.target, FoundTarget::NextHops(hops) if hops.iter().any(|found| found.next_hop == hop.next_hop))
}
