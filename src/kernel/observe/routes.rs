//! Default routes of a table.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::net::IpAddr;
use std::ops::ControlFlow;

use super::read;
use crate::kernel::netlink::constants::RTM_GETROUTE;
use crate::kernel::netlink::route::Route;
use crate::kernel::netlink::route_request;
use crate::kernel::netlink::socket::{self, Socket};
use crate::kernel::{Error, interface};
use crate::model::names::{DeviceName, Family, HostAddr, IfName, TableId, Weight};
use crate::model::observed::Interface;
use crate::model::routing::{Device, FoundNextHop, FoundRoute, FoundTarget, NextHop, RouteKind, WeightedNextHop};
use crate::model::sh::quoted;

/// Devices by index: those of the scope, and the names of others in routes.
pub(crate) struct Devices {
    known: HashMap<u32, Device>,
    others: HashMap<u32, DeviceName>,
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
    fn name(&self, index: u32) -> DeviceName {
        let known = self.get(index).map(|device| device.name.device());
        known.or_else(|| self.others.get(&index).cloned()).unwrap_or_else(|| DeviceName::new(format!("if{index}")))
    }
}

/// The default routes of a table. They come first in a dump, since the kernel walks its trie by rising destination
/// (`fib_table_dump()`); the rest of the table is not read.
pub(crate) fn defaults(
    socket: &mut Socket,
    table: TableId,
    devices: &mut Devices,
    into: &mut Vec<FoundRoute>,
) -> Result<(), Error> {
    for body in dump(socket, table, Vec::new, |all, body| add_default(all, body, table))? {
        let found = Route::parse(&body).map_err(read("routes"))?;
        learn_names(socket, &found, devices)?;
        into.push(route(&found, devices));
    }
    Ok(())
}

/// Adds the body of a message if it is a default route of the table; breaks off behind the last possible one.
fn add_default(all: &mut Vec<Vec<u8>>, body: &[u8], table: TableId) -> Result<ControlFlow<()>, socket::Error> {
    let route = Route::parse(body)?;
    // 0.0.0.0/1, which VPNs add, is on the same leaf of the trie as 0.0.0.0/0.
    if !route.prefix.addr().is_unspecified() {
        return Ok(ControlFlow::Break(()));
    }
    if route.prefix.prefix_len() == 0 && route.table == table && route.tos == 0 {
        all.push(body.to_vec());
    }
    Ok(ControlFlow::Continue(()))
}

/// The IPv4 routes of a table, by rising destination. Before Linux 4.20 the kernel does not filter, and `each` sees
/// other tables, too.
pub(crate) fn dump<S: Default>(
    socket: &mut Socket,
    table: TableId,
    restart: impl FnMut() -> S,
    each: impl FnMut(&mut S, &[u8]) -> Result<ControlFlow<()>, socket::Error>,
) -> Result<S, Error> {
    dump_of(Family::V4, socket, table, restart, each)
}

/// The same of a family.
pub(crate) fn dump_of<S: Default>(
    family: Family,
    socket: &mut Socket,
    table: TableId,
    restart: impl FnMut() -> S,
    each: impl FnMut(&mut S, &[u8]) -> Result<ControlFlow<()>, socket::Error>,
) -> Result<S, Error> {
    let request = route_request::of_table(family, table);
    match socket.dump(RTM_GETROUTE, &request, restart, each) {
        // There has never been a route in this table: ENOENT.
        Err(e) if e.is_gone() => Ok(S::default()),
        done => done.map_err(read("routes")),
    }
}

/// Looks up the names of a route's devices that are no link's, for messages.
pub(super) fn learn_names(socket: &mut Socket, route: &Route<'_>, devices: &mut Devices) -> Result<(), Error> {
    for FoundNextHop { device, .. } in route.hops() {
        if devices.get(device).is_some() || devices.others.contains_key(&device) {
            continue;
        }
        if let Some(found) = interface::by_index(socket, device)? {
            devices.others.insert(device, found.name);
        }
    }
    Ok(())
}

pub(crate) fn route(found: &Route<'_>, devices: &Devices) -> FoundRoute {
    let family = Family::of(found.prefix.addr());
    let target = if let Some(id) = found.nexthop {
        FoundTarget::Nexthop { id, devices: found.hops().map(|hop| hop.device).collect() }
    } else {
        let next_hops: Option<Vec<_>> = found.hops().map(|hop| next_hop(hop, family, devices)).collect();
        match next_hops.filter(|next_hops| found.kind == RouteKind::Unicast && !next_hops.is_empty()) {
            Some(next_hops) => FoundTarget::NextHops(next_hops),
            None => other(found, devices),
        }
    };
    FoundRoute { family, table: found.table, metric: found.metric, protocol: found.protocol, target }
}

/// `None`: multihome could not have written it.
fn next_hop(hop: FoundNextHop, family: Family, devices: &Devices) -> Option<WeightedNextHop> {
    let gateway = match hop.gateway {
        Some(gateway) if Family::of(gateway) != family => return None,
        gateway => gateway.map(HostAddr::new).transpose().ok()?,
    };
    let next_hop = NextHop { device: devices.get(hop.device)?.clone(), gateway, onlink: hop.onlink };
    Some(WeightedNextHop { next_hop, weight: Weight::new(hop.weight).ok()? })
}

/// A route that multihome could not have written.
fn other(found: &Route<'_>, names: &Devices) -> FoundTarget {
    let hops: Vec<_> = found.hops().collect();
    let mut text = String::new();
    for hop in &hops {
        if hops.len() > 1 {
            text.push_str("nexthop ");
        }
        // Writing to a String cannot fail.
        let _ = match hop.gateway {
            Some(IpAddr::V4(gateway)) => write!(text, "via {gateway} "),
            Some(IpAddr::V6(gateway)) if found.prefix.addr().is_ipv4() => write!(text, "via inet6 {gateway} "),
            Some(IpAddr::V6(gateway)) => write!(text, "via {gateway} "),
            None => Ok(()),
        };
        let _ = write!(text, "dev {} ", quoted(names.name(hop.device).as_str()));
    }
    FoundTarget::Other { kind: found.kind, text: text.trim_end().to_owned(), hops }
}
