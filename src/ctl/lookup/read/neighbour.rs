//! Whether a gateway answers ARP, or neighbour discovery in IPv6.

use std::net::IpAddr;

use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};

use super::{Fib, address_family};
use crate::kernel::netlink::constants::RTM_GETNEIGH;
use crate::kernel::{Error, parse, read};
use crate::model::names::Family;

/// What the kernel knows of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbour {
    /// Its address, or nothing yet: packets are sent.
    Good,
    /// It is being asked for (`NUD_INCOMPLETE`): nexthop groups pass it over until it answers.
    Asked,
    /// It did not answer (`NUD_FAILED`).
    Silent,
}

impl Fib {
    /// What is known of `gateway` on the device of this index; kernels before 5.0 do not tell.
    pub fn neighbour(&mut self, device: u32, gateway: IpAddr) -> Result<Neighbour, Error> {
        let mut request = NeighbourMessage::default();
        request.header.family = address_family(Family::of(gateway));
        request.header.ifindex = device;
        request.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::from(gateway)));
        let body = match self.socket.get(RTM_GETNEIGH, &request) {
            // No entry is ENOENT, which is none; EOPNOTSUPP of old kernels knows nothing either.
            Err(e) if e.is_unsupported() => None,
            answer => answer.map_err(read("a neighbour"))?,
        };
        let Some(body) = body else { return Ok(Neighbour::Good) };
        let message: NeighbourMessage = parse(&body).map_err(read("a neighbour"))?;
        Ok(match message.header.state {
            NeighbourState::Failed => Neighbour::Silent,
            NeighbourState::Incomplete => Neighbour::Asked,
            _ => Neighbour::Good,
        })
    }
}
