//! Asks the kernel which way a packet of this host would take (`RTM_GETROUTE`), as `ip route get` does.

use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use nix::libc;

use super::netlink::route::Route;
use super::netlink::socket::{Error, Socket};
use crate::kernel::netlink::constants::RTM_GETROUTE;

/// Index of the device by which a packet to `to` would leave; `None`: there is no way (ENETUNREACH, EHOSTUNREACH).
pub fn device_towards(to: IpAddr, socket: &mut Socket) -> Result<Option<u32>, Error> {
    let mut request = RouteMessage::default();
    let (family, length, address) = match to {
        IpAddr::V4(to) => (AddressFamily::Inet, 32, RouteAddress::Inet(to)),
        IpAddr::V6(to) => (AddressFamily::Inet6, 128, RouteAddress::Inet6(to)),
    };
    request.header.address_family = family;
    request.header.destination_prefix_length = length;
    request.attributes.push(RouteAttribute::Destination(address));
    let answer = match socket.get(RTM_GETROUTE, &request) {
        Err(e) if matches!(e.refused(), Some(libc::ENETUNREACH | libc::EHOSTUNREACH)) => return Ok(None),
        answer => answer?,
    };
    let Some(body) = answer else { return Ok(None) };
    let hop = Route::parse(&body)?.hops().next();
    hop.map(|hop| Some(hop.device)).ok_or_else(|| Error::Decode("no device".to_owned()))
}
