//! Requests about routes: which to tell, to make and to delete.

use std::net::{IpAddr, Ipv6Addr};

use netlink_packet_core::NLA_F_NESTED;

use super::nla::{Body, bytes};
use crate::kernel::netlink::constants::{
    AF_INET, AF_INET6, RT_SCOPE_LINK, RT_SCOPE_NOWHERE, RTA_DST, RTA_GATEWAY, RTA_MULTIPATH, RTA_NH_ID, RTA_OIF,
    RTA_PRIORITY, RTA_TABLE, RTA_VIA, RTN_UNICAST, RTNH_F_ONLINK,
};
use crate::model::names::{Family, HostAddr, TableId};
use crate::model::routing::{DefaultRoute, FoundNextHop, FoundRoute, FoundTarget, Target, WeightedNextHop};

/// `struct rtmsg`: family, lengths of destination and source, tos, table, protocol, scope, type, flags.
const HEADER_LEN: usize = 12;

// Places in it.
const DESTINATION_LENGTH: usize = 1;
const PROTOCOL: usize = 5;
const SCOPE: usize = 6;
const KIND: usize = 7;
const FLAGS: usize = 8;

/// The body of a request.
pub(crate) type RouteRequest = Body<HEADER_LEN>;

/// Asks for the routes of a table.
pub(crate) fn of_table(family: Family, table: TableId) -> RouteRequest {
    let mut request = about(family);
    request.push(RTA_TABLE, &table.get().to_ne_bytes());
    request
}

/// Asks for the routes of a protocol, in all tables.
pub(crate) fn of_protocol(family: Family, protocol: u8) -> RouteRequest {
    let mut request = about(family);
    request.header[PROTOCOL] = protocol;
    request
}

/// Asks which way a packet of this host would take.
pub(crate) fn towards(to: IpAddr) -> RouteRequest {
    let mut request = about(Family::of(to));
    request.header[DESTINATION_LENGTH] = if to.is_ipv4() { 32 } else { 128 };
    request.push(RTA_DST, &octets(to));
    request
}

/// Makes a default route.
pub(crate) fn new_route(route: &DefaultRoute, protocol: u8) -> RouteRequest {
    let mut request = default_route(route.family, route.table, route.metric, protocol);
    request.header[KIND] = RTN_UNICAST;
    match &route.target {
        Target::Group(id) => request.push(RTA_NH_ID, &id.to_ne_bytes()),
        Target::NextHops(next_hops) => {
            // A route without a gateway has link scope, as with ip-route(8).
            if let [only] = &next_hops[..]
                && only.next_hop.gateway.is_none()
            {
                request.header[SCOPE] = RT_SCOPE_LINK;
            }
            add_next_hops(&mut request, next_hops);
        }
    }
    request
}

/// Adds the next hop of an IPv6 route to those of its table and metric. One with a gateway is a multipath route of one
/// next hop, so that it keeps its weight when others join it.
pub(crate) fn new_next_hop(route: &DefaultRoute, protocol: u8) -> RouteRequest {
    let mut request = default_route(route.family, route.table, route.metric, protocol);
    request.header[KIND] = RTN_UNICAST;
    if let Target::NextHops(next_hops) = &route.target {
        let has_gateways = next_hops.iter().all(|hop| hop.next_hop.gateway.is_some());
        if has_gateways { add_multipath(&mut request, next_hops) } else { add_next_hops(&mut request, next_hops) }
    }
    request
}

/// Deletes only this route (`fib_table_delete()`, `fib_nh_match()`).
pub(crate) fn found_route(route: &FoundRoute) -> RouteRequest {
    let mut request = default_route(route.family, route.table, route.metric, route.protocol);
    request.header[SCOPE] = RT_SCOPE_NOWHERE;
    match &route.target {
        FoundTarget::Nexthop { id, .. } => request.push(RTA_NH_ID, &id.to_ne_bytes()),
        FoundTarget::NextHops(next_hops) if route.family == Family::V4 => add_next_hops(&mut request, next_hops),
        FoundTarget::NextHops(next_hops) => {
            let hops = next_hops.iter().map(|WeightedNextHop { next_hop, .. }| {
                FoundNextHop::new(next_hop.device.index, next_hop.gateway.map(HostAddr::get))
            });
            add_found(&mut request, route.family, &hops.collect::<Vec<_>>());
        }
        FoundTarget::Other { kind, hops, .. } => {
            // A deletion without next hops matches any, so it must give the type.
            request.header[KIND] = kind.number();
            add_found(&mut request, route.family, hops);
        }
    }
    request
}

fn about(family: Family) -> RouteRequest {
    let mut header = [0; HEADER_LEN];
    header[0] = if family == Family::V4 { AF_INET } else { AF_INET6 };
    Body::new(header)
}

/// A default route without next hops.
fn default_route(family: Family, table: TableId, metric: u32, protocol: u8) -> RouteRequest {
    let mut request = of_table(family, table);
    request.header[PROTOCOL] = protocol;
    if metric != 0 {
        request.push(RTA_PRIORITY, &metric.to_ne_bytes());
    }
    request
}

fn add_next_hops(request: &mut RouteRequest, next_hops: &[WeightedNextHop]) {
    let [WeightedNextHop { next_hop, .. }] = next_hops else { return add_multipath(request, next_hops) };
    if next_hop.onlink {
        request.header[FLAGS..].copy_from_slice(&RTNH_F_ONLINK.to_ne_bytes());
    }
    if let Some(gateway) = next_hop.gateway {
        request.push(RTA_GATEWAY, &octets(gateway.get()));
    }
    request.push(RTA_OIF, &next_hop.device.index.to_ne_bytes());
}

fn add_multipath(request: &mut RouteRequest, next_hops: &[WeightedNextHop]) {
    let mut hops = Vec::new();
    for WeightedNextHop { next_hop, weight } in next_hops {
        let flags = if next_hop.onlink { RTNH_F_ONLINK } else { 0 };
        let gateway = next_hop.gateway.map(|gateway| (RTA_GATEWAY, octets(gateway.get())));
        hops.extend(hop(flags, weight.get(), next_hop.device.index, gateway));
    }
    request.push(RTA_MULTIPATH | NLA_F_NESTED, &hops);
}

/// Adds next hops that a deletion must give to the kernel.
fn add_found(request: &mut RouteRequest, family: Family, found: &[FoundNextHop]) {
    if let [hop] = found {
        if let Some((kind, gateway)) = selected_gateway(family, hop) {
            request.push(kind, &gateway);
        }
        request.push(RTA_OIF, &hop.device.to_ne_bytes());
    } else if !found.is_empty() {
        let hops = found.iter().flat_map(|found| hop(0, 1, found.device, selected_gateway(family, found)));
        request.push(RTA_MULTIPATH | NLA_F_NESTED, &hops.collect::<Vec<_>>());
    }
}

/// A next hop of a multipath route: `struct rtnexthop` (length, flags, weight less one, interface), and its gateway.
fn hop(flags: u32, weight: u16, device: u32, gateway: Option<(u16, Vec<u8>)>) -> Vec<u8> {
    // 1 to 256 become 0 to 255, and the flags used are among the lowest.
    let (flags, weight) = (u8::try_from(flags).unwrap_or(0), u8::try_from(weight - 1).unwrap_or(u8::MAX));
    let [a, b, c, d] = device.to_ne_bytes();
    let mut hop = Body::new([0, 0, flags, weight, a, b, c, d]);
    if let Some((kind, gateway)) = gateway {
        hop.push(kind, &gateway);
    }
    let mut hop = bytes(&hop);
    // Some 30 bytes.
    let length = u16::try_from(hop.len()).unwrap_or(u16::MAX);
    hop[..2].copy_from_slice(&length.to_ne_bytes());
    hop
}

/// The gateway that a deletion gives. In IPv6 a deletion without one takes all next hops of a metric with it
/// (`ip6_route_del()`); `::` selects the one that has none.
fn selected_gateway(family: Family, hop: &FoundNextHop) -> Option<(u16, Vec<u8>)> {
    let none = (family == Family::V6).then_some(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    hop.gateway.or(none).map(|gateway| match gateway {
        // `struct rtvia`: the family, and the address.
        IpAddr::V6(gateway) if family == Family::V4 => {
            (RTA_VIA, [&u16::from(AF_INET6).to_ne_bytes()[..], &gateway.octets()].concat())
        }
        gateway => (RTA_GATEWAY, octets(gateway)),
    })
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
