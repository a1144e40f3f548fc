//! What of IPv6 is allowed and yet hardly meant. Pure.

use ipnet::IpNet;

use crate::config::{Config, Firewall, Link, Nat6, Otherwise, Policy};

/// Warnings about a link.
pub(super) fn of_link(link: &Link, config: &Config) -> [Option<String>; 3] {
    [unused(link), translated(link, config), shared_prefix(link, config)]
}

/// Keys of a link that does not use IPv6.
fn unused(link: &Link) -> Option<String> {
    let keys = [("gateway6", link.gateway6.is_some()), ("prefixes", !link.prefixes.is_empty())];
    let key = keys.into_iter().find_map(|(key, is_there)| is_there.then_some(key))?;
    let name = &link.name;
    (!link.ipv6).then(|| format!("{key} of {name} has no effect with ipv6 = \"off\": remove one of the two"))
}

fn translated(link: &Link, config: &Config) -> Option<String> {
    let is_moot = link.nat6 == Nat6::All && config.settings.firewall == Firewall::None;
    is_moot.then(|| {
        format!(
            "nat6 = \"all\" of {} has no effect with firewall = \"none\": remove it, or do the same in your own rules",
            link.name
        )
    })
}

/// A prefix that overlaps with one of a link before it.
fn shared_prefix(link: &Link, config: &Config) -> Option<String> {
    let before = config.links.iter().take_while(|other| other.name != link.name).filter(|other| other.is_uplink());
    for other in before.filter(|_| link.is_uplink()) {
        for (theirs, own) in other.prefixes.iter().flat_map(|theirs| link.prefixes.iter().map(move |own| (theirs, own)))
        {
            if theirs == own {
                return Some(format!(
                    "prefix {own} is of {} and of {}: packets with such a source leave by either; give each link what \
                     its provider routes to it",
                    other.name, link.name
                ));
            }
            if theirs.contains(own) || own.contains(theirs) {
                return Some(format!(
                    "prefix {theirs} of {} and {own} of {} overlap: packets with a source of both leave by {}; give each \
                     link what its provider routes to it",
                    other.name, link.name, other.name
                ));
            }
        }
    }
    None
}

/// A policy about sources in a prefix of a link that is none of its own: source rules come first. Those of kill switches
/// are led past them.
pub(super) fn own_prefix(policy: &Policy, config: &Config) -> Option<String> {
    if policy.otherwise == Otherwise::Unreachable {
        return None;
    }
    for link in config.uplinks().filter(|link| link.ipv6 && policy.via.first() != Some(&link.name)) {
        let is_in = |net: &&IpNet| link.prefixes.iter().any(|prefix| IpNet::V6(*prefix).contains(*net));
        if let Some(net) = policy.from.iter().find(is_in) {
            return Some(format!(
                "policy {:?} has no effect on {net} while {link} is up: packets with a source in a prefix of {link} leave by \
                 {link} before policies are asked; select other sources, such as unique local ones",
                policy.name,
                link = link.name
            ));
        }
    }
    None
}
