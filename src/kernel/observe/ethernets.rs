//! Routes of main by the Ethernet interfaces of links, where another router than the link's gateway may be the next
//! hop.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use ipnet::IpNet;
use tracing::debug;

use super::routes;
use crate::kernel::Error;
use crate::kernel::netlink::route::Route;
use crate::kernel::netlink::socket::{self, Socket};
use crate::model::names::{IfName, TableId};
use crate::model::observed::{Interface, InterfaceState, RouteBy};
use crate::model::routing::RouteKind;

/// Maximum number of routes that are read of main: a full table would take too long. They come by rising destination,
/// so 10.0.0.0/8 comes early. The subnets of an interface are known by its addresses, too.
const READ_LIMIT: usize = 1000;

/// Adds the routes of main to the interfaces that are Ethernets. Without such an interface no request is sent.
pub(crate) fn add_routes(socket: &mut Socket, interfaces: &mut BTreeMap<IfName, Interface>) -> Result<(), Error> {
    let mut routes: BTreeMap<u32, Vec<RouteBy>> = BTreeMap::new();
    for interface in interfaces.values().filter(|interface| interface.arp && interface.state != InterfaceState::Down) {
        routes.insert(interface.device.index, Vec::new());
    }
    if routes.is_empty() {
        return Ok(());
    }
    let start = (0, routes);
    let (count, mut routes) = routes::dump(
        socket,
        TableId::MAIN,
        || start.clone(),
        |(count, routes), body| {
            add(routes, body)?;
            *count += 1;
            Ok(if *count < READ_LIMIT { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        },
    )?;
    if count == READ_LIMIT {
        debug!("main has more than {READ_LIMIT} routes: those by other routers on a link's Ethernet may be overlooked");
    }
    for interface in interfaces.values_mut() {
        interface.routes = routes.remove(&interface.device.index).unwrap_or_default();
    }
    Ok(())
}

/// Adds a route to each of its interfaces that is in `routes`.
pub(crate) fn add(routes: &mut BTreeMap<u32, Vec<RouteBy>>, message: &[u8]) -> Result<(), socket::Error> {
    let route = Route::parse(message)?;
    let IpNet::V4(to) = route.prefix else { return Ok(()) };
    let is_wanted = route.table == TableId::MAIN && route.kind == RouteKind::Unicast;
    if !is_wanted || to.prefix_len() == 0 || to.addr().is_multicast() {
        return Ok(());
    }
    for hop in route.hops() {
        if let Some(routes) = routes.get_mut(&hop.device) {
            routes.push(RouteBy { to, gateway: hop.gateway });
        }
    }
    Ok(())
}
