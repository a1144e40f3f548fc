//! IPv6 routes of a plan, next hop by next hop (leg by leg). Pure.
//!
//! The kernel holds each next hop of an IPv6 multipath route as a route of its own: those of one table and metric belong
//! together (`fib6_add_rt2node()`). So each can be added and deleted alone, and the others carry meanwhile. A replacement
//! of the whole is refused if one device is down.

use super::Change;
use super::routes::Routes;
use crate::model::routing::{DefaultRoute, FoundRoute, FoundTarget, Target, WeightedNextHop};

/// A next hop that the kernel holds.
struct Leg<'a> {
    hop: &'a WeightedNextHop,
    /// The kernel does not show the weight of a single one.
    is_alone: bool,
    route: &'a FoundRoute,
}

impl Leg<'_> {
    /// The route of this next hop alone.
    fn route(&self) -> FoundRoute {
        FoundRoute { target: FoundTarget::NextHops(vec![self.hop.clone()]), ..self.route.clone() }
    }
}

impl Routes<'_> {
    /// Plans an IPv6 route; none of `found`, those of the same table and metric, is foreign.
    pub(super) fn make_legs(&mut self, route: &DefaultRoute, found: &[&FoundRoute]) {
        let Target::NextHops(wanted) = &route.target else { return };
        let legs: Vec<_> = found.iter().flat_map(|route| legs(route)).collect();
        let mut missing: Vec<&WeightedNextHop> = wanted.iter().collect();
        let mut unwanted: Vec<FoundRoute> = Vec::new();
        for leg in &legs {
            let place = missing.iter().position(|hop| hop.next_hop == leg.hop.next_hop);
            let is_right = |hop: &WeightedNextHop| leg.is_alone || wanted.len() == 1 || hop.weight == leg.hop.weight;
            match place.filter(|_| self.is_ours(leg.route)).filter(|place| is_right(missing[*place])) {
                Some(place) => _ = missing.remove(place),
                None => unwanted.push(leg.route()),
            }
        }
        // By nexthop objects, or to nowhere.
        let others = found.iter().filter(|route| !matches!(route.target, FoundTarget::NextHops(_)));
        unwanted.extend(others.map(|route| (*route).clone()));
        self.change_legs(route, &missing, unwanted);
    }

    /// Adds the missing next hops, then deletes the unwanted ones. One that the kernel would take for a missing one is
    /// deleted before.
    fn change_legs(&mut self, route: &DefaultRoute, missing: &[&WeightedNextHop], unwanted: Vec<FoundRoute>) {
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

fn legs(route: &FoundRoute) -> Vec<Leg<'_>> {
    let FoundTarget::NextHops(hops) = &route.target else { return Vec::new() };
    hops.iter().map(|hop| Leg { hop, is_alone: hops.len() == 1, route }).collect()
}

/// Whether it has the next hop, with whatever weight.
fn leads_by(route: &FoundRoute, hop: &WeightedNextHop) -> bool {
    matches!(&route.target, FoundTarget::NextHops(hops) if hops.iter().any(|found| found.next_hop == hop.next_hop))
}
