//! The desired rules: marks, main without its default route, sources, policies, and IPv6's default. Pure.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::config::{Config, Link, Nat6, Otherwise, Policy};
use crate::model::names::{Family, TableId};
use crate::model::numbering::DEFAULT6_RULE;
use crate::model::routing::FwMark;
use crate::model::routing::{Action, Rule, Selector};
use crate::reconcile::link_state::{Live, LiveLink};

/// All rules, sorted, and the priorities of the rules of kill switches.
pub(super) fn rules(config: &Config, live: &Live<'_>) -> (Vec<Rule>, BTreeSet<u32>) {
    let mut rules = Vec::new();
    let mut kill_switches = BTreeSet::new();
    for family in Family::BOTH {
        add(config, family, live.of(family), &mut rules, &mut kill_switches);
    }
    if !kill_switches.is_empty() {
        // Otherwise kill switches would cut off the more specific routes of main.
        kill_switches.insert(config.settings.numbers.main_rule());
        // Before main's IPv6 default can get exceptions.
        kill_switches.insert(DEFAULT6_RULE);
    }
    rules.sort();
    // Two policies may have the same selector, and so the same guard.
    rules.dedup();
    (rules, kill_switches)
}

/// Adds the rules of one family.
fn add(
    config: &Config,
    family: Family,
    live: &[LiveLink<'_>],
    rules: &mut Vec<Rule>,
    kill_switches: &mut BTreeSet<u32>,
) {
    let numbers = config.settings.numbers;
    let sources = sources(config, family, live);
    let to = first_policy(config, family);
    let drained: Vec<_> = live.iter().filter(|l| l.level.is_some()).map(|l| l.link.position).collect();
    let mut policies = Vec::new();
    let mut guards = Vec::new();
    for (policy, first) in config.policies.iter().zip(config.policy_priorities()) {
        let is_kill_switch = policy.otherwise == Otherwise::Unreachable;
        if is_kill_switch {
            kill_switches.extend(first.clone());
        }
        let mut priorities = first;
        for selector in selectors(policy, family) {
            let links = policy.via.iter().filter_map(|name| config.link(name));
            for (link, priority) in links.zip(&mut priorities) {
                // The table of a drained link is full, for the connections that it has.
                if !drained.contains(&link.position) {
                    policies.push(lookup(family, priority, selector.clone(), link.table));
                }
            }
            if is_kill_switch && let Some(priority) = priorities.next() {
                if can_be_bound(config, &selector, &sources) {
                    guards.push(guard(config, family, &selector, to));
                }
                policies.push(unreachable(family, priority, selector));
            }
        }
    }
    if !guards.is_empty() {
        rules.push(main(family, numbers.guarded_main_rule()));
        kill_switches.extend(guards.iter().map(|guard: &Rule| guard.priority));
        kill_switches.extend([numbers.guarded_main_rule(), to]);
    }
    if family == Family::V6 {
        policies.extend(of_configured_prefixes(config, live));
        policies.push(lookup(family, DEFAULT6_RULE, Selector::default(), TableId::DEFAULT));
    }
    rules.push(main(family, numbers.main_rule()));
    rules.extend(marks(config, family, live));
    rules.extend(probes(config, family));
    rules.extend(sources.into_iter().chain(guards).chain(policies));
}

fn lookup(family: Family, priority: u32, selector: Selector, table: TableId) -> Rule {
    let action = Action::Lookup { table, suppress_prefixlength: None };
    Rule { priority, family, selector, action }
}

/// The rule that looks up main without its default route.
fn main(family: Family, priority: u32) -> Rule {
    let action = Action::Lookup { table: TableId::MAIN, suppress_prefixlength: Some(0) };
    Rule { priority, family, selector: Selector::default(), action }
}

fn unreachable(family: Family, priority: u32, selector: Selector) -> Rule {
    Rule { priority, family, selector, action: Action::Unreachable }
}

/// The mark rules, without those of cut links: what is left of their connections goes by another link.
fn marks(config: &Config, family: Family, live: &[LiveLink<'_>]) -> Vec<Rule> {
    // Tunnels first: a packet whose mark has the bits of several links goes by the tunnel among them.
    let (uplinks, tunnels): (Vec<_>, Vec<_>) = config.links.iter().partition(|link| link.is_uplink());
    let mut rules = Vec::with_capacity(config.links.len());
    for (order, link) in (0..).zip(tunnels.into_iter().chain(uplinks)) {
        if live.iter().any(|l| l.link.position == link.position && !l.keeps_connections()) {
            continue;
        }
        let bit = link.mark.get();
        let selector = Selector { fwmark: Some(FwMark { value: bit, mask: bit }), ..Selector::default() };
        rules.push(lookup(family, config.settings.numbers.mark_rule(order), selector, link.table));
    }
    rules
}

/// The rules for probes, which lead into the uplinks' tables whatever else does not. No policy has a say in that.
fn probes(config: &Config, family: Family) -> Vec<Rule> {
    let mut rules = Vec::new();
    for link in config.checked() {
        let Some(bits) = config.probe_marks(link) else { continue };
        let selector = Selector { fwmark: Some(FwMark { value: bits, mask: bits }), ..Selector::default() };
        rules.push(lookup(family, config.settings.numbers.probe_rule(link.position), selector, link.table));
    }
    rules
}

/// The source rules.
fn sources(config: &Config, family: Family, live: &[LiveLink<'_>]) -> Vec<Rule> {
    // If the default route has chosen the address of a socket, and the administrator's firewall then marks its packets
    // for a policy, the socket is not bound to that address. Without this selector the source rule would match before
    // the policy (`ip_route_me_harder()` looks up with the source).
    let own_marks = config.policies.iter().filter_map(Policy::mark).fold(0, |all, mark| all | mark.value);
    let fwmark = (own_marks != 0).then_some(FwMark { value: 0, mask: own_marks });
    let mut rules = Vec::new();
    for l in live.iter().filter(|l| l.link.is_uplink() && l.keeps_connections()) {
        let priority = config.settings.numbers.source_rule(l.link.position);
        for from in l.sources().into_iter().filter(|from| !is_shared(from, l, live)) {
            let selector = Selector { from: Some(from), fwmark, ..Selector::default() };
            rules.push(lookup(family, priority, selector, l.link.table));
        }
    }
    rules
}

/// Priorities of the source rules of uplinks that have no IPv6 and translate nothing.
pub(super) fn lost_sources(config: &Config, live: &Live<'_>) -> BTreeSet<u32> {
    lost(config, &live.v6).map(|link| config.settings.numbers.source_rule(link.position)).collect()
}

fn lost<'a>(config: &'a Config, live: &[LiveLink<'_>]) -> impl Iterator<Item = &'a Link> {
    let kept: Vec<_> = live.iter().filter(|l| l.keeps_connections()).map(|l| l.link.position).collect();
    config.uplinks().filter(move |link| link.nat6 == Nat6::None && !kept.contains(&link.position))
}

/// The rules that refuse what comes from the configured prefixes of such uplinks.
fn of_configured_prefixes(config: &Config, live: &[LiveLink<'_>]) -> Vec<Rule> {
    let mut rules = Vec::new();
    for link in lost(config, live) {
        for prefix in &link.prefixes {
            let selector = Selector { from: Some(IpNet::V6(*prefix)), ..Selector::default() };
            rules.push(unreachable(Family::V6, config.settings.numbers.source_rule(link.position), selector));
        }
    }
    rules
}

/// The rule that refuses what an IPv6 source rule has selected.
pub(super) fn refusing(source: &Rule) -> Option<Rule> {
    let from = source.selector.from.filter(|_| source.family == Family::V6)?;
    Some(unreachable(Family::V6, source.priority, Selector { from: Some(from), ..Selector::default() }))
}

/// Whether another uplink has the address or prefix, as behind two modems of the same kind. With a source rule the first
/// uplink would get all of the server's own packets.
fn is_shared(source: &IpNet, own: &LiveLink<'_>, live: &[LiveLink<'_>]) -> bool {
    let others = live.iter().filter(|l| l.link.is_uplink() && l.link.name != own.link.name);
    others.flat_map(LiveLink::sources).any(|other| other == *source)
}

/// Whether packets of a kill switch can match a source rule, which comes before the policies.
fn can_be_bound(config: &Config, selector: &Selector, sources: &[Rule]) -> bool {
    // Source rules do not match marks of policies. But those of sets have every packet of this host routed anew with its
    // source, while an earlier source rule is not yet gone that matches them. An IPv4 packet that comes in with a source
    // address of this host is a martian (`fib_validate_source()`); an IPv6 prefix is of hosts behind this one, too.
    let is_marked = selector.fwmark.is_some_and(|mark| mark.value & config.set_marks() == 0);
    let are_hosts = sources.iter().any(|rule| rule.family == Family::V6);
    let is_own = !is_marked && selector.iif.as_ref().is_none_or(|iif| are_hosts || iif.as_str() == "lo");
    let mut locals = sources.iter().filter_map(|rule| rule.selector.from);
    is_own && selector.from.is_none_or(|net| locals.any(|local| net.contains(&local) || local.contains(&net)))
}

/// Priority of the first rule of a policy in a family. Without a rule there the kernel would pass over a guard.
pub(super) fn first_policy(config: &Config, family: Family) -> u32 {
    let mut policies = config.policies.iter().zip(config.policy_priorities());
    let first = policies.find(|(policy, _)| !selectors(policy, family).is_empty());
    first.map_or(config.first_policy(), |(_, priorities)| priorities.start)
}

/// The rule that leads a kill switch's packets past the source rules, to the first policy of the family.
pub(super) fn guard(config: &Config, family: Family, selector: &Selector, to: u32) -> Rule {
    Rule {
        priority: config.settings.numbers.guard_rule(selector),
        family,
        selector: selector.clone(),
        action: Action::Goto(to),
    }
}

/// A selector for each combination of a policy's lists, in a family; none, if its addresses are of the other.
pub fn selectors(policy: &Policy, family: Family) -> Vec<Selector> {
    if !policy.families().any(|own| own == family) {
        return Vec::new();
    }
    let fixed =
        Selector { proto: policy.proto_in(family), dscp: policy.dscp, fwmark: policy.mark(), ..Selector::default() };
    let mut all = vec![fixed];
    multiply(&mut all, &of_family(&policy.from, family), |s, net| s.from = prefix(*net));
    multiply(&mut all, &of_family(&policy.to, family), |s, net| s.to = prefix(*net));
    multiply(&mut all, &policy.iif, |s, name| s.iif = Some(name.clone()));
    multiply(&mut all, &policy.uid, |s, range| s.uid = Some(*range));
    multiply(&mut all, &policy.sport, |s, range| s.sport = Some(*range));
    multiply(&mut all, &policy.dport, |s, range| s.dport = Some(*range));
    all
}

/// The same in both families.
pub(super) fn selectors_of_both(policy: &Policy) -> impl Iterator<Item = (Family, Selector)> {
    Family::BOTH.into_iter().flat_map(|family| selectors(policy, family).into_iter().map(move |s| (family, s)))
}

fn of_family(all: &[IpNet], family: Family) -> Vec<IpNet> {
    all.iter().copied().filter(|net| Family::of(net.addr()) == family).collect()
}

/// The prefix, unless it matches everything: the kernel does not store such a selector.
fn prefix(net: IpNet) -> Option<IpNet> {
    let is_everything = net.prefix_len() == 0 && net.addr().is_unspecified();
    if is_everything { None } else { Some(net) }
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
