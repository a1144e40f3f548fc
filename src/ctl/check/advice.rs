//! What is allowed and yet hardly meant: warnings about a configuration. Pure.

use super::covering::Covering;
use super::ipv6;
use crate::config::{Config, Firewall, Link, LinkKind, Otherwise, Policy};
use crate::model::names::{LinkName, Weight};

/// What a warning is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// A link, by its place in [`Config::links`].
    Link(usize),
    /// A policy, by its place in [`Config::policies`].
    Policy(usize),
}

/// A warning: what is odd, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// What it is about.
    pub about: About,
    /// One line.
    pub message: String,
}

/// All warnings about `config`, links first.
pub fn advice(config: &Config) -> Vec<Advice> {
    let links = (0..).zip(&config.links).flat_map(|(at, link)| {
        let all = [lone_weight(link, config), masquerade(link, config)];
        all.into_iter()
            .chain(ipv6::of_link(link, config))
            .flatten()
            .map(move |message| Advice { about: About::Link(at), message })
    });
    let mut covering = Covering::default();
    let policies = (0..).zip(&config.policies).flat_map(|(at, policy)| {
        let above = covering.next(at, policy);
        // What never matches needs no word about where it would lead.
        let all = match never(policy).or_else(|| Some(shadowed(policy, above?))) {
            Some(message) => vec![message],
            None => [
                everyones_uid(policy),
                own_source(policy, config),
                backup_first(policy, config),
                idle_otherwise(policy, config),
                ipv6::own_prefix(policy, config),
            ]
            .into_iter()
            .flatten()
            .collect(),
        };
        all.into_iter().map(move |message| Advice { about: About::Policy(at), message })
    });
    links.chain(policies).collect()
}

fn lone_weight(link: &Link, config: &Config) -> Option<String> {
    let LinkKind::Uplink { weight, tier } = link.kind else { return None };
    let fellows = config.uplinks().filter(|l| l.tier() == Some(tier)).count();
    (fellows == 1 && weight != Weight::default()).then(|| {
        format!(
            "weight {weight} of {} has no effect: no other uplink is in tier {tier} to share with; \
             remove it, or give another uplink that tier",
            link.name
        )
    })
}

fn masquerade(link: &Link, config: &Config) -> Option<String> {
    let name = &link.name;
    if link.masquerade && config.settings.firewall == Firewall::None {
        return Some(format!(
            "masquerade of {name} has no effect with firewall = \"none\": remove it, or do the same in your own rules"
        ));
    }
    let fellow = config.uplinks().find(|l| l.masquerade)?;
    (link.is_uplink() && !link.masquerade).then(|| {
        format!(
            "{} masquerades and {name} does not: what fails over from one to the other leaves by {name} with \
             the address of the LAN, and no answer comes back; write masquerade = true, unless your own rules do it",
            fellow.name
        )
    })
}

/// Selectors that exclude each other.
fn never(policy: &Policy) -> Option<String> {
    // The kernel takes what it forwards as uid 0 (ip_route_input_slow(), sock_net_uid()).
    let excluded = is_forwarded(policy) && !policy.uid.is_empty() && policy.uid.iter().all(|range| range.start > 0);
    excluded.then(|| {
        format!(
            "policy {:?} can never match: uid is about processes of this machine, iif about what it forwards; \
             make it two policies",
            policy.name
        )
    })
}

/// Whether a policy is about what comes in by an interface alone.
pub(super) fn is_forwarded(policy: &Policy) -> bool {
    !policy.iif.is_empty() && policy.iif.iter().all(|name| name.as_str() != "lo")
}

fn everyones_uid(policy: &Policy) -> Option<String> {
    let root = policy.iif.is_empty() && policy.from.is_empty() && policy.uid.iter().any(|range| range.start == 0);
    root.then(|| {
        format!(
            "policy {:?} also takes what is forwarded for the LAN: the kernel counts that as uid 0; \
             leave 0 out, or add iif = \"lo\"",
            policy.name
        )
    })
}

/// A packet of this host's own gets its source at its first routing, before a set is asked and its mark has it routed
/// anew.
fn own_source(policy: &Policy, config: &Config) -> Option<String> {
    let is_others = is_forwarded(policy) || !policy.from.is_empty();
    policy.sets.as_ref().filter(|_| !is_others)?;
    let links = policy.via.iter().filter_map(|name| config.link(name));
    let plain: Vec<_> = links.filter(|link| !link.masquerade).map(|link| link.name.clone()).collect();
    (!plain.is_empty()).then(|| {
        format!(
            "policy {:?} is by a set: what this machine itself sends has the address of another link by then, and no \
             answer comes back by {}; write masquerade = true there, unless your own rules do it",
            policy.name,
            names(&plain, " or ")
        )
    })
}

/// What becomes of a policy all of whose traffic one `above` it takes.
fn shadowed(policy: &Policy, above: &Policy) -> String {
    let (name, other) = (&policy.name, &above.name);
    let same_links = policy.via.iter().all(|link| above.via.contains(link));
    if above.otherwise == Otherwise::Unreachable || (same_links && policy.otherwise == Otherwise::Default) {
        return format!(
            "policy {name:?} can never take effect: {other:?} above it takes all of its traffic; \
             put the narrower one first, or remove it"
        );
    }
    let links = names(&above.via, " and ");
    let verb = if above.via.len() == 1 { "is" } else { "are" };
    format!(
        "policy {name:?} takes effect only while {links} {verb} down: {other:?} above it takes all of its traffic; \
         put the narrower one first"
    )
}

fn backup_first(policy: &Policy, config: &Config) -> Option<String> {
    let tiers: Vec<_> = policy.via.iter().filter_map(|name| Some((name, config.link(name)?.tier()?))).collect();
    let pair = tiers.windows(2).find(|pair| matches!(pair, [(_, a), (_, b)] if a > b))?;
    let [(first, high), (then, low)] = pair else { return None };
    Some(format!(
        "policy {:?} prefers {first} of tier {high} to {then} of tier {low}: its traffic goes by the backup all the \
         time; if that is not meant, swap them",
        policy.name
    ))
}

/// Whether a policy lets everything go by any line.
pub(in crate::ctl) fn is_idle(policy: &Policy, config: &Config) -> bool {
    config.uplink_count() > 0 && config.uplinks().all(|link| policy.via.contains(&link.name))
}

fn idle_otherwise(policy: &Policy, config: &Config) -> Option<String> {
    (policy.otherwise == Otherwise::Unreachable && is_idle(policy, config)).then(|| {
        format!(
            "otherwise = \"unreachable\" of policy {:?} changes nothing: via names every uplink, and without any of \
             them there is no default route either; leave out those that must not carry it",
            policy.name
        )
    })
}

pub(super) fn names(links: &[LinkName], between: &str) -> String {
    links.iter().map(LinkName::as_str).collect::<Vec<_>>().join(between)
}
