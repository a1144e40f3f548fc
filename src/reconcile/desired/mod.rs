//! What the kernel should hold for a configuration and the links that are up. Pure.

use std::collections::{BTreeMap, BTreeSet};

mod rules;

pub use rules::selectors;

use crate::config::{Config, Link, LinkKind, Otherwise};
use crate::model::names::{Family, IfName, TableId, Tier, Weight};
use crate::model::observed::Observed;
use crate::model::routing::{DefaultRoute, FoundRule, Member, NextHop, Rule, Target, WeightedNextHop};
use crate::reconcile::link_state::LiveLink;

/// What the kernel should hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// Interfaces of links that have routes: their reverse path filter has to be loose, and lookups have to pass over
    /// their routes while they have no carrier.
    pub interfaces: Vec<IfName>,
    /// `net.ipv4.fib_multipath_hash_policy`; `None`: whatever it is.
    pub hash_policy: Option<u8>,
    /// Default routes: those of the links' tables, then main's: the spares, which carry whatever becomes of those
    /// after them, first those that carry, then those of the tiers.
    pub routes: Vec<DefaultRoute>,
    /// Whether an uplink can carry traffic now.
    pub carries: bool,
    pub nexthops: BTreeMap<u32, NextHop>,
    /// Nexthop groups by id, members sorted by id.
    pub groups: BTreeMap<u32, Vec<Member>>,
    /// Rules in their order, each its own.
    pub rules: Vec<Rule>,
    /// Priorities of the rules that kill switches are made of: no route is made before them.
    pub kill_switches: BTreeSet<u32>,
}

/// How the default routes of main are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultRouteMode {
    Objects,
    Multipath,
}

impl Desired {
    /// What `config` wants while `live` are the links that have routes.
    pub fn new(config: &Config, live: &[LiveLink<'_>], mode: DefaultRouteMode) -> Self {
        let mut desired = Self {
            interfaces: live.iter().map(|l| l.next_hop.device.name.clone()).collect(),
            carries: live.iter().any(LiveLink::carries_default),
            hash_policy: config.settings.hash_policy,
            ..Self::default()
        };
        (desired.rules, desired.kill_switches) = rules::rules(config, live);
        for l in live {
            desired.routes.push(plain(l.link.table, 0, l));
        }
        // Those that carry come first: where two change places, the one that is left until then may be dead.
        for carrier in [true, false] {
            for (link, metric) in spares(config) {
                let routed = live.iter().find(|l| l.link.name == link.name && l.carrier == carrier);
                desired.routes.extend(routed.map(|l| plain(TableId::MAIN, metric, l)));
            }
        }
        for (tier, mut members) in tiers(live) {
            if mode == DefaultRouteMode::Objects {
                // The kernel takes no object without carrier.
                members.retain(|(l, _)| l.carrier);
                if members.is_empty() {
                    continue;
                }
            }
            let target = match mode {
                DefaultRouteMode::Objects => desired.group(config, tier, &members),
                DefaultRouteMode::Multipath => multipath(&members),
            };
            let metric = config.settings.numbers.tier_metric(tier);
            desired.routes.push(DefaultRoute { table: TableId::MAIN, metric, target });
        }
        desired
    }

    /// The same for the kernel that was observed, which may have no IPv6.
    #[must_use]
    pub(crate) fn as_known_to(mut self, observed: &Observed) -> Self {
        if !observed.has_ipv6() {
            self.rules.retain(|rule| rule.family == Family::V4);
        }
        self
    }

    /// The index in `rules` of a found rule. There can be thousands of both, so it is not looked for one by one.
    pub(crate) fn index_of(&self, found: &FoundRule) -> Option<usize> {
        self.rules.binary_search(&found.rule).ok().filter(|_| found.is_complete())
    }

    /// The rules without which each policy does not do what it says: its own, in both families, and its guards.
    pub(crate) fn policy_rules<'a>(&'a self, config: &'a Config) -> impl Iterator<Item = Vec<&'a Rule>> {
        config.policies.iter().zip(config.policy_priorities()).map(|(policy, priorities)| {
            let mut all: Vec<_> =
                self.rules[self.rules_before(priorities.start)..self.rules_before(priorities.end)].iter().collect();
            if policy.otherwise == Otherwise::Unreachable {
                for selector in rules::selectors(policy) {
                    let guard = self.rules.binary_search(&rules::guard(config, &selector));
                    all.extend(guard.ok().map(|index| &self.rules[index]));
                }
            }
            all
        })
    }

    /// How many rules have a lower priority number.
    fn rules_before(&self, priority: u32) -> usize {
        self.rules.partition_point(|rule| rule.priority < priority)
    }

    /// Adds the nexthop objects of a tier and their group.
    fn group(&mut self, config: &Config, tier: Tier, members: &[(&LiveLink<'_>, Weight)]) -> Target {
        let numbers = config.settings.numbers;
        let mut group = Vec::with_capacity(members.len());
        for (l, weight) in members {
            let id = numbers.link_nexthop(l.link.position);
            self.nexthops.insert(id, l.next_hop.clone());
            group.push(Member { id, weight: (*weight).min(Weight::HEAVIEST_MEMBER) });
        }
        group.sort();
        let id = numbers.tier_nexthop(tier);
        self.groups.insert(id, group);
        Target::Group(id)
    }
}

/// A default route by one link alone.
fn plain(table: TableId, metric: u32, l: &LiveLink<'_>) -> DefaultRoute {
    let next_hop = WeightedNextHop { next_hop: l.next_hop.clone(), weight: Weight::default() };
    DefaultRoute { table, metric, target: Target::NextHops(vec![next_hop]) }
}

/// The target of a tier's default route without nexthop objects.
fn multipath(members: &[(&LiveLink<'_>, Weight)]) -> Target {
    let mut next_hops = Vec::with_capacity(members.len());
    for (l, weight) in members {
        next_hops.push(WeightedNextHop { next_hop: l.next_hop.clone(), weight: *weight });
    }
    next_hops.sort();
    Target::NextHops(next_hops)
}

/// Uplinks and the metrics of their spares, whatever is up: those of a lower tier first, then by position.
pub fn spares(config: &Config) -> impl Iterator<Item = (&Link, u32)> {
    let mut uplinks: Vec<_> = config.uplinks().collect();
    uplinks.sort_by_key(|uplink| uplink.tier());
    (0..).zip(uplinks).map(|(rank, uplink)| (uplink, config.settings.numbers.metric_of_spare(rank)))
}

/// Ids of nexthop objects that `config` can need, whatever is up.
pub(crate) fn nexthop_ids(config: &Config) -> BTreeSet<u32> {
    let numbers = config.settings.numbers;
    let mut ids = BTreeSet::new();
    for link in &config.links {
        if let Some(tier) = link.tier() {
            ids.insert(numbers.link_nexthop(link.position));
            ids.insert(numbers.tier_nexthop(tier));
        }
    }
    ids
}

/// Live uplinks by tier.
fn tiers<'a>(live: &'a [LiveLink<'a>]) -> BTreeMap<Tier, Vec<(&'a LiveLink<'a>, Weight)>> {
    let mut tiers: BTreeMap<Tier, Vec<_>> = BTreeMap::new();
    for l in live {
        if let LinkKind::Uplink { weight, tier } = l.link.kind {
            tiers.entry(tier).or_default().push((l, weight));
        }
    }
    tiers
}
