//! The routes of a plan: what is made of what is found, and when each route can be made or deleted. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::rules::{Missing, Obsolete, stale_tables};
use super::{Change, Problem};
use crate::config::{Config, Link};
use crate::model::names::TableId;
use crate::model::observed::Observed;
use crate::model::routing::{DefaultRoute, FoundRoute};
use crate::reconcile::desired::Desired;

/// Tables of links that may be another link's than they were. Between the old rules and the new ones such a table is
/// better empty, and what looks it up goes on to the next rule, than with a route that the rule was not made for: a
/// policy's `unreachable` may stand behind it.
pub(super) struct Tables {
    /// Rules look them up that have to go: a new route waits for that.
    pub(super) stale: BTreeSet<TableId>,
    /// Rules will look them up that are not there yet: an old route goes before that.
    pending: BTreeSet<TableId>,
    /// Those of kill switches among these rules, which do not wait until an old route is replaced.
    guarded: BTreeSet<TableId>,
}

impl Tables {
    pub(super) fn new(config: &Config, missing: &Missing<'_>, obsolete: &Obsolete<'_>) -> Self {
        Self {
            stale: stale_tables(config, obsolete),
            pending: missing.tables().collect(),
            guarded: missing.kill_switches.iter().filter_map(|rule| rule.action.table()).collect(),
        }
    }
}

/// Changes of routes, by when they can be made.
pub(super) struct Routes<'a> {
    /// To be deleted before kill switches are made.
    pub(super) early: Vec<FoundRoute>,
    /// To be made, replaced and deleted before other rules are made.
    pub(super) made: Vec<Change>,
    /// To be deleted, when all is made.
    pub(super) obsolete: Vec<FoundRoute>,
    /// To be made, when old rules are gone.
    pub(super) deferred: Vec<DefaultRoute>,
    pub(super) problems: Vec<Problem>,
    config: &'a Config,
    tables: &'a Tables,
    /// Indices of the devices that belong to links, up or not.
    link_devices: BTreeSet<u32>,
}

impl<'a> Routes<'a> {
    pub(super) fn new(config: &'a Config, desired: &Desired, observed: &Observed, tables: &'a Tables) -> Self {
        let mut routes = Self {
            early: Vec::new(),
            made: Vec::new(),
            obsolete: Vec::new(),
            deferred: Vec::new(),
            problems: Vec::new(),
            config,
            tables,
            link_devices: link_devices(config, desired, observed),
        };
        let mut found: BTreeMap<(TableId, u32), Vec<&FoundRoute>> = BTreeMap::new();
        for route in &observed.routes {
            found.entry((route.table, route.metric)).or_default().push(route);
        }
        for route in &desired.routes {
            let aliases = found.remove(&(route.table, route.metric)).unwrap_or_default();
            routes.make(route, aliases);
        }
        routes.delete_unwanted(found, desired.carries);
        routes
    }

    /// Makes `route`; its aliases are the routes of its table and metric, of which the first is in use.
    fn make(&mut self, route: &DefaultRoute, mut aliases: Vec<&FoundRoute>) {
        if let Some(foreign) = aliases.iter().find(|found| self.is_foreign(found)) {
            let is_spare = self.config.settings.numbers.is_spare(route.metric);
            let problem = if is_spare { Problem::ForeignSpare } else { Problem::ForeignDefault };
            self.problems.push(problem((*foreign).clone()));
            // Behind ours it carries nothing.
            if aliases.first().is_some_and(|first| self.is_foreign(first)) {
                return;
            }
            aliases.retain(|found| !self.is_foreign(found));
        }
        if let Some(index) = aliases.iter().position(|found| self.is_ours(found) && found.target.is(&route.target)) {
            // Those before ours, such as what pppd's `defaultroute` left: ours carries meanwhile.
            self.clear(&aliases[..index]);
            self.obsolete.extend(aliases[index + 1..].iter().map(|found| (*found).clone()));
        } else if self.tables.stale.contains(&route.table) {
            self.clear(&aliases);
            self.deferred.push(route.clone());
        } else if self.tables.guarded.contains(&route.table) {
            self.clear(&aliases);
            self.made.push(Change::Route(route.clone()));
        } else {
            self.replace(route, &aliases);
        }
    }

    /// `RTM_NEWROUTE` with REPLACE acts on the first alias only, and says EEXIST where a later one is already what is
    /// wanted (`fib_table_insert()`). The first carries until it is replaced. An older one of ours goes before that:
    /// afterwards its deletion could hit the new one, since the kernel compares a single next hop with the first next hop of a
    /// multipath route (`fib_nh_match()`).
    fn replace(&mut self, route: &DefaultRoute, aliases: &[&FoundRoute]) {
        for later in aliases.iter().skip(1) {
            if self.is_ours(later) {
                self.made.push(Change::DeleteRoute((*later).clone()));
            } else {
                self.obsolete.push((*later).clone());
            }
        }
        self.made.push(Change::Route(route.clone()));
    }

    /// Deletes what stands where no route is wanted, if it is ours or in the way.
    fn delete_unwanted(&mut self, found: BTreeMap<(TableId, u32), Vec<&FoundRoute>>, carries: bool) {
        let tiers = self.config.links.iter().filter_map(Link::tier);
        let metrics: BTreeSet<_> = tiers.map(|tier| self.config.settings.numbers.tier_metric(tier)).collect();
        // The highest metric first: the route that carries until now is the last to go, and none
        // that it has hidden, by a line without carrier perhaps, comes to light.
        for route in found.into_values().rev().flatten() {
            // What pppd's `defaultroute` or a DHCP client put at the metric of a tier that is down would
            // win over the tiers that are up. Without any it stays: better than no default.
            let is_tiers = route.table == TableId::MAIN && metrics.contains(&route.metric);
            let is_in_the_way = carries && is_tiers && self.is_on_links(route);
            if !self.is_ours(route) && !is_in_the_way {
                continue;
            }
            if self.tables.pending.contains(&route.table) {
                self.clear(&[route]);
            } else {
                self.obsolete.push(route.clone());
            }
        }
    }

    /// Deletes routes before rules are made that look up their tables.
    fn clear(&mut self, found: &[&FoundRoute]) {
        for route in found {
            if self.tables.guarded.contains(&route.table) {
                self.early.push((*route).clone());
            } else {
                self.made.push(Change::DeleteRoute((*route).clone()));
            }
        }
    }

    fn is_ours(&self, route: &FoundRoute) -> bool {
        route.protocol == self.config.settings.protocol
    }

    /// Whether it is somebody else's, and leads elsewhere than by our links.
    fn is_foreign(&self, route: &FoundRoute) -> bool {
        !self.is_ours(route) && !self.is_on_links(route)
    }

    fn is_on_links(&self, route: &FoundRoute) -> bool {
        let devices = route.target.devices();
        !devices.is_empty() && devices.iter().all(|device| self.link_devices.contains(device))
    }
}

fn link_devices(config: &Config, desired: &Desired, observed: &Observed) -> BTreeSet<u32> {
    let configured = config.links.iter().map(|link| &link.interface);
    let names = configured.chain(&desired.interfaces);
    names.filter_map(|name| observed.interfaces.get(name)).map(|interface| interface.device.index).collect()
}
