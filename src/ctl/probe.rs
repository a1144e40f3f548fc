//! Asks the kernel which way a packet would take (`RTM_GETROUTE`), as `ip route get` does.

use std::net::Ipv4Addr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use nix::libc;

use crate::kernel::netlink::constants::RTM_GETROUTE;
use crate::kernel::netlink::route::Route;
use crate::kernel::netlink::socket::{self, Socket};
use crate::kernel::{Error, read};

/// A socket to ask by.
#[derive(Debug)]
pub struct Probe {
    socket: Socket,
}

impl Probe {
    /// A probe of the thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open().map_err(Error::Open)? })
    }

    /// Index of the device by which a packet of this host to `to` would leave; `None`: there is no
    /// way (ENETUNREACH, EHOSTUNREACH).
    pub fn device_towards(&mut self, to: Ipv4Addr) -> Result<Option<u32>, Error> {
        let mut request = RouteMessage::default();
        request.header.address_family = AddressFamily::Inet;
        request.header.destination_prefix_length = 32;
        request.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(to)));
        let answer = match self.socket.get(RTM_GETROUTE, &request) {
            Err(e) if matches!(e.refused(), Some(libc::ENETUNREACH | libc::EHOSTUNREACH)) => return Ok(None),
            answer => answer.map_err(read("a route"))?,
        };
        let Some(body) = answer else { return Ok(None) };
        let route = Route::parse(&body).map_err(read("a route"))?;
        let hop = route.hops().next();
        hop.map(|hop| Some(hop.device)).ok_or_else(|| read("a route")(socket::Error::Decode("no device".to_owned())))
    }
}
