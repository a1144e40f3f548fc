//! IPv6 routes: the defaults of main, those of ours in other tables, and what was delegated to this host.
//!
//! The kernel walks its tree from the leaves to the root (`fib6_walk_continue()`), so that the default routes of a table
//! come last, and main has to be read to its end.

use std::ops::ControlFlow;

use ipnet::{IpNet, Ipv6Net};

use super::read;
use super::routes::{Devices, dump_of, learn_names, route};
use crate::kernel::Error;
use crate::kernel::netlink::constants::RTM_GETROUTE;
use crate::kernel::netlink::route::Route;
use crate::kernel::netlink::route_request;
use crate::kernel::netlink::socket::{self, Socket};
use crate::model::names::{Family, HostAddr, TableId};
use crate::model::routing::{FoundRoute, RouteKind};

/// Longest prefix that is a delegation (RFC 6177 gives a site more than one subnet, and some providers just that).
const LONGEST_DELEGATION: u8 = 64;

/// What one dump holds of interest.
#[derive(Default)]
struct Found {
    /// Bodies of the messages of default routes.
    defaults: Vec<Vec<u8>>,
    delegated: Vec<Ipv6Net>,
}

/// Adds the default routes of main and, if there are any or it is asked for, all of ours in other tables; returns the
/// prefixes that main refuses.
pub(super) fn add_routes(
    socket: &mut Socket,
    managed: u8,
    of_tables: bool,
    devices: &mut Devices,
    routes: &mut Vec<FoundRoute>,
) -> Result<Vec<Ipv6Net>, Error> {
    let main = dump_of(Family::V6, socket, TableId::MAIN, Found::default, |found, body| {
        found.add_of_main(body)?;
        Ok(ControlFlow::Continue(()))
    })?;
    // An advertised router's default may give IPv6 to a link.
    let is_asked = of_tables || !main.defaults.is_empty();
    let ours = if is_asked { of_protocol(socket, managed, |table| table != TableId::MAIN)? } else { Vec::new() };
    add(socket, main.defaults.iter().chain(&ours), devices, routes)?;
    Ok(main.delegated)
}

/// Adds our default routes of all tables, where no link may have IPv6 any more: an event that was killed may have left
/// them without a rule.
pub(super) fn add_leftovers(
    socket: &mut Socket,
    managed: u8,
    devices: &mut Devices,
    routes: &mut Vec<FoundRoute>,
) -> Result<(), Error> {
    let ours = of_protocol(socket, managed, |_| true)?;
    add(socket, ours.iter(), devices, routes)
}

fn add<'a>(
    socket: &mut Socket,
    bodies: impl Iterator<Item = &'a Vec<u8>>,
    devices: &mut Devices,
    routes: &mut Vec<FoundRoute>,
) -> Result<(), Error> {
    for body in bodies {
        let found = Route::parse(body).map_err(read("routes"))?;
        learn_names(socket, &found, devices)?;
        routes.push(route(&found, devices));
    }
    Ok(())
}

impl Found {
    fn add_of_main(&mut self, body: &[u8]) -> Result<(), socket::Error> {
        let found = Route::parse(body)?;
        if found.table != TableId::MAIN {
            return Ok(());
        }
        let IpNet::V6(prefix) = found.prefix else { return Ok(()) };
        // One from certain sources only (`CONFIG_IPV6_SUBTREES`) is another route, of somebody else.
        if prefix.prefix_len() == 0 && found.from.is_none() {
            self.defaults.push(body.to_vec());
        }
        // DHCPv6 clients make no other kind. The others are an administrator's, for networks that nobody here shall reach.
        let is_refused = found.kind == RouteKind::Unreachable;
        let is_global = HostAddr::new(prefix.addr()).is_ok() && !prefix.addr().is_unique_local();
        if is_refused && is_global && (1..=LONGEST_DELEGATION).contains(&prefix.prefix_len()) {
            self.delegated.push(prefix);
        }
        Ok(())
    }
}

/// The bodies of our default routes in these tables, in one dump.
fn of_protocol(socket: &mut Socket, managed: u8, is_wanted: fn(TableId) -> bool) -> Result<Vec<Vec<u8>>, Error> {
    let request = route_request::of_protocol(Family::V6, managed);
    let found = socket.list(RTM_GETROUTE, &request, |body| {
        let found = Route::parse(body)?;
        // Before Linux 4.20 the kernel does not filter.
        let is_ours = found.protocol == managed && is_wanted(found.table) && found.prefix.prefix_len() == 0;
        Ok(is_ours.then(|| body.to_vec()))
    });
    found.map_err(read("routes"))
}
