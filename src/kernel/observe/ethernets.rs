//! Routes of main by links' Ethernets, where another router than the link's gateway may be the next hop.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;

use ipnet::Ipv4Net;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use tracing::debug;

use super::read;
use crate::kernel::Error;
use crate::kernel::netlink::constants::{
    RTA_DST, RTA_GATEWAY, RTA_MULTIPATH, RTA_OIF, RTA_TABLE, RTA_VIA, RTM_GETROUTE,
};
use crate::kernel::netlink::nla::attribute;
use crate::kernel::netlink::socket::Socket;
use crate::model::names::{IfName, TableId};
use crate::model::observed::{Interface, InterfaceState, RouteBy};

/// `struct rtmsg`.
const RTMSG_LEN: usize = 12;
const RTN_UNICAST: u8 = 1;
/// `struct rtnexthop`: length, flags, hops, interface.
const RTNEXTHOP_LEN: usize = 8;

/// So many routes are read of main: with a full table an event would take longer than all else. They come by rising
/// destination, so 10.0.0.0/8 comes early. The subnets of an interface are known by its addresses in any case.
const READ_LIMIT: usize = 1000;

/// Adds to the interfaces the routes of main by them, if they are Ethernets. Where there is none, nothing is asked.
pub(crate) fn add_routes(socket: &mut Socket, interfaces: &mut BTreeMap<IfName, Interface>) -> Result<(), Error> {
    let mut routes: BTreeMap<u32, Vec<RouteBy>> = BTreeMap::new();
    for interface in interfaces.values().filter(|interface| interface.arp && interface.state != InterfaceState::Down) {
        routes.insert(interface.device.index, Vec::new());
    }
    if routes.is_empty() {
        return Ok(());
    }
    let mut request = RouteMessage::default();
    request.header.address_family = AddressFamily::Inet;
    request.attributes.push(RouteAttribute::Table(TableId::MAIN.get()));
    let start = || (0, routes.clone());
    let each = |(count, routes): &mut (usize, BTreeMap<u32, Vec<RouteBy>>), body: &[u8]| {
        add(routes, body);
        *count += 1;
        Ok(if *count < READ_LIMIT { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    };
    let (count, mut routes) = socket.dump(RTM_GETROUTE, &request, start, each).map_err(read("routes"))?;
    if count == READ_LIMIT {
        debug!("main has more than {READ_LIMIT} routes: those by other routers on a link's Ethernet may be overlooked");
    }
    for interface in interfaces.values_mut() {
        interface.routes = routes.remove(&interface.device.index).unwrap_or_default();
    }
    Ok(())
}

/// Adds a route to those of its interfaces that are among `routes`.
pub(crate) fn add(routes: &mut BTreeMap<u32, Vec<RouteBy>>, message: &[u8]) {
    let Some((header, nlas)) = message.split_at_checked(RTMSG_LEN) else { return };
    let table = attribute(nlas, RTA_TABLE).and_then(number).unwrap_or(header[4].into());
    if header[1] == 0 || table != TableId::MAIN.get() || header[7] != RTN_UNICAST {
        return;
    }
    let to = attribute(nlas, RTA_DST).and_then(ipv4).and_then(|addr| Ipv4Net::new(addr, header[1]).ok());
    let Some(to) = to.filter(|to| !to.addr().is_multicast()) else { return };
    if let Some(index) = attribute(nlas, RTA_OIF).and_then(number)
        && let Some(routes) = routes.get_mut(&index)
    {
        routes.push(RouteBy { to, gateway: gateway(nlas) });
    }
    let mut hops = attribute(nlas, RTA_MULTIPATH).unwrap_or_default();
    while let Some(&[l0, l1, _, _, i0, i1, i2, i3]) = hops.first_chunk::<RTNEXTHOP_LEN>() {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(nlas) = hops.get(RTNEXTHOP_LEN..length) else { return };
        if let Some(routes) = routes.get_mut(&u32::from_ne_bytes([i0, i1, i2, i3])) {
            routes.push(RouteBy { to, gateway: gateway(nlas) });
        }
        hops = hops.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

fn gateway(nlas: &[u8]) -> Option<IpAddr> {
    if let Some(addr) = attribute(nlas, RTA_GATEWAY).and_then(ipv4) {
        return Some(addr.into());
    }
    // `struct rtvia`: the family comes first.
    let addr = attribute(nlas, RTA_VIA)?.get(2..)?;
    Some(Ipv6Addr::from(*addr.first_chunk::<16>()?).into())
}

fn ipv4(value: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(*value.first_chunk::<4>()?))
}

fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(*value.first_chunk::<4>()?))
}
