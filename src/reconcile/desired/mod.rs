//! The desired state of the kernel, from the configuration and the live links. Pure.

use std::collections::{BTreeMap, BTreeSet};

mod rules;

use ipnet::IpNet;

pub use rules::selectors;

use crate::config::{Config, Link, LinkKind, Otherwise};
use crate::model::names::{Family, IfName, TableId, Tier, Weight};
use crate::model::numbering::Numbering;
use crate::model::observed::Observed;
use crate::model::routing::{Action, DefaultRoute, FoundRule, Member, NextHop, Rule, Target, WeightedNextHop};
use crate::reconcile::link_state::{Live, LiveLink};

/// The desired state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// Interfaces of links that have routes, and of which family. Lookups must skip their routes while they have no
    /// carrier, and the reverse path filter, which IPv6 has not, must be loose.
    pub interfaces: Vec<(IfName, Family)>,
    /// `fib_multipath_hash_policy` of both families; `None`: unchanged.
    pub hash_policy: Option<u8>,
    /// Default routes in the order of creation: those of the links' tables; then in main the spares, those with carrier
    /// first; then the tiers, of IPv6 in table `default` and once more in main. The spares carry while the tiers change.
    pub routes: Vec<DefaultRoute>,
    /// An uplink can carry IPv4 traffic now.
    pub carries_ipv4: bool,
    pub nexthops: BTreeMap<u32, NextHop>,
    /// Nexthop groups by id, members sorted by id.
    pub groups: BTreeMap<u32, Vec<Member>>,
    /// Sorted, without duplicates.
    pub rules: Vec<Rule>,
    /// Priorities of the rules of kill switches, which must be added before any route.
    pub kill_switches: BTreeSet<u32>,
    /// Priorities of the source rules of uplinks that have no IPv6 now and translate nothing. What comes from their last
    /// prefixes is refused, so that hosts turn to another source at once (RFC 7084, L-14).
    pub lost_sources: BTreeSet<u32>,
}

/// How main's default routes are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultRouteMode {
    Objects,
    Multipath,
}

impl Desired {
    /// The desired state for `live`, the links that have routes.
    pub fn new(config: &Config, live: &Live<'_>, mode: DefaultRouteMode) -> Self {
        let interfaces = live.iter().map(|l| (l.next_hop.device.name.clone(), l.family)).collect();
        let mut desired = Self { interfaces, hash_policy: config.settings.hash_policy, ..Self::default() };
        (desired.rules, desired.kill_switches) = rules::rules(config, live);
        desired.carries_ipv4 = live.v4.iter().any(LiveLink::carries_default);
        desired.lost_sources = rules::lost_sources(config, live);
        for family in Family::BOTH {
            desired.add_routes(config, live, family, mode);
        }
        desired
    }

    /// Adds the routes of one family.
    fn add_routes(&mut self, config: &Config, all: &Live<'_>, family: Family, mode: DefaultRouteMode) {
        let numbers = config.settings.numbers;
        let live = all.of(family);
        for l in live {
            self.routes.push(plain(l.link.table, Numbering::table_metric(family), l));
        }
        // Those with carrier come first: if two exchange their metrics, the old one may be dead.
        for carrier in [true, false] {
            for (link, metric) in spares(config) {
                let routed = live.iter().find(|l| l.link.name == link.name && l.carrier == carrier);
                self.routes.extend(routed.map(|l| plain(TableId::MAIN, metric, l)));
            }
        }
        for (tier, mut members) in tiers(live) {
            // With a group of nexthop objects the kernel gives unbound IPv6 sockets the wrong source: it takes the
            // first member's.
            let is_group = mode == DefaultRouteMode::Objects && family == Family::V4;
            if is_group {
                // The kernel refuses an object without carrier.
                members.retain(|(l, _)| l.carrier);
                if members.is_empty() {
                    continue;
                }
            }
            let target = if is_group { self.group(config, tier, &members) } else { multipath(&members) };
            let metric = numbers.tier_metric(family, tier);
            let route = DefaultRoute { family, table: TableId::MAIN, metric, target };
            if family == Family::V6 {
                // This one carries. The kernel keeps what it learns of the path to a host (packet too big, redirect) as an
                // exception of the route that the packet took, a /128. In main the rules that pass over its default would
                // find it (`fib6_rule_suppress()` sees the exception's length): the host's packets would go past policies.
                self.routes.push(DefaultRoute { table: TableId::DEFAULT, ..route.clone() });
                // Among others' next hops of one metric ours could not be told from theirs.
                if all.kept6.contains(&metric) {
                    continue;
                }
            }
            self.routes.push(route);
        }
    }

    /// With the rules that refuse what comes from a prefix of an uplink that is down: the kernel's own rules tell its last
    /// ones. Without IPv6 rules, if the observed kernel has no IPv6. Without those that only lead IPv6 somewhere, if no link
    /// has had any yet, or none may have any more: then there is nowhere to lead it, and a machine without IPv6 has half as
    /// many rules to read.
    #[must_use]
    pub fn for_kernel(mut self, observed: &Observed, config: &Config) -> Self {
        let settings = &config.settings;
        let has_been_led = config.links.iter().any(|link| link.ipv6) && observed.leads_ipv6(settings.protocol);
        let is_led = has_been_led || self.routes.iter().any(|route| route.family == Family::V6);
        let of_lost = observed
            .rules
            .iter()
            .filter(|found| found.protocol == settings.protocol && self.lost_sources.contains(&found.rule.priority));
        let mut refusing: Vec<_> = of_lost.filter_map(|found| rules::refusing(&found.rule)).collect();
        // The number was another uplink's before the configuration changed, or this one's prefix is another's now.
        let sources: Vec<_> = live_sources(config, &self.rules).collect();
        refusing.retain(|rule| !sources.iter().any(|from| rule.selector.from.is_some_and(|lost| from.contains(&lost))));
        if !refusing.is_empty() {
            self.rules.extend(refusing);
            self.rules.sort();
            self.rules.dedup();
        }
        if !observed.has_ipv6() {
            self.rules.retain(|rule| rule.family == Family::V4);
        } else if !is_led {
            let refuses = self.rules.iter().any(|rule| rule.family == Family::V6 && rule.action == Action::Unreachable);
            let main = settings.numbers.main_rule();
            self.rules.retain(|rule| {
                rule.family == Family::V4 || rule.action == Action::Unreachable || refuses && rule.priority == main
            });
        }
        self
    }

    /// The index of an observed rule in `rules`, by binary search: there can be thousands of both.
    pub(crate) fn index_of(&self, found: &FoundRule) -> Option<usize> {
        self.rules.binary_search(&found.rule).ok().filter(|_| found.is_complete())
    }

    /// The rules that each policy needs: its own, in both families, and its guards.
    pub(crate) fn policy_rules<'a>(&'a self, config: &'a Config) -> impl Iterator<Item = Vec<&'a Rule>> {
        let first = Family::BOTH.map(|family| rules::first_policy(config, family));
        config.policies.iter().zip(config.policy_priorities()).map(move |(policy, priorities)| {
            let mut all: Vec<_> =
                self.rules[self.rules_before(priorities.start)..self.rules_before(priorities.end)].iter().collect();
            if policy.otherwise == Otherwise::Unreachable {
                for (family, selector) in rules::selectors_of_both(policy) {
                    let to = first[usize::from(family == Family::V6)];
                    let guard = self.rules.binary_search(&rules::guard(config, family, &selector, to));
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

/// A default route by one link.
fn plain(table: TableId, metric: u32, l: &LiveLink<'_>) -> DefaultRoute {
    let next_hop = WeightedNextHop { next_hop: l.next_hop.clone(), weight: Weight::default() };
    DefaultRoute { family: l.family, table, metric, target: Target::NextHops(vec![next_hop]) }
}

/// The target of a tier's default route in multipath mode.
fn multipath(members: &[(&LiveLink<'_>, Weight)]) -> Target {
    let mut next_hops = Vec::with_capacity(members.len());
    for (l, weight) in members {
        next_hops.push(WeightedNextHop { next_hop: l.next_hop.clone(), weight: *weight });
    }
    next_hops.sort();
    Target::NextHops(next_hops)
}

/// The IPv6 sources that lead to an uplink.
fn live_sources<'a>(config: &'a Config, rules: &'a [Rule]) -> impl Iterator<Item = IpNet> + 'a {
    let numbers = config.settings.numbers;
    let priorities: Vec<_> = config.uplinks().map(|link| numbers.source_rule(link.position)).collect();
    let leading = rules.iter().filter(|rule| rule.family == Family::V6 && rule.action.table().is_some());
    leading.filter(move |rule| priorities.contains(&rule.priority)).filter_map(|rule| rule.selector.from)
}

/// All uplinks and the metrics of their spares: by tier, then by position.
pub fn spares(config: &Config) -> impl Iterator<Item = (&Link, u32)> {
    let mut uplinks: Vec<_> = config.uplinks().collect();
    uplinks.sort_by_key(|uplink| uplink.tier());
    (0..).zip(uplinks).map(|(rank, uplink)| (uplink, config.settings.numbers.metric_of_spare(rank)))
}

/// All ids of nexthop objects that `config` can need.
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

/// Live uplinks by tier, without drained ones.
fn tiers<'a>(live: &'a [LiveLink<'a>]) -> BTreeMap<Tier, Vec<(&'a LiveLink<'a>, Weight)>> {
    let mut tiers: BTreeMap<Tier, Vec<_>> = BTreeMap::new();
    for l in live.iter().filter(|l| l.level.is_none()) {
        if let LinkKind::Uplink { weight, tier } = l.link.kind {
            tiers.entry(tier).or_default().push((l, weight));
        }
    }
    tiers
}
