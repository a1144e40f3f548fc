//! What numbers come out of a configuration: asked of `desired`, with every link up, so that they
//! are those that the kernel will get.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::Ipv4Addr;

use serde::Serialize;

use crate::config::{Config, Link, NexthopMode, Sets};
use crate::ctl::show::{Align, Screen, Tone, table};
use crate::model::names::{Family, HostAddr, TableId};
use crate::model::numbering::DEFAULT6_RULE;
use crate::model::routing::{Action, Device, NextHop, Rule, Target};
use crate::reconcile::desired::{DefaultRouteMode, Desired, spares};
use crate::reconcile::link_state::Live;
use crate::reconcile::link_state::LiveLink;

/// The numbers.
#[derive(Debug, Serialize)]
pub(super) struct Numbers {
    links: Vec<LinkNumbers>,
    /// Rule that looks into the main table for anything better than its default.
    main_rule: Option<u32>,
    /// First and last of the rules that lead what is a kill switch's past the rules of addresses.
    guard_rules: Option<(u32, u32)>,
    policies: Vec<PolicyNumbers>,
    /// Rule that looks up IPv6's default route; none where no link uses IPv6.
    default_rule_ipv6: Option<u32>,
    /// Whether the configuration speaks of IPv6 of a link.
    #[serde(skip)]
    means_ipv6: bool,
    sets: Vec<SetNumbers>,
    defaults: Vec<DefaultNumbers>,
    protocol: u8,
}

#[derive(Debug, Serialize)]
struct LinkNumbers {
    link: String,
    table: u32,
    /// One bit.
    mark: u32,
    mark_rule: Option<u32>,
    address_rule: Option<u32>,
    nexthop: Option<u32>,
    spare_metric: Option<u32>,
}

#[derive(Debug, Serialize)]
struct PolicyNumbers {
    policy: String,
    first_rule: u32,
    last_rule: u32,
}

/// What packets are marked with whose addresses are in sets.
#[derive(Debug, Serialize)]
struct SetNumbers {
    from_set: Option<String>,
    to_set: Option<String>,
    /// One bit.
    mark: u32,
}

#[derive(Debug, Serialize)]
struct DefaultNumbers {
    tier: u8,
    metric: u32,
    /// Of the IPv6 default route; none where no link uses IPv6.
    metric_ipv6: Option<u32>,
    group: Option<u32>,
}

/// A link as if it were up: its index stands for its device.
fn pretended(index: u32, link: &Link) -> LiveLink<'_> {
    let device = Device { index: index + 1, name: link.interface.clone() };
    // 198.18.0.0/15 is for tests (RFC 2544); only that each has another matters.
    let local = HostAddr::new(Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 1)) + index)).ok();
    let next_hop = NextHop { device, gateway: None, onlink: false };
    LiveLink { link, family: Family::V4, next_hop, local, prefixes: Vec::new(), carrier: true, level: None }
}

impl Numbers {
    pub(super) fn new(config: &Config) -> Self {
        let mode = match config.settings.nexthops {
            NexthopMode::Multipath => DefaultRouteMode::Multipath,
            NexthopMode::Auto | NexthopMode::Objects => DefaultRouteMode::Objects,
        };
        let v4 = (0..).zip(&config.links).map(|(index, link)| pretended(index, link)).collect();
        let live = Live { v4, ..Live::default() };
        let desired = Desired::new(config, &live, mode);
        Self {
            links: live.v4.iter().map(|live| LinkNumbers::new(live, config, &desired)).collect(),
            // Guards have one of their own before them.
            main_rule: desired.rules.iter().rfind(|rule| is_main_rule(rule)).map(|rule| rule.priority),
            guard_rules: guard_rules(&desired),
            policies: policies(config),
            default_rule_ipv6: config.uses_ipv6().then_some(DEFAULT6_RULE),
            means_ipv6: config.uplinks().any(|link| link.gateway6.is_some() || !link.prefixes.is_empty()),
            sets: config.sets().into_iter().map(SetNumbers::new).collect(),
            defaults: defaults(config, &desired),
            protocol: config.settings.protocol,
        }
    }

    /// The numbers as people read them.
    pub(super) fn text(&self, screen: Screen) -> String {
        let heading = ["LINK", "TABLE", "MARK", "RULE OF MARK", "RULE OF ADDRESS", "NEXTHOP", "SPARE"];
        let mut rows = vec![heading.map(|title| (title.to_owned(), Some(Tone::Faint))).to_vec()];
        for link in &self.links {
            let LinkNumbers { link, table, mark, mark_rule, address_rule, nexthop, spare_metric } = link;
            let cells = [
                link.clone(),
                table.to_string(),
                format!("{mark:#x}"),
                shown(*mark_rule),
                shown(*address_rule),
                shown(*nexthop),
                shown(*spare_metric),
            ];
            rows.push(cells.map(|text| (text, None)).to_vec());
        }
        let mut align = [Align::Right; 7];
        align[0] = Align::Left;
        let mut out = table(&rows, &align, screen).join("\n");
        out.push('\n');
        let mut rules = vec![["RULES", "OF"].map(|title| (title.to_owned(), Some(Tone::Faint))).to_vec()];
        if let Some((first, last)) = self.guard_rules {
            rules.push(row(range(first, last), "kill switches: not by the rule of an address, but on to the policies"));
        }
        if let Some(main) = self.main_rule {
            rules.push(row(main.to_string(), "what main knows better than its default route"));
        }
        let mut sources = self.links.iter().filter_map(|link| link.address_rule);
        if let Some(first) = sources.next().filter(|_| self.means_ipv6 && !self.policies.is_empty()) {
            let numbers = range(first, sources.next_back().unwrap_or(first));
            rules.push(row(numbers, "IPv6 from a prefix of a link: by that link, before policies are asked"));
        }
        for PolicyNumbers { policy, first_rule, last_rule } in &self.policies {
            rules.push(row(range(*first_rule, *last_rule), &format!("policy {policy:?}")));
        }
        if let Some(rule) = self.default_rule_ipv6 {
            rules.push(row(rule.to_string(), "IPv6's default route, in table default"));
        }
        let rules = table(&rules, &[Align::Left, Align::Left], screen).join("\n");
        // Writing to a String cannot fail.
        let _ = writeln!(out, "\n{rules}\n");
        for SetNumbers { from_set, to_set, mark } in &self.sets {
            let from = from_set.as_ref().map(|name| format!(" from set {name}")).unwrap_or_default();
            let to = to_set.as_ref().map(|name| format!(" to set {name}")).unwrap_or_default();
            let _ = writeln!(out, "mark {mark:#x}: what goes{from}{to}");
        }
        for DefaultNumbers { tier, metric, metric_ipv6, group } in &self.defaults {
            let group = group.map(|id| format!(", nexthop group {id}")).unwrap_or_default();
            let ipv6 = metric_ipv6.map(|metric| format!(" (IPv6: {metric})")).unwrap_or_default();
            let protocol = self.protocol;
            let _ = writeln!(out, "default route of tier {tier}: metric {metric}{ipv6}{group}, protocol {protocol}");
        }
        out
    }
}

impl LinkNumbers {
    fn new(live: &LiveLink<'_>, config: &Config, desired: &Desired) -> Self {
        let Link { name, table, mark, .. } = live.link;
        let own = desired.nexthops.iter().find(|(_, next_hop)| next_hop.device == live.next_hop.device);
        Self {
            link: name.to_string(),
            table: table.get(),
            mark: mark.get(),
            mark_rule: desired.rules.iter().find(|rule| is_mark_rule(rule, live)).map(|rule| rule.priority),
            address_rule: desired.rules.iter().find(|rule| is_source_rule(rule, live)).map(|rule| rule.priority),
            nexthop: own.map(|(id, _)| *id),
            spare_metric: spares(config).find(|(link, _)| link.name == *name).map(|(_, metric)| metric),
        }
    }
}

impl SetNumbers {
    fn new(pair: &Sets) -> Self {
        Self {
            from_set: pair.from.as_ref().map(ToString::to_string),
            to_set: pair.to.as_ref().map(ToString::to_string),
            mark: pair.mark.get(),
        }
    }
}

/// The first and the last of the guards.
fn guard_rules(desired: &Desired) -> Option<(u32, u32)> {
    let mut guards = desired.rules.iter().filter(|rule| matches!(rule.action, Action::Goto(_)));
    let first = guards.next()?;
    Some((first.priority, guards.next_back().unwrap_or(first).priority))
}

fn policies(config: &Config) -> Vec<PolicyNumbers> {
    let mut policies = Vec::with_capacity(config.policies.len());
    for (policy, rules) in config.policies.iter().zip(config.policy_priorities()) {
        let (first_rule, last_rule) = (rules.start, rules.end - 1);
        policies.push(PolicyNumbers { policy: policy.name.clone(), first_rule, last_rule });
    }
    policies
}

fn defaults(config: &Config, desired: &Desired) -> Vec<DefaultNumbers> {
    let numbers = config.settings.numbers;
    let tiers: BTreeSet<_> = config.links.iter().filter_map(Link::tier).collect();
    let mut defaults = Vec::with_capacity(tiers.len());
    for tier in tiers {
        let metric = numbers.tier_metric(Family::V4, tier);
        let mut routes = desired.routes.iter();
        let route = routes.find(|route| route.table == TableId::MAIN && route.metric == metric);
        let group = if let Some(Target::Group(id)) = route.map(|route| &route.target) { Some(*id) } else { None };
        let metric_ipv6 = config.uses_ipv6().then(|| numbers.tier_metric(Family::V6, tier));
        defaults.push(DefaultNumbers { tier: tier.get(), metric, metric_ipv6, group });
    }
    defaults
}

/// Main without its default.
fn is_main_rule(rule: &Rule) -> bool {
    matches!(rule.action, Action::Lookup { table: TableId::MAIN, suppress_prefixlength: Some(_) })
}

fn is_mark_rule(rule: &Rule, live: &LiveLink<'_>) -> bool {
    rule.action.table() == Some(live.link.table)
        && rule.selector.fwmark.is_some_and(|mark| mark.mask == live.link.mark.get())
}

/// A tunnel has none.
fn is_source_rule(rule: &Rule, live: &LiveLink<'_>) -> bool {
    let local = live.local.filter(|_| live.link.is_uplink()).map(HostAddr::get);
    rule.action.table() == Some(live.link.table) && rule.selector.from.is_some_and(|from| Some(from.addr()) == local)
}

fn row(numbers: String, of: &str) -> Vec<(String, Option<Tone>)> {
    vec![(numbers, None), (of.to_owned(), None)]
}

fn shown(number: Option<u32>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn range(first: u32, last: u32) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}
