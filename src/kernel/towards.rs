//! Asks the kernel which way a packet of this host would take (`RTM_GETROUTE`), as `ip route get` does.

use std::net::IpAddr;

use nix::libc;

use super::netlink::route::Route;
use super::netlink::route_request;
use super::netlink::socket::{Error, Socket};
use crate::kernel::netlink::constants::RTM_GETROUTE;

/// Index of the device by which a packet to `to` would leave; `None`: there is no way (ENETUNREACH, EHOSTUNREACH).
pub fn device_towards(to: IpAddr, socket: &mut Socket) -> Result<Option<u32>, Error> {
    let request = route_request::towards(to);
    let answer = match socket.get(RTM_GETROUTE, &request) {
        Err(e) if matches!(e.refused(), Some(libc::ENETUNREACH | libc::EHOSTUNREACH)) => return Ok(None),
        answer => answer?,
    };
    let Some(body) = answer else { return Ok(None) };
    let hop = Route::parse(&body)?.hops().next();
    hop.map(|hop| Some(hop.device)).ok_or_else(|| Error::Decode("no device".to_owned()))
}
