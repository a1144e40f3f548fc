//! What a lookup finds.

use multihome::model::names::{Family, TableId, Weight};
use multihome::model::routing::{FoundRule, NexthopKind};

use super::{Fake, Held, Via};

impl Fake {
    /// Devices among which the default route of `table` shares out its flows: those of the first
    /// route that is not wholly dead or passed over. Of IPv6, those of its live next hops.
    pub fn carriers(&self, family: Family, table: TableId) -> Vec<(u32, Weight)> {
        let Some(first) = self.in_use(family, table) else { return Vec::new() };
        if !first.is_hop() {
            return self.live_next_hops(first).unwrap_or_default();
        }
        let next_hops = self.routes[self.place(family, table, first.metric)].iter().filter(|route| route.is_hop());
        next_hops.filter_map(|next_hop| self.live_next_hops(next_hop)).flatten().collect()
    }

    /// The default route of `table` that a lookup ends at.
    pub fn in_use(&self, family: Family, table: TableId) -> Option<&Held> {
        let mut routes = self.routes.iter().filter(|route| route.family == family && route.table == table);
        routes.find(|route| self.live_next_hops(route).is_some())
    }

    /// Devices of a route, dead ones left out; `None`: the lookup goes on.
    fn live_next_hops(&self, route: &Held) -> Option<Vec<(u32, Weight)>> {
        match &route.via {
            Via::Unreachable => Some(Vec::new()),
            Via::Nexthop(id) => Some(self.resolve(*id)),
            Via::NextHops(next_hops) => {
                let all = next_hops.iter().map(|l| (l.next_hop.device.index, l.weight));
                let live: Vec<_> = all
                    .filter(|(index, _)| !route.dead.contains(index) && !self.passes_over(route.family, *index))
                    .collect();
                (!live.is_empty()).then_some(live)
            }
        }
    }

    /// `ip_ignore_linkdown()`, `ip6_ignore_linkdown()` of a device without carrier.
    fn passes_over(&self, family: Family, index: u32) -> bool {
        self.nic(index).is_some_and(|nic| !nic.carrier && nic.ignores_linkdown(family))
    }

    pub(super) fn resolve(&self, id: u32) -> Vec<(u32, Weight)> {
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

    /// Whether packets can leave by a default route: main's; of IPv6, what table `default` has goes before it where a rule
    /// leads there.
    pub fn has_default(&self, family: Family) -> bool {
        let first = TableId::observed(253);
        let leads = |held: &FoundRule| held.rule.family == family && held.rule.action.table() == Some(first);
        let is_first = family == Family::V6 && self.rules.iter().any(leads) && self.in_use(family, first).is_some();
        let carries = |index| self.nic(index).is_some_and(|nic| nic.up && nic.carrier);
        let table = if is_first { first } else { TableId::MAIN };
        self.carriers(family, table).iter().any(|(index, _)| carries(*index))
    }
}
