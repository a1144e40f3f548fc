//! What there is to tell of default routes.

use super::{DefaultFacts, NextHopFacts, Seen};
use crate::ctl::lookup::{observed_next_hops, pass_over, pass_to_first};
use crate::model::names::{Family, IfName, TableId};
use crate::model::numbering::DEFAULT6_RULE;
use crate::model::observed::InterfaceState;
use crate::model::routing::{FoundRoute, FoundTarget, NextHop};

impl Seen<'_> {
    /// Those of main of a family, the one in use first. In IPv6 ours are in use in table `default`, before main's.
    pub(super) fn default_routes(&self, family: Family) -> Vec<DefaultFacts> {
        let mut shown: Vec<&FoundRoute> = Vec::new();
        for table in [TableId::DEFAULT, TableId::MAIN] {
            let routes = self.observed.routes.iter();
            let mut defaults: Vec<_> = routes.filter(|route| route.table == table && route.family == family).collect();
            // The kernel's order is kept within a metric: there the first is in use.
            defaults.sort_by_key(|route| route.metric);
            if table == TableId::MAIN {
                defaults.retain(|route| !shown.iter().any(|ours| is_copy(ours, route)));
            } else if !self.asks_default() {
                defaults.clear();
            }
            shown.extend(defaults);
        }
        shown.into_iter().map(|route| self.default_route(route)).collect()
    }

    /// Whether our rule for table `default` is there.
    fn asks_default(&self) -> bool {
        self.observed.rules.iter().any(|found| {
            let action = &found.rule.action;
            found.rule.family == Family::V6
                && found.rule.priority == DEFAULT6_RULE
                && action.table() == Some(TableId::DEFAULT)
        })
    }

    fn default_route(&self, route: &FoundRoute) -> DefaultFacts {
        let all = observed_next_hops(&route.target, self.observed);
        let is_refusal = all.is_empty();
        let mut carrying: Vec<(&NextHop, f64)> = Vec::new();
        for (next_hop, weight) in all {
            if self.has_carrier(next_hop.device.index) {
                carrying.push((next_hop, weight.into()));
            }
        }
        let is_silent = |next_hop: &&NextHop| self.silent.contains(&(route.family, next_hop.device.name.clone()));
        match (&route.target, route.family) {
            (FoundTarget::Nexthop { .. }, _) => pass_over(&mut carrying, is_silent),
            (_, Family::V6) if !self.forwards6 => pass_to_first(&mut carrying, is_silent),
            _ => {}
        }
        let sum: f64 = carrying.iter().map(|(_, share)| share).sum();
        let mut next_hops = Vec::new();
        for (next_hop, share) in carrying {
            if share > 0.0 {
                let interface = &next_hop.device.name;
                let (link, percent) = (self.link_on(interface), share * 100.0 / sum);
                next_hops.push(NextHopFacts { link, interface: interface.to_string(), percent });
            }
        }
        let settings = &self.config.settings;
        let ours = route.protocol == settings.protocol;
        DefaultFacts {
            metric: route.metric,
            ours,
            spare: ours && settings.numbers.is_spare(route.metric),
            carries: is_refusal || !next_hops.is_empty(),
            target: route.target.to_string(),
            next_hops,
        }
    }

    /// Whether routes by a device carry traffic, as far as is known.
    pub(super) fn has_carrier(&self, index: u32) -> bool {
        let mut interfaces = self.observed.interfaces.values();
        interfaces.find(|i| i.device.index == index).is_none_or(|i| i.state == InterfaceState::Up)
    }

    /// The link that is on an interface now, or else would be.
    fn link_on(&self, interface: &IfName) -> Option<String> {
        let routed = self.states.routed();
        let on_it = routed.iter().find(|l| l.next_hop.device.name == *interface).map(|l| &l.link.name);
        let recorded = self.records.iter().find(|(_, record)| record.interface == *interface).map(|(name, _)| name);
        on_it.or(recorded).or(self.config.link_on(interface).map(|link| &link.name)).map(ToString::to_string)
    }
}

/// Whether two routes, of table `default` and of main, are ours for the same tier.
fn is_copy(a: &FoundRoute, b: &FoundRoute) -> bool {
    a.metric == b.metric && a.protocol == b.protocol
}
