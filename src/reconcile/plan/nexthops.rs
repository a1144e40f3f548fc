//! The nexthop objects of a plan, and whether to use any. Pure.

use super::{Avoid, Change, Plan, Problem};
use crate::config::{Config, NexthopMode};
use crate::model::observed::Observed;
use crate::model::routing::NexthopKind;
use crate::reconcile::desired::{DefaultRouteMode, Desired, nexthop_ids};

impl Plan {
    /// How to make main's default routes.
    pub(super) fn default_route_mode(
        &mut self,
        config: &Config,
        observed: &Observed,
        avoid: Avoid,
    ) -> DefaultRouteMode {
        let settings = &config.settings;
        if settings.nexthops == NexthopMode::Multipath || avoid.nexthop_groups {
            return DefaultRouteMode::Multipath;
        }
        let Some(found) = &observed.nexthops else {
            if settings.nexthops == NexthopMode::Objects {
                self.problems.push(Problem::NoNexthopObjects);
            }
            return DefaultRouteMode::Multipath;
        };
        let mut mode = DefaultRouteMode::Objects;
        for id in nexthop_ids(config) {
            let Some(nexthop) = found.get(&id) else { continue };
            if nexthop.protocol != settings.protocol {
                self.problems.push(Problem::ForeignNexthop { id, protocol: nexthop.protocol });
                mode = DefaultRouteMode::Multipath;
            }
            // The kernel cannot replace an object by a group, or a group by an object (`replace_nexthop()`), as is
            // necessary after `nexthop-id` has moved by about 100. A multipath route bridges the time: this plan
            // deletes the old objects, and the next one creates the new ones.
            let can_be_replaced = match nexthop.kind {
                NexthopKind::Group(_) => settings.numbers.is_group(id),
                NexthopKind::Single(_) | NexthopKind::ForeignDevice => !settings.numbers.is_group(id),
                NexthopKind::Other => false,
            };
            if !can_be_replaced {
                mode = DefaultRouteMode::Multipath;
            }
        }
        mode
    }

    /// Objects before the groups that they are members of.
    pub(super) fn make_nexthops(&mut self, desired: &Desired, observed: &Observed) {
        for (id, next_hop) in &desired.nexthops {
            if kind(observed, *id) != Some(&NexthopKind::Single(next_hop.clone())) {
                self.changes.push(Change::Nexthop { id: *id, next_hop: next_hop.clone() });
            }
        }
        for (id, members) in &desired.groups {
            if kind(observed, *id) != Some(&NexthopKind::Group(members.clone())) {
                self.changes.push(Change::Group { id: *id, members: members.clone() });
            }
        }
    }

    /// Groups before their members: the kernel deletes a group that loses its last member.
    pub(super) fn delete_nexthops(&mut self, desired: &Desired, observed: &Observed, managed: u8) {
        let (mut groups, mut singles) = (Vec::new(), Vec::new());
        for (id, nexthop) in observed.nexthops.iter().flatten() {
            let is_wanted = desired.nexthops.contains_key(id) || desired.groups.contains_key(id);
            if nexthop.protocol == managed && !is_wanted {
                let is_group = matches!(nexthop.kind, NexthopKind::Group(_));
                if is_group { &mut groups } else { &mut singles }.push(Change::DeleteNexthop(*id));
            }
        }
        self.changes.extend(groups);
        self.changes.extend(singles);
    }
}

fn kind(observed: &Observed, id: u32) -> Option<&NexthopKind> {
    observed.nexthops.as_ref()?.get(&id).map(|nexthop| &nexthop.kind)
}
