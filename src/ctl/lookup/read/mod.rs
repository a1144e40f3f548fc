//! Rules and routes in full, and the kernel's own answer: what `mhctl why` puts side by side.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::ops::ControlFlow;

use ipnet::{IpNet, Ipv4Net};
use netlink_packet_core::DefaultNla;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage};
use nix::libc;

use crate::ctl::lookup::{Answer, FibNextHop, FibRoute, Packet, Tables, walk};
use crate::kernel::netlink::constants::{
    IPPROTO_TCP, IPPROTO_UDP, RTA_DPORT, RTA_IP_PROTO, RTA_SPORT, RTM_GETNEXTHOP, RTM_GETROUTE,
};
use crate::kernel::netlink::nexthop::NexthopMessage;
use crate::kernel::netlink::route::Route;
use crate::kernel::netlink::socket::Socket;
use crate::kernel::observe::{lan, routes, rules};
use crate::kernel::{Error, interface, observe, parse, read};
use crate::model::names::{DeviceName, Family, IfName, TableId};
use crate::model::routing::{FoundNextHop, FoundRule, RouteKind};

mod neighbour;

pub use neighbour::Neighbour;

/// Name and group of a device.
#[derive(Debug, Clone)]
struct Device {
    name: DeviceName,
    group: u32,
}

/// What comes back for a packet.
enum Reply {
    Route(Vec<u8>),
    Refused(i32),
}

/// A reader of the forwarding information base.
#[derive(Debug)]
pub struct Fib {
    socket: Socket,
    devices: HashMap<u32, Device>,
}

impl Fib {
    /// Whether the kernel answers for the IP protocol of a packet (`rtm_getroute_parse_ip_proto()`).
    pub fn answers(packet: &Packet) -> bool {
        [packet.family().icmp(), IPPROTO_TCP, IPPROTO_UDP].contains(&packet.proto)
    }

    /// Of the thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open().map_err(Error::Open)?, devices: HashMap::new() })
    }

    /// All rules of a family, in the kernel's order.
    pub fn rules(&mut self, family: Family) -> Result<Vec<FoundRule>, Error> {
        rules::rules(&mut self.socket, Some(family))
    }

    /// The routes of a table that cover `to`, in the kernel's order. A dump cannot be asked for a destination. In IPv4 it
    /// is read up to `to`, which comes in its place, and no further; in IPv6 to its end.
    pub fn routes(&mut self, table: TableId, to: IpAddr) -> Result<Vec<FibRoute>, Error> {
        let family = Family::of(to);
        let restart = Vec::<Vec<u8>>::new;
        let bodies = routes::dump_of(family, &mut self.socket, table, restart, |all, body| {
            let route = Route::parse(body)?;
            if family == Family::V4 && route.prefix.network() > to {
                return Ok(ControlFlow::Break(()));
            }
            if route.prefix.contains(&to) && route.table == table {
                all.push(body.to_vec());
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let mut found = Vec::new();
        for body in &bodies {
            let route = Route::parse(body).map_err(read("routes"))?;
            // Others are for no packet.
            if !matches!(route.kind, RouteKind::Other(_)) {
                found.push(self.route(&route)?);
            }
        }
        Ok(found)
    }

    /// The first routes of a table, in IPv4 by rising destination: as many as there are among the first `most` that are
    /// read.
    pub fn first_routes(&mut self, family: Family, table: TableId, most: usize) -> Result<Vec<FibRoute>, Error> {
        let restart = <(usize, Vec<Vec<u8>>)>::default;
        let (_, bodies) = routes::dump_of(family, &mut self.socket, table, restart, |(read, all), body| {
            *read += 1;
            // Before Linux 4.20 other tables' are read as well.
            if Route::parse(body)?.table == table {
                all.push(body.to_vec());
            }
            Ok(if *read < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        let mut found = Vec::with_capacity(bodies.len());
        for body in &bodies {
            found.push(self.route(&Route::parse(body).map_err(read("routes"))?)?);
        }
        Ok(found)
    }

    /// Reads into `tables` those that a walk of `packet` through `rules` comes to; `amend` says what
    /// becomes of a table's routes.
    pub fn fill(
        &mut self,
        rules: &[FoundRule],
        tables: &mut Tables,
        packet: &Packet,
        amend: impl Fn((TableId, Vec<FibRoute>)) -> Vec<FibRoute>,
    ) -> Result<(), Error> {
        while let Err(missing) = walk(rules, tables, packet) {
            tables.insert(missing, amend((missing, self.routes(missing, packet.to)?)));
        }
        Ok(())
    }

    /// What the kernel says; `None`: it answers for none of this protocol.
    pub fn ask(&mut self, packet: &Packet) -> Result<Option<Answer>, Error> {
        if !Self::answers(packet) {
            return Ok(None);
        }
        let body = match self.get(packet, RouteFlags::empty())? {
            Reply::Route(body) => body,
            Reply::Refused(errno) => return Ok(Some(Answer::Refused(errno))),
        };
        let way = Route::parse(&body).map_err(read("a route"))?;
        // Before 4.13 it does not know this flag, and answers with prefix length 32.
        let prefix_len = match self.get(packet, RouteFlags::FibMatch)? {
            Reply::Route(body) => Some(Route::parse(&body).map_err(read("a route"))?.prefix.prefix_len()),
            Reply::Refused(_) => None,
        };
        let FoundNextHop { device, gateway, .. } = way.hops().next().unwrap_or(FoundNextHop::new(0, None));
        Ok(Some(Answer::Way {
            table: way.table,
            prefix_len,
            local: way.kind.delivers(packet.iif.is_some())
                || packet.family() == Family::V6 && way.kind == RouteKind::Anycast,
            name: self.device(device)?.name,
            device,
            gateway,
            source: way.source,
        }))
    }

    /// The route that the kernel takes; `None`: it refuses the packet. With `net.ipv4.nexthop_compat_mode=0` a route by a
    /// nexthop object has no next hops here. Before 4.13 the kernel does not tell the protocol number, and says 0.
    pub fn matched(&mut self, packet: &Packet) -> Result<Option<FibRoute>, Error> {
        let Reply::Route(body) = self.get(packet, RouteFlags::FibMatch)? else {
            return Ok(None);
        };
        let route = Route::parse(&body).map_err(read("a route"))?;
        let next_hops = route.hops().map(|hop| self.next_hop(hop)).collect::<Result<Vec<_>, _>>()?;
        Ok(Some(fib_route(&route, next_hops)))
    }

    fn get(&mut self, packet: &Packet, flags: RouteFlags) -> Result<Reply, Error> {
        let mut request = RouteMessage::default();
        request.header.address_family = address_family(packet.family());
        request.header.destination_prefix_length = IpNet::from(packet.to).prefix_len();
        request.header.tos = packet.dscp << 2;
        // IPv6 always tells the table, and refuses this flag (`inet6_rtm_valid_getroute_req()`).
        let table = if packet.family() == Family::V4 { RouteFlags::LookupTable } else { RouteFlags::empty() };
        request.header.flags = flags | table;
        let attributes = &mut request.attributes;
        attributes.push(RouteAttribute::Destination(RouteAddress::from(packet.to)));
        if let Some(from) = packet.from {
            request.header.source_prefix_length = IpNet::from(from).prefix_len();
            attributes.push(RouteAttribute::Source(RouteAddress::from(from)));
        }
        if let Some((index, _)) = packet.iif {
            attributes.push(RouteAttribute::Iif(index));
        }
        if packet.mark != 0 {
            attributes.push(RouteAttribute::Mark(packet.mark));
        }
        attributes.push(RouteAttribute::Uid(packet.uid));
        attributes.push(RouteAttribute::Other(DefaultNla::new(RTA_IP_PROTO, vec![packet.proto])));
        for (kind, port) in [(RTA_SPORT, packet.sport), (RTA_DPORT, packet.dport)] {
            if port != 0 {
                attributes.push(RouteAttribute::Other(DefaultNla::new(kind, port.to_be_bytes().to_vec())));
            }
        }
        match self.socket.get(RTM_GETROUTE, &request) {
            Ok(Some(body)) => Ok(Reply::Route(body)),
            Ok(None) => Ok(Reply::Refused(libc::ENODEV)),
            // Not permitted to ask, or wrongly asked, is not an answer about a packet.
            Err(e) => match e.refused() {
                Some(errno) if !matches!(errno, libc::EPERM | libc::EOPNOTSUPP) => Ok(Reply::Refused(errno)),
                _ => Err(read("a route")(e)),
            },
        }
    }

    /// Addresses of this host.
    pub fn is_own(&mut self, addr: IpAddr) -> Result<bool, Error> {
        Ok(self.routes(TableId::LOCAL, addr)?.iter().any(|route| route.kind == RouteKind::Local))
    }

    /// Subnets of an interface, in IPv6 global ones.
    pub fn subnets(&mut self, family: Family, index: u32) -> Result<Vec<IpNet>, Error> {
        if family == Family::V6 {
            let all = lan::subnets6(&mut self.socket, index)?;
            return Ok(all.into_iter().map(IpNet::V6).collect());
        }
        let all = observe::subnets(&mut self.socket)?.into_iter();
        Ok(all.filter(|(found, _)| *found == index).map(|(_, net)| IpNet::V4(net.trunc())).collect())
    }

    /// Subnets of interfaces other than `links` and the loopback.
    pub fn lans(&mut self, links: &[&IfName]) -> Result<Vec<Ipv4Net>, Error> {
        let mut lans = observe::subnets(&mut self.socket)?;
        for link in links {
            let index = self.index(link)?;
            lans.retain(|(found, _)| Some(*found) != index);
        }
        Ok(lans.into_iter().map(|(_, net)| net.trunc()).filter(|net| !net.addr().is_loopback()).collect())
    }

    fn device(&mut self, index: u32) -> Result<Device, Error> {
        if let Some(known) = self.devices.get(&index) {
            return Ok(known.clone());
        }
        let device = match interface::by_index(&mut self.socket, index)? {
            Some(found) => Device { name: found.name, group: found.group },
            None => Device { name: DeviceName::new(format!("if{index}")), group: 0 },
        };
        self.devices.insert(index, device.clone());
        Ok(device)
    }

    fn route(&mut self, found: &Route<'_>) -> Result<FibRoute, Error> {
        let mut next_hops = found.hops().map(|hop| self.next_hop(hop)).collect::<Result<Vec<_>, _>>()?;
        // With net.ipv4.nexthop_compat_mode=0 the next hops stand in the objects only.
        if let (true, Some(id)) = (next_hops.is_empty(), found.nexthop) {
            next_hops = self.object(id)?;
        }
        Ok(fib_route(found, next_hops))
    }

    fn next_hop(&mut self, hop: FoundNextHop) -> Result<FibNextHop, Error> {
        let Device { name, group } = self.device(hop.device)?;
        Ok(FibNextHop { hop, name, group })
    }

    /// The next hops of a nexthop object, or of a group's members.
    pub fn object(&mut self, id: u32) -> Result<Vec<FibNextHop>, Error> {
        let all = self.socket.dump(RTM_GETNEXTHOP, &NexthopMessage::dump(), BTreeMap::new, |all, body| {
            let message: NexthopMessage = parse(body)?;
            all.insert(message.id(), message);
            Ok(ControlFlow::Continue(()))
        });
        let all = all.map_err(read("nexthops"))?;
        let members = match all.get(&Some(id)).and_then(NexthopMessage::members) {
            Some(members) => members.iter().map(|member| (member.id, member.weight)).collect(),
            None => vec![(id, 1)],
        };
        let mut next_hops = Vec::new();
        for (member, weight) in members {
            if let Some(hop) = all.get(&Some(member)).and_then(NexthopMessage::hop) {
                next_hops.push(self.next_hop(FoundNextHop { weight, ..hop })?);
            }
        }
        Ok(next_hops)
    }

    /// Index of an interface by its name.
    pub fn index(&mut self, name: &IfName) -> Result<Option<u32>, Error> {
        Ok(interface::by_name(&mut self.socket, name)?.map(|found| found.index))
    }
}

fn fib_route(found: &Route<'_>, next_hops: Vec<FibNextHop>) -> FibRoute {
    let Route { table, prefix, from, tos, metric, preference, protocol, kind, nexthop, .. } = *found;
    // Of an IPv4 route it is the source of the packet that was asked about.
    let from = from.filter(|_| matches!(prefix, IpNet::V6(_)));
    FibRoute { table, prefix, from, tos, metric, preference, protocol, kind, nexthop, next_hops }
}

fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}
