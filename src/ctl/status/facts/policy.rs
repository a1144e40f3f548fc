//! What there is to tell of a policy.

use ipnet::IpNet;

use super::{LedIpv6, PolicyFacts, Seen};
use crate::config::{Link, Otherwise, Policy};
use crate::ctl::detours::Elsewhere;
use crate::model::names::Family;
use crate::model::routing::FoundRoute;
use crate::reconcile::link_state::LiveLink;
use crate::reconcile::plan::PolicyRules;

impl Seen<'_> {
    /// Where a policy leads: to the first of its links whose table has a default route by its interface, if the kernel
    /// holds the rules of the policy, and has not said that it sends a packet of it elsewhere.
    pub(super) fn policy(&self, at: usize, policy: &Policy, rules: PolicyRules) -> PolicyFacts {
        let mut families = policy.families();
        let (link, elsewhere) = self.led(at, policy, rules, families.next().unwrap_or(Family::V4));
        let has_ipv6 = !self.states.routed().v6.is_empty();
        let ipv6 = families.next().filter(|_| has_ipv6).map(|family| {
            let (link_ipv6, elsewhere_ipv6) = self.led(at, policy, rules, family);
            LedIpv6 { link_ipv6, elsewhere_ipv6 }
        });
        PolicyFacts {
            name: policy.name.clone(),
            via: policy.via.iter().map(ToString::to_string).collect(),
            link,
            ipv6,
            otherwise: match policy.otherwise {
                Otherwise::Default => "default",
                Otherwise::Unreachable => "unreachable",
            },
            rules: rules.all,
            rules_missing: rules.missing,
            elsewhere,
        }
    }

    /// The link that a policy leads to in a family, and where the kernel says that a packet of it goes instead.
    fn led(
        &self,
        at: usize,
        policy: &Policy,
        rules: PolicyRules,
        family: Family,
    ) -> (Option<String>, Option<Elsewhere>) {
        let elsewhere = self.ways.elsewhere.get(&(at, family)).cloned();
        let is_led = rules.missing == 0 && elsewhere.is_none();
        (self.leads_to(policy, family).filter(|_| is_led), elsewhere)
    }

    /// Whether a policy may be about packets that come from a prefix of an uplink that is none of its own, and are forwarded.
    pub(super) fn sources_decide(&self) -> bool {
        let live = self.states.live().v6;
        let policies = self.config.policies.iter().filter(|policy| may_be_bound(policy));
        self.forwards6 && policies.into_iter().any(|policy| live.iter().any(|l| leaves_by(l, policy)))
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

/// Whether a policy is about what others send, and rules of sources are asked before it. Those of kill switches are led
/// past them.
fn may_be_bound(policy: &Policy) -> bool {
    let is_own = !policy.uid.is_empty() || policy.iif.iter().any(|name| name.as_str() == "lo");
    policy.families().any(|family| family == Family::V6) && policy.otherwise == Otherwise::Default && !is_own
}

/// Whether an uplink that the policy does not want first has some of its packets for their source.
fn leaves_by(l: &LiveLink<'_>, policy: &Policy) -> bool {
    let is_unwanted = l.link.is_uplink() && policy.via.first() != Some(&l.link.name);
    let is_of = |net: &IpNet| l.prefixes.iter().any(|prefix| prefix.contains(net) || net.contains(prefix));
    is_unwanted && !l.prefixes.is_empty() && (policy.from.is_empty() || policy.from.iter().any(is_of))
}
