//! Packets that stand for traffic: some to the Internet, and one for each policy.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::config::Policy;
use crate::ctl::lookup::read::Fib;
use crate::ctl::lookup::{Answer, Packet};
use crate::kernel;
use crate::kernel::netlink::constants::IPPROTO_TCP;
use crate::model::names::IfName;
use crate::model::routing::{FoundRule, Selector};

/// Well-known addresses, one in each quarter of all: VPN programs take the Internet in halves or quarters.
const INTERNET: [Ipv4Addr; 4] = [
    Ipv4Addr::new(8, 8, 8, 8),
    Ipv4Addr::new(77, 88, 8, 8),
    Ipv4Addr::new(149, 112, 112, 112),
    Ipv4Addr::new(208, 67, 222, 222),
];
const HTTPS: u16 = 443;

/// Traffic, as it is called in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Traffic {
    /// All that no policy is about.
    Internet,
    /// That of a policy, by its name.
    Policy(String),
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

/// Connections of this host to the Internet.
pub(super) fn internet() -> Vec<Sample> {
    let mut samples = Vec::new();
    for to in INTERNET {
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
        let others = INTERNET.into_iter().filter(|to| IpAddr::V4(*to) != self.packet.to);
        others.map(|to| Self { packet: Packet { to: to.into(), ..self.packet.clone() }, ..self.clone() }).collect()
    }
}

fn own(to: Ipv4Addr) -> Packet {
    let to = IpAddr::V4(to);
    Packet { to, from: None, iif: None, proto: IPPROTO_TCP, sport: 0, dport: HTTPS, mark: 0, uid: 0, dscp: 0 }
}

/// A connection that the first values of a policy's lists select; none where its interface or the way to its source
/// is missing.
pub(super) fn of_policy(policy: &Policy, fib: &mut Fib) -> Result<Option<Sample>, kernel::Error> {
    let iif = policy.iif.first();
    let (sport, dport) = (policy.sport.first(), policy.dport.first());
    let (from, to) = (first_net(&ipv4(&policy.from)), first_net(&ipv4(&policy.to)));
    let selector = Selector {
        from: from.map(IpNet::V4),
        to: to.map(IpNet::V4),
        iif: iif.cloned(),
        fwmark: policy.mark(),
        uid: policy.uid.first().copied(),
        proto: policy.proto,
        sport: sport.copied(),
        dport: dport.copied(),
        dscp: policy.dscp,
    };
    let mut packet = own(to.map_or(INTERNET[0], |net| hosts(net)[0]));
    if let Some(proto) = policy.proto {
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
        if !fib.is_own(addr.into())? {
            foreign = Some(addr);
            break;
        }
    }
    packet.from = foreign.or(from.map(|net| hosts(net)[0])).map(IpAddr::V4);
    packet.iif = match (iif, foreign) {
        (Some(name), _) if name.as_str() != "lo" => match fib.index(name)? {
            Some(index) => Some((index, name.to_string())),
            None => return Ok(None),
        },
        (None, Some(from)) => match fib.ask(&Packet { dport: 0, ..own(from) })? {
            Some(Answer::Way { device, name, local: false, .. }) => Some((device, name)),
            _ => return Ok(None),
        },
        _ => None,
    };
    // What comes in by an interface comes from somewhere, and is root's.
    if packet.iif.is_some() {
        packet.uid = 0;
        if packet.from.is_none() {
            packet.from = neighbour(packet.iif.as_ref().map_or(0, |(index, _)| *index), fib)?.map(IpAddr::V4);
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
        && !fib.is_own(from.into())?
    {
        return Ok(None);
    }
    let packet = own(host_of_both(rule.to, s.to).unwrap_or(INTERNET[0]));
    Ok(Some(Packet {
        from: from.map(IpAddr::V4),
        proto: s.proto.or(rule.proto).unwrap_or(packet.proto),
        sport: rule.sport.into_iter().chain(s.sport).map(|ports| ports.start).max().unwrap_or(packet.sport),
        dport: rule.dport.into_iter().chain(s.dport).map(|ports| ports.start).max().unwrap_or(packet.dport),
        mark: rule.fwmark.into_iter().chain(s.fwmark).fold(0, |all, mark| all | mark.value),
        uid: rule.uid.into_iter().chain(s.uid).map(|uid| uid.start).max().unwrap_or(packet.uid),
        dscp: s.dscp.or(rule.dscp).unwrap_or(more.tos >> 2),
        ..packet
    }))
}

/// A source behind an interface: in one of its subnets, and no address of ours.
fn neighbour(index: u32, fib: &mut Fib) -> Result<Option<Ipv4Addr>, kernel::Error> {
    for net in fib.subnets(index)? {
        for addr in hosts(net) {
            if !fib.is_own(addr.into())? {
                return Ok(Some(addr));
            }
        }
    }
    Ok(None)
}

/// The first network of a list, unless that is any.
fn ipv4(nets: &[IpNet]) -> Vec<Ipv4Net> {
    nets.iter().filter_map(|net| if let IpNet::V4(net) = net { Some(*net) } else { None }).collect()
}

fn first_net(nets: &[Ipv4Net]) -> Option<Ipv4Net> {
    nets.first().filter(|net| net.prefix_len() > 0).copied()
}

/// A host of two networks that meet: then one holds the other.
fn host_of_both(a: Option<IpNet>, b: Option<IpNet>) -> Option<Ipv4Addr> {
    match a.into_iter().chain(b).max_by_key(IpNet::prefix_len) {
        Some(IpNet::V4(net)) => Some(hosts(net)[0]),
        _ => None,
    }
}

/// A few hosts of a network, at least one.
fn hosts(net: Ipv4Net) -> Vec<Ipv4Addr> {
    let all: Vec<_> = net.hosts().take(3).collect();
    if all.is_empty() { vec![net.addr()] } else { all }
}
