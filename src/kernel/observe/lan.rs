//! Global IPv6 addresses of interfaces of no link, and how one becomes deprecated or preferred.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};
use netlink_packet_core::NLM_F_REPLACE;

use super::{name_of, read};
use crate::kernel::Error;
use crate::kernel::netlink::address::{self, FoundAddress};
use crate::kernel::netlink::constants::{AF_INET6, RTM_GETADDR, RTM_NEWADDR};
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
    let request = address::request(AF_INET6, 0);
    let all = socket.list(RTM_GETADDR, &request, FoundAddress::parse).map_err(read("addresses"))?;
    let mut of_lan = Vec::new();
    for found in all {
        let FoundAddress { index, local: IpAddr::V6(local), reaches, is_global, is_deprecated, .. } = found else {
            continue;
        };
        let is_links = links.values().any(|link| link.device.index == index);
        let Ok(address) = Ipv6Net::new(local, reaches.prefix_len()) else { continue };
        if is_links || !is_global {
            continue;
        }
        let preference = match (is_deprecated, scope.deprecated.contains(&(index, local))) {
            (false, false) => Preference::Preferred,
            (false, true) => Preference::PreferredAgain,
            (true, true) => Preference::DeprecatedByUs,
            (true, false) => Preference::Deprecated,
        };
        if let Some(name) = name_of(socket, index)? {
            of_lan.push(LanAddress { device: Device { index, name }, address, preference });
        }
    }
    Ok(of_lan)
}

/// The subnets of an interface's global addresses, with room for more than one neighbour.
pub(crate) fn subnets6(socket: &mut Socket, index: u32) -> Result<Vec<Ipv6Net>, Error> {
    let request = address::request(AF_INET6, index);
    let found = socket.list(RTM_GETADDR, &request, |body| {
        let found = FoundAddress::parse(body)?.filter(|a| a.index == index && a.is_global);
        Ok(found.and_then(|a| if let IpNet::V6(net) = a.reaches { Some(net) } else { None }))
    });
    let mut nets = found.map_err(read("addresses"))?;
    nets.retain(|net| net.prefix_len() < 127);
    Ok(nets)
}

/// Makes an address preferred for as long as it is valid, or deprecated. All else of it stays. One that is gone is left
/// alone.
pub(crate) fn prefer(socket: &mut Socket, address: &LanAddress, is_preferred: bool) -> Result<(), socket::Error> {
    let own = IpAddr::V6(address.address.addr());
    let request = address::request(AF_INET6, address.device.index);
    let bodies = socket.list(RTM_GETADDR, &request, |body| {
        let found = FoundAddress::parse(body)?;
        Ok(found.filter(|a| a.local == own && a.index == address.device.index).map(|_| body.to_vec()))
    })?;
    match bodies.first() {
        Some(body) => socket.change(RTM_NEWADDR, NLM_F_REPLACE, &address::with_preferred(body, is_preferred)?),
        None => Ok(()),
    }
}
