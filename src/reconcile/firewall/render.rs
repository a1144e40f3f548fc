//! The desired managed chains and device groups. Pure.

use std::collections::BTreeMap;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{nat, sticky, traffic};
use crate::config::{Config, Firewall, Link};
use crate::model::firewall::{Lacking, LinkMatch, Ruleset, TableKind};
use crate::model::names::{Family, HostAddr, IfName};
use crate::model::observed::{Interface, Observed};
use crate::model::routing::Device;
use crate::reconcile::link_state::{Live, LiveLink};
use crate::state::records::LinkRecords;

/// Maximum number of networks behind a link's Ethernet that get rules of their own. A router with more routes than that
/// should have a default route to it.
pub(crate) const SEGMENT_NETWORK_LIMIT: usize = 100;

/// A link, and how rules match it.
pub(super) struct MatchedLink<'a> {
    pub(super) configured: &'a Link,
    pub(super) known_by: LinkMatch,
    pub(super) gateway: Option<HostAddr>,
    /// Networks that main reaches by its interface without its gateway.
    pub(super) segment_networks: Vec<IpNet>,
    /// Addresses of its interface in these networks.
    pub(super) own: Vec<HostAddr>,
}

/// The device group of a link.
fn group(config: &Config, link: &Link) -> u32 {
    config.settings.numbers.link_group(link.position)
}

/// Whether the group of a device may be changed: it is 0 or managed.
fn is_free(config: &Config, found: u32) -> bool {
    found == 0 || config.settings.numbers.link_groups().contains(&found)
}

/// The devices in a managed group that do not belong to the link of the group: their link has left the configuration,
/// or is on another interface now.
pub(crate) fn misgrouped(
    config: &Config,
    records: &LinkRecords,
    routed: &Live<'_>,
    grouped: Vec<(Device, u32)>,
) -> Vec<Device> {
    let mut misgrouped = Vec::new();
    for (device, found) in grouped {
        let link = config.links.iter().find(|link| group(config, link) == found);
        if !link.is_some_and(|link| is_on(link, &device, records, routed)) {
            misgrouped.push(device);
        }
    }
    misgrouped
}

/// Whether a link is on the device: by its next hop if it is up, otherwise by record or by name.
fn is_on(link: &Link, device: &Device, records: &LinkRecords, routed: &Live<'_>) -> bool {
    if let Some(l) = routed.iter().find(|l| l.link.name == link.name) {
        return l.next_hop.device.index == device.index;
    }
    link.interface == device.name
        || Family::BOTH
            .iter()
            .any(|family| records.record(&link.name, *family).is_some_and(|record| record.index == device.index))
}

/// Live uplinks by which packets of a private network would leave with a private source address, which providers drop:
/// no rule rewrites it, managed or foreign.
pub(crate) fn unmasqueraded<'a>(live: &[LiveLink<'a>], observed: &Observed) -> Vec<&'a Link> {
    if observed.private_lan.is_none() || observed.firewall.foreign_nat {
        return Vec::new();
    }
    live.iter().map(|l| l.link).filter(|link| link.is_uplink() && !link.masquerade).collect()
}

/// The interfaces of live links whose device group must change, with the new group; none if rules do `without` groups.
pub(crate) fn device_groups(
    config: &Config,
    live: &Live<'_>,
    observed: &Observed,
    without: Lacking,
) -> BTreeMap<IfName, u32> {
    let mut groups = BTreeMap::new();
    if config.settings.firewall == Firewall::None || without.device_groups {
        return groups;
    }
    for l in live.iter() {
        let name = &l.next_hop.device.name;
        let Some(found) = observed.interfaces.get(name).map(|i| i.group) else { continue };
        let wanted = group(config, l.link);
        if found != wanted && is_free(config, found) {
            groups.insert(name.clone(), wanted);
        }
    }
    groups
}

/// The desired chains of both kinds of table, for both families as nftables has them, or for one as iptables does.
pub(super) fn rulesets(
    config: &Config,
    live: &Live<'_>,
    observed: &Observed,
    without: Lacking,
    only: Option<Family>,
) -> Vec<Ruleset> {
    let mut links = Vec::new();
    for link in &config.links {
        links.extend(matched_link(config, link, live, observed, without.device_groups));
    }
    if let Some(only) = only {
        for link in &mut links {
            link.segment_networks.retain(|net| Family::of(net.addr()) == only);
            link.own.retain(|own| own.family() == only);
        }
    }
    let families = match only {
        Some(Family::V4) => &[Family::V4][..],
        Some(Family::V6) => &[Family::V6],
        None if config.uses_ipv6() => &Family::BOTH,
        None => &[Family::V4],
    };
    let nat = nat::chains(config, &links, live, &observed.firewall, only.is_none());
    let mut mangle = sticky::mangle(config, &links, families);
    if only.is_none() {
        mangle.chains.extend(traffic::chains(&links, families));
    }
    vec![mangle, Ruleset { kind: TableKind::Nat, chains: nat }]
}

fn matched_link<'a>(
    config: &Config,
    link: &'a Link,
    live: &Live<'_>,
    observed: &Observed,
    by_name: bool,
) -> Option<MatchedLink<'a>> {
    let routed = live.v4.iter().find(|l| l.link.name == link.name);
    let routed6 = live.v6.iter().find(|l| l.link.name == link.name);
    let name = routed.or(routed6).map_or(&link.interface, |l| &l.next_hop.device.name);
    let found = observed.interfaces.get(name);
    // A group that the administrator has set stays, and rules match the name instead.
    let named = by_name || found.is_some_and(|i| !is_free(config, i.group));
    let known_by = match named {
        true if !is_plain(name) => return None,
        true => LinkMatch::Name(name.clone()),
        false => LinkMatch::Group(group(config, link)),
    };
    let gateway = routed.and_then(|l| l.next_hop.gateway);
    let v4 = routed.and(found).map(|interface| segment_networks(interface, gateway)).unwrap_or_default();
    let v6 = routed6.and(found).map(segment_networks6).unwrap_or_default();
    let segment_networks: Vec<_> = v4.into_iter().map(IpNet::V4).chain(v6.into_iter().map(IpNet::V6)).collect();
    let addresses = found.into_iter().flat_map(|interface| interface.addresses.iter().chain(&interface.addresses6));
    let mut own: Vec<_> = addresses.map(|address| address.local).collect();
    own.retain(|local| segment_networks.iter().any(|net| net.contains(&local.get())));
    Some(MatchedLink { configured: link, known_by, gateway, segment_networks, own })
}

/// The networks that main reaches by an Ethernet otherwise than the link's table does. On a point-to-point interface
/// both tables send a packet to the same peer.
fn segment_networks(interface: &Interface, gateway: Option<HostAddr>) -> Vec<Ipv4Net> {
    if !interface.arp {
        return Vec::new();
    }
    let mut networks = Vec::new();
    if gateway.is_some() {
        networks.extend(interface.addresses.iter().filter_map(|a| ipv4(a.reaches)));
    }
    let routes = interface.routes.iter().filter(|route| route.gateway != gateway.map(HostAddr::get));
    networks.extend(routes.map(|route| route.to));
    // Both tables reach the gateway itself.
    networks.retain(|net| {
        net.prefix_len() < 31
            || gateway.is_none_or(|gateway| !gateway.v4().is_some_and(|gateway| net.contains(&gateway)))
    });
    let mut aggregated = Ipv4Net::aggregate(&networks);
    aggregated.sort();
    aggregated.truncate(SEGMENT_NETWORK_LIMIT);
    aggregated
}

/// The same in IPv6: the prefixes of the interface's addresses but for link-local ones, which no route leads elsewhere.
fn segment_networks6(interface: &Interface) -> Vec<Ipv6Net> {
    if !interface.arp {
        return Vec::new();
    }
    let global = interface.addresses6.iter().filter(|address| !address.local.is_link_local());
    let networks: Vec<_> =
        global.filter_map(|address| ipv6(address.reaches)).filter(|net| net.prefix_len() < 127).collect();
    let mut aggregated = Ipv6Net::aggregate(&networks);
    aggregated.sort();
    aggregated.truncate(SEGMENT_NETWORK_LIMIT);
    aggregated
}

fn ipv6(net: IpNet) -> Option<Ipv6Net> {
    if let IpNet::V6(net) = net { Some(net) } else { None }
}

fn ipv4(net: IpNet) -> Option<Ipv4Net> {
    if let IpNet::V4(net) = net { Some(net) } else { None }
}

/// Whether iptables takes the name literally: a trailing `+` would be a wildcard.
fn is_plain(name: &IfName) -> bool {
    name.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b"._-@".contains(&b)) && !name.as_str().starts_with('-')
}
