//! What is allowed and yet hardly meant: warnings about a configuration. Pure.

use ipnet::Ipv4Net;

use super::{Config, Firewall, FwMark, Link, LinkKind, Otherwise, Policy, PortRange, UidRange};
use crate::types::{LinkName, Tier, Weight};

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
        all.into_iter().flatten().map(move |message| Advice { about: About::Link(at), message })
    });
    let policies = (0..).zip(&config.policies).flat_map(|(at, policy)| {
        // What never matches needs no word about where it would lead.
        let all = match never(policy).or_else(|| shadowed(policy, config.policies.get(..at).unwrap_or_default())) {
            Some(message) => vec![message],
            None => [everyones_uid(policy), backup_first(policy, config), idle_otherwise(policy, config)]
                .into_iter()
                .flatten()
                .collect(),
        };
        all.into_iter().map(move |message| Advice { about: About::Policy(at), message })
    });
    links.chain(policies).collect()
}

/// Weight and tier of an uplink.
fn uplink(link: &Link) -> Option<(Weight, Tier)> {
    if let LinkKind::Uplink { weight, tier } = link.kind { Some((weight, tier)) } else { None }
}

fn lone_weight(link: &Link, config: &Config) -> Option<String> {
    let (weight, tier) = uplink(link)?;
    let fellows = config.links.iter().filter(|l| uplink(l).is_some_and(|(_, t)| t == tier)).count();
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
    uplink(link)?;
    let fellow = config.links.iter().find(|l| uplink(l).is_some() && l.masquerade)?;
    (!link.masquerade).then(|| {
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

fn shadowed(policy: &Policy, earlier: &[Policy]) -> Option<String> {
    let above = earlier.iter().find(|above| covers(above, policy))?;
    let (name, other) = (&policy.name, &above.name);
    let same_links = policy.via.iter().all(|link| above.via.contains(link));
    if above.otherwise == Otherwise::Unreachable || (same_links && policy.otherwise == Otherwise::Default) {
        return Some(format!(
            "policy {name:?} can never take effect: {other:?} above it takes all of its traffic; \
             put the narrower one first, or remove it"
        ));
    }
    let links = names(&above.via, " and ");
    let verb = if above.via.len() == 1 { "is" } else { "are" };
    Some(format!(
        "policy {name:?} takes effect only while {links} {verb} down: {other:?} above it takes all of its traffic; \
         put the narrower one first"
    ))
}

fn backup_first(policy: &Policy, config: &Config) -> Option<String> {
    let tiers = policy.via.iter().filter_map(|name| {
        let link = config.links.iter().find(|link| link.name == *name)?;
        uplink(link).map(|(_, tier)| (name, tier))
    });
    let tiers: Vec<_> = tiers.collect();
    let pair = tiers.windows(2).find(|pair| matches!(pair, [(_, a), (_, b)] if a > b))?;
    let [(first, high), (then, low)] = pair else { return None };
    Some(format!(
        "policy {:?} prefers {first} of tier {high} to {then} of tier {low}: its traffic goes by the backup all the \
         time; if that is not meant, swap them",
        policy.name
    ))
}

/// Whether a policy lets everything go by any line.
pub(super) fn is_idle(policy: &Policy, config: &Config) -> bool {
    let mut uplinks = config.links.iter().filter(|link| uplink(link).is_some()).peekable();
    uplinks.peek().is_some() && uplinks.all(|link| policy.via.contains(&link.name))
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

/// Whether every packet that `b` selects is also selected by `a`.
pub(super) fn covers(a: &Policy, b: &Policy) -> bool {
    let equal = |a: Option<u8>, b: Option<u8>| a.is_none() || a == b;
    let mark = |a: FwMark, b: FwMark| b.mask & a.mask == a.mask && b.value & a.mask == a.value;
    let ports = |a: &PortRange, b: &PortRange| a.start <= b.start && b.end <= a.end;
    let nets = |a: &Ipv4Net, b: &Ipv4Net| a.contains(b);
    equal(a.proto, b.proto)
        && equal(a.dscp, b.dscp)
        && a.fwmark.is_none_or(|a| b.fwmark.is_some_and(|b| mark(a, b)))
        && list(&a.from, &b.from, nets)
        && list(&a.to, &b.to, nets)
        && list(&a.iif, &b.iif, |a, b| a == b)
        && list(&a.sport, &b.sport, ports)
        && list(&a.dport, &b.dport, ports)
        && list(&a.uid, &b.uid, |a: &UidRange, b: &UidRange| a.start <= b.start && b.end <= a.end)
}

/// The same for one list of values, of which an empty one selects everything.
fn list<T>(a: &[T], b: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
    a.is_empty() || (!b.is_empty() && b.iter().all(|b| a.iter().any(|a| covers(a, b))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What of a packet a policy looks at.
    #[derive(Debug, Clone, Copy)]
    struct Packet {
        from: u8,
        to: u8,
        iif: u8,
        proto: u8,
        sport: u16,
        dport: u16,
        uid: u32,
        dscp: u8,
        mark: u32,
    }

    fn matches(policy: &Policy, packet: &Packet) -> bool {
        let addr = |n: u8| std::net::Ipv4Addr::new(192, 0, 2, n);
        let any = |all: &[Ipv4Net], n| all.is_empty() || all.iter().any(|net| net.contains(&addr(n)));
        let port = |all: &[PortRange], n| all.is_empty() || all.iter().any(|p| (p.start..=p.end).contains(&n));
        any(&policy.from, packet.from)
            && any(&policy.to, packet.to)
            && (policy.iif.is_empty() || policy.iif.iter().any(|name| name.as_str() == format!("eth{}", packet.iif)))
            && policy.proto.is_none_or(|proto| proto == packet.proto)
            && port(&policy.sport, packet.sport)
            && port(&policy.dport, packet.dport)
            && (policy.uid.is_empty() || policy.uid.iter().any(|u| (u.start..=u.end).contains(&packet.uid)))
            && policy.dscp.is_none_or(|dscp| dscp == packet.dscp)
            && policy.fwmark.is_none_or(|mark| packet.mark & mark.mask == mark.value)
    }

    prop_compose! {
        /// Few values, so that policies meet.
        fn policies()(
            from in prop::collection::vec((0u8..4, 30u8..=32), 0..2),
            to in prop::collection::vec((0u8..4, 30u8..=32), 0..2),
            iif in prop::collection::vec(0u8..2, 0..2),
            proto in prop::option::of(6u8..8),
            sport in prop::collection::vec((1u16..4, 0u16..3), 0..2),
            dport in prop::collection::vec((1u16..4, 0u16..3), 0..2),
            uid in prop::collection::vec((0u32..4, 0u32..3), 0..2),
            dscp in prop::option::of(0u8..2),
            fwmark in prop::option::of((0u32..4, 1u32..4)),
        ) -> Policy {
            let net = |(n, len)| Ipv4Net::new(std::net::Ipv4Addr::new(192, 0, 2, n), len).unwrap().trunc();
            let port = |(start, more)| PortRange { start, end: start + more };
            Policy {
                name: "p".to_owned(),
                from: from.into_iter().map(net).collect(),
                to: to.into_iter().map(net).collect(),
                iif: iif.into_iter().map(|n| format!("eth{n}").parse().unwrap()).collect(),
                proto,
                sport: sport.into_iter().map(port).collect(),
                dport: dport.into_iter().map(port).collect(),
                uid: uid.into_iter().map(|(start, more)| UidRange { start, end: start + more }).collect(),
                dscp,
                fwmark: fwmark.map(|(value, mask)| FwMark { value: value & mask, mask }),
                via: vec!["isp1".parse().unwrap()],
                otherwise: Otherwise::Default,
            }
        }
    }

    prop_compose! {
        fn packets()(
            from in 0u8..4, to in 0u8..4, iif in 0u8..2, proto in 6u8..8, sport in 1u16..6, dport in 1u16..6,
            uid in 0u32..6, dscp in 0u8..2, mark in 0u32..4,
        ) -> Packet {
            Packet { from, to, iif, proto, sport, dport, uid, dscp, mark }
        }
    }

    proptest! {
        #[test]
        fn what_covers_takes_every_packet(
            a in policies(),
            mut b in policies(),
            narrower in any::<bool>(),
            packets in prop::collection::vec(packets(), 64),
        ) {
            if narrower {
                // Two at random hardly ever cover each other: make the second one a narrower first.
                b = Policy { from: b.from, to: b.to, uid: b.uid, ..a.clone() };
                for (net, wide) in [(&mut b.from, &a.from), (&mut b.to, &a.to)] {
                    net.retain(|n| wide.iter().any(|w| w.contains(n)));
                }
            }
            if covers(&a, &b) {
                for packet in &packets {
                    prop_assert!(!matches(&b, packet) || matches(&a, packet), "{:?}\n{:?}\n{:?}", a, b, packet);
                }
            }
            prop_assert!(covers(&a, &a));
        }
    }
}
