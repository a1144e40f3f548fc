//! Nexthop objects.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::ControlFlow;

use super::routes::Devices;
use super::{parse, read};
use crate::kernel::Error;
use crate::kernel::netlink::constants::RTM_GETNEXTHOP;
use crate::kernel::netlink::nexthop::{NexthopAttribute, NexthopGroupEntry, NexthopMessage};
use crate::kernel::netlink::socket::Socket;
use crate::model::names::{HostAddr, Weight};
use crate::model::routing::{Device, FoundNextHop, Member, NextHop, NexthopKind, NexthopObject};

/// All nexthop objects by id; `None`: the kernel knows of no such thing.
pub(crate) fn nexthops(socket: &mut Socket, devices: &Devices) -> Result<Option<BTreeMap<u32, NexthopObject>>, Error> {
    let each = |all: &mut BTreeMap<u32, NexthopObject>, body: &[u8]| {
        if let Some((id, found)) = nexthop(&parse(body)?, devices) {
            all.insert(id, found);
        }
        Ok(ControlFlow::Continue(()))
    };
    match socket.dump(RTM_GETNEXTHOP, &NexthopMessage::dump(), BTreeMap::new, each) {
        // Before Linux 5.3.
        Err(e) if e.is_unsupported() => Ok(None),
        done => done.map(Some).map_err(read("nexthops")),
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
    let protocol = message.header.protocol.into();
    Some((message.id()?, NexthopObject { protocol, kind: kind.unwrap_or(NexthopKind::Other) }))
}

/// Whether it has nothing that we never write.
fn is_plain(message: &NexthopMessage) -> bool {
    use NexthopAttribute::{Gateway, Group, GroupType, Id, Oif, OpFlags};
    let is_ours = |a: &_| matches!(a, Id(_) | Oif(_) | Group(_) | Gateway(IpAddr::V4(_)) | GroupType(0) | OpFlags(_));
    message.attributes.iter().all(is_ours)
}

fn group(entries: &[NexthopGroupEntry]) -> Option<NexthopKind> {
    let member = |e: &NexthopGroupEntry| Some(Member { id: e.id, weight: Weight::new(e.weight).ok()? });
    let mut members = entries.iter().map(member).collect::<Option<Vec<_>>>()?;
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
