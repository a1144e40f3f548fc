//! The routes of a plan: which to add, replace and delete, and when. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::rules::{Missing, Obsolete, TableOf, stale_tables, table_of};
use super::{Change, Problem};
use crate::config::{Config, Link};
use crate::model::names::{Family, TableId};
use crate::model::observed::Observed;
use crate::model::routing::{DefaultRoute, FoundRoute};
use crate::reconcile::desired::Desired;

/// Tables that may have changed from one link to another. Between the old rules and the new ones such a table should be
/// empty, so that a lookup goes on with the next rule, which may be a policy's `unreachable`, rather than find the
/// route of another link.
pub(super) struct Tables {
    /// Obsolete rules look them up: new routes wait until these are deleted.
    pub(super) stale: BTreeSet<TableOf>,
    /// Missing rules will look them up: old routes are deleted before these are added.
    pending: BTreeSet<TableOf>,
    /// Missing rules of kill switches will look them up, which are added before routes are replaced.
    pub(super) guarded: BTreeSet<TableOf>,
}

impl Tables {
    pub(super) fn new(config: &Config, missing: &Missing<'_>, obsolete: &Obsolete<'_>) -> Self {
        Self {
            stale: stale_tables(config, obsolete),
            // What is in table `default` is in main as well, and leads nowhere else.
            pending: missing.tables().filter(|(_, table)| *table != TableId::DEFAULT).collect(),
            guarded: missing.kill_switches.iter().filter_map(|rule| table_of(rule)).collect(),
        }
    }
}

/// Family, table and metric of routes.
type Place = (Family, TableId, u32);

/// Changes of routes, by the phase of the plan.
pub(super) struct Routes<'a> {
    /// To be deleted before kill switches are added.
    pub(super) early: Vec<FoundRoute>,
    /// To be made before other rules are added.
    pub(super) made: Vec<Change>,
    /// To be deleted after everything is added.
    pub(super) obsolete: Vec<FoundRoute>,
    /// To be added after obsolete rules are deleted.
    pub(super) deferred: Vec<DefaultRoute>,
    pub(super) problems: Vec<Problem>,
    pub(super) config: &'a Config,
    pub(super) tables: &'a Tables,
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
        let mut found: BTreeMap<Place, Vec<&FoundRoute>> = BTreeMap::new();
        for route in &observed.routes {
            found.entry((route.family, route.table, route.metric)).or_default().push(route);
        }
        routes.step_aside(desired, &mut found);
        let mut wanted: Vec<_> = desired.routes.iter().collect();
        wanted.sort_by_key(|route| (route.family, turn(config, route, &found)));
        for route in wanted {
            let aliases = found.remove(&(route.family, route.table, route.metric)).unwrap_or_default();
            routes.make(route, aliases);
        }
        routes.delete_unwanted(found, desired.carries_ipv4);
        // A next hop in main without its original in table `default` would be somebody else's.
        routes.obsolete.sort_by_key(|route| route.table == TableId::DEFAULT);
        routes
    }

    /// Deletes main's copies at the metrics of tiers that are left to others. That comes first: a next hop of theirs that is
    /// in table `default`, too, would pass for one of ours as long as ours tell the protocol.
    fn step_aside(&mut self, desired: &Desired, found: &mut BTreeMap<Place, Vec<&FoundRoute>>) {
        let wanted: BTreeSet<Place> = desired.routes.iter().map(|r| (r.family, r.table, r.metric)).collect();
        for (family, table, metric) in &wanted {
            let copy = (*family, TableId::MAIN, *metric);
            let is_left = *table == TableId::DEFAULT && !wanted.contains(&copy);
            if !is_left || !found.contains_key(&(*family, *table, *metric)) {
                continue;
            }
            for route in found.remove(&copy).unwrap_or_default() {
                if self.is_ours(route) {
                    self.made.push(Change::DeleteRoute(route.clone()));
                }
            }
        }
    }

    /// Plans `route`. `aliases` are the observed routes of the same family, table and metric; the first is in use.
    fn make(&mut self, route: &DefaultRoute, mut aliases: Vec<&FoundRoute>) {
        if let Some(foreign) = aliases.iter().find(|found| self.is_foreign(found)) {
            let is_spare = self.config.settings.numbers.is_spare(route.metric);
            let problem = if is_spare { Problem::ForeignSpare } else { Problem::ForeignDefault };
            self.problems.push(problem((*foreign).clone()));
            // Behind the managed route it carries nothing. In IPv6 its next hops would become the managed route's.
            if route.family == Family::V6 || aliases.first().is_some_and(|first| self.is_foreign(first)) {
                return;
            }
            // Nor is one deleted that the kernel would mistake for it: it compares a single next hop with the first of a
            // multipath route (`fib_nh_match()`).
            let is_mistaken = |found: &FoundRoute| {
                found.protocol == foreign.protocol && found.target.devices().first() == foreign.target.devices().first()
            };
            aliases.retain(|found| !self.is_foreign(found) && !is_mistaken(found));
        }
        if route.family == Family::V6 {
            self.make_next_hops(route, &aliases);
        } else if let Some(index) =
            aliases.iter().position(|found| self.is_ours(found) && found.target.is(&route.target))
        {
            // Aliases before it, such as one of pppd's `defaultroute`. After their deletion the managed route carries.
            self.clear(&aliases[..index]);
            self.obsolete.extend(aliases[index + 1..].iter().map(|found| (*found).clone()));
        } else if self.tables.stale.contains(&(route.family, route.table)) {
            self.clear(&aliases);
            self.deferred.push(route.clone());
        } else if self.tables.guarded.contains(&(route.family, route.table)) {
            self.clear(&aliases);
            self.made.push(Change::Route(route.clone()));
        } else {
            self.replace(route, &aliases);
        }
    }

    /// `RTM_NEWROUTE` with REPLACE replaces the first alias only, and fails with EEXIST if a later one is already as
    /// desired (`fib_table_insert()`). The first alias carries until it is replaced. A later managed alias is deleted
    /// before that: afterwards the deletion could hit the new route, since the kernel compares a single next hop with
    /// the first of a multipath route (`fib_nh_match()`).
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

    /// Deletes routes where none is desired, if they are managed or in the way. `carries_ipv4`: an uplink can carry IPv4 now.
    fn delete_unwanted(&mut self, found: BTreeMap<Place, Vec<&FoundRoute>>, carries_ipv4: bool) {
        let numbers = self.config.settings.numbers;
        let tiers = self.config.uplinks().filter_map(Link::tier);
        let metrics: BTreeSet<_> = tiers.map(|tier| numbers.tier_metric(Family::V4, tier)).collect();
        // The highest metric first: the route that carries now is deleted last. Otherwise one behind it, by a link
        // without carrier perhaps, would carry meanwhile.
        for route in found.into_values().rev().flatten() {
            // A route of pppd's `defaultroute` or a DHCP client, at the metric of a tier that is down, would win over
            // the tiers that are up. It stays if no tier is up, and in IPv6, where main's does not carry.
            let is_tiers = route.table == TableId::MAIN && metrics.contains(&route.metric);
            let is_in_the_way = route.family == Family::V4 && carries_ipv4 && is_tiers && self.is_on_links(route);
            if !self.is_ours(route) && !is_in_the_way {
                continue;
            }
            if self.tables.pending.contains(&(route.family, route.table)) {
                self.clear(&[route]);
            } else {
                self.obsolete.push(route.clone());
            }
        }
    }

    /// Deletes routes before the rules are added that look up their tables.
    pub(super) fn clear(&mut self, found: &[&FoundRoute]) {
        for route in found {
            if self.tables.guarded.contains(&(route.family, route.table)) {
                self.early.push((*route).clone());
            } else {
                self.made.push(Change::DeleteRoute((*route).clone()));
            }
        }
    }

    pub(super) fn is_ours(&self, route: &FoundRoute) -> bool {
        route.protocol == self.config.settings.protocol
    }

    /// Whether it is foreign, and does not lead by links only.
    fn is_foreign(&self, route: &FoundRoute) -> bool {
        !self.is_ours(route) && !self.is_on_links(route)
    }

    pub(super) fn is_on_links(&self, route: &FoundRoute) -> bool {
        let devices = route.target.devices();
        !devices.is_empty() && devices.iter().all(|device| self.link_devices.contains(device))
    }
}

/// Routes of links' tables come first. If spares change places, the one that goes to a free metric comes before what
/// takes its old one: else a line that goes meanwhile would leave the other without a way.
fn turn(config: &Config, route: &DefaultRoute, found: &BTreeMap<Place, Vec<&FoundRoute>>) -> u8 {
    let is_free = !found.contains_key(&(route.family, route.table, route.metric));
    match route.table {
        TableId::MAIN if config.settings.numbers.is_spare(route.metric) && is_free => 1,
        TableId::MAIN | TableId::DEFAULT => 2,
        _ => 0,
    }
}

fn link_devices(config: &Config, desired: &Desired, observed: &Observed) -> BTreeSet<u32> {
    let configured = config.links.iter().map(|link| &link.interface);
    let names = configured.chain(desired.interfaces.iter().map(|(name, _)| name));
    names.filter_map(|name| observed.interfaces.get(name)).map(|interface| interface.device.index).collect()
}
