//! What the kernel should hold for a configuration and the links that are up. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::config::{Config, FwMark, Link, LinkKind, Otherwise, Policy};
use crate::layout::{GROUP_IDS, MAIN_RULE, SOURCE_RULES};
use crate::links::LiveLink;
use crate::state::{Action, DefaultRoute, FoundRule, Leg, Member, Rule, Selector, Target, WeightedLeg};
use crate::types::{HostAddr, IfName, TableId, Tier, Weight};

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
    /// Rules by rising priority, each its own.
    pub rules: Vec<Rule>,
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
            rules: rules(config, live),
            ..Self::default()
        };
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

    /// Which of `rules` a found rule is. There can be thousands of both, so it is not looked for one by one.
    pub fn place(&self, found: &FoundRule) -> Option<usize> {
        let at = self.rules.binary_search_by_key(&found.rule.priority, |rule| rule.priority).ok()?;
        (found.complete && self.rules[at] == found.rule).then_some(at)
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

fn lookup(priority: u32, selector: Selector, table: TableId) -> Rule {
    Rule { priority, selector, action: Action::Lookup { table, suppress_prefixlength: None } }
}

/// All rules, by rising priority: marks, main without its default, sources, policies.
fn rules(config: &Config, live: &[LiveLink<'_>]) -> Vec<Rule> {
    let first = config.settings.rule_priority;
    let is_uplink = |link: &&Link| matches!(link.kind, LinkKind::Uplink { .. });
    let uplinks: Vec<_> = config.links.iter().filter(is_uplink).collect();
    let tunnels = config.links.iter().filter(|l| !is_uplink(l));

    let mut rules = Vec::new();
    // Tunnels first: a packet whose mark names several links goes by the tunnel among them.
    for (priority, link) in (first..).zip(tunnels.chain(uplinks.iter().copied())) {
        let bit = link.mark.get();
        let selector = Selector { fwmark: Some(FwMark { value: bit, mask: bit }), ..Selector::default() };
        rules.push(lookup(priority, selector, link.table));
    }
    // Whatever main knows better than its default wins over what follows.
    let action = Action::Lookup { table: TableId::MAIN, suppress_prefixlength: Some(0) };
    rules.push(Rule { priority: first + MAIN_RULE, selector: Selector::default(), action });

    // A socket whose address was chosen by the default route, and whose packets the administrator's
    // firewall then marks for a policy, is not bound to that address: without this the rule of the
    // address would take them before the policy (ip_route_me_harder() looks up with the source).
    let own_marks = config.policies.iter().filter_map(|p| p.fwmark).fold(0, |all, mark| all | mark.value);
    let unmarked = (own_marks != 0).then_some(FwMark { value: 0, mask: own_marks });
    let sources = first + SOURCE_RULES;
    // An uplink's priority does not depend on which others are up.
    for (priority, uplink) in (sources..).zip(&uplinks) {
        let local = live.iter().find(|l| l.link.name == uplink.name).and_then(|l| l.local);
        // Two modems may give the same: then the address says nothing, and the first would get all of the server's own.
        let is_shared = |local: HostAddr| {
            let has = |l: &&LiveLink<'_>| is_uplink(&l.link) && l.local == Some(local);
            live.iter().filter(has).count() > 1
        };
        if let Some(local) = local.filter(|local| !is_shared(*local)) {
            let from = Some(Ipv4Net::from(local.get()));
            let selector = Selector { from, fwmark: unmarked, ..Selector::default() };
            rules.push(lookup(priority, selector, uplink.table));
        }
    }
    let mut priority = config.first_policy();
    for policy in &config.policies {
        for selector in selectors(policy) {
            let tables = policy.via.iter().filter_map(|name| config.links.iter().find(|l| l.name == *name));
            for link in tables {
                rules.push(lookup(priority, selector.clone(), link.table));
                priority += 1;
            }
            if policy.otherwise == Otherwise::Unreachable {
                rules.push(Rule { priority, selector, action: Action::Unreachable });
                priority += 1;
            }
        }
    }
    rules
}

/// A selector for each combination of a policy's lists.
fn selectors(policy: &Policy) -> Vec<Selector> {
    let fixed = Selector { proto: policy.proto, dscp: policy.dscp, fwmark: policy.fwmark, ..Selector::default() };
    let mut all = vec![fixed];
    // A prefix of length 0 matches everything, and the kernel keeps no such selector.
    let prefix = |net: &Ipv4Net| (net.prefix_len() > 0 || net.addr() != Ipv4Addr::UNSPECIFIED).then_some(*net);
    spread(&mut all, &policy.from, |s, net| s.from = prefix(net));
    spread(&mut all, &policy.to, |s, net| s.to = prefix(net));
    spread(&mut all, &policy.iif, |s, name| s.iif = Some(name.clone()));
    spread(&mut all, &policy.uid, |s, range| s.uid = Some(*range));
    spread(&mut all, &policy.sport, |s, range| s.sport = Some(*range));
    spread(&mut all, &policy.dport, |s, range| s.dport = Some(*range));
    all
}

/// Multiplies `all` by `values`; an empty list leaves it as it is.
fn spread<T>(all: &mut Vec<Selector>, values: &[T], set: impl Fn(&mut Selector, &T)) {
    if values.is_empty() {
        return;
    }
    let with = |selector: &Selector, value: &T| {
        let mut selector = selector.clone();
        set(&mut selector, value);
        selector
    };
    *all = all.iter().flat_map(|selector| values.iter().map(move |value| with(selector, value))).collect();
}
