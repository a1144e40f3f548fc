//! Nexthop objects.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::routes::Devices;
use super::{parse, read};
use crate::kernel::Error;
use crate::kernel::netlink::constants::RTM_GETNEXTHOP;
use crate::kernel::netlink::nexthop::{NexthopAttribute, NexthopGroupEntry, NexthopMessage};
use crate::kernel::netlink::socket::Socket;
use crate::model::names::{HostAddr, Weight};
use crate::model::routing::{Device, FoundNextHop, Member, NextHop, NexthopKind, NexthopObject};

/// All nexthop objects by id; `None`: the kernel does not support them.
pub(crate) fn nexthops(socket: &mut Socket, devices: &Devices) -> Result<Option<BTreeMap<u32, NexthopObject>>, Error> {
    match socket.list(RTM_GETNEXTHOP, &NexthopMessage::dump(), |body| Ok(nexthop(&parse(body)?, devices))) {
        // Before Linux 5.3.
        Err(e) if e.is_unsupported() => Ok(None),
        found => Ok(Some(found.map_err(read("nexthops"))?.into_iter().collect())),
    }
}

pub(crate) fn nexthop(message: &NexthopMessage, devices: &Devices) -> Option<(u32, NexthopObject)> {
    let kind = match (message.members(), message.hop()) {
        (Some(entries), _) if is_plain(message) => group(entries),
        (None, Some(hop)) => match devices.get(hop.device) {
            Some(device) if is_plain(message) => single(device.clone(), hop),
            Some(_) => None,
            None => Some(NexthopKind::ForeignDevice),
        },
        _ => None,
    };
    let protocol = message.header.protocol;
    Some((message.id()?, NexthopObject { protocol, kind: kind.unwrap_or(NexthopKind::Other) }))
}

/// Whether all its attributes are among those that multihome writes.
fn is_plain(message: &NexthopMessage) -> bool {
    use NexthopAttribute::{Gateway, Group, GroupType, Id, Oif, OpFlags};
    message.attributes.iter().all(|attribute| {
        matches!(attribute, Id(_) | Oif(_) | Group(_) | Gateway(IpAddr::V4(_)) | GroupType(0) | OpFlags(_))
    })
}

fn group(entries: &[NexthopGroupEntry]) -> Option<NexthopKind> {
    let mut members = Vec::with_capacity(entries.len());
    for entry in entries {
        members.push(Member { id: entry.id, weight: Weight::new(entry.weight).ok()? });
    }
    members.sort();
    Some(NexthopKind::Group(members))
}

fn single(device: Device, hop: FoundNextHop) -> Option<NexthopKind> {
    let gateway = match hop.gateway {
        Some(IpAddr::V4(addr)) => Some(HostAddr::new(addr).ok()?),
        _ => None,
    };
    Some(NexthopKind::Single(NextHop { device, gateway, onlink: hop.onlink }))
}
