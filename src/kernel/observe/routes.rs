//! Default routes of a table.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::ControlFlow;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteNextHopFlags, RouteType, RouteVia,
};

use super::{parse, read};
use crate::kernel::netlink::constants::RTM_GETROUTE;
use crate::kernel::netlink::socket::Socket;
use crate::kernel::{Error, interface};
use crate::model::names::{HostAddr, IfName, TableId, Weight};
use crate::model::observed::Interface;
use crate::model::routing::{Device, FoundRoute, FoundTarget, Hop, Leg, RouteKind, WeightedLeg};
use crate::model::sh::quoted;

/// Names of devices by index: those of the scope, and others as they turn up in routes.
pub(crate) struct Devices {
    known: HashMap<u32, Device>,
    others: HashMap<u32, String>,
}

impl Devices {
    pub(crate) fn new(interfaces: &BTreeMap<IfName, Interface>) -> Self {
        let known = interfaces.values().map(|i| (i.device.index, i.device.clone())).collect();
        Self { known, others: HashMap::new() }
    }

    pub(crate) fn get(&self, index: u32) -> Option<&Device> {
        self.known.get(&index)
    }

    /// For messages only.
    fn name(&self, index: u32) -> String {
        let known = self.get(index).map(|device| device.name.to_string());
        known.or_else(|| self.others.get(&index).cloned()).unwrap_or_else(|| format!("if{index}"))
    }
}

/// The default routes of a table. They come first in a dump, since the kernel walks its trie by
/// rising destination (`fib_table_dump()`): the rest of the table is never read.
pub(crate) fn defaults(
    socket: &mut Socket,
    table: TableId,
    devices: &mut Devices,
    into: &mut Vec<FoundRoute>,
) -> Result<(), Error> {
    let mut request = RouteMessage::default();
    request.header.address_family = AddressFamily::Inet;
    request.attributes.push(RouteAttribute::Table(table.get()));
    let each = |all: &mut Vec<RouteMessage>, body: &[u8]| {
        let message: RouteMessage = parse(body)?;
        let destination = message.attributes.iter().find_map(|a| match a {
            RouteAttribute::Destination(RouteAddress::Inet(addr)) => Some(*addr),
            _ => None,
        });
        // 0.0.0.0/1, as VPNs write it, stands on the same leaf of the trie as 0.0.0.0/0.
        if destination.is_some_and(|addr| addr != Ipv4Addr::UNSPECIFIED) {
            return Ok(ControlFlow::Break(()));
        }
        if message.header.destination_prefix_length == 0 && table_of(&message) == table.get() && message.header.tos == 0
        {
            all.push(message);
        }
        Ok(ControlFlow::Continue(()))
    };
    let found = match socket.dump(RTM_GETROUTE, &request, Vec::new, each) {
        // No route has ever been put into this table: ENOENT.
        Err(e) if e.is_gone() => return Ok(()),
        done => done.map_err(read("routes"))?,
    };
    for message in found {
        learn_names(socket, &message, devices)?;
        into.push(route(table, &message, devices));
    }
    Ok(())
}

fn table_of(message: &RouteMessage) -> u32 {
    let long = message.attributes.iter().find_map(|a| if let RouteAttribute::Table(t) = a { Some(*t) } else { None });
    long.unwrap_or(message.header.table.into())
}

/// Asks for the names of devices of a route that are no link's, for messages.
fn learn_names(socket: &mut Socket, message: &RouteMessage, devices: &mut Devices) -> Result<(), Error> {
    for index in device_indices(message) {
        if devices.get(index).is_some() || devices.others.contains_key(&index) {
            continue;
        }
        if let Some(found) = interface::by_index(socket, index)? {
            devices.others.insert(index, found.name);
        }
    }
    Ok(())
}

fn device_indices(message: &RouteMessage) -> Vec<u32> {
    let of = |a: &RouteAttribute| match a {
        RouteAttribute::Oif(index) => vec![*index],
        RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
        _ => vec![],
    };
    message.attributes.iter().flat_map(of).collect()
}

pub(crate) fn route(table: TableId, message: &RouteMessage, devices: &Devices) -> FoundRoute {
    let mut metric = 0;
    let mut nexthop = None;
    let mut hops = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Priority(n) => metric = *n,
            RouteAttribute::NhId(id) => nexthop = Some(*id),
            RouteAttribute::MultiPath(all) => hops.clone_from(all),
            _ => {}
        }
    }
    let indices = device_indices(message);
    if hops.is_empty() && !indices.is_empty() {
        // A plain route says of itself what a leg says of a multipath route.
        let mut hop = RouteNextHop::default();
        hop.interface_index = indices[0];
        hop.attributes.clone_from(&message.attributes);
        if message.header.flags.contains(RouteFlags::Onlink) {
            hop.flags |= RouteNextHopFlags::Onlink;
        }
        hops.push(hop);
    }
    let target = if let Some(id) = nexthop {
        FoundTarget::Nexthop { id, devices: indices }
    } else {
        let legs: Vec<_> = hops.iter().filter_map(|hop| leg(hop, devices)).collect();
        let expressible = message.header.kind == RouteType::Unicast && !hops.is_empty() && legs.len() == hops.len();
        if expressible { FoundTarget::Legs(legs) } else { other(message, &hops, devices) }
    };
    FoundRoute { table, metric, protocol: message.header.protocol.into(), target }
}

/// A leg, if it is one that we could have written.
fn leg(hop: &RouteNextHop, devices: &Devices) -> Option<WeightedLeg> {
    let gateway = match gateway(hop) {
        None => None,
        Some(IpAddr::V4(addr)) => Some(HostAddr::new(addr).ok()?),
        Some(IpAddr::V6(_)) => return None,
    };
    let leg = Leg {
        device: devices.get(hop.interface_index)?.clone(),
        gateway,
        onlink: hop.flags.contains(RouteNextHopFlags::Onlink),
    };
    Some(WeightedLeg { leg, weight: Weight::new(u16::from(hop.hops) + 1).ok()? })
}

fn gateway(hop: &RouteNextHop) -> Option<IpAddr> {
    hop.attributes.iter().find_map(|a| match a {
        RouteAttribute::Gateway(RouteAddress::Inet(addr)) => Some(IpAddr::V4(*addr)),
        RouteAttribute::Gateway(RouteAddress::Inet6(addr)) | RouteAttribute::Via(RouteVia::Inet6(addr)) => {
            Some(IpAddr::V6(*addr))
        }
        _ => None,
    })
}

/// A route that we could not have written.
fn other(message: &RouteMessage, hops: &[RouteNextHop], names: &Devices) -> FoundTarget {
    let mut text = String::new();
    for hop in hops {
        if hops.len() > 1 {
            text.push_str("nexthop ");
        }
        // Writing to a String cannot fail.
        let _ = match gateway(hop) {
            Some(IpAddr::V4(gateway)) => write!(text, "via {gateway} "),
            Some(IpAddr::V6(gateway)) => write!(text, "via inet6 {gateway} "),
            None => Ok(()),
        };
        let _ = write!(text, "dev {} ", quoted(&names.name(hop.interface_index)));
    }
    let hops = hops.iter().map(|hop| Hop { device: hop.interface_index, gateway: gateway(hop) }).collect();
    FoundTarget::Other { kind: RouteKind(message.header.kind.into()), text: text.trim_end().to_owned(), hops }
}
