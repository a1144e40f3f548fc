//! The walk: `fib_rules_lookup()` of the kernel.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::find::{Found, find};
use super::show::proto_text;
use super::{FibRoute, LEGACY_TOS, Packet, Refusal, Tables};
use crate::kernel::netlink::constants::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP};
use crate::model::names::{DeviceName, Family, TableId};
use crate::model::routing::{Action, FoundRule, FwMark, PortRange};

/// The way of a packet.
#[derive(Debug, Clone, PartialEq)]
pub struct Walk<'a> {
    /// The rules that were tried, in order.
    pub steps: Vec<Step<'a>>,
    pub end: End<'a>,
}

/// One rule that was tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Step<'a> {
    pub found: &'a FoundRule,
    pub outcome: Outcome<'a>,
}

/// What came of a rule.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome<'a> {
    Miss(Miss),
    /// It matches, and its table has no route that carries.
    NoRoute {
        /// Routes that would fit, but for their dead devices.
        dead: bool,
    },
    /// It matches, and the route in its table says: the next rule.
    Throw,
    /// It matches, but does not take so short a prefix, or that device.
    Suppressed(&'a FibRoute),
    /// On at another rule.
    Goto(u32),
    /// It matches and does nothing.
    Nop,
    Decides,
    /// Whether it matches, or what it does, cannot be told from here.
    Unknown,
}

/// Where a walk ends.
#[derive(Debug, Clone, PartialEq)]
pub enum End<'a> {
    Route(&'a FibRoute),
    Refused {
        how: Refusal,
        /// By a route, not by a rule.
        by_route: bool,
    },
    /// After the last rule.
    NoWay,
    /// At something that cannot be simulated.
    Unknown(String),
}

/// Why a rule does not match: the first selector that does not, as the kernel compares them.
#[derive(Debug, Clone, PartialEq)]
pub enum Miss {
    /// Comes in by another interface, or is this host's own (`None`).
    Iif(Option<DeviceName>),
    /// No socket that is bound to a device.
    Oif,
    Mark(u32),
    Uid(u32),
    To,
    /// Another source, or none yet.
    From(Option<IpAddr>),
    Dscp(u8),
    Proto(u8),
    Sport(u16),
    Dport(u16),
    /// The rule says `not`, and the rest fits.
    Inverted,
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Iif(None) => f.write_str("it is this host's own"),
            Self::Iif(Some(name)) => write!(f, "it comes in by {name}"),
            Self::Oif => f.write_str("its socket is bound to no device"),
            Self::Mark(0) => f.write_str("it has no mark"),
            Self::Mark(mark) => write!(f, "its mark is {mark:#x}"),
            Self::Uid(0) => f.write_str("its owner is root"),
            Self::Uid(uid) => write!(f, "its owner is {uid}"),
            Self::To => f.write_str("another destination"),
            Self::From(None) => f.write_str("its source is not chosen yet"),
            Self::From(Some(from)) => write!(f, "its source is {from}"),
            Self::Dscp(dscp) => write!(f, "its DSCP is {dscp}"),
            Self::Proto(n @ (IPPROTO_TCP | IPPROTO_UDP | IPPROTO_ICMP | IPPROTO_ICMPV6)) => {
                write!(f, "it is {}", proto_text(*n))
            }
            Self::Proto(n) => write!(f, "its protocol is {n}"),
            Self::Sport(0) => f.write_str("its source port is not known"),
            Self::Sport(port) => write!(f, "its source port is {port}"),
            Self::Dport(0) => f.write_str("it has no destination port"),
            Self::Dport(port) => write!(f, "its port is {port}"),
            Self::Inverted => f.write_str("all of it fits, and it says \"not\""),
        }
    }
}

/// Walks `packet` through `rules`.
///
/// # Errors
/// A table that is not in `tables` and has to be read.
pub fn walk<'a>(rules: &'a [FoundRule], tables: &'a Tables, packet: &Packet) -> Result<Walk<'a>, TableId> {
    let mut steps = Vec::new();
    let mut at = 0;
    let end = loop {
        let Some(found) = rules.get(at) else { break End::NoWay };
        at += 1;
        let (outcome, end) = consider(found, tables, packet)?;
        if let Outcome::Goto(target) = outcome {
            // A target that is not there is passed over (`ctarget`).
            at = rules.iter().position(|found| found.rule.priority == target).unwrap_or(at);
        }
        steps.push(Step { found, outcome });
        if let Some(end) = end {
            break end;
        }
    };
    Ok(Walk { steps, end })
}

/// One rule: what comes of it, and the end if it is that.
fn consider<'a>(
    rule: &FoundRule,
    tables: &'a Tables,
    packet: &Packet,
) -> Result<(Outcome<'a>, Option<End<'a>>), TableId> {
    match miss(rule, packet) {
        Ok(None) => {}
        Ok(Some(miss)) => return Ok((Outcome::Miss(miss), None)),
        Err(why) => return Ok((Outcome::Unknown, Some(End::Unknown(why)))),
    }
    let (table, prefixlength) = match rule.rule.action {
        Action::Lookup { table, suppress_prefixlength } => (table, suppress_prefixlength),
        Action::Goto(target) => return Ok((Outcome::Goto(target), None)),
        Action::Nop => return Ok((Outcome::Nop, None)),
        Action::Blackhole => return Ok(refused(Refusal::Blackhole, false)),
        Action::Unreachable => return Ok(refused(Refusal::Unreachable, false)),
        Action::Prohibit => return Ok(refused(Refusal::Prohibit, false)),
        Action::Other(n) => {
            let why = format!("rule {} has an action that is not known here ({n})", rule.rule.priority);
            return Ok((Outcome::Unknown, Some(End::Unknown(why))));
        }
    };
    let routes = tables.get(&table).ok_or(table)?;
    Ok(match find(routes, packet) {
        Found::None { dead } => (Outcome::NoRoute { dead }, None),
        Found::Throw => (Outcome::Throw, None),
        // fib4_rule_suppress() and fib6_rule_suppress() are not asked about a refusal.
        Found::Refused(how) => refused(how, true),
        Found::Route(route) => {
            let is_short = prefixlength.is_some_and(|n| u32::from(route.prefix.prefix_len()) <= n);
            let group = rule.more().suppress_ifgroup;
            match group.map_or(Some(false), |group| is_by_group(route, group, packet)) {
                _ if is_short => (Outcome::Suppressed(route), None),
                Some(true) => (Outcome::Suppressed(route), None),
                Some(false) => (Outcome::Decides, Some(End::Route(route))),
                None => {
                    let why = format!("rule {} takes some next hops of a route and not others", rule.rule.priority);
                    (Outcome::Unknown, Some(End::Unknown(why)))
                }
            }
        }
    })
}

fn refused<'a>(how: Refusal, by_route: bool) -> (Outcome<'a>, Option<End<'a>>) {
    (Outcome::Decides, Some(End::Refused { how, by_route }))
}

/// Whether a route leads by a device of the group, as `suppress_ifgroup` sees it; `None`: by some next hops.
fn is_by_group(route: &FibRoute, group: u32, packet: &Packet) -> Option<bool> {
    match packet.family() {
        // It looks at the first next hop only.
        Family::V4 => Some(route.next_hops.first().is_some_and(|next_hop| next_hop.group == group)),
        // What stays here leads by the loopback, whose group nobody changes.
        Family::V6 if route.delivers(packet) => Some(group == 0),
        // It looks at the next hop that the hash has chosen.
        Family::V6 => {
            let live: Vec<_> = route.next_hops.iter().filter(|next_hop| !next_hop.hop.dead).collect();
            let of_group = live.iter().filter(|next_hop| next_hop.group == group).count();
            (of_group == 0 || of_group == live.len()).then_some(of_group > 0)
        }
    }
}

/// Why a rule does not match; `Ok(None)`: it does.
fn miss(rule: &FoundRule, packet: &Packet) -> Result<Option<Miss>, String> {
    let (priority, more) = (rule.rule.priority, rule.more());
    if let Some(n) = more.unknown.first() {
        return Err(format!("rule {priority} has a selector that is not known here (attribute {n})"));
    }
    let miss = plain_miss(rule, packet);
    // Whether its device is in a VRF or its tunnel has an id decides only where all else fits.
    if miss.is_none() && (more.l3mdev || more.tun_id.is_some()) {
        let what = if more.l3mdev { "VRF devices (l3mdev)" } else { "tunnel ids (tun_id)" };
        return Err(format!("rule {priority} asks for {what}, which are not simulated"));
    }
    Ok(match (more.invert, miss) {
        (false, miss) => miss,
        (true, None) => Some(Miss::Inverted),
        (true, Some(_)) => None,
    })
}

fn plain_miss(rule: &FoundRule, packet: &Packet) -> Option<Miss> {
    let (selector, more) = (&rule.rule.selector, rule.more());
    let iif = packet.iif.as_ref().map(|(_, name)| name.as_str());
    if rule.iif().is_some_and(|wanted| wanted != iif.unwrap_or("lo")) {
        return Some(Miss::Iif(packet.iif.as_ref().map(|(_, name)| name.clone())));
    }
    if more.oif.is_some() {
        return Some(Miss::Oif);
    }
    if selector.fwmark.is_some_and(|FwMark { value, mask }| (value ^ packet.mark) & mask != 0) {
        return Some(Miss::Mark(packet.mark));
    }
    if selector.uid.is_some_and(|uid| !(uid.start..=uid.end).contains(&packet.uid)) {
        return Some(Miss::Uid(packet.uid));
    }
    if selector.to.is_some_and(|net| !net.contains(&packet.to)) {
        return Some(Miss::To);
    }
    if selector.from.is_some_and(|net| !comes_from(net, packet)) {
        return Some(Miss::From(packet.from));
    }
    if selector.dscp.is_some_and(|dscp| (dscp ^ packet.dscp) & more.dscp_mask.unwrap_or(u8::MAX) != 0)
        || more.tos != 0 && !has_tos(packet, more.tos)
    {
        return Some(Miss::Dscp(packet.dscp));
    }
    if selector.proto.is_some_and(|proto| proto != packet.proto) {
        return Some(Miss::Proto(packet.proto));
    }
    if !fits(selector.sport, more.sport_mask, packet.sport) {
        return Some(Miss::Sport(packet.sport));
    }
    if !fits(selector.dport, more.dport_mask, packet.dport) {
        return Some(Miss::Dport(packet.dport));
    }
    None
}

/// Whether the source is in the network. Where none is chosen yet, IPv4 compares 0.0.0.0, and IPv6 nothing but what takes
/// all (`fib6_rule_match()`).
fn comes_from(net: IpNet, packet: &Packet) -> bool {
    match (packet.from, net) {
        (Some(from), net) => net.contains(&from),
        (None, IpNet::V4(net)) => net.contains(&Ipv4Addr::UNSPECIFIED),
        (None, IpNet::V6(net)) => net.prefix_len() == 0,
    }
}

/// Whether a packet has the `tos` of a rule, of which IPv4 compares three bits and IPv6 all of the code point.
fn has_tos(packet: &Packet, tos: u8) -> bool {
    let own = packet.dscp << 2;
    tos == if packet.family() == Family::V4 { own & LEGACY_TOS } else { own }
}

fn fits(ports: Option<PortRange>, mask: Option<u16>, port: u16) -> bool {
    ports.is_none_or(|PortRange { start, end }| match mask {
        Some(mask) => (start ^ port) & mask == 0,
        None => (start..=end).contains(&port),
    })
}
