//! The plan: changes from the observed to the desired state, in an order that makes before it breaks. A plan can stop
//! after any change, and there is a default route if there was one before and will be one after it. Pure.

use crate::config::Config;
use crate::model::change::Change;
use crate::model::firewall::Lacking;
use crate::model::names::Family;
use crate::model::observed::Observed;
use crate::model::routing::Rule;
use crate::reconcile::desired::Desired;
use crate::reconcile::firewall;
use crate::reconcile::link_state::{self, Live};

mod ipv6;
mod kernel_rules;
mod lan;
mod nexthops;
mod packet_filter;
mod problem;
mod routes;
mod rules;

pub use problem::Problem;
pub(crate) use rules::PolicyRules;

use packet_filter::Turn;
use routes::{Routes, Tables};
use rules::{Missing, Obsolete};

/// Changes in their order, and problems that a plan cannot solve.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub changes: Vec<Change>,
    /// Problems that no change solves.
    pub problems: Vec<Problem>,
    /// The packet filter could not be read, so that there may be changes of it.
    pub is_filter_hidden: bool,
}

/// What the kernel has refused, and a plan must avoid.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Avoid {
    /// Groups of nexthop objects.
    pub(super) nexthop_groups: bool,
    /// Of the packet filter.
    pub(super) firewall: Lacking,
}

impl Plan {
    /// The changes from `observed` to what `config` wants for `live`, the links that have routes
    /// ([`link_state::LinkStates::routed`]).
    pub fn new(config: &Config, live: &Live<'_>, observed: &Observed) -> Self {
        Self::avoiding(config, live, observed, Avoid::default())
    }

    /// The same without what `avoid` names.
    pub(super) fn avoiding(config: &Config, live: &Live<'_>, observed: &Observed, avoid: Avoid) -> Self {
        let managed = config.settings.protocol;
        let without = firewall::without(config, observed, avoid.firewall);
        let mut plan = Self::default();
        plan.problems.extend(lost_sets(config, observed, avoid.firewall));
        let config = &*firewall::sets::carried_out(config, &observed.firewall, avoid.firewall);
        let mode = plan.default_route_mode(config, observed, avoid);
        let desired = Desired::new(config, live, mode).for_kernel(observed, config);
        let missing = Missing::new(&desired, observed);
        let mut obsolete = Obsolete::new(&desired, observed, managed);
        let tables = Tables::new(config, &missing, &obsolete);

        plan.set_interfaces(&desired, live, observed);
        // Before the first packet leaves by the link, so that it is marked and masqueraded.
        plan.set_device_groups(config, live, observed, without);
        if !observed.firewall.hidden {
            plan.changes.extend(firewall::refilled_sets(config, live, observed, without));
        }
        let turn = packet_filter::turn(config, live, observed, without, &tables, &missing);
        if turn == Turn::First {
            plan.load_firewall(config, live, observed, without);
            plan.mark_connections(config, live, observed);
        }
        plan.flush_moved_marks(config, live, observed, &tables.stale);
        plan.flush_lost_prefixes(config, live, &obsolete);
        let routes = Routes::new(config, &desired, observed, &tables);
        plan.problems.extend(routes.problems);
        plan.changes.extend(routes.early.into_iter().map(Change::DeleteRoute));
        let refusals = if turn == Turn::BeforeRoutes {
            obsolete.refusals(config, &firewall::changes(config, live, observed, without))
        } else {
            Vec::new()
        };
        let (standing, new): (Vec<&Rule>, Vec<&Rule>) =
            refusals.iter().partition(|rule| obsolete.others.contains(rule));
        plan.make_rules(&new);
        plan.delete_rules(&obsolete.take_misleading(&missing));
        plan.make_rules(&missing.kill_switches);
        if turn == Turn::BeforeRoutes {
            plan.load_firewall(config, live, observed, without);
        }
        plan.delete_rules(&obsolete.guards);
        plan.make_nexthops(&desired, observed);
        plan.changes.extend(routes.made);
        plan.make_rules(&missing.others);
        // After the managed rules, or packets that these refuse would pass meanwhile.
        plan.changes.extend(kernel_rules::lost(&observed.rules, &desired, managed).into_iter().map(Change::KernelRule));
        plan.changes.extend(routes.obsolete.into_iter().map(Change::DeleteRoute));
        plan.changes.extend(lan::preferred(config, live, observed));
        obsolete.others.retain(|rule| !standing.contains(rule));
        plan.delete_rules(&obsolete.others);
        plan.delete_rules(&refusals.iter().collect::<Vec<_>>());
        plan.changes.extend(routes.deferred.into_iter().map(Change::Route));
        plan.delete_nexthops(&desired, observed, managed);
        if turn == Turn::Last {
            plan.load_firewall(config, live, observed, without);
        }
        plan
    }

    /// Sysctls of the links' interfaces.
    fn set_interfaces(&mut self, desired: &Desired, live: &Live<'_>, observed: &Observed) {
        for (name, family) in &desired.interfaces {
            let Some(interface) = observed.interfaces.get(name) else { continue };
            let is_v4 = *family == Family::V4;
            if interface.strict_rp_filter && is_v4 {
                self.changes.push(Change::LooseRpFilter(interface.device.name.clone()));
            }
            let ignores_linkdown = if is_v4 { interface.ignores_linkdown } else { interface.ignores_linkdown6 };
            if ignores_linkdown == Some(false) {
                self.changes.push(Change::IgnoreLinkdown(interface.device.clone(), *family));
            }
        }
        for (device, key) in link_state::lax_arp(&live.v4, observed) {
            self.changes.push(Change::OwnArp(device.clone(), key));
        }
        let Some(policy) = desired.hash_policy else { return };
        if observed.hash_policy != Some(policy) {
            self.changes.push(Change::HashPolicy(Family::V4, policy));
        }
        if observed.hash_policy6.is_some_and(|found| found != policy) {
            self.changes.push(Change::HashPolicy(Family::V6, policy));
        }
    }

    fn set_device_groups(&mut self, config: &Config, live: &Live<'_>, observed: &Observed, without: Lacking) {
        for (name, group) in firewall::device_groups(config, live, observed, without) {
            if let Some(interface) = observed.interfaces.get(&name) {
                self.changes.push(Change::DeviceGroup { device: interface.device.clone(), group });
            }
        }
    }
}

/// That policies by sets do not hold.
fn lost_sets(config: &Config, observed: &Observed, refused: Lacking) -> Option<Problem> {
    let lost = firewall::sets::lost(config, &observed.firewall, refused);
    let is_refused = observed.firewall.nft.is_some();
    (!lost.is_empty()).then(|| {
        let policies = lost.into_iter().map(str::to_owned).collect();
        Problem::NoSets { policies, is_refused }
    })
}
