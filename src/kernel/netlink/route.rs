//! Messages of routes, the body of `RTM_NEWROUTE`, read in place: a dump may hold a million of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{DecodeError, parse_ip, parse_u8, parse_u32};

use super::nla::Attributes;
use super::socket;
use crate::kernel::netlink::constants::{
    AF_INET, AF_INET6, RTA_DST, RTA_GATEWAY, RTA_MULTIPATH, RTA_NH_ID, RTA_OIF, RTA_PREF, RTA_PREFSRC, RTA_PRIORITY,
    RTA_SRC, RTA_TABLE, RTA_VIA, RTNH_F_DEAD, RTNH_F_ONLINK,
};
use crate::model::names::TableId;
use crate::model::routing::{FoundNextHop, RouteKind};

/// `struct rtmsg`: family, lengths of destination and source, tos, table, protocol, scope, type, flags.
const HEADER_LEN: usize = 12;
/// `struct rtnexthop`: length, flags, weight less one, interface.
const HOP_LEN: usize = 8;

/// A route.
pub(crate) struct Route<'a> {
    pub(crate) table: TableId,
    pub(crate) prefix: IpNet,
    /// Only for packets from there (`CONFIG_IPV6_SUBTREES`).
    pub(crate) from: Option<IpNet>,
    /// Type of service; 0: any.
    pub(crate) tos: u8,
    pub(crate) metric: u32,
    /// Preference of an advertised router, in the two bits of RFC 4191; 0: medium.
    pub(crate) preference: u8,
    /// Who made it.
    pub(crate) protocol: u8,
    pub(crate) kind: RouteKind,
    /// Preferred source address (`src` of ip-route(8)).
    pub(crate) source: Option<IpAddr>,
    /// Nexthop object or group.
    pub(crate) nexthop: Option<u32>,
    /// The next hop of a route that has just one.
    only: Option<FoundNextHop>,
    multipath: Hops<'a>,
}

impl<'a> Route<'a> {
    /// Reads the body of a message.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, socket::Error> {
        Self::decode(body).map_err(|e| socket::Error::Decode(e.to_string()))
    }

    fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let Some((&[family, length, from_length, tos, table, protocol, _, kind, ref flags @ ..], nlas)) =
            body.split_first_chunk::<HEADER_LEN>()
        else {
            return Err(DecodeError::buffer_too_small(body.len(), HEADER_LEN));
        };
        let mut to = match family {
            AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return Err(DecodeError::from("a route of an unknown family")),
        };
        let mut table = u32::from(table);
        let (mut metric, mut preference, mut source, mut nexthop) = (0, 0, None, None);
        let mut from = None;
        let (mut device, mut gateway, mut multipath) = (None, None, Hops(&[]));
        for attribute in Attributes::new(nlas) {
            let (kind, value) = attribute?;
            match kind {
                RTA_DST => to = parse_ip(value)?,
                RTA_SRC => from = Some(parse_ip(value)?),
                RTA_TABLE => table = parse_u32(value)?,
                RTA_PRIORITY => metric = parse_u32(value)?,
                RTA_PREF => preference = parse_u8(value)?,
                RTA_PREFSRC => source = Some(parse_ip(value)?),
                RTA_NH_ID => nexthop = Some(parse_u32(value)?),
                RTA_OIF => device = Some(parse_u32(value)?),
                RTA_MULTIPATH => multipath = Hops(value),
                kind => gateway = gateway_of(kind, value)?.or(gateway),
            }
        }
        // A malformed next hop is an error here, so later iterations can ignore errors.
        for hop in multipath.clone() {
            hop?;
        }
        let flags = u32::from_ne_bytes(*flags);
        let only = device.map(|device| hop(device, gateway, 1, flags));
        Ok(Self {
            table: TableId::observed(table),
            prefix: net(to, length)?,
            from: from.map(|from| net(from, from_length)).transpose()?,
            tos,
            metric,
            preference,
            protocol,
            kind: RouteKind::of(kind),
            source,
            nexthop,
            only,
            multipath,
        })
    }

    /// Its next hops, in the kernel's order.
    pub(crate) fn hops(&self) -> impl Iterator<Item = FoundNextHop> {
        self.only.into_iter().chain(self.multipath.clone().flatten())
    }
}

fn net(address: IpAddr, length: u8) -> Result<IpNet, DecodeError> {
    IpNet::new(address, length).map_err(|_| DecodeError::from("a prefix that is too long"))
}

/// The next hops of a multipath route.
#[derive(Clone)]
struct Hops<'a>(&'a [u8]);

impl Iterator for Hops<'_> {
    type Item = Result<FoundNextHop, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let next = self.decode();
        if next.is_err() {
            self.0 = &[];
        }
        Some(next)
    }
}

impl Hops<'_> {
    /// Takes the first next hop off.
    fn decode(&mut self) -> Result<FoundNextHop, DecodeError> {
        let cut = || DecodeError::from("a next hop that is cut short");
        let [l0, l1, flags, weight, i0, i1, i2, i3] = *self.0.first_chunk::<HOP_LEN>().ok_or_else(cut)?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let nlas = self.0.get(HOP_LEN..length).ok_or_else(cut)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        let mut gateway = None;
        for attribute in Attributes::new(nlas) {
            let (kind, value) = attribute?;
            gateway = gateway_of(kind, value)?.or(gateway);
        }
        Ok(hop(u32::from_ne_bytes([i0, i1, i2, i3]), gateway, u16::from(weight) + 1, flags.into()))
    }
}

fn hop(device: u32, gateway: Option<IpAddr>, weight: u16, flags: u32) -> FoundNextHop {
    FoundNextHop { device, gateway, weight, onlink: flags & RTNH_F_ONLINK != 0, dead: flags & RTNH_F_DEAD != 0 }
}

/// The gateway in an attribute; `None`: another attribute.
fn gateway_of(kind: u16, value: &[u8]) -> Result<Option<IpAddr>, DecodeError> {
    match (kind, value) {
        // `struct rtvia`: the family, which follows from the length, and the address.
        (RTA_GATEWAY, addr) | (RTA_VIA, [_, _, addr @ ..]) => parse_ip(addr).map(Some),
        _ => Ok(None),
    }
}
