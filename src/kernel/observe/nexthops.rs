//! Nexthop objects.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::ControlFlow;

use netlink_packet_route::route::RouteFlags;

use super::routes::Devices;
use super::{parse, read};
use crate::kernel::Error;
use crate::kernel::netlink::constants::RTM_GETNEXTHOP;
use crate::kernel::netlink::nexthop::{NexthopAttribute, NexthopGroupEntry, NexthopMessage};
use crate::kernel::netlink::socket::Socket;
use crate::model::names::{HostAddr, Weight};
use crate::model::routing::{FoundNexthop, Leg, Member, NexthopKind};

/// All nexthop objects by id; `None`: the kernel knows of no such thing.
pub(crate) fn nexthops(socket: &mut Socket, devices: &Devices) -> Result<Option<BTreeMap<u32, FoundNexthop>>, Error> {
    let each = |all: &mut BTreeMap<u32, FoundNexthop>, body: &[u8]| {
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

pub(crate) fn nexthop(message: &NexthopMessage, devices: &Devices) -> Option<(u32, FoundNexthop)> {
    let mut id = None;
    let mut device = None;
    let mut elsewhere = false;
    let mut gateway = Ok(None);
    let mut members = None;
    let mut plain = true;
    for attribute in &message.attributes {
        match attribute {
            NexthopAttribute::Id(n) => id = Some(*n),
            NexthopAttribute::Oif(index) => {
                device = devices.get(*index).cloned();
                elsewhere = device.is_none();
            }
            NexthopAttribute::Gateway(IpAddr::V4(addr)) => gateway = HostAddr::new(*addr).map(Some),
            NexthopAttribute::Group(entries) => members = Some(entries),
            NexthopAttribute::GroupType(0) | NexthopAttribute::OpFlags(_) => {}
            _ => plain = false,
        }
    }
    let member = |e: &NexthopGroupEntry| Some(Member { id: e.id, weight: Weight::new(e.weight).ok()? });
    let kind = match (members, device, gateway) {
        (Some(entries), _, _) if plain => entries.iter().map(member).collect::<Option<Vec<_>>>().map(|mut members| {
            members.sort();
            NexthopKind::Group(members)
        }),
        (None, Some(device), Ok(gateway)) if plain => {
            let onlink = message.header.flags.contains(RouteFlags::Onlink);
            Some(NexthopKind::Single(Leg { device, gateway, onlink }))
        }
        (None, None, _) if elsewhere => Some(NexthopKind::Elsewhere),
        _ => None,
    };
    let protocol = message.header.protocol.into();
    Some((id?, FoundNexthop { protocol, kind: kind.unwrap_or(NexthopKind::Other) }))
}
