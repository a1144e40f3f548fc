//! The IPv6 state of a link. Pure.
//!
//! Callers say less than in IPv4: pppd knows link-local addresses only, and of a line with router advertisements nobody
//! tells. So the interface's addresses and the kernel's own default route by it count, too.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use super::{LinkState, LiveLink, interface_of};
use crate::config::{Config, Link, MOST_PREFIXES, is_customers};
use crate::model::names::{Family, HostAddr, TableId};
use crate::model::numbering::RA;
use crate::model::observed::{Address, Interface, InterfaceState, Observed};
use crate::model::routing::{FoundRoute, FoundTarget, NextHop};
use crate::state::records::LinkRecords;

/// Peers of a point-to-point interface, which asks nobody who has the address (`ndisc_constructor()`): any does. The
/// multipath routes of IPv6 want a gateway for each next hop (`ip6_route_multipath_add()`). The second is for a host that
/// has the first itself.
const PEERS: [Ipv6Addr; 2] = [Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2)];

/// The only uplink that may have IPv6. A delegation is its then, whoever of its DHCP clients has it: the route by which
/// the kernel refuses what is not in use of it does not say by which line it came.
pub(super) fn only_uplink(config: &Config) -> Option<&Link> {
    let mut uplinks = config.uplinks().filter(|link| link.ipv6);
    uplinks.next().filter(|_| uplinks.next().is_none())
}

/// What was delegated to this host. More than any provider delegates is a list of networks to be kept out: each would
/// become a rule.
fn delegations(observed: &Observed) -> Vec<Ipv6Net> {
    let delegated: Vec<_> = observed.delegated.iter().copied().filter(|net| is_customers(*net)).collect();
    if delegated.len() > MOST_PREFIXES { Vec::new() } else { delegated }
}

/// The state of a link as if it were not drained and the only one. `v4`: its IPv4 state; `is_only`: delegated prefixes
/// are its.
pub(super) fn ability<'a>(
    link: &'a Link,
    records: &LinkRecords,
    observed: &Observed,
    v4: &LinkState<'_>,
    is_only: bool,
    config: &Config,
) -> LinkState<'a> {
    if !link.ipv6 || !observed.has_ipv6() {
        return LinkState::Down;
    }
    let record = records.record(&link.name, Family::V6);
    let reported = record.and_then(|record| interface_of(record, observed));
    let said = record.filter(|_| reported.is_some()).and_then(|record| record.v6.as_ref());
    // A record of an interface that is gone does not affect what the link has by itself.
    let nothing = if record.is_some() && said.is_none() { LinkState::Stale } else { LinkState::Down };
    let Some(found) = reported.or_else(|| own_interface(link, records, observed)) else { return nothing };
    if found.state == InterfaceState::Down || found.addresses6.is_empty() {
        return if said.is_some() { LinkState::Dead } else { nothing };
    }
    let advertised = advertised_router(found, observed, config);
    let is_up = said.is_some() || link.gateway6.is_some() || v4.routed().is_some() && advertised.is_some();
    if !is_up {
        return nothing;
    }
    let gateway = said.and_then(|said| said.gateway).or(link.gateway6).or(advertised);
    let told = said.map(|said| &said.prefixes[..]).unwrap_or_default();
    let delegated = if is_only { delegations(observed) } else { Vec::new() };
    let local = local(link, said.and_then(|said| said.local), found);
    let live = LiveLink {
        link,
        family: Family::V6,
        next_hop: next_hop(link, gateway, found),
        local,
        prefixes: prefixes(
            found,
            local,
            [told, &link.prefixes, &delegated].concat(),
            &of_others(link, records, config),
        ),
        carrier: found.state == InterfaceState::Up,
        level: None,
    };
    if live.carrier { LinkState::Up(live) } else { LinkState::NoCarrier(live) }
}

/// The interface that a link is on without a report of IPv6: that of IPv4, else the configured one of a static link.
fn own_interface<'a>(link: &Link, records: &LinkRecords, observed: &'a Observed) -> Option<&'a Interface> {
    match records.record(&link.name, Family::V4).and_then(|record| interface_of(record, observed)) {
        None if link.is_static() => observed.interfaces.get(&link.interface),
        found => found,
    }
}

/// The router of the default route that somebody else has made by the interface: the kernel for a router's
/// advertisement, or a program that reads these itself.
fn advertised_router(interface: &Interface, observed: &Observed, config: &Config) -> Option<HostAddr> {
    let metrics = tier_metrics(config);
    let (at_tiers, others): (Vec<&FoundRoute>, Vec<_>) =
        mains(observed).partition(|route| metrics.contains(&route.metric));
    let mut others: Vec<_> = others.into_iter().filter(|route| !is_ours(route, config)).collect();
    others.sort_by_key(|route| route.metric);
    let behind = others.into_iter().find_map(|route| router_by(route, interface.device.index));
    behind.or_else(|| at_tiers.into_iter().find_map(|route| foreign_router_by(route, interface, observed, config)))
}

/// The metrics of tiers at which somebody else has a default route in main that must stay: a link is known by it alone, or
/// a program has made it of an advertisement, and would again.
pub(super) fn kept_metrics(config: &Config, records: &LinkRecords, observed: &Observed) -> BTreeSet<u32> {
    let mut kept = BTreeSet::new();
    let metrics = tier_metrics(config);
    for link in config.links.iter().filter(|link| link.ipv6) {
        let record = records.record(&link.name, Family::V6);
        let reported = record.and_then(|record| interface_of(record, observed));
        // A link that is down may be up again by the same router.
        let own = || own_interface(link, records, observed).or(observed.interfaces.get(&link.interface));
        let Some(found) = reported.or_else(own) else { continue };
        let mut others = mains(observed).filter(|r| !metrics.contains(&r.metric) && !is_ours(r, config));
        let is_known =
            reported.is_some() || link.gateway6.is_some() || others.any(|r| router_by(r, found.device.index).is_some());
        for route in mains(observed).filter(|route| metrics.contains(&route.metric)) {
            let is_there = foreign_router_by(route, found, observed, config).is_some();
            if is_there && (!is_known || route.protocol == RA) {
                kept.insert(route.metric);
            }
        }
    }
    kept
}

fn tier_metrics(config: &Config) -> BTreeSet<u32> {
    let tiers = config.uplinks().filter_map(Link::tier);
    tiers.map(|tier| config.settings.numbers.tier_metric(Family::V6, tier)).collect()
}

/// The IPv6 default routes of main.
fn mains(observed: &Observed) -> impl Iterator<Item = &FoundRoute> {
    observed.routes.iter().filter(|route| route.family == Family::V6 && route.table == TableId::MAIN)
}

fn is_ours(route: &FoundRoute, config: &Config) -> bool {
    route.protocol == config.settings.protocol
}

/// The router of somebody else's next hop by the interface at the metric of a tier. The kernel tells the protocol of the
/// first next hop only; but all of ours are in table `default` as well.
fn foreign_router_by(
    route: &FoundRoute,
    interface: &Interface,
    observed: &Observed,
    config: &Config,
) -> Option<HostAddr> {
    let index = interface.device.index;
    let router = router_by(route, index)?;
    let is_first = route.target.devices().first() == Some(&index);
    if is_first && is_ours(route, config) {
        return None;
    }
    let is_copy = |original: &FoundRoute| {
        original.family == Family::V6
            && original.table == TableId::DEFAULT
            && original.metric == route.metric
            && is_ours(original, config)
            && router_by(original, index) == Some(router)
    };
    (!is_ours(route, config) || !observed.routes.iter().any(is_copy)).then_some(router)
}

fn router_by(route: &FoundRoute, device: u32) -> Option<HostAddr> {
    match &route.target {
        FoundTarget::NextHops(hops) => {
            hops.iter().find(|hop| hop.next_hop.device.index == device).and_then(|hop| hop.next_hop.gateway)
        }
        FoundTarget::Other { hops, .. } => hops
            .iter()
            .find(|hop| hop.device == device)
            .and_then(|hop| hop.gateway)
            .and_then(|gateway| HostAddr::new(gateway).ok()),
        FoundTarget::Nexthop { .. } => None,
    }
}

fn next_hop(link: &Link, gateway: Option<HostAddr>, interface: &Interface) -> NextHop {
    let is_own = |peer: &Ipv6Addr| interface.addresses6.iter().any(|a| a.local.get() == IpAddr::V6(*peer));
    let peer = if link.is_uplink() && !interface.arp { PEERS.into_iter().find(|peer| !is_own(peer)) } else { None };
    let gateway = gateway.or(peer.and_then(|peer| HostAddr::new(peer).ok()));
    // A link-local gateway is on the link by itself (`ip6_route_check_nh_onlink()`).
    let onlink = gateway.is_some_and(|gateway| {
        !gateway.is_link_local() && !interface.addresses6.iter().any(|a| a.reaches.contains(&gateway.get()))
    });
    NextHop { device: interface.device.clone(), gateway, onlink }
}

/// The address that the caller said, if the interface has it, else the first global one of the interface. In a tunnel it
/// may be unique local.
fn local(link: &Link, said: Option<HostAddr>, interface: &Interface) -> Option<HostAddr> {
    let mut all = interface.addresses6.iter().map(|address| address.local);
    let said = all.find(|local| Some(*local) == said && (is_global(*local) || is_tunnels(link, *local)));
    said.or(global_addresses(interface).next().map(|address| address.local))
}

fn is_tunnels(link: &Link, address: HostAddr) -> bool {
    !link.is_uplink() && !address.is_link_local()
}

/// Addresses that packets to the Internet can have.
pub(crate) fn global_addresses(interface: &Interface) -> impl Iterator<Item = &Address> + Clone {
    interface.addresses6.iter().filter(|address| is_global(address.local))
}

/// Neither link-local nor unique local (`fc00::/7`).
fn is_global(addr: HostAddr) -> bool {
    addr.v6().is_some_and(|addr| !addr.is_unicast_link_local() && !addr.is_unique_local())
}

/// What is said of other uplinks' prefixes.
fn of_others(link: &Link, records: &LinkRecords, config: &Config) -> Vec<Ipv6Net> {
    let mut all = Vec::new();
    for other in config.uplinks().filter(|other| other.ipv6 && other.name != link.name) {
        let said = records.record(&other.name, Family::V6).and_then(|record| record.v6.as_ref());
        all.extend(&other.prefixes);
        all.extend(said.into_iter().flat_map(|said| &said.prefixes));
    }
    all
}

/// The prefixes of the link: `said`, its address, and those of its interface. A prefix of a point-to-point interface or an Ethernet
/// is shared with neighbours behind the same line. Anybody there can advertise one: what is said to be another uplink's stays
/// that one's, but for the interface's own address.
fn prefixes(interface: &Interface, local: Option<HostAddr>, said: Vec<Ipv6Net>, of_others: &[Ipv6Net]) -> Vec<IpNet> {
    let mut all: Vec<IpNet> = said.into_iter().map(IpNet::V6).collect();
    all.extend(local.map(|local| IpNet::from(local.get())));
    for Address { local, reaches } in global_addresses(interface) {
        let is_others = of_others.iter().any(|other| IpNet::V6(*other).contains(reaches));
        all.extend((!is_others).then(|| reaches.trunc()));
        all.push(IpNet::from(local.get()));
    }
    all.sort();
    all.dedup();
    let covering = all.clone();
    all.retain(|net| !covering.iter().any(|other| other != net && other.contains(net)));
    all
}
