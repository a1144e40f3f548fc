//! The difference between what is and what should be, as changes in an order that makes before it
//! breaks: at no prefix of a plan is there no default route where there was one and will be one.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Config, Link, NexthopMode};
use crate::model::change::Change;
use crate::model::names::TableId;
use crate::model::observed::Observed;
use crate::model::routing::{DefaultRoute, FoundRoute, NexthopKind};
use crate::reconcile::desired::{Desired, Make, nexthop_ids};
use crate::reconcile::firewall;
use crate::reconcile::link_state::{self, LiveLink};

mod rules;

pub use rules::PolicyRules;
use rules::{Missing, Obsolete, misleading};

mod kernel_rules;
mod packet_filter;
mod problem;

pub use problem::Problem;

/// Changes in the order in which they have to be made, and what stands against more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes.
    pub changes: Vec<Change>,
    /// What cannot be made right.
    pub problems: Vec<Problem>,
}

impl Plan {
    /// What to change so that the kernel, which holds `observed`, holds what `config` wants while
    /// `live` are the links that have routes ([`crate::reconcile::link_state::routed`]).
    pub fn new(config: &Config, live: &[LiveLink<'_>], observed: &Observed) -> Self {
        let mut plan = Self::default();
        let make = plan.make(config, observed);
        let desired = Desired::new(config, live, make).as_known_to(observed);
        let ours = config.settings.protocol;

        for interface in desired.interfaces.iter().filter_map(|name| observed.interfaces.get(name)) {
            if interface.strict_rp_filter {
                plan.changes.push(Change::LooseRpFilter(interface.device.name.clone()));
            }
            if interface.ignores_linkdown == Some(false) {
                plan.changes.push(Change::IgnoreLinkdown(interface.device.clone()));
            }
        }
        for (device, key) in link_state::lax_arp(live, observed) {
            plan.changes.push(Change::OwnArp(device.clone(), key));
        }
        if let Some(policy) = desired.hash_policy.filter(|p| observed.hash_policy != Some(*p)) {
            plan.changes.push(Change::HashPolicy(policy));
        }
        // Before any packet goes by the link, so that the first one is pinned and masqueraded.
        for (name, group) in firewall::device_groups(config, live, observed) {
            let device = observed.interfaces.get(&name).map(|i| i.device.clone());
            plan.changes.extend(device.map(|device| Change::DeviceGroup { device, group }));
        }
        let missing = Missing::new(&desired, observed);
        let obsolete = Obsolete::new(&desired, observed, ours);
        let tables = Tables {
            misleading: misleading(config, &obsolete),
            awaited: missing.tables().collect(),
            guarded: missing.kill_switches.iter().filter_map(|rule| rule.action.table()).collect(),
        };
        // A connection that began without our rules keeps its link only if they are there before another can take it.
        let firewall_first = tables.misleading.is_empty() && missing.are_sources(config);
        let firewall_first = firewall_first && packet_filter::nobody_waits(live, observed);
        if firewall_first {
            plan.load_firewall(config, live, observed);
        }
        plan.forget_moved_pins(config, live, observed, &tables.misleading);
        let Routes { stale, made, broken, put_off } = plan.make_routes(config, &desired, observed, &tables);
        plan.changes.extend(stale.into_iter().map(Change::DeleteRoute));
        plan.make_rules(&missing.kill_switches);
        plan.break_rules(&obsolete.guards);
        plan.make_nexthops(&desired, observed);
        plan.changes.extend(made);
        plan.make_rules(&missing.others);
        // After ours, or what they refuse would be let through in between.
        plan.changes.extend(kernel_rules::lost(&observed.rules, ours).into_iter().map(Change::KernelRule));
        plan.changes.extend(broken.into_iter().map(Change::DeleteRoute));
        plan.break_rules(&obsolete.others);
        plan.changes.extend(put_off.into_iter().map(Change::Route));
        plan.break_nexthops(&desired, observed, ours);
        // Last: a packet filter that cannot be changed, or is locked, must not keep routes waiting.
        if !firewall_first {
            plan.load_firewall(config, live, observed);
        }
        plan
    }

    /// How to make main's default routes.
    fn make(&mut self, config: &Config, observed: &Observed) -> Make {
        let settings = &config.settings;
        if settings.nexthops == NexthopMode::Multipath {
            return Make::Multipath;
        }
        let Some(found) = &observed.nexthops else {
            if settings.nexthops == NexthopMode::Objects {
                self.problems.push(Problem::NoNexthopObjects);
            }
            return Make::Multipath;
        };
        let ids = nexthop_ids(config);
        let foreign = ids.iter().filter_map(|id| found.get(id).map(|n| (*id, n.protocol)));
        let foreign = foreign.filter(|(_, protocol)| *protocol != settings.protocol);
        let problems: Vec<_> = foreign.map(|(id, protocol)| Problem::ForeignNexthop { id, protocol }).collect();
        let taken = !problems.is_empty();
        self.problems.extend(problems);
        // An object cannot become a group, nor the reverse (replace_nexthop() of the kernel). It
        // happens once, when `nexthop-id` has moved by about 100: a multipath route bridges it,
        // and the next plan, with the old objects gone, makes the new ones.
        let shaped = |id: &u32| match found.get(id).map(|n| &n.kind) {
            None => true,
            Some(NexthopKind::Group(_)) => settings.numbers.is_group(*id),
            Some(NexthopKind::Single(_) | NexthopKind::Elsewhere) => !settings.numbers.is_group(*id),
            Some(NexthopKind::Other) => false,
        };
        if taken || !ids.iter().all(shaped) { Make::Multipath } else { Make::Objects }
    }

    fn make_nexthops(&mut self, desired: &Desired, observed: &Observed) {
        let found = |id: &u32| observed.nexthops.as_ref().and_then(|all| all.get(id)).map(|n| &n.kind);
        for (id, leg) in &desired.nexthops {
            if found(id) != Some(&NexthopKind::Single(leg.clone())) {
                self.changes.push(Change::Nexthop { id: *id, leg: leg.clone() });
            }
        }
        for (id, members) in &desired.groups {
            if found(id) != Some(&NexthopKind::Group(members.clone())) {
                self.changes.push(Change::Group { id: *id, members: members.clone() });
            }
        }
    }

    /// The changes of routes, by when they can be made.
    fn make_routes(&mut self, config: &Config, desired: &Desired, observed: &Observed, tables: &Tables) -> Routes {
        let ours = config.settings.protocol;
        let mut places: BTreeMap<(TableId, u32), Vec<&FoundRoute>> = BTreeMap::new();
        for route in &observed.routes {
            places.entry((route.table, route.metric)).or_default().push(route);
        }
        let links = link_devices(config, desired, observed);
        let on_links = |route: &FoundRoute| {
            let devices = route.target.devices();
            !devices.is_empty() && devices.iter().all(|d| links.contains(d))
        };
        let mut routes = Routes::default();
        for route in &desired.routes {
            let mut found = places.remove(&(route.table, route.metric)).unwrap_or_default();
            let is_foreign = |f: &&FoundRoute| f.protocol != ours && !on_links(f);
            if let Some(foreign) = found.iter().copied().find(is_foreign) {
                let is_spare = config.settings.numbers.is_spare(route.metric);
                let problem = if is_spare { Problem::ForeignSpare } else { Problem::ForeignDefault };
                self.problems.push(problem(foreign.clone()));
                // Behind ours it carries nothing.
                if found.first().is_some_and(is_foreign) {
                    continue;
                }
                found.retain(|f| !is_foreign(f));
            }
            let same = found.iter().position(|f| f.protocol == ours && f.target.is(&route.target));
            // RTM_NEWROUTE with REPLACE acts on the first alias only, and says EEXIST where a later
            // one is already what is wanted (fib_table_insert()).
            let is_misleading = tables.misleading.contains(&route.table);
            if same.is_none() && (is_misleading || tables.guarded.contains(&route.table)) {
                routes.clear(found, tables);
                if is_misleading {
                    routes.put_off.push(route.clone());
                } else {
                    routes.made.push(Change::Route(route.clone()));
                }
            } else if let Some(at) = same {
                // Those before ours, such as what pppd's `defaultroute` left: ours carries meanwhile.
                routes.clear(found[..at].iter().copied(), tables);
                routes.broken.extend(found[at + 1..].iter().map(|f| (*f).clone()));
            } else {
                // The first alias carries until it is replaced. An older one of ours goes before that:
                // afterwards its deletion could hit the new one, since the kernel compares a single
                // leg with the first leg of a multipath route (fib_nh_match()).
                let (own, others): (Vec<&FoundRoute>, Vec<&FoundRoute>) =
                    found.iter().copied().skip(1).partition(|f| f.protocol == ours);
                routes.made.extend(own.into_iter().map(|f| Change::DeleteRoute(f.clone())));
                routes.made.push(Change::Route(route.clone()));
                routes.broken.extend(others.into_iter().cloned());
            }
        }
        // What pppd's `defaultroute` or a DHCP client put at the metric of a tier that is down would
        // win over the tiers that are up. Without any it stays: better than no default.
        let metrics = tier_metrics(config);
        let in_the_way =
            |f: &FoundRoute| desired.carries && f.table == TableId::MAIN && metrics.contains(&f.metric) && on_links(f);
        // The highest metric first: the route that carries until now is the last to go, and none
        // that it has hidden, by a line without carrier perhaps, comes to light.
        let unwanted = places.into_values().rev().flatten().filter(|f| f.protocol == ours || in_the_way(f));
        let (at_once, broken): (Vec<_>, Vec<_>) = unwanted.partition(|f| tables.awaited.contains(&f.table));
        routes.clear(at_once, tables);
        routes.broken.extend(broken.into_iter().cloned());
        routes
    }

    fn break_nexthops(&mut self, desired: &Desired, observed: &Observed, ours: u8) {
        let Some(found) = &observed.nexthops else { return };
        let mut gone: Vec<_> = found
            .iter()
            .filter(|(id, n)| {
                n.protocol == ours && !desired.nexthops.contains_key(id) && !desired.groups.contains_key(id)
            })
            .collect();
        // Groups before their members: a group that loses its last member goes by itself.
        gone.sort_by_key(|(_, n)| !matches!(n.kind, NexthopKind::Group(_)));
        self.changes.extend(gone.into_iter().map(|(id, _)| Change::DeleteNexthop(*id)));
    }
}

/// Changes of routes, in the order in which they are made.
#[derive(Default)]
struct Routes {
    /// To be deleted before kill switches are made.
    stale: Vec<FoundRoute>,
    /// To be made, replaced and deleted before other rules are made.
    made: Vec<Change>,
    /// To be deleted, when all is made.
    broken: Vec<FoundRoute>,
    /// To be made, when old rules are gone.
    put_off: Vec<DefaultRoute>,
}

impl Routes {
    /// Routes that have to go before rules are made that look up their tables.
    fn clear<'a>(&mut self, found: impl IntoIterator<Item = &'a FoundRoute>, tables: &Tables) {
        for route in found {
            if tables.guarded.contains(&route.table) {
                self.stale.push(route.clone());
            } else {
                self.made.push(Change::DeleteRoute(route.clone()));
            }
        }
    }
}

/// Tables of links that may be another link's than they were. Between the old rules and the new ones such a table is
/// better empty, and what looks it up goes on to the next rule, than with a route that the rule was not made for: a
/// policy's `unreachable` may stand behind it.
struct Tables {
    /// Rules look them up that have to go: a new route waits for that.
    misleading: BTreeSet<TableId>,
    /// Rules will look them up that are not there yet: an old route goes before that.
    awaited: BTreeSet<TableId>,
    /// Those of kill switches among these rules, which do not wait until an old route is replaced.
    guarded: BTreeSet<TableId>,
}

/// Metrics of main's default routes, whatever is up.
fn tier_metrics(config: &Config) -> BTreeSet<u32> {
    config.links.iter().filter_map(Link::tier).map(|tier| config.settings.numbers.tier_metric(tier)).collect()
}

/// Indices of the devices that belong to links, up or not.
fn link_devices(config: &Config, desired: &Desired, observed: &Observed) -> BTreeSet<u32> {
    let configured = config.links.iter().filter_map(|l| observed.interfaces.get(&l.interface));
    let live = desired.interfaces.iter().filter_map(|name| observed.interfaces.get(name));
    configured.chain(live).map(|i| i.device.index).collect()
}
