//! Sticky connections in connection tracking, over ctnetlink.
//!
//! The kernel's behaviour, from `net/netfilter/nf_conntrack_netlink.c`, verified on 6.18:
//!
//! - A dump (`IPCTNL_MSG_CT_GET`) and a deletion without a tuple (`IPCTNL_MSG_CT_DELETE`) take
//!   `CTA_MARK` and `CTA_MARK_MASK`, and touch only entries whose mark is so under the mask (dump
//!   since 3.3, deletion since 4.0; we need 4.17 for other reasons). A deletion that finds nothing
//!   is no error.
//! - Both walk the whole table: 262,144 buckets take some 10 ms, 100,000 entries 20 ms more. So it is
//!   done only where a link has just gone, not at every event.
//! - `IPCTNL_MSG_CT_NEW` for an entry that is there changes the bits of its mark that `CTA_MARK_MASK` names.
//! - MASQUERADE's entries are gone with the device, SNAT's are not, and keep the old source.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use netlink_packet_core::DefaultNla;

use super::netlink::netfilter::{Message, number, payload};
use super::netlink::nla::attribute;
use super::netlink::socket::{self, Socket};
use super::towards::device_towards;
use super::{Error, read};
use crate::kernel::netlink::constants::{
    AF_INET, AF_INET6, CTA_IP_V4_DST, CTA_IP_V4_SRC, CTA_IP_V6_DST, CTA_IP_V6_SRC, CTA_MARK, CTA_MARK_MASK,
    CTA_TUPLE_IP, CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ZONE, IPCTNL_MSG_CT_DELETE, IPCTNL_MSG_CT_GET,
    IPCTNL_MSG_CT_NEW,
};
use crate::model::change::Unmarked;
use crate::model::names::Family;
use crate::model::routing::FwMark;

/// Exists if the kernel tracks connections.
pub(crate) const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

fn marked(family: Family, mark: FwMark) -> Message {
    let attributes = vec![number(CTA_MARK, mark.value), number(CTA_MARK_MASK, mark.mask)];
    let family = if family == Family::V4 { AF_INET } else { AF_INET6 };
    Message { version: 1, family, ..Message::new(attributes) }
}

/// Whether any connection of the family bears this mark. A kernel without connection tracking has none.
pub(crate) fn any(family: Family, mark: FwMark) -> Result<bool, Error> {
    // Without entries the walk, which costs time even in an empty table, is skipped.
    match fs::read_to_string(COUNT) {
        Ok(count) if count.trim() != "0" => {}
        _ => return Ok(false),
    }
    let mut socket = Socket::open_netfilter().map_err(Error::Open)?;
    let found = socket.dump(
        IPCTNL_MSG_CT_GET,
        &marked(family, mark),
        || false,
        |found, _| {
            *found = true;
            Ok(ControlFlow::Break(()))
        },
    );
    match found {
        // An ordinary user with --dry-run may not read connections.
        Err(e) if e.is_permission() => Ok(false),
        found => found.map_err(read("tracked connections")),
    }
}

/// Deletes the entries of all connections of the family that bear this mark. A kernel without connection tracking has none.
pub(crate) fn flush(family: Family, mark: FwMark) -> Result<(), socket::Error> {
    if !Path::new(COUNT).exists() {
        return Ok(());
    }
    let mut socket = Socket::open_netfilter()?;
    socket.change(IPCTNL_MSG_CT_DELETE, 0, &marked(family, mark))
}

/// Deletes the entries of IPv6 connections that bear this mark and have an end in the prefix, as this host or its LAN had
/// it: the source of the first packet or, where another host was asked for, the destination of replies.
pub(crate) fn flush_prefix(mark: FwMark, prefix: IpNet) -> Result<(), socket::Error> {
    if !Path::new(COUNT).exists() {
        return Ok(());
    }
    let mut socket = Socket::open_netfilter()?;
    let each = |found: &mut Vec<Vec<DefaultNla>>, body: &[u8]| {
        let nlas = payload(body);
        if ends(nlas).iter().flatten().any(|end| prefix.contains(end)) {
            found.extend(name(nlas));
        }
        Ok(ControlFlow::Continue(()))
    };
    for name in socket.dump(IPCTNL_MSG_CT_GET, &marked(Family::V6, mark), Vec::new, each)? {
        let entry = Message { version: 1, family: AF_INET6, ..Message::new(name) };
        match socket.change(IPCTNL_MSG_CT_DELETE, 0, &entry) {
            Err(e) if !e.is_gone() => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// Our possible ends of a connection, from its attributes.
fn ends(nlas: &[u8]) -> [Option<IpAddr>; 2] {
    [attribute(nlas, CTA_TUPLE_ORIG).and_then(source), attribute(nlas, CTA_TUPLE_REPLY).and_then(destination)]
}

/// What names an entry: the tuple of its first packet, and its zone, if it has one.
fn name(nlas: &[u8]) -> Option<Vec<DefaultNla>> {
    let mut name = vec![DefaultNla::new(CTA_TUPLE_ORIG, attribute(nlas, CTA_TUPLE_ORIG)?.to_vec())];
    name.extend(attribute(nlas, CTA_ZONE).map(|zone| DefaultNla::new(CTA_ZONE, zone.to_vec())));
    Some(name)
}

/// So long an event may take to mark connections: the next line waits for that.
const LONGEST: Duration = Duration::from_secs(1);

/// Marks the uplink's connections that bear no link's mark, as many as [`LONGEST`] allows. A kernel without connection
/// tracking has none. `routes` is asked which way each goes, for a LAN may talk to the uplink's address, too.
pub(crate) fn mark(unmarked: &Unmarked, routes: &mut Socket) -> Result<(), socket::Error> {
    if !Path::new(COUNT).exists() {
        return Ok(());
    }
    let Unmarked { device, ours, mark } = unmarked;
    let mut socket = Socket::open_netfilter()?;
    let each = |found: &mut Vec<Connection>, body: &[u8]| {
        found.extend(Connection::of(*ours, payload(body)));
        Ok(ControlFlow::Continue(()))
    };
    let family = Family::of(ours.addr());
    let connections = socket.dump(IPCTNL_MSG_CT_GET, &marked(family, FwMark { value: 0, ..*mark }), Vec::new, each)?;
    let until = Instant::now() + LONGEST;
    let mut devices = BTreeMap::new();
    for connection in connections {
        if Instant::now() > until {
            break;
        }
        let by = match devices.entry(connection.remote) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => *new.insert(device_towards(connection.remote, routes)?),
        };
        if by == Some(device.index) {
            match socket.change(IPCTNL_MSG_CT_NEW, 0, &connection.marked(*mark)) {
                Err(e) if !e.is_gone() => return Err(e),
                _ => {}
            }
        }
    }
    Ok(())
}

/// A tracked connection of an uplink.
struct Connection {
    /// What names it: the tuple of its first packet, and its zone, if it has one.
    name: Vec<DefaultNla>,
    remote: IpAddr,
}

impl Connection {
    /// Reads the attributes of one that has an address of `ours` at one end as the Internet sees it; `None`: it has not.
    fn of(ours: IpNet, nlas: &[u8]) -> Option<Self> {
        let original = attribute(nlas, CTA_TUPLE_ORIG)?;
        let reply = attribute(nlas, CTA_TUPLE_REPLY)?;
        let remote = if ours.contains(&destination(reply)?) {
            source(reply)?
        } else if ours.contains(&destination(original)?) {
            source(original)?
        } else {
            return None;
        };
        let name = name(nlas)?;
        // The socket says which interface they leave by.
        let is_beyond = match remote {
            IpAddr::V4(remote) => !remote.is_multicast() && !remote.is_broadcast(),
            IpAddr::V6(remote) => !remote.is_multicast() && !remote.is_unicast_link_local(),
        };
        is_beyond.then_some(Self { name, remote })
    }

    /// The request that gives it a mark.
    fn marked(self, mark: FwMark) -> Message {
        let mut attributes = self.name;
        attributes.extend([number(CTA_MARK, mark.value), number(CTA_MARK_MASK, mark.mask)]);
        Message { family: if self.remote.is_ipv4() { AF_INET } else { AF_INET6 }, ..Message::new(attributes) }
    }
}

/// The source of a tuple.
fn source(tuple: &[u8]) -> Option<IpAddr> {
    address(tuple, CTA_IP_V4_SRC, CTA_IP_V6_SRC)
}

/// The destination of a tuple.
fn destination(tuple: &[u8]) -> Option<IpAddr> {
    address(tuple, CTA_IP_V4_DST, CTA_IP_V6_DST)
}

/// An address of a tuple, in the attribute of either family.
fn address(tuple: &[u8], v4: u16, v6: u16) -> Option<IpAddr> {
    let addresses = attribute(tuple, CTA_TUPLE_IP)?;
    if let Some(found) = attribute(addresses, v4) {
        return Some(<[u8; 4]>::try_from(found).ok()?.into());
    }
    Some(<[u8; 16]>::try_from(attribute(addresses, v6)?).ok()?.into())
}
