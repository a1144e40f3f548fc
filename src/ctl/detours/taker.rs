//! Who takes traffic, in words, and what to do about it. Pure.

use super::Detour;
use super::samples::Traffic;
use crate::config::{Config, Otherwise};
use crate::ctl::lookup::{FibNextHop, FibRoute, Names, Packet, owner, protocol_name, rule_deletion, rule_text};
use crate::ctl::show;
use crate::model::names::{DeviceName, Family, LinkName, TableId};
use crate::model::numbering::KERNELS_MAIN_RULE;
use crate::model::routing::{FoundRule, RouteKind};

/// Who takes traffic.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Taker {
    /// A rule of somebody else, and the way it leads.
    Rule(Box<FoundRule>, String),
    /// A rule of somebody else before kill switches, and the way by which it leads what both select, if that is known.
    Before(Box<FoundRule>, Option<String>),
    /// A route of somebody else.
    Route(Box<FibRoute>, String),
    /// A route of somebody else in the table of the link of that name, by another interface, and how many more there
    /// are.
    Stray(Box<FibRoute>, LinkName, usize),
    /// The lack of a rule that leads to main; `true`: an apply puts it back, since no other rule has its place.
    NoMain(bool),
    /// Something that cannot be told from here.
    Unclear(DeviceName, Packet),
}

/// The devices that a route leads to.
pub(super) fn way(route: &FibRoute) -> String {
    let names: Vec<_> = route.shares().iter().map(|(next_hop, _)| next_hop.name.to_string()).collect();
    format!("by {}", names.join(" and "))
}

impl Taker {
    /// The same for all traffic that one line tells of: both halves of the Internet by one device are one takeover.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Rule(found, _) | Self::Before(found, _) => rule_key(found),
            Self::Route(route, by) if route.prefix.prefix_len() > 0 => {
                format!("route{} {} {by}", ipv6(route), route.table)
            }
            Self::Route(route, by) => format!("default{} {} {by}", ipv6(route), route.metric),
            Self::Stray(route, ..) if route.prefix.prefix_len() > 0 => {
                format!("stray{} {} {}", ipv6(route), route.table, way(route))
            }
            Self::Stray(route, ..) => format!("stray{} {} {} {}", ipv6(route), route.table, route.metric, way(route)),
            Self::NoMain(_) => String::new(),
            Self::Unclear(device, _) => format!("unclear {device}"),
        }
    }

    pub(super) fn detour(&self, traffic: &[Traffic], config: &Config, mhctl: &str) -> Detour {
        let takes = takes(traffic);
        let (what, fix) = match self {
            Self::Rule(found, by) => (format!("{} takes {takes}: {by}", rule(found)), rule_fix(found, config)),
            Self::Before(found, by) => {
                let before = format!("{} stands before the kill switch of {}", rule(found), policies(traffic));
                let what = match by {
                    Some(by) => format!("{before}, and takes what both select: {by}"),
                    None => format!("{before}: what both select is not refused"),
                };
                (what, rule_fix(found, config))
            }
            Self::Route(route, by) => {
                (format!("{}, {}, takes {takes}: {by}", route_text(route), whose(route)), route_fix(route))
            }
            Self::Stray(route, link, more) => {
                let and_so_on = if *more == 0 { "" } else { "; and so on" };
                let fix = format!("delete it: {}{and_so_on}", route_deletion(route));
                (stray(route, link, *more, traffic, &takes), fix)
            }
            // Made first, it would let through what a kill switch refuses whose rules are gone as well.
            Self::NoMain(is_put_back) => (
                format!("no rule leads to table main, as if by `ip rule flush`, for {takes}: it goes nowhere"),
                if *is_put_back {
                    format!("{mhctl} apply")
                } else {
                    format!("{mhctl} apply; {}", rule_for_main(Family::V4))
                },
            ),
            Self::Unclear(device, packet) => (
                format!("{takes} leaves by {device}, and what leads it there cannot be told from here"),
                format!("{mhctl} why {} has as much as can be told", packet.to),
            ),
        };
        let mut policies: Vec<_> = traffic.iter().map(|traffic| traffic.policy().map(str::to_owned)).collect();
        policies.dedup();
        let mut is_trouble = true;
        if let Self::Stray(_, link, _) = self {
            let its: Vec<_> = config.policies.iter().filter(|policy| policy.via.contains(link)).collect();
            is_trouble = !policies.is_empty() || its.iter().any(|policy| policy.otherwise == Otherwise::Unreachable);
            if policies.is_empty() {
                policies.extend(its.iter().map(|policy| Some(policy.name.clone())));
            }
        }
        Detour { what, fix, policies, is_trouble }
    }
}

/// A rule that stands before the kill switches of these policies, and may take what both select: if `is_wide`, a large
/// part of it.
pub(super) fn doubt(found: &FoundRule, traffic: &[Traffic], is_wide: bool, config: &Config) -> Detour {
    let holds = if is_wide { "which may not hold" } else { "which may not hold for what it leads to" };
    Detour {
        what: format!("{} stands before the kill switch of {}, {holds}", rule(found), policies(traffic)),
        fix: rule_fix(found, config),
        policies: traffic.iter().map(|traffic| traffic.policy().map(str::to_owned)).collect(),
        is_trouble: is_wide,
    }
}

/// The same for all that is said of a rule.
pub(super) fn rule_key(found: &FoundRule) -> String {
    format!("{:010} {:?} {}", found.rule.priority, found.rule.family, rule_text(found, &Names::new()))
}

/// A rule of somebody else.
fn rule(found: &FoundRule) -> String {
    let whose = owner(found).map_or_else(|| "which is foreign".to_owned(), |name| format!("as of {name}"));
    let family = if found.rule.family == Family::V6 { "IPv6 " } else { "" };
    format!("{family}rule {}: {}, {whose},", found.rule.priority, rule_text(found, &Names::new()))
}

/// Traffic in words.
fn takes(traffic: &[Traffic]) -> String {
    let is_of_policies = traffic.iter().any(|traffic| traffic.policy().is_some());
    let mut all = match (traffic.contains(&Traffic::Internet), is_of_policies) {
        (true, false) => "traffic to the Internet".to_owned(),
        (true, true) => format!("traffic to the Internet, and that of {}", policies(traffic)),
        (false, true) => format!("the traffic of {}", policies(traffic)),
        (false, false) => String::new(),
    };
    let sources =
        traffic.iter().filter_map(|traffic| if let Traffic::Sources(link) = traffic { Some(link) } else { None });
    let links: Vec<_> = sources.map(String::as_str).collect();
    if !links.is_empty() {
        let and = if all.is_empty() { "" } else { ", and " };
        all = format!("{all}{and}what comes from prefixes of {}", links.join(" and "));
    }
    all
}

/// The policies among it.
fn policies(traffic: &[Traffic]) -> String {
    show::policies(traffic.iter().filter_map(Traffic::policy), 3).unwrap_or_default()
}

/// A route in the table of a link, by another interface.
fn stray(route: &FibRoute, link: &LinkName, more: usize, traffic: &[Traffic], takes: &str) -> String {
    let others = if more == 0 { String::new() } else { format!(" (and {more} more)") };
    let text = format!("{}{others}, {}, leads {} and not by {link}", route_text(route), whose(route), way(route));
    if !traffic.is_empty() {
        format!("{text}: it takes {takes}")
    } else if route.prefix.prefix_len() == 0 {
        format!("{text}: it takes what is for {link} while {link} is down")
    } else {
        format!("{text}: it takes what is for {link} and goes there")
    }
}

/// The family, where it has to be said.
fn ipv6(route: &FibRoute) -> &'static str {
    if route.prefix.addr().is_ipv6() { " IPv6" } else { "" }
}

fn whose(route: &FibRoute) -> String {
    let name = protocol_name(route.protocol).filter(|name| !["boot", "static"].contains(name));
    name.map_or_else(|| "which is foreign".to_owned(), |name| format!("of {name}"))
}

pub(super) fn route_text(route: &FibRoute) -> String {
    let ipv6 = ipv6(route);
    if route.prefix.prefix_len() == 0 && route.table == TableId::MAIN {
        format!("the{ipv6} default route of metric {}", route.metric)
    } else if route.prefix.prefix_len() == 0 {
        format!("the{ipv6} default route of metric {} of table {}", route.metric, route.table)
    } else {
        format!("route {} of table {}", route.prefix, route.table)
    }
}

/// A route's prefix, a single host without its length.
pub(super) fn prefix_text(route: &FibRoute) -> String {
    let prefix = route.prefix;
    if prefix.prefix_len() == prefix.max_prefix_len() { prefix.addr().to_string() } else { prefix.to_string() }
}

fn rule_fix(found: &FoundRule, config: &Config) -> String {
    let delete = rule_deletion(found);
    match owner(found) {
        Some("tailscale") => "tailscale set --exit-node=".to_owned(),
        Some("wg-quick") => "write Table = off into wg-quick's file, and make it a [[tunnel]]".to_owned(),
        _ if found.rule.priority < config.first_policy() => {
            format!(
                "delete it ({delete}), or set rule-priority in [settings] so that all of multihome's stand before it"
            )
        }
        _ => format!("delete it: {delete}"),
    }
}

/// The command of ip(8) that deletes a route.
pub(super) fn route_deletion(route: &FibRoute) -> String {
    let prefix = if route.prefix.prefix_len() == 0 { "default".to_owned() } else { route.prefix.to_string() };
    let family = Family::of(route.prefix.addr());
    let ip = family.ip();
    let from = route.from.map(|from| format!(" from {from}")).unwrap_or_default();
    let mut delete = format!("{ip} route del {prefix}{from} table {} metric {}", route.table, route.metric);
    if let [FibNextHop { name, hop, .. }] = &route.next_hops[..] {
        if let Some(gateway) = hop.gateway {
            delete = format!("{delete} via {gateway}");
        } else if family == Family::V6 && route.kind == RouteKind::Unicast {
            // Without it all next hops of the metric would go (`ip6_route_del()`).
            delete.push_str(" via ::");
        }
        delete = format!("{delete} dev {}", crate::model::sh::quoted(name.as_str()));
    }
    format!("{delete} protocol {}", route.protocol)
}

/// The command of ip(8) that puts the kernel's own rule for main back.
pub(super) fn rule_for_main(family: Family) -> String {
    format!("{} rule add priority {KERNELS_MAIN_RULE} lookup main", family.ip())
}

fn route_fix(route: &FibRoute) -> String {
    let delete = route_deletion(route);
    if route.prefix.prefix_len() > 0 {
        let pushed = if route.prefix.addr().is_ipv6() { "route-ipv6" } else { "redirect-gateway" };
        return format!(
            "have its owner leave it out (OpenVPN: pull-filter ignore {pushed}; WireGuard: Table = off), or {delete}"
        );
    }
    format!("have its owner give it a metric above multihome's, or {delete}")
}
