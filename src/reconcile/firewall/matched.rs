//! Links as firewall rules match them. Pure.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::{Config, Link};
use crate::model::firewall::LinkMatch;
use crate::model::names::{HostAddr, IfName};
use crate::model::observed::{Interface, Observed};
use crate::reconcile::link_state::Live;

/// Maximum number of networks behind a link's Ethernet that get rules of their own. A router with more routes than that
/// should have a default route to it.
const SEGMENT_NETWORK_LIMIT: usize = 100;

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
pub(super) fn group(config: &Config, link: &Link) -> u32 {
    config.settings.numbers.link_group(link.position)
}

/// Whether the group of a device may be changed: it is 0 or managed.
pub(super) fn is_free(config: &Config, found: u32) -> bool {
    found == 0 || config.settings.numbers.link_groups().contains(&found)
}

/// A link as rules match it; `None`: they cannot.
pub(super) fn matched_link<'a>(
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
