//! What the kernel should hold for a configuration and the links that are up. Pure.

use std::collections::{BTreeMap, BTreeSet};

mod rules;

pub use rules::selectors;

use crate::config::{Config, Link, LinkKind, Otherwise};
use crate::model::names::{Family, IfName, TableId, Tier, Weight};
use crate::model::numbering::GROUP_IDS;
use crate::model::observed::Observed;
use crate::model::routing::{DefaultRoute, FoundRule, Leg, Member, Rule, Target, WeightedLeg};
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
    /// after them, then those of the tiers. Both by rising metric.
    pub routes: Vec<DefaultRoute>,
    /// Whether an uplink can carry traffic now.
    pub carries: bool,
    /// Nexthop objects by id.
    pub nexthops: BTreeMap<u32, Leg>,
    /// Nexthop groups by id, members sorted by id.
    pub groups: BTreeMap<u32, Vec<Member>>,
    /// Rules in their order, each its own.
    pub rules: Vec<Rule>,
    /// Priorities of the rules that kill switches are made of: no route is made before them.
    pub kill_switches: BTreeSet<u32>,
}

/// How the default routes of main are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    /// By nexthop groups.
    Objects,
    /// As multipath routes.
    Multipath,
}

impl Desired {
    /// What `config` wants while `live` are the links that have routes.
    pub fn new(config: &Config, live: &[LiveLink<'_>], make: Make) -> Self {
        let mut desired = Self {
            interfaces: live.iter().map(|l| l.leg.device.name.clone()).collect(),
            carries: live.iter().any(LiveLink::carries_default),
            hash_policy: config.settings.hash_policy,
            ..Self::default()
        };
        (desired.rules, desired.kill_switches) = rules::rules(config, live);
        for l in live {
            desired.routes.push(plain(l.link.table, 0, l));
        }
        for (link, metric) in spares(config) {
            let live = live.iter().find(|l| l.link.name == link.name);
            desired.routes.extend(live.map(|l| plain(TableId::MAIN, metric, l)));
        }
        for (tier, mut members) in tiers(live) {
            let rank = u32::from(tier.get()) - 1;
            let target = match make {
                Make::Objects => {
                    // The kernel takes no object without carrier.
                    members.retain(|(l, _)| l.carrier);
                    if members.is_empty() {
                        continue;
                    }
                    desired.group(config, rank, &members)
                }
                Make::Multipath => {
                    let mut legs: Vec<_> =
                        members.iter().map(|(l, weight)| WeightedLeg { leg: l.leg.clone(), weight: *weight }).collect();
                    legs.sort();
                    Target::Legs(legs)
                }
            };
            let metric = config.settings.metric.saturating_add(rank);
            desired.routes.push(DefaultRoute { table: TableId::MAIN, metric, target });
        }
        desired
    }

    /// The same for the kernel that was observed, which may have no IPv6.
    #[must_use]
    pub fn as_known_to(mut self, observed: &Observed) -> Self {
        if !observed.has_ipv6() {
            self.rules.retain(|rule| rule.family == Family::V4);
        }
        self
    }

    /// Which of `rules` a found rule is. There can be thousands of both, so it is not looked for one by one.
    pub fn place(&self, found: &FoundRule) -> Option<usize> {
        self.rules.binary_search(&found.rule).ok().filter(|_| found.is_complete())
    }

    /// The rules without which each policy does not do what it says: its own, in both families, and its guards.
    pub fn policy_rules<'a>(&'a self, config: &'a Config) -> impl Iterator<Item = Vec<&'a Rule>> {
        let from = |priority: u32| self.rules.partition_point(|rule| rule.priority < priority);
        config.policies.iter().zip(config.policy_priorities()).map(move |(policy, priorities)| {
            let mut all: Vec<_> = self.rules[from(priorities.start)..from(priorities.end)].iter().collect();
            if policy.otherwise == Otherwise::Unreachable {
                let find = |selector| self.rules.binary_search(&rules::guard(config, selector)).ok();
                all.extend(rules::selectors(policy).iter().filter_map(find).map(|at| &self.rules[at]));
            }
            all
        })
    }

    /// Adds the nexthop objects of a tier and their group.
    fn group(&mut self, config: &Config, rank: u32, members: &[(&LiveLink<'_>, Weight)]) -> Target {
        let first = config.settings.nexthop_id;
        let mut group = Vec::with_capacity(members.len());
        for (l, weight) in members {
            let id = nexthop_id(config, l.link);
            self.nexthops.insert(id, l.leg.clone());
            group.push(Member { id, weight: (*weight).min(Weight::HEAVIEST_MEMBER) });
        }
        group.sort();
        let id = first.saturating_add(GROUP_IDS).saturating_add(rank);
        self.groups.insert(id, group);
        Target::Group(id)
    }
}

/// A default route by one link alone.
fn plain(table: TableId, metric: u32, l: &LiveLink<'_>) -> DefaultRoute {
    let leg = WeightedLeg { leg: l.leg.clone(), weight: Weight::default() };
    DefaultRoute { table, metric, target: Target::Legs(vec![leg]) }
}

/// Uplinks and the metrics of their spares, whatever is up: those of a lower tier first, then by place.
pub fn spares(config: &Config) -> impl Iterator<Item = (&Link, u32)> {
    let mut uplinks: Vec<_> = config.links.iter().filter_map(|link| Some((link.tier()?, link))).collect();
    uplinks.sort_by_key(|(tier, _)| *tier);
    uplinks.into_iter().map(|(_, link)| link).zip(config.settings.spare_metric..)
}

/// Ids of nexthop objects that `config` can need, whatever is up.
pub fn nexthop_ids(config: &Config) -> BTreeSet<u32> {
    let first = config.settings.nexthop_id;
    let mut ids = BTreeSet::new();
    for link in &config.links {
        if let LinkKind::Uplink { tier, .. } = link.kind {
            ids.insert(nexthop_id(config, link));
            ids.insert(first.saturating_add(GROUP_IDS).saturating_add(u32::from(tier.get()) - 1));
        }
    }
    ids
}

/// Id of a link's nexthop object: by its place in the configuration, from 1.
fn nexthop_id(config: &Config, link: &Link) -> u32 {
    let place = config.links.iter().take_while(|l| l.name != link.name).count();
    // At most 32 links, so the conversion holds.
    config.settings.nexthop_id.saturating_add(u32::try_from(place).unwrap_or(u32::MAX)).saturating_add(1)
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
