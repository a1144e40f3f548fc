//! What there is to tell of a policy.

use super::{LedIpv6, PolicyFacts, Seen};
use crate::config::{Link, Otherwise, Policy};
use crate::model::names::Family;
use crate::model::routing::FoundRoute;
use crate::reconcile::plan::PolicyRules;

impl Seen<'_> {
    /// Where a policy leads: to the first of its links whose table has a default route by its interface, if the kernel
    /// holds the rules of the policy, and has not said that it sends a packet of it elsewhere.
    pub(super) fn policy(&self, at: usize, policy: &Policy, rules: PolicyRules) -> PolicyFacts {
        let elsewhere = self.ways.elsewhere.get(&at).cloned();
        let is_held = rules.missing == 0 && elsewhere.is_none();
        let leads_to = |family| self.leads_to(policy, family).filter(|_| is_held);
        let mut families = policy.families();
        let first = families.next().unwrap_or(Family::V4);
        let has_ipv6 = !self.states.routed().v6.is_empty();
        PolicyFacts {
            name: policy.name.clone(),
            via: policy.via.iter().map(ToString::to_string).collect(),
            link: leads_to(first),
            ipv6: families.next().filter(|_| has_ipv6).map(|family| LedIpv6 { link_ipv6: leads_to(family) }),
            otherwise: match policy.otherwise {
                Otherwise::Default => "default",
                Otherwise::Unreachable => "unreachable",
            },
            rules: rules.all,
            rules_missing: rules.missing,
            elsewhere,
        }
    }

    /// The first of its links whose table has a default route of the family by its interface.
    fn leads_to(&self, policy: &Policy, family: Family) -> Option<String> {
        let mut via = policy.via.iter().filter_map(|name| self.config.link(name));
        let of_family = self.observed.routes.iter().filter(|route| route.family == family);
        let link = via.find(|link| of_family.clone().any(|route| self.leads_by(route, link)))?;
        Some(link.name.to_string())
    }

    /// Whether a route is of the link's table, carries, and leads by no interface but the link's.
    fn leads_by(&self, route: &FoundRoute, link: &Link) -> bool {
        let record = self.records.record(&link.name, route.family).or(self.records.get(&link.name));
        let interface = record.map_or(&link.interface, |record| &record.interface);
        let now = self.observed.interfaces.get(interface).map(|found| found.device.index);
        let own = [record.map(|record| record.index), now];
        let devices = route.target.devices();
        route.table == link.table
            && !devices.is_empty()
            && devices.into_iter().all(|index| own.contains(&Some(index)) && self.has_carrier(index))
    }
}
