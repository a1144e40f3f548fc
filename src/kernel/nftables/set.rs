//! Named sets of our table as messages of `nf_tables`: what makes and fills them, and what is in them.
//!
//! An element of an interval set is two: one at its first address, and one behind its last address that says where it
//! ends. nft(8) begins an empty set with the end of nothing, at the address 0.

use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::{DefaultNla, NlasIterator};

use crate::kernel::netlink::constants::{
    NFPROTO_INET, NFT_MSG_GETSET, NFT_MSG_GETSETELEM, NFT_SET_ELEM_INTERVAL_END, NFT_SET_INTERVAL, NFT_SET_TIMEOUT,
    NFTA_DATA_VALUE, NFTA_LIST_ELEM, NFTA_SET_ELEM_EXPIRATION, NFTA_SET_ELEM_FLAGS, NFTA_SET_ELEM_KEY,
    NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_SET_ID, NFTA_SET_ELEM_LIST_TABLE,
    NFTA_SET_ELEM_TIMEOUT, NFTA_SET_ELEM_USERDATA, NFTA_SET_FLAGS, NFTA_SET_ID, NFTA_SET_KEY_LEN, NFTA_SET_KEY_TYPE,
    NFTA_SET_NAME, NFTA_SET_TABLE, NFTA_SET_USERDATA,
};
use crate::kernel::netlink::netfilter::{Message, number, payload};
use crate::kernel::netlink::nla::{attribute, nested, string, text};
use crate::kernel::netlink::socket::{self, Socket};
use crate::kernel::{Error, read};
use crate::model::firewall::nft::TABLE;
use crate::model::firewall::set::{AddressSet, Element};
use crate::model::names::Family;

/// Types of addresses in nft(8) (`TYPE_IPADDR`, `TYPE_IP6ADDR`); the kernel does not look at them.
const IPV4_ADDRESS: u32 = 7;
const IPV6_ADDRESS: u32 = 8;
/// User data that tells nft(8) to print elements in network byte order (`NFTNL_UDATA_SET_KEYBYTEORDER`): its type, length
/// and value.
const BYTE_ORDER: [u8; 6] = [0, 4, 2, 0, 0, 0];
/// User data of an element that has no end, since there is no address behind it (`SET_ELEM_F_INTERVAL_OPEN`).
const OPEN: [u8; 6] = [1, 4, 1, 0, 0, 0];

/// The attributes of a new set.
pub(super) fn new(set: &AddressSet) -> Vec<DefaultNla> {
    let (kind, length) = match set.family {
        Family::V4 => (IPV4_ADDRESS, 4),
        Family::V6 => (IPV6_ADDRESS, 16),
    };
    vec![
        text(NFTA_SET_TABLE, TABLE),
        text(NFTA_SET_NAME, &set.name),
        number(NFTA_SET_FLAGS, NFT_SET_INTERVAL | NFT_SET_TIMEOUT),
        number(NFTA_SET_KEY_TYPE, kind),
        number(NFTA_SET_KEY_LEN, length),
        number(NFTA_SET_ID, set.id),
        DefaultNla::new(NFTA_SET_USERDATA, BYTE_ORDER.to_vec()),
    ]
}

/// The attributes that name a set, to delete it.
pub(super) fn named(set: &AddressSet) -> Vec<DefaultNla> {
    vec![text(NFTA_SET_TABLE, TABLE), text(NFTA_SET_NAME, &set.name)]
}

/// The attributes that add elements to a set, to an empty one its beginning first.
pub(super) fn added(set: &AddressSet, elements: &[Element], is_empty: bool) -> Vec<DefaultNla> {
    let mut parts = Vec::new();
    let begins_at_zero = elements.first().is_some_and(|element| octets(element.first).iter().all(|byte| *byte == 0));
    if is_empty && !begins_at_zero {
        let length = if set.family == Family::V4 { 4 } else { 16 };
        parts.push(vec![number(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END), key(vec![0; length])]);
    }
    for element in elements {
        let mut start = Vec::new();
        start.extend(element.timeout.map(|timeout| milliseconds(NFTA_SET_ELEM_TIMEOUT, timeout)));
        parts.extend(both_ends(element, start));
    }
    let mut attributes = list(set);
    attributes.push(number(NFTA_SET_ELEM_LIST_SET_ID, set.id));
    attributes.push(numbered(parts));
    attributes
}

/// The attributes that delete elements of a set.
pub(super) fn deleted(set: &AddressSet, elements: &[Element]) -> Vec<DefaultNla> {
    let parts = elements.iter().flat_map(|element| both_ends(element, Vec::new())).collect();
    let mut attributes = list(set);
    attributes.push(numbered(parts));
    attributes
}

/// The attributes that name a set, for all of its elements.
pub(super) fn whole(set: &AddressSet) -> Vec<DefaultNla> {
    let mut attributes = list(set);
    attributes.reverse();
    attributes
}

fn list(set: &AddressSet) -> Vec<DefaultNla> {
    vec![text(NFTA_SET_ELEM_LIST_TABLE, TABLE), text(NFTA_SET_ELEM_LIST_SET, &set.name)]
}

/// An element as its start, which has these attributes beside, and its end.
fn both_ends(element: &Element, mut start: Vec<DefaultNla>) -> Vec<Vec<DefaultNla>> {
    start.push(key(octets(element.first)));
    let Some(end) = element.end() else {
        start.push(DefaultNla::new(NFTA_SET_ELEM_USERDATA, OPEN.to_vec()));
        return vec![start];
    };
    vec![start, vec![number(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END), key(octets(end))]]
}

fn key(address: Vec<u8>) -> DefaultNla {
    nested(NFTA_SET_ELEM_KEY, &[DefaultNla::new(NFTA_DATA_VALUE, address)])
}

/// nft(8) counts the elements of a list by the kinds of their attributes.
fn numbered(parts: Vec<Vec<DefaultNla>>) -> DefaultNla {
    let mut elements = Vec::with_capacity(parts.len());
    for (kind, part) in (NFTA_LIST_ELEM..).zip(parts) {
        elements.push(nested(kind, &part));
    }
    nested(NFTA_SET_ELEM_LIST_ELEMENTS, &elements)
}

fn milliseconds(kind: u16, time: Duration) -> DefaultNla {
    // Times are limited to years where they come in.
    DefaultNla::new(kind, u64::try_from(time.as_millis()).unwrap_or(u64::MAX).to_be_bytes().to_vec())
}

pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn request(attributes: Vec<DefaultNla>) -> Message {
    Message { family: NFPROTO_INET, ..Message::new(attributes) }
}

/// Whether the kernel has no such set or table, or no `nf_tables`.
fn is_missing(error: &socket::Error) -> bool {
    error.refused().is_some() && !error.is_permission()
}

/// The names of the sets of our table; none where there is no table.
pub(crate) fn names() -> Result<Vec<String>, Error> {
    let mut socket = Socket::open_netfilter().map_err(Error::Open)?;
    let request = request(vec![text(NFTA_SET_TABLE, TABLE)]);
    let names = socket.list(NFT_MSG_GETSET, &request, |body| {
        let attributes = payload(body);
        let is_ours = attribute(attributes, NFTA_SET_TABLE).is_some_and(|table| string(table) == TABLE);
        Ok(attribute(attributes, NFTA_SET_NAME).map(string).filter(|_| is_ours))
    });
    match names {
        // There is no such table, or no nf_tables.
        Err(e) if is_missing(&e) => Ok(Vec::new()),
        names => names.map_err(read("sets of nf_tables")),
    }
}

/// What is in a set, in the order of the addresses; `None`: there is no such set.
pub(crate) fn elements(set: &AddressSet) -> Result<Option<Vec<Element>>, Error> {
    elements_by(&mut Socket::open_netfilter().map_err(Error::Open)?.with_large_parts(), set)
}

/// The same by a socket that there is already.
pub(super) fn elements_by(socket: &mut Socket, set: &AddressSet) -> Result<Option<Vec<Element>>, Error> {
    let parts = socket.dump(NFT_MSG_GETSETELEM, &request(list(set)), Vec::new, |parts, body| {
        let elements = attribute(payload(body), NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
        for element in NlasIterator::new(elements).flatten() {
            parts.extend(Part::read(element.value()));
        }
        Ok(std::ops::ControlFlow::Continue(()))
    });
    match parts {
        Err(e) if is_missing(&e) => Ok(None),
        parts => parts.map(|parts| Some(joined(parts))).map_err(read("elements of a set")),
    }
}

/// Whether there is such a set.
pub(crate) fn exists(set: &AddressSet) -> Result<bool, Error> {
    let mut socket = Socket::open_netfilter().map_err(Error::Open)?;
    match socket.get(NFT_MSG_GETSET, &request(named(set))) {
        Err(e) if is_missing(&e) => Ok(false),
        found => Ok(found.map_err(read("sets of nf_tables"))?.is_some()),
    }
}

/// Whether an address is in the set; `None`: there is no such set.
pub(crate) fn holds(set: &AddressSet, address: IpAddr) -> Result<Option<bool>, Error> {
    if !exists(set)? {
        return Ok(None);
    }
    let mut socket = Socket::open_netfilter().map_err(Error::Open)?;
    let mut of_element = list(set);
    of_element.push(numbered(vec![vec![key(octets(address))]]));
    let found = socket.get(NFT_MSG_GETSETELEM, &request(of_element)).map_err(read("elements of a set"))?;
    Ok(Some(found.is_some()))
}

/// A start or an end of an element.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    at: IpAddr,
    is_end: bool,
    timeout: Option<Duration>,
    expires: Option<Duration>,
}

impl Part {
    fn read(attributes: &[u8]) -> Option<Self> {
        let key = attribute(attribute(attributes, NFTA_SET_ELEM_KEY)?, NFTA_DATA_VALUE)?;
        let at = match key.len() {
            4 => <[u8; 4]>::try_from(key).ok()?.into(),
            _ => <[u8; 16]>::try_from(key).ok()?.into(),
        };
        let flags = attribute(attributes, NFTA_SET_ELEM_FLAGS).and_then(|flags| flags.try_into().ok());
        let time = |kind| {
            let time = attribute(attributes, kind).and_then(|time| time.try_into().ok());
            time.map(|time| Duration::from_millis(u64::from_be_bytes(time)))
        };
        Some(Self {
            at,
            is_end: flags.is_some_and(|flags| u32::from_be_bytes(flags) & NFT_SET_ELEM_INTERVAL_END != 0),
            timeout: time(NFTA_SET_ELEM_TIMEOUT),
            expires: time(NFTA_SET_ELEM_EXPIRATION),
        })
    }
}

/// Elements of their starts and ends, which come in any order.
fn joined(mut parts: Vec<Part>) -> Vec<Element> {
    // Where one ends and the next begins at the same address, the end comes first.
    parts.sort_by_key(|part| (part.at, !part.is_end));
    let mut elements: Vec<Element> = Vec::new();
    let mut is_open = false;
    for Part { at, is_end, timeout, expires } in parts {
        if !is_end {
            let last = if at.is_ipv4() { [u8::MAX; 4].into() } else { [u8::MAX; 16].into() };
            elements.push(Element { first: at, last, timeout, expires });
        } else if let Some(element) = elements.last_mut().filter(|_| is_open) {
            element.last = before(at);
        }
        is_open = !is_end;
    }
    elements
}

/// The address before this one, which is not the first.
fn before(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::V4(u32::from(address).saturating_sub(1).into()),
        IpAddr::V6(address) => IpAddr::V6(u128::from(address).saturating_sub(1).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_and_ends_are_joined_in_whatever_order_they_come() {
        let part = |at: &str, is_end| Part { at: at.parse().unwrap(), is_end, timeout: None, expires: None };
        let parts = vec![
            part("240.0.0.0", false),
            part("192.0.3.0", true),
            part("192.0.2.128", true),
            part("192.0.2.128", false),
            part("192.0.2.0", false),
            part("0.0.0.0", true),
        ];
        let shown: Vec<_> = joined(parts).iter().map(Element::to_string).collect();
        assert_eq!(shown, ["192.0.2.0/25", "192.0.2.128/25", "240.0.0.0/4"]);
        assert_eq!(joined(vec![part("0.0.0.0", true)]), []);
    }
}
