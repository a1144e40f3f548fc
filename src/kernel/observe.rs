//! What the kernel holds, asked for over netlink and put into our own words.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::ControlFlow;

use ipnet::Ipv4Net;
use netlink_packet_core::{Emitable, NlasIterator, Parseable};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteNextHopFlags, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use super::apply::FRA_DSCP;
use super::nexthop::{NexthopAttribute, NexthopMessage};
use super::socket::{self, Socket};
use super::{Error, sysctl};
use crate::config::{FwMark, PortRange, UidRange};
use crate::observed::{Address, Interface, Observed, Scope};
use crate::state::{
    Action, Device, FoundNexthop, FoundRoute, FoundRule, FoundTarget, Leg, Member, NexthopKind, Rule, Selector,
    WeightedLeg,
};
use crate::types::{HostAddr, IfName, TableId, Weight};

const RTM_GETLINK: u16 = 18;
const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;
const RTM_GETRULE: u16 = 34;
const RTM_GETNEXTHOP: u16 = 106;
/// `struct ifinfomsg`: family, padding, type, index, flags, change.
const IFINFO_LEN: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 1 << 16;

/// Looks at what `scope` names.
pub(super) fn observe(socket: &mut Socket, scope: &Scope) -> Result<Observed, Error> {
    let mut interfaces = BTreeMap::new();
    for name in &scope.interfaces {
        if let Some(found) = interface(socket, name)? {
            interfaces.insert(name.clone(), found);
        }
    }
    let rules = rules(socket)?;
    let mut tables: BTreeSet<_> = scope.tables.iter().copied().chain([TableId::MAIN]).collect();
    for found in rules.iter().filter(|found| found.protocol == scope.protocol) {
        if let Action::Lookup { table, .. } = found.rule.action {
            tables.insert(table);
        }
    }
    let mut devices = Devices::new(&interfaces);
    let mut routes = Vec::new();
    for table in tables {
        defaults(socket, table, &mut devices, &mut routes)?;
    }
    let nexthops = nexthops(socket, &devices)?;
    Ok(Observed { interfaces, routes, rules, nexthops, hash_policy: sysctl::hash_policy()? })
}

/// Names of devices by index: those of the scope, and others as they turn up in routes.
struct Devices {
    known: HashMap<u32, Device>,
    others: HashMap<u32, String>,
}

impl Devices {
    fn new(interfaces: &BTreeMap<IfName, Interface>) -> Self {
        let known = interfaces.values().map(|i| (i.device.index, i.device.clone())).collect();
        Self { known, others: HashMap::new() }
    }

    fn get(&self, index: u32) -> Option<&Device> {
        self.known.get(&index)
    }

    /// For messages only.
    fn name(&self, index: u32) -> String {
        let known = self.get(index).map(|device| device.name.to_string());
        known.or_else(|| self.others.get(&index).cloned()).unwrap_or_else(|| format!("if{index}"))
    }
}

fn read(what: &'static str) -> impl Fn(socket::Error) -> Error {
    move |source| Error::Read { what, source }
}

fn parse<T: Parseable<[u8]>>(body: &[u8]) -> Result<T, socket::Error> {
    T::parse(body).map_err(|e| socket::Error::Decode(e.to_string()))
}

/// A link's index, flags and name. Not netlink-packet-route's parser: it reads all of the hundred
/// attributes of a link and fails where a newer kernel has changed one that nobody here looks at.
fn link(socket: &mut Socket, request: &LinkMessage) -> Result<Option<(u32, u32, String)>, socket::Error> {
    let Some(body) = socket.get(RTM_GETLINK, request)? else { return Ok(None) };
    let cut = || socket::Error::Decode("a link without its header".to_owned());
    let [_, _, _, _, i0, i1, i2, i3, f0, f1, f2, f3, _, _, _, _] = *body.first_chunk::<IFINFO_LEN>().ok_or_else(cut)?;
    let mut attributes = NlasIterator::new(&body[IFINFO_LEN..]).flatten();
    let name = attributes.find(|nla| nla.kind() == IFLA_IFNAME).map(|nla| {
        let name = nla.value();
        String::from_utf8_lossy(name.strip_suffix(&[0]).unwrap_or(name)).into_owned()
    });
    let name = name.ok_or_else(cut)?;
    Ok(Some((u32::from_ne_bytes([i0, i1, i2, i3]), u32::from_ne_bytes([f0, f1, f2, f3]), name)))
}

fn interface(socket: &mut Socket, name: &IfName) -> Result<Option<Interface>, Error> {
    let Some((index, flags)) = lookup(socket, name)? else { return Ok(None) };
    let usable = flags & IFF_UP != 0 && flags & IFF_LOWER_UP != 0;
    let addresses = addresses(socket, index)?;
    let device = Device { index, name: name.clone() };
    Ok(Some(Interface { device, usable, addresses, strict_rp_filter: sysctl::strict_rp_filter(name)? }))
}

/// Index and flags of an interface.
pub(super) fn lookup(socket: &mut Socket, name: &IfName) -> Result<Option<(u32, u32)>, Error> {
    let mut request = LinkMessage::default();
    request.attributes.push(LinkAttribute::IfName(name.as_str().to_owned()));
    request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let found = link(socket, &request).map_err(read("an interface"))?;
    // The kernel also finds an interface by an alternative name; a link is known by its own.
    Ok(found.filter(|(_, _, found)| found == name.as_str()).map(|(index, flags, _)| (index, flags)))
}

fn addresses(socket: &mut Socket, index: u32) -> Result<Vec<Address>, Error> {
    let mut request = AddressMessage::default();
    request.header.family = AddressFamily::Inet;
    request.header.index = index;
    let each = |all: &mut Vec<Address>, body: &[u8]| {
        let message: AddressMessage = parse(body)?;
        let mut local = None;
        let mut peer = None;
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(IpAddr::V4(addr)) => local = Some(*addr),
                AddressAttribute::Address(IpAddr::V4(addr)) => peer = Some(*addr),
                _ => {}
            }
        }
        // IFA_ADDRESS is the peer, and the address itself where there is none (if_addr.h).
        let own = local.or(peer).and_then(|addr| HostAddr::new(addr).ok());
        let reaches = peer.or(local).and_then(|addr| Ipv4Net::new(addr, message.header.prefix_len).ok());
        if message.header.index == index
            && let (Some(local), Some(reaches)) = (own, reaches)
        {
            all.push(Address { local, reaches: reaches.trunc() });
        }
        Ok(ControlFlow::Continue(()))
    };
    match socket.dump(RTM_GETADDR, &request, Vec::new, each) {
        // The interface went in between: ENODEV.
        Err(e) if e.refused() == Some(19) => Ok(Vec::new()),
        done => done.map_err(read("addresses")),
    }
}

/// The default routes of a table. They come first in a dump, since the kernel walks its trie by
/// rising destination (`fib_table_dump()`): the rest of the table is never read.
fn defaults(
    socket: &mut Socket,
    table: TableId,
    devices: &mut Devices,
    into: &mut Vec<FoundRoute>,
) -> Result<(), Error> {
    let mut request = RouteMessage::default();
    request.header.address_family = AddressFamily::Inet;
    request.attributes.push(RouteAttribute::Table(table.get()));
    let each = |all: &mut Vec<RouteMessage>, body: &[u8]| {
        let message: RouteMessage = parse(body)?;
        let destination = message.attributes.iter().find_map(|a| match a {
            RouteAttribute::Destination(RouteAddress::Inet(addr)) => Some(*addr),
            _ => None,
        });
        // 0.0.0.0/1, as VPNs write it, stands on the same leaf of the trie as 0.0.0.0/0.
        if destination.is_some_and(|addr| addr != Ipv4Addr::UNSPECIFIED) {
            return Ok(ControlFlow::Break(()));
        }
        if message.header.destination_prefix_length == 0 && table_of(&message) == table.get() && message.header.tos == 0
        {
            all.push(message);
        }
        Ok(ControlFlow::Continue(()))
    };
    let found = match socket.dump(RTM_GETROUTE, &request, Vec::new, each) {
        // No route has ever been put into this table: ENOENT.
        Err(e) if e.refused() == Some(2) => return Ok(()),
        done => done.map_err(read("routes"))?,
    };
    for message in found {
        learn_names(socket, &message, devices)?;
        into.push(route(table, &message, devices));
    }
    Ok(())
}

fn table_of(message: &RouteMessage) -> u32 {
    let long = message.attributes.iter().find_map(|a| if let RouteAttribute::Table(t) = a { Some(*t) } else { None });
    long.unwrap_or(message.header.table.into())
}

/// Asks for the names of devices of a route that are no link's, for messages.
fn learn_names(socket: &mut Socket, message: &RouteMessage, devices: &mut Devices) -> Result<(), Error> {
    for index in device_indices(message) {
        if devices.get(index).is_some() || devices.others.contains_key(&index) {
            continue;
        }
        let mut request = LinkMessage::default();
        request.header.index = index;
        if let Some((_, _, name)) = link(socket, &request).map_err(read("an interface"))? {
            devices.others.insert(index, name);
        }
    }
    Ok(())
}

fn device_indices(message: &RouteMessage) -> Vec<u32> {
    let of = |a: &RouteAttribute| match a {
        RouteAttribute::Oif(index) => vec![*index],
        RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
        _ => vec![],
    };
    message.attributes.iter().flat_map(of).collect()
}

fn route(table: TableId, message: &RouteMessage, devices: &Devices) -> FoundRoute {
    let mut metric = 0;
    let mut nexthop = None;
    let mut hops = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Priority(n) => metric = *n,
            RouteAttribute::NhId(id) => nexthop = Some(*id),
            RouteAttribute::MultiPath(all) => hops.clone_from(all),
            _ => {}
        }
    }
    let indices = device_indices(message);
    if hops.is_empty() && !indices.is_empty() {
        // A plain route says of itself what a leg says of a multipath route.
        let mut hop = RouteNextHop::default();
        hop.interface_index = indices[0];
        hop.attributes.clone_from(&message.attributes);
        if message.header.flags.contains(RouteFlags::Onlink) {
            hop.flags |= RouteNextHopFlags::Onlink;
        }
        hops.push(hop);
    }
    let target = if let Some(id) = nexthop {
        FoundTarget::Nexthop { id, devices: indices }
    } else {
        let mut legs: Vec<_> = hops.iter().filter_map(|hop| leg(hop, devices)).collect();
        legs.sort();
        let expressible = message.header.kind == RouteType::Unicast && !hops.is_empty() && legs.len() == hops.len();
        if expressible { FoundTarget::Legs(legs) } else { other(message, &hops, indices, devices) }
    };
    FoundRoute { table, metric, protocol: message.header.protocol.into(), target }
}

/// A leg, if it is one that we could have written.
fn leg(hop: &RouteNextHop, devices: &Devices) -> Option<WeightedLeg> {
    let gateway = match gateway(hop) {
        None => None,
        Some(IpAddr::V4(addr)) => Some(HostAddr::new(addr).ok()?),
        Some(IpAddr::V6(_)) => return None,
    };
    let leg = Leg {
        device: devices.get(hop.interface_index)?.clone(),
        gateway,
        onlink: hop.flags.contains(RouteNextHopFlags::Onlink),
    };
    Some(WeightedLeg { leg, weight: Weight::new(u16::from(hop.hops) + 1).ok()? })
}

fn gateway(hop: &RouteNextHop) -> Option<IpAddr> {
    use netlink_packet_route::route::RouteVia;
    hop.attributes.iter().find_map(|a| match a {
        RouteAttribute::Gateway(RouteAddress::Inet(addr)) => Some(IpAddr::V4(*addr)),
        RouteAttribute::Gateway(RouteAddress::Inet6(addr)) | RouteAttribute::Via(RouteVia::Inet6(addr)) => {
            Some(IpAddr::V6(*addr))
        }
        _ => None,
    })
}

/// A route that we could not have written.
fn other(message: &RouteMessage, hops: &[RouteNextHop], devices: Vec<u32>, names: &Devices) -> FoundTarget {
    let mut text = match message.header.kind {
        RouteType::Unicast => String::new(),
        RouteType::BlackHole => "blackhole ".to_owned(),
        RouteType::Unreachable => "unreachable ".to_owned(),
        RouteType::Prohibit => "prohibit ".to_owned(),
        RouteType::Throw => "throw ".to_owned(),
        other => format!("{other:?} ").to_lowercase(),
    };
    for hop in hops {
        if hops.len() > 1 {
            text.push_str("nexthop ");
        }
        // Writing to a String cannot fail.
        let _ = match gateway(hop) {
            Some(IpAddr::V4(gateway)) => write!(text, "via {gateway} "),
            Some(IpAddr::V6(gateway)) => write!(text, "via inet6 {gateway} "),
            None => Ok(()),
        };
        let _ = write!(text, "dev {} ", names.name(hop.interface_index));
    }
    let gateway = if let [only] = hops { gateway(only) } else { None };
    FoundTarget::Other { text: text.trim_end().to_owned(), devices, gateway }
}

fn nexthops(socket: &mut Socket, devices: &Devices) -> Result<Option<BTreeMap<u32, FoundNexthop>>, Error> {
    let each = |all: &mut BTreeMap<u32, FoundNexthop>, body: &[u8]| {
        if let Some((id, found)) = nexthop(&parse(body)?, devices) {
            all.insert(id, found);
        }
        Ok(ControlFlow::Continue(()))
    };
    match socket.dump(RTM_GETNEXTHOP, &NexthopMessage::dump(), BTreeMap::new, each) {
        // Before Linux 5.3: EOPNOTSUPP.
        Err(e) if e.refused() == Some(95) => Ok(None),
        done => done.map(Some).map_err(read("nexthops")),
    }
}

fn nexthop(message: &NexthopMessage, devices: &Devices) -> Option<(u32, FoundNexthop)> {
    let mut id = None;
    let mut device = None;
    let mut gateway = Ok(None);
    let mut members = None;
    let mut plain = true;
    for attribute in &message.attributes {
        match attribute {
            NexthopAttribute::Id(n) => id = Some(*n),
            NexthopAttribute::Oif(index) => device = devices.get(*index).cloned(),
            NexthopAttribute::Gateway(IpAddr::V4(addr)) => gateway = HostAddr::new(*addr).map(Some),
            NexthopAttribute::Group(entries) => members = Some(entries),
            NexthopAttribute::GroupType(0) | NexthopAttribute::OpFlags(_) => {}
            _ => plain = false,
        }
    }
    let member = |e: &super::nexthop::NexthopGroupEntry| Some(Member { id: e.id, weight: Weight::new(e.weight).ok()? });
    let kind = match (members, device, gateway) {
        (Some(entries), _, _) if plain => entries.iter().map(member).collect::<Option<Vec<_>>>().map(|mut members| {
            members.sort();
            NexthopKind::Group(members)
        }),
        (None, Some(device), Ok(gateway)) if plain => {
            let onlink = message.header.flags.contains(RouteFlags::Onlink);
            Some(NexthopKind::Single(Leg { device, gateway, onlink }))
        }
        _ => None,
    };
    let protocol = message.header.protocol.into();
    Some((id?, FoundNexthop { protocol, kind: kind.unwrap_or(NexthopKind::Other) }))
}

/// Header only: what the strict check of `fib_nl_dumprule()` accepts.
fn rules(socket: &mut Socket) -> Result<Vec<FoundRule>, Error> {
    let mut request = RuleMessage::default();
    request.header.family = AddressFamily::Inet;
    let each = |all: &mut Vec<FoundRule>, body: &[u8]| {
        all.push(rule(&parse(body)?));
        Ok(ControlFlow::Continue(()))
    };
    socket.dump(RTM_GETRULE, &request, Vec::new, each).map_err(read("rules"))
}

fn rule(message: &RuleMessage) -> FoundRule {
    let header = &message.header;
    let mut table = u32::from(header.table);
    let mut priority = 0;
    let mut protocol = 0;
    let mut suppress_prefixlength = None;
    let mut mark = None;
    let mut mask = u32::MAX;
    // A flag such as `not` inverts the meaning; no rule of ours has any.
    let mut complete = header.flags.is_empty() && header.tos == 0;
    let mut selector = Selector::default();
    let prefix = |addr: &IpAddr, len| match addr {
        IpAddr::V4(addr) => Ipv4Net::new(*addr, len).ok(),
        IpAddr::V6(_) => None,
    };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(n) => priority = *n,
            RuleAttribute::Protocol(p) => protocol = (*p).into(),
            RuleAttribute::Table(n) => table = *n,
            // The kernel always says something; -1 stands for nothing.
            RuleAttribute::SuppressPrefixLen(n) => suppress_prefixlength = Some(*n).filter(|n| *n != u32::MAX),
            RuleAttribute::Source(addr) => selector.from = prefix(addr, header.src_len),
            RuleAttribute::Destination(addr) => selector.to = prefix(addr, header.dst_len),
            RuleAttribute::Iifname(name) => match name.parse() {
                Ok(name) => selector.iif = Some(name),
                Err(_) => complete = false,
            },
            RuleAttribute::FwMark(n) => mark = Some(*n),
            RuleAttribute::FwMask(n) => mask = *n,
            RuleAttribute::UidRange(r) => selector.uid = Some(UidRange { start: r.start, end: r.end }),
            RuleAttribute::IpProtocol(p) => selector.proto = Some((*p).into()),
            RuleAttribute::SourcePortRange(r) => selector.sport = Some(PortRange { start: r.start, end: r.end }),
            RuleAttribute::DestinationPortRange(r) => selector.dport = Some(PortRange { start: r.start, end: r.end }),
            RuleAttribute::Other(nla) if netlink_packet_core::Nla::kind(nla) == FRA_DSCP => {
                let mut value = vec![0; nla.buffer_len().saturating_sub(4)];
                netlink_packet_core::Nla::emit_value(nla, &mut value);
                selector.dscp = value.first().copied();
            }
            RuleAttribute::SuppressIfGroup(u32::MAX) => {}
            _ => complete = false,
        }
    }
    selector.fwmark = mark.map(|value| FwMark { value, mask });
    let action = match header.action {
        RuleAction::ToTable => Action::Lookup { table: TableId::observed(table), suppress_prefixlength },
        RuleAction::Unreachable => Action::Unreachable,
        _ => {
            complete = false;
            Action::Unreachable
        }
    };
    FoundRule { rule: Rule { priority, selector, action }, protocol, complete }
}
