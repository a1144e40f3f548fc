//! Global IPv6 addresses of interfaces of no link, and how one becomes deprecated or preferred.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::Ipv6Net;
use netlink_packet_core::NLM_F_REPLACE;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo};

use super::{name_of, parse, read};
use crate::kernel::Error;
use crate::kernel::netlink::constants::{RTM_GETADDR, RTM_NEWADDR};
use crate::kernel::netlink::socket::{self, Socket};
use crate::model::names::IfName;
use crate::model::observed::{Interface, LanAddress, Preference, Scope};
use crate::model::routing::Device;

/// The addresses of all interfaces but the `links`.
pub(super) fn addresses(
    socket: &mut Socket,
    scope: &Scope,
    links: &BTreeMap<IfName, Interface>,
) -> Result<Vec<LanAddress>, Error> {
    let mut found = Vec::new();
    let is_links = |index| links.values().any(|link| link.device.index == index);
    for message in all(socket, 0).map_err(read("addresses"))? {
        let index = message.header.index;
        let Some(address) = global(&message).filter(|_| !is_links(index)) else { continue };
        let preference = match flags(&message).contains(AddressFlags::Deprecated) {
            false => Preference::Preferred,
            true if scope.deprecated.contains(&(index, address.addr())) => Preference::DeprecatedByUs,
            true => Preference::Deprecated,
        };
        if let Some(name) = name_of(socket, index)? {
            found.push(LanAddress { device: Device { index, name }, address, preference });
        }
    }
    Ok(found)
}

/// The messages of all IPv6 addresses of the interface with this index; 0: of all.
fn all(socket: &mut Socket, index: u32) -> Result<Vec<AddressMessage>, socket::Error> {
    let mut request = AddressMessage::default();
    request.header.family = AddressFamily::Inet6;
    request.header.index = index;
    socket.list(RTM_GETADDR, &request, |body| Ok(Some(parse(body)?)))
}

/// The address, if it is of global scope.
fn global(message: &AddressMessage) -> Option<Ipv6Net> {
    if message.header.scope != AddressScope::Universe {
        return None;
    }
    own(message).and_then(|address| Ipv6Net::new(address, message.header.prefix_len).ok())
}

/// The interface's own address, which stands before that of a peer.
fn own(message: &AddressMessage) -> Option<Ipv6Addr> {
    let mut own = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(IpAddr::V6(address)) => return Some(*address),
            AddressAttribute::Address(IpAddr::V6(address)) => own = Some(*address),
            _ => {}
        }
    }
    own
}

fn flags(message: &AddressMessage) -> AddressFlags {
    let flags = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Flags(flags) => Some(*flags),
        _ => None,
    });
    flags.unwrap_or_else(AddressFlags::empty)
}

/// Makes an address preferred for as long as it is valid, or deprecated. All else of it stays. One that is gone is left
/// alone.
pub(crate) fn prefer(socket: &mut Socket, address: &LanAddress, is_preferred: bool) -> Result<(), socket::Error> {
    let found = all(socket, address.device.index)?.into_iter().find(|m| own(m) == Some(address.address.addr()));
    let Some(mut message) = found else { return Ok(()) };
    for attribute in &mut message.attributes {
        if let AddressAttribute::CacheInfo(lifetimes) = attribute {
            let CacheInfo { ifa_valid, .. } = *lifetimes;
            lifetimes.ifa_preferred = if is_preferred { ifa_valid } else { 0 };
        }
    }
    socket.change(RTM_NEWADDR, NLM_F_REPLACE, &message)
}
