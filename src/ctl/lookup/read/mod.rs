//! Rules and routes in full, and the kernel's own answer: what `mhctl why` puts side by side.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::ControlFlow;

use ipnet::Ipv4Net;
use netlink_packet_core::{DefaultNla, NlasIterator};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteNextHopFlags, RouteType, RouteVia,
};
use netlink_packet_route::rule::RuleMessage;
use nix::libc;

use crate::ctl::lookup::{Answer, FibLeg, FibRoute, FibRule, Packet, Refusal, RouteKind, Tables, walk};
use crate::kernel::netlink::constants::{
    IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, RTA_DPORT, RTA_DST, RTA_IP_PROTO, RTA_SPORT, RTM_GETNEXTHOP, RTM_GETROUTE,
    RTM_GETRULE,
};
use crate::kernel::netlink::nexthop::{NexthopAttribute, NexthopMessage};
use crate::kernel::netlink::socket::Socket;
use crate::kernel::{Error, interface, observe, parse, read};

mod neighbour;
mod rules;

pub use neighbour::Neighbour;

/// `struct rtmsg`.
const RTMSG_LEN: usize = 12;

/// Name and group of a device.
#[derive(Debug, Clone)]
struct Device {
    name: String,
    group: u32,
}

/// A reader of the forwarding information base.
#[derive(Debug)]
pub struct Fib {
    socket: Socket,
    devices: HashMap<u32, Device>,
}

impl Fib {
    /// IP protocols that the kernel answers for (`rtm_getroute_parse_ip_proto()`).
    pub const ANSWERED: [u8; 3] = [IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP];

    /// Of the thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open().map_err(Error::Open)?, devices: HashMap::new() })
    }

    /// All IPv4 rules, in the kernel's order.
    pub fn rules(&mut self) -> Result<Vec<FibRule>, Error> {
        let mut request = RuleMessage::default();
        request.header.family = AddressFamily::Inet;
        let each = |all: &mut Vec<FibRule>, body: &[u8]| {
            all.push(rules::rule(&parse(body)?));
            Ok(ControlFlow::Continue(()))
        };
        self.socket.dump(RTM_GETRULE, &request, Vec::new, each).map_err(read("rules"))
    }

    /// The routes of a table that cover `to`, in the kernel's order. A dump cannot be asked for a
    /// destination: it is read up to `to`, which comes in its place, and no further.
    pub fn routes(&mut self, table: u32, to: Ipv4Addr) -> Result<Vec<FibRoute>, Error> {
        let mut request = RouteMessage::default();
        request.header.address_family = AddressFamily::Inet;
        request.attributes.push(RouteAttribute::Table(table));
        let each = |all: &mut Vec<RouteMessage>, body: &[u8]| {
            let Some(prefix) = prefix(body) else { return Ok(ControlFlow::Continue(())) };
            if prefix.network() > to {
                return Ok(ControlFlow::Break(()));
            }
            if prefix.contains(&to) {
                let message: RouteMessage = parse(body)?;
                if table_of(&message) == table {
                    all.push(message);
                }
            }
            Ok(ControlFlow::Continue(()))
        };
        let found = match self.socket.dump(RTM_GETROUTE, &request, Vec::new, each) {
            // No route has ever been put into this table: ENOENT.
            Err(e) if e.is_gone() => Vec::new(),
            done => done.map_err(read("routes"))?,
        };
        found
            .iter()
            .map(|message| self.route(message))
            .collect::<Result<Vec<_>, _>>()
            .map(|all| all.into_iter().flatten().collect())
    }

    /// Reads into `tables` those that a walk of `packet` through `rules` comes to; `amend` says what
    /// becomes of a table's routes.
    pub fn fill(
        &mut self,
        rules: &[FibRule],
        tables: &mut Tables,
        packet: &Packet,
        amend: impl Fn((u32, Vec<FibRoute>)) -> Vec<FibRoute>,
    ) -> Result<(), Error> {
        while let Err(missing) = walk(rules, tables, packet) {
            tables.insert(missing, amend((missing, self.routes(missing, packet.to)?)));
        }
        Ok(())
    }

    /// What the kernel says; `Err(Ok(why))`: it cannot be asked.
    pub fn ask(&mut self, packet: &Packet) -> Result<Result<Answer, &'static str>, Error> {
        if !Self::ANSWERED.contains(&packet.proto) {
            return Ok(Err("it answers for tcp, udp and icmp only"));
        }
        let way = match self.get(packet, RouteFlags::LookupTable)? {
            Ok(message) => message,
            Err(errno) => return Ok(Ok(Answer::Refused(errno))),
        };
        // Before 4.13 it does not know this flag, and answers with prefix length 32.
        let matched = self.get(packet, RouteFlags::LookupTable | RouteFlags::FibMatch)?.ok();
        let device = oif(&way).unwrap_or_default();
        let source = way.attributes.iter().find_map(|a| match a {
            RouteAttribute::PrefSource(RouteAddress::Inet(addr)) => Some(*addr),
            _ => None,
        });
        Ok(Ok(Answer::Way {
            table: table_of(&way),
            prefix_len: matched.map(|m| m.header.destination_prefix_length),
            local: way.header.kind == RouteType::Local
                || way.header.kind == RouteType::Broadcast && packet.iif.is_some(),
            name: self.device(device)?.name,
            device,
            gateway: gateway(&way.attributes),
            source,
        }))
    }

    /// Table and protocol number of the route that the kernel takes, or the number of the refusal. Before 4.13 it
    /// does not tell the protocol number, and says 0.
    pub fn matched(&mut self, packet: &Packet) -> Result<Result<(u32, u8), i32>, Error> {
        let matched = self.get(packet, RouteFlags::LookupTable | RouteFlags::FibMatch)?;
        Ok(matched.map(|m| (table_of(&m), m.header.protocol.into())))
    }

    /// One answer, or the number of the refusal.
    fn get(&mut self, packet: &Packet, flags: RouteFlags) -> Result<Result<RouteMessage, i32>, Error> {
        let mut request = RouteMessage::default();
        request.header.address_family = AddressFamily::Inet;
        request.header.destination_prefix_length = 32;
        request.header.tos = packet.dscp << 2;
        request.header.flags = flags;
        let attributes = &mut request.attributes;
        attributes.push(RouteAttribute::Destination(RouteAddress::Inet(packet.to)));
        if let Some(from) = packet.from {
            request.header.source_prefix_length = 32;
            attributes.push(RouteAttribute::Source(RouteAddress::Inet(from)));
        }
        if let Some((index, _)) = packet.iif {
            attributes.push(RouteAttribute::Iif(index));
        }
        if packet.mark != 0 {
            attributes.push(RouteAttribute::Mark(packet.mark));
        }
        attributes.push(RouteAttribute::Uid(packet.uid));
        let mut other = |kind, value| attributes.push(RouteAttribute::Other(DefaultNla::new(kind, value)));
        other(RTA_IP_PROTO, vec![packet.proto]);
        if packet.sport != 0 {
            other(RTA_SPORT, packet.sport.to_be_bytes().to_vec());
        }
        if packet.dport != 0 {
            other(RTA_DPORT, packet.dport.to_be_bytes().to_vec());
        }
        match self.socket.get(RTM_GETROUTE, &request) {
            Ok(Some(body)) => parse(&body).map(Ok).map_err(read("a route")),
            Ok(None) => Ok(Err(libc::ENODEV)),
            // Not permitted to ask, or wrongly asked, is not an answer about a packet.
            Err(e) => match e.refused() {
                Some(errno) if !matches!(errno, libc::EPERM | libc::EOPNOTSUPP) => Ok(Err(errno)),
                _ => Err(read("a route")(e)),
            },
        }
    }

    /// Addresses of this host.
    pub fn is_own(&mut self, addr: Ipv4Addr) -> Result<bool, Error> {
        const LOCAL: u32 = 255;
        Ok(self.routes(LOCAL, addr)?.iter().any(|route| route.kind == RouteKind::Local))
    }

    /// Subnets of an interface.
    pub fn subnets(&mut self, index: u32) -> Result<Vec<Ipv4Net>, Error> {
        let all = observe::subnets(&mut self.socket)?.into_iter();
        Ok(all.filter(|(found, _)| *found == index).map(|(_, net)| net.trunc()).collect())
    }

    /// Subnets of interfaces other than `links` and the loopback.
    pub fn lans(&mut self, links: &[&crate::model::names::IfName]) -> Result<Vec<Ipv4Net>, Error> {
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
            None => Device { name: format!("if{index}"), group: 0 },
        };
        self.devices.insert(index, device.clone());
        Ok(device)
    }

    /// A route; `None`: of a kind that is for no single host.
    fn route(&mut self, message: &RouteMessage) -> Result<Option<FibRoute>, Error> {
        let header = &message.header;
        let kind = match header.kind {
            RouteType::Unicast => RouteKind::Unicast,
            RouteType::Local => RouteKind::Local,
            RouteType::Broadcast | RouteType::Multicast | RouteType::Anycast => RouteKind::Broadcast,
            RouteType::BlackHole => RouteKind::Refuse(Refusal::Blackhole),
            RouteType::Unreachable => RouteKind::Refuse(Refusal::Unreachable),
            RouteType::Prohibit => RouteKind::Refuse(Refusal::Prohibit),
            RouteType::Throw => RouteKind::Throw,
            _ => return Ok(None),
        };
        let mut route = FibRoute {
            table: table_of(message),
            prefix: Ipv4Net::default(),
            tos: header.tos,
            metric: 0,
            protocol: header.protocol.into(),
            kind,
            source: None,
            nexthop: None,
            legs: Vec::new(),
        };
        let mut hops: Vec<RouteNextHop> = Vec::new();
        let mut to = Ipv4Addr::UNSPECIFIED;
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(addr)) => to = *addr,
                RouteAttribute::Priority(n) => route.metric = *n,
                RouteAttribute::PrefSource(RouteAddress::Inet(addr)) => route.source = Some(*addr),
                RouteAttribute::NhId(id) => route.nexthop = Some(*id),
                RouteAttribute::MultiPath(all) => hops.clone_from(all),
                _ => {}
            }
        }
        route.prefix = Ipv4Net::new(to, header.destination_prefix_length).unwrap_or_default();
        for hop in &hops {
            let dead = hop.flags.contains(RouteNextHopFlags::Dead);
            route.legs.push(self.leg(hop.interface_index, gateway(&hop.attributes), u16::from(hop.hops) + 1, dead)?);
        }
        if let (true, Some(index)) = (hops.is_empty(), oif(message)) {
            let dead = header.flags.contains(RouteFlags::Dead);
            route.legs.push(self.leg(index, gateway(&message.attributes), 1, dead)?);
        }
        // With net.ipv4.nexthop_compat_mode=0 the legs stand in the objects only.
        if let (true, Some(id)) = (route.legs.is_empty(), route.nexthop) {
            route.legs = self.object(id)?;
        }
        Ok(Some(route))
    }

    fn leg(&mut self, device: u32, gateway: Option<IpAddr>, weight: u16, dead: bool) -> Result<FibLeg, Error> {
        let Device { name, group } = self.device(device)?;
        Ok(FibLeg { device, name, group, gateway, weight, dead })
    }

    /// The legs of a nexthop object, or of a group's members.
    pub fn object(&mut self, id: u32) -> Result<Vec<FibLeg>, Error> {
        let each = |all: &mut Vec<NexthopMessage>, body: &[u8]| {
            all.push(parse(body)?);
            Ok(ControlFlow::Continue(()))
        };
        let all =
            self.socket.dump(RTM_GETNEXTHOP, &NexthopMessage::dump(), Vec::new, each).map_err(read("nexthops"))?;
        let of = |id: u32| all.iter().find(|m| m.attributes.contains(&NexthopAttribute::Id(id)));
        let members = of(id).into_iter().flat_map(|m| &m.attributes).find_map(|a| match a {
            NexthopAttribute::Group(members) => Some(members.iter().map(|m| (m.id, m.weight)).collect::<Vec<_>>()),
            _ => None,
        });
        let mut legs = Vec::new();
        for (member, weight) in members.unwrap_or_else(|| vec![(id, 1)]) {
            let Some(message) = of(member) else { continue };
            let dead = message.header.flags.contains(RouteFlags::Dead);
            let mut device = None;
            let mut gateway = None;
            for attribute in &message.attributes {
                match attribute {
                    NexthopAttribute::Oif(index) => device = Some(*index),
                    NexthopAttribute::Gateway(addr) => gateway = Some(*addr),
                    _ => {}
                }
            }
            if let Some(device) = device {
                legs.push(self.leg(device, gateway, weight, dead)?);
            }
        }
        Ok(legs)
    }

    /// Index of an interface by its name.
    pub fn index(&mut self, name: &crate::model::names::IfName) -> Result<Option<u32>, Error> {
        Ok(interface::by_name(&mut self.socket, name)?.map(|found| found.index))
    }
}

/// The prefix of a route in a dump, read without the rest: there may be a million.
fn prefix(body: &[u8]) -> Option<Ipv4Net> {
    let length = *body.get(1)?;
    let destination = NlasIterator::new(body.get(RTMSG_LEN..)?).flatten().find(|nla| nla.kind() == RTA_DST);
    let addr = match destination {
        None => Ipv4Addr::UNSPECIFIED,
        Some(nla) => Ipv4Addr::from(*nla.value().first_chunk::<4>()?),
    };
    Ipv4Net::new(addr, length).ok()
}

fn table_of(message: &RouteMessage) -> u32 {
    let long = message.attributes.iter().find_map(|a| if let RouteAttribute::Table(t) = a { Some(*t) } else { None });
    long.unwrap_or(message.header.table.into())
}

fn oif(message: &RouteMessage) -> Option<u32> {
    message.attributes.iter().find_map(|a| if let RouteAttribute::Oif(n) = a { Some(*n) } else { None })
}

fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|a| match a {
        RouteAttribute::Gateway(RouteAddress::Inet(addr)) => Some(IpAddr::V4(*addr)),
        RouteAttribute::Gateway(RouteAddress::Inet6(addr)) | RouteAttribute::Via(RouteVia::Inet6(addr)) => {
            Some(IpAddr::V6(*addr))
        }
        _ => None,
    })
}
