//! The desired rules: marks, main without its default route, sources, policies. Pure.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};

use crate::config::{Config, Otherwise, Policy};
use crate::model::names::{Family, HostAddr, TableId};
use crate::model::routing::FwMark;
use crate::model::routing::{Action, Rule, Selector};
use crate::reconcile::link_state::LiveLink;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// All rules, sorted, and the priorities of the rules of kill switches.
pub(super) fn rules(config: &Config, live: &[LiveLink<'_>]) -> (Vec<Rule>, BTreeSet<u32>) {
    let numbers = config.settings.numbers;
    let sources = sources(config, live);
    let mut rules = marks(config);
    rules.push(main(Family::V4, numbers.main_rule()));
    let mut kill_switches = BTreeSet::new();
    let mut guards = Vec::new();
    let mut ipv6 = Vec::new();
    for (policy, mut priorities) in config.policies.iter().zip(config.policy_priorities()) {
        let is_kill_switch = policy.otherwise == Otherwise::Unreachable;
        if is_kill_switch {
            kill_switches.extend(priorities.clone());
        }
        for selector in selectors(policy) {
            let links = policy.via.iter().filter_map(|name| config.link(name));
            for (link, priority) in links.zip(&mut priorities) {
                rules.push(lookup(priority, selector.clone(), link.table));
            }
            if is_kill_switch && let Some(priority) = priorities.next() {
                if can_be_bound(config, &selector, &sources) {
                    guards.push(guard(config, &selector));
                }
                if let Some(selector) = in_ipv6(&selector) {
                    ipv6.push(unreachable(Family::V6, priority, selector));
                }
                rules.push(unreachable(Family::V4, priority, selector));
            }
        }
    }
    if !guards.is_empty() {
        rules.push(main(Family::V4, numbers.guarded_main_rule()));
        kill_switches.extend(guards.iter().map(|guard: &Rule| guard.priority));
        kill_switches.extend([numbers.guarded_main_rule(), config.first_policy()]);
    }
    if !ipv6.is_empty() {
        rules.push(main(Family::V6, numbers.main_rule()));
    }
    if !kill_switches.is_empty() {
        // Otherwise kill switches would cut off the more specific routes of main.
        kill_switches.insert(numbers.main_rule());
    }
    rules.extend(sources.into_iter().chain(guards).chain(ipv6));
    rules.sort();
    // Two policies may have the same selector, and so the same guard.
    rules.dedup();
    (rules, kill_switches)
}

fn lookup(priority: u32, selector: Selector, table: TableId) -> Rule {
    let action = Action::Lookup { table, suppress_prefixlength: None };
    Rule { priority, family: Family::V4, selector, action }
}

/// The rule that looks up main without its default route.
fn main(family: Family, priority: u32) -> Rule {
    let action = Action::Lookup { table: TableId::MAIN, suppress_prefixlength: Some(0) };
    Rule { priority, family, selector: Selector::default(), action }
}

fn unreachable(family: Family, priority: u32, selector: Selector) -> Rule {
    Rule { priority, family, selector, action: Action::Unreachable }
}

/// The mark rules.
fn marks(config: &Config) -> Vec<Rule> {
    // Tunnels first: a packet whose mark has the bits of several links goes by the tunnel among them.
    let (uplinks, tunnels): (Vec<_>, Vec<_>) = config.links.iter().partition(|link| link.is_uplink());
    let mut rules = Vec::with_capacity(config.links.len());
    for (order, link) in (0..).zip(tunnels.into_iter().chain(uplinks)) {
        let bit = link.mark.get();
        let selector = Selector { fwmark: Some(FwMark { value: bit, mask: bit }), ..Selector::default() };
        rules.push(lookup(config.settings.numbers.mark_rule(order), selector, link.table));
    }
    rules
}

/// The source rules.
fn sources(config: &Config, live: &[LiveLink<'_>]) -> Vec<Rule> {
    // If the default route has chosen the address of a socket, and the administrator's firewall then marks its packets
    // for a policy, the socket is not bound to that address. Without this selector the source rule would match before
    // the policy (`ip_route_me_harder()` looks up with the source).
    let own_marks = config.policies.iter().filter_map(Policy::mark).fold(0, |all, mark| all | mark.value);
    let fwmark = (own_marks != 0).then_some(FwMark { value: 0, mask: own_marks });
    let mut rules = Vec::new();
    for uplink in config.uplinks() {
        let local = live.iter().find(|l| l.link.name == uplink.name).and_then(|l| l.local);
        if let Some(local) = local.filter(|local| !is_shared(*local, live)) {
            let from = Some(IpNet::from(Ipv4Net::from(local.get())));
            let priority = config.settings.numbers.source_rule(uplink.position);
            rules.push(lookup(priority, Selector { from, fwmark, ..Selector::default() }, uplink.table));
        }
    }
    rules
}

/// Whether more than one uplink has the address, as behind two modems of the same kind. With a source rule the first
/// uplink would get all of the server's own packets.
fn is_shared(local: HostAddr, live: &[LiveLink<'_>]) -> bool {
    live.iter().filter(|l| l.link.is_uplink() && l.local == Some(local)).count() > 1
}

/// Whether packets of a kill switch can match a source rule, which comes before the policies.
fn can_be_bound(config: &Config, selector: &Selector, sources: &[Rule]) -> bool {
    // Source rules do not match marks of policies. But those of sets have every packet of this host routed anew with its
    // source, while an earlier source rule is not yet gone that matches them. A packet that comes in with a source
    // address of this host is a martian (`fib_validate_source()`).
    let is_marked = selector.fwmark.is_some_and(|mark| mark.value & config.set_marks() == 0);
    let is_own = !is_marked && selector.iif.as_ref().is_none_or(|iif| iif.as_str() == "lo");
    let mut locals = sources.iter().filter_map(|rule| rule.selector.from);
    is_own && selector.from.is_none_or(|net| locals.any(|local| net.contains(&local)))
}

/// The rule that leads a kill switch's packets past the source rules, to the first policy.
pub(super) fn guard(config: &Config, selector: &Selector) -> Rule {
    Rule {
        priority: config.settings.numbers.guard_rule(selector),
        family: Family::V4,
        selector: selector.clone(),
        action: Action::Goto(config.first_policy()),
    }
}

/// The selector for IPv6; `None`: it has IPv4 addresses.
fn in_ipv6(selector: &Selector) -> Option<Selector> {
    let proto = selector.proto.map(|proto| if proto == ICMP { ICMPV6 } else { proto });
    (selector.from.is_none() && selector.to.is_none()).then(|| Selector { proto, ..selector.clone() })
}

/// A selector for each combination of a policy's lists.
pub fn selectors(policy: &Policy) -> Vec<Selector> {
    let fixed = Selector { proto: policy.proto, dscp: policy.dscp, fwmark: policy.mark(), ..Selector::default() };
    let mut all = vec![fixed];
    multiply(&mut all, &policy.from, |s, net| s.from = prefix(*net));
    multiply(&mut all, &policy.to, |s, net| s.to = prefix(*net));
    multiply(&mut all, &policy.iif, |s, name| s.iif = Some(name.clone()));
    multiply(&mut all, &policy.uid, |s, range| s.uid = Some(*range));
    multiply(&mut all, &policy.sport, |s, range| s.sport = Some(*range));
    multiply(&mut all, &policy.dport, |s, range| s.dport = Some(*range));
    all
}

/// The prefix, unless it matches everything: the kernel does not store such a selector.
fn prefix(net: Ipv4Net) -> Option<IpNet> {
    let is_everything = net.prefix_len() == 0 && net.addr() == Ipv4Addr::UNSPECIFIED;
    if is_everything { None } else { Some(IpNet::V4(net)) }
}

/// Replaces `all` by its cartesian product with `values`; an empty list changes nothing.
fn multiply<T>(all: &mut Vec<Selector>, values: &[T], set: impl Fn(&mut Selector, &T)) {
    if values.is_empty() {
        return;
    }
    let mut product = Vec::with_capacity(all.len() * values.len());
    for selector in &*all {
        for value in values {
            let mut selector = selector.clone();
            set(&mut selector, value);
            product.push(selector);
        }
    }
    *all = product;
}
