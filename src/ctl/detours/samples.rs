//! Packets that stand for traffic: some to the Internet, and one for each policy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::config::Policy;
use crate::ctl::lookup::read::Fib;
use crate::ctl::lookup::{Answer, Packet};
use crate::kernel;
use crate::kernel::netlink::constants::IPPROTO_TCP;
use crate::model::names::{Family, HostAddr, IfName};
use crate::model::observed::LanAddress;
use crate::model::routing::{FoundRule, Selector};
use crate::reconcile::link_state::LiveLink;

/// Well-known addresses, one in each quarter of all: VPN programs take the Internet in halves or quarters.
const INTERNET: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)),
    IpAddr::V4(Ipv4Addr::new(77, 88, 8, 8)),
    IpAddr::V4(Ipv4Addr::new(149, 112, 112, 112)),
    IpAddr::V4(Ipv4Addr::new(208, 67, 222, 222)),
];
/// The same of IPv6, of which an eighth is in use (`2000::/3`), and of that what the registries have.
const INTERNET6: [IpAddr; 4] = [
    IpAddr::V6(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888)),
    IpAddr::V6(Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 9)),
    IpAddr::V6(Ipv6Addr::new(0x2803, 0xf800, 0x50, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2a02, 0x6b8, 0, 0, 0, 0, 0xfeed, 0xff)),
];
const HTTPS: u16 = 443;

/// Traffic, as it is called in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Traffic {
    /// All that no policy is about.
    Internet,
    /// That of a policy, by its name.
    Policy(String),
    /// What comes from the prefixes of a link, by its name.
    Sources(String),
}

impl Traffic {
    /// The policy's name.
    pub(super) fn policy(&self) -> Option<&str> {
        if let Self::Policy(name) = self { Some(name) } else { None }
    }
}

/// A packet, and what selects the traffic that it stands for.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) traffic: Traffic,
    pub(super) selector: Selector,
    pub(super) packet: Packet,
}

fn well_known(family: Family) -> [IpAddr; 4] {
    if family == Family::V4 { INTERNET } else { INTERNET6 }
}

/// Connections of this host to the Internet.
pub(super) fn internet(family: Family) -> Vec<Sample> {
    let mut samples = Vec::new();
    for to in well_known(family) {
        samples.push(Sample { traffic: Traffic::Internet, selector: Selector::default(), packet: own(to) });
    }
    samples
}

impl Sample {
    /// The same to other places, if any place will do.
    pub(super) fn to_others(&self) -> Vec<Self> {
        if self.selector.to.is_some() {
            return Vec::new();
        }
        let others = well_known(self.packet.family()).into_iter().filter(|to| *to != self.packet.to);
        others.map(|to| Self { packet: Packet { to, ..self.packet.clone() }, ..self.clone() }).collect()
    }
}

/// Connections of sockets that are bound to an address of this host in a prefix of the link.
pub(super) fn of_sources(l: &LiveLink<'_>, lan: &[LanAddress]) -> Vec<Sample> {
    let mut samples = Vec::new();
    let to = well_known(l.family)[0];
    for prefix in l.sources() {
        let mut own = l.local.map(HostAddr::get).into_iter().chain(lan.iter().map(|a| a.address.addr().into()));
        if let Some(from) = own.find(|own| prefix.contains(own)) {
            let selector = Selector { from: Some(prefix), ..Selector::default() };
            let packet = Packet { from: Some(from), ..self::own(to) };
            samples.push(Sample { traffic: Traffic::Sources(l.link.name.to_string()), selector, packet });
        }
    }
    samples
}

fn own(to: IpAddr) -> Packet {
    Packet { to, from: None, iif: None, proto: IPPROTO_TCP, sport: 0, dport: HTTPS, mark: 0, uid: 0, dscp: 0 }
}

/// A connection that the first values of a policy's lists select in a family; none where its interface or the way to its
/// source is missing. `bound` are prefixes whose packets a link has before any policy.
pub(super) fn of_policy(
    policy: &Policy,
    family: Family,
    bound: &[IpNet],
    fib: &mut Fib,
) -> Result<Option<Sample>, kernel::Error> {
    let iif = policy.iif.first();
    let (sport, dport) = (policy.sport.first(), policy.dport.first());
    let (from, to) = (first_net(&policy.from, family), first_net(&policy.to, family));
    let proto = policy.proto_in(family);
    let selector = Selector {
        from,
        to,
        iif: iif.cloned(),
        fwmark: policy.mark(),
        uid: policy.uid.first().copied(),
        proto,
        sport: sport.copied(),
        dport: dport.copied(),
        dscp: policy.dscp,
    };
    let mut packet = own(to.map_or(well_known(family)[0], |net| hosts(net)[0]));
    if let Some(proto) = proto {
        packet.proto = proto;
        packet.dport = 0;
    }
    packet.sport = sport.map_or(0, |ports| ports.start);
    packet.dport = dport.map_or(packet.dport, |ports| ports.start);
    packet.mark = policy.mark().map_or(0, |mark| mark.value);
    packet.dscp = policy.dscp.unwrap_or_default();
    packet.uid = policy.uid.first().map_or(0, |range| range.start);
    let mut foreign = None;
    for addr in from.map(hosts).unwrap_or_default() {
        if !fib.is_own(addr)? {
            foreign = Some(addr);
            break;
        }
    }
    packet.from = foreign.or(from.map(|net| hosts(net)[0]));
    packet.iif = match (iif, foreign) {
        (Some(name), _) if name.as_str() != "lo" => match fib.index(name)? {
            Some(index) => Some((index, name.device())),
            None => return Ok(None),
        },
        (None, Some(from)) => match fib.ask(&Packet { dport: 0, ..own(from) })? {
            Some(Answer::Way { device, name, local: false, .. }) => Some((device, name)),
            _ => return Ok(None),
        },
        _ => None,
    };
    // What comes in by an interface comes from somewhere, and is root's.
    if let Some((index, _)) = packet.iif {
        packet.uid = 0;
        if packet.from.is_none() {
            packet.from = neighbour(index, family, bound, fib)?;
        }
    }
    let traffic = Traffic::Policy(policy.name.clone());
    Ok((packet.iif.is_none() || packet.from.is_some()).then_some(Sample { traffic, selector, packet }))
}

/// A packet of this host's own that both a rule and a selector select; `None`: none can be told.
pub(super) fn of_both(found: &FoundRule, s: &Selector, fib: &mut Fib) -> Result<Option<Packet>, kernel::Error> {
    let (rule, more) = (&found.rule.selector, found.more());
    let mut interfaces = found.iif().into_iter().chain(s.iif.as_ref().map(IfName::as_str));
    let is_plain = !more.invert && more.tun_id.is_none() && more.unknown.is_empty();
    if !is_plain || interfaces.any(|name| name != "lo") {
        return Ok(None);
    }
    let from = host_of_both(rule.from, s.from);
    if let Some(from) = from
        && !fib.is_own(from)?
    {
        return Ok(None);
    }
    let packet = own(host_of_both(rule.to, s.to).unwrap_or(well_known(found.rule.family)[0]));
    Ok(Some(Packet {
        from,
        proto: s.proto.or(rule.proto).unwrap_or(packet.proto),
        sport: rule.sport.into_iter().chain(s.sport).map(|ports| ports.start).max().unwrap_or(packet.sport),
        dport: rule.dport.into_iter().chain(s.dport).map(|ports| ports.start).max().unwrap_or(packet.dport),
        mark: rule.fwmark.into_iter().chain(s.fwmark).fold(0, |all, mark| all | mark.value),
        uid: rule.uid.into_iter().chain(s.uid).map(|uid| uid.start).max().unwrap_or(packet.uid),
        dscp: s.dscp.or(rule.dscp).unwrap_or(more.tos >> 2),
        ..packet
    }))
}

/// A source behind an interface: in one of its subnets, and no address of ours; if there is one, of no prefix of `bound`.
fn neighbour(index: u32, family: Family, bound: &[IpNet], fib: &mut Fib) -> Result<Option<IpAddr>, kernel::Error> {
    let mut nets = fib.subnets(family, index)?;
    nets.sort_by_key(|net| bound.iter().any(|prefix| prefix.contains(net)));
    for net in nets {
        for addr in hosts(net) {
            if !fib.is_own(addr)? {
                return Ok(Some(addr));
            }
        }
    }
    Ok(None)
}

/// The first network of a list that is of the family, unless that is any.
fn first_net(nets: &[IpNet], family: Family) -> Option<IpNet> {
    let first = nets.iter().find(|net| Family::of(net.addr()) == family);
    first.filter(|net| net.prefix_len() > 0).copied()
}

/// A host of two networks that meet: then one holds the other.
fn host_of_both(a: Option<IpNet>, b: Option<IpNet>) -> Option<IpAddr> {
    let narrower = a.into_iter().chain(b).max_by_key(IpNet::prefix_len);
    narrower.map(|net| hosts(net)[0])
}

/// A few hosts of a network, at least one.
fn hosts(net: IpNet) -> Vec<IpAddr> {
    // In IPv6 the first is that of all its routers (RFC 4291, 2.6.1).
    let is_first_anycast = net.addr().is_ipv6() && net.prefix_len() < 127;
    let all: Vec<_> = net.hosts().skip(usize::from(is_first_anycast)).take(3).collect();
    if all.is_empty() { vec![net.addr()] } else { all }
}
