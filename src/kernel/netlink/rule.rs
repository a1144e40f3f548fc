//! Messages of rules, the body of `RTM_NEWRULE`, in both directions.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{DecodeError, parse_ip, parse_u32};

use super::nla::{Attributes, Body, string};
use super::socket;
use crate::kernel::netlink::constants::{
    AF_INET, AF_INET6, FIB_RULE_IIF_DETACHED, FIB_RULE_INVERT, FIB_RULE_OIF_DETACHED, FIB_RULE_UNRESOLVED,
    FR_ACT_BLACKHOLE, FR_ACT_GOTO, FR_ACT_NOP, FR_ACT_PROHIBIT, FR_ACT_TO_TBL, FR_ACT_UNREACHABLE, FRA_DPORT_MASK,
    FRA_DPORT_RANGE, FRA_DSCP, FRA_DSCP_MASK, FRA_DST, FRA_FLOW, FRA_FWMARK, FRA_FWMASK, FRA_GOTO, FRA_IIFNAME,
    FRA_IP_PROTO, FRA_L3MDEV, FRA_OIFNAME, FRA_PAD, FRA_PRIORITY, FRA_PROTOCOL, FRA_SPORT_MASK, FRA_SPORT_RANGE,
    FRA_SRC, FRA_SUPPRESS_IFGROUP, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_TUN_ID, FRA_UID_RANGE,
};
use crate::model::names::{Family, TableId};
use crate::model::routing::{Action, FoundRule, FwMark, More, PortRange, Rule, Selector, UidRange};

/// `struct fib_rule_hdr`: family, lengths of destination and source, tos, table, two unused, action, flags.
const HEADER_LEN: usize = 12;

// Places in it.
const DESTINATION_LENGTH: usize = 1;
const SOURCE_LENGTH: usize = 2;
const ACTION: usize = 7;

/// Asks for all rules of a family; `None`: of both, also on a kernel without IPv6. It consists of the header only, as the
/// strict check of `fib_nl_dumprule()` demands.
pub(crate) fn request(family: Option<Family>) -> Body<HEADER_LEN> {
    let mut header = [0; HEADER_LEN];
    header[0] = match family {
        None => 0,
        Some(Family::V4) => AF_INET,
        Some(Family::V6) => AF_INET6,
    };
    Body::new(header)
}

/// Adds or deletes a rule.
pub(crate) fn change(rule: &Rule, protocol: u8) -> Body<HEADER_LEN> {
    let mut request = request(Some(rule.family));
    request.push(FRA_PRIORITY, &rule.priority.to_ne_bytes());
    request.push(FRA_PROTOCOL, &[protocol]);
    request.header[ACTION] = match rule.action {
        Action::Lookup { .. } => FR_ACT_TO_TBL,
        Action::Goto(_) => FR_ACT_GOTO,
        Action::Nop => FR_ACT_NOP,
        Action::Blackhole => FR_ACT_BLACKHOLE,
        Action::Unreachable => FR_ACT_UNREACHABLE,
        Action::Prohibit => FR_ACT_PROHIBIT,
        Action::Other(number) => number,
    };
    match rule.action {
        Action::Lookup { table, suppress_prefixlength } => {
            request.push(FRA_TABLE, &table.get().to_ne_bytes());
            if let Some(length) = suppress_prefixlength {
                request.push(FRA_SUPPRESS_PREFIXLEN, &length.to_ne_bytes());
            }
        }
        Action::Goto(priority) => request.push(FRA_GOTO, &priority.to_ne_bytes()),
        _ => {}
    }
    select(&mut request, &rule.selector);
    request
}

fn select(request: &mut Body<HEADER_LEN>, selector: &Selector) {
    let Selector { from, to, iif, fwmark, uid, proto, sport, dport, dscp } = selector;
    for (net, place, kind) in [(from, SOURCE_LENGTH, FRA_SRC), (to, DESTINATION_LENGTH, FRA_DST)] {
        if let Some(net) = net {
            request.header[place] = net.prefix_len();
            match net.addr() {
                IpAddr::V4(address) => request.push(kind, &address.octets()),
                IpAddr::V6(address) => request.push(kind, &address.octets()),
            }
        }
    }
    if let Some(name) = iif {
        request.push(FRA_IIFNAME, &[name.as_str().as_bytes(), &[0]].concat());
    }
    if let Some(FwMark { value, mask }) = fwmark {
        request.push(FRA_FWMARK, &value.to_ne_bytes());
        request.push(FRA_FWMASK, &mask.to_ne_bytes());
    }
    if let Some(UidRange { start, end }) = uid {
        request.push(FRA_UID_RANGE, &[start.to_ne_bytes(), end.to_ne_bytes()].concat());
    }
    if let Some(proto) = proto {
        request.push(FRA_IP_PROTO, &[*proto]);
    }
    for (ports, kind) in [(sport, FRA_SPORT_RANGE), (dport, FRA_DPORT_RANGE)] {
        if let Some(PortRange { start, end }) = ports {
            request.push(kind, &[start.to_ne_bytes(), end.to_ne_bytes()].concat());
        }
    }
    if let Some(dscp) = dscp {
        request.push(FRA_DSCP, &[*dscp]);
    }
}

/// A rule on the way from its message.
#[derive(Default)]
struct Found {
    priority: u32,
    protocol: u8,
    table: u32,
    goto: Option<u32>,
    suppress_prefixlength: Option<u32>,
    mark: Option<u32>,
    mark_mask: Option<u32>,
    selector: Selector,
    more: More,
}

/// The rule in the body of a message; `None`: one of multicast routing.
pub(crate) fn parse(body: &[u8]) -> Result<Option<FoundRule>, socket::Error> {
    decode(body).map_err(|e| socket::Error::Decode(e.to_string()))
}

fn decode(body: &[u8]) -> Result<Option<FoundRule>, DecodeError> {
    let Some((&[family, to, from, tos, table, _, _, action, ref flags @ ..], nlas)) =
        body.split_first_chunk::<HEADER_LEN>()
    else {
        return Err(DecodeError::buffer_too_small(body.len(), HEADER_LEN));
    };
    let family = match family {
        AF_INET => Family::V4,
        AF_INET6 => Family::V6,
        _ => return Ok(None),
    };
    // These flags say that the interface of `iif` or the target of `goto` does not exist now. They do not change the
    // rule.
    let flags = u32::from_ne_bytes(*flags) & !(FIB_RULE_IIF_DETACHED | FIB_RULE_OIF_DETACHED | FIB_RULE_UNRESOLVED);
    let mut found = Found { table: table.into(), ..Found::default() };
    found.more.invert = flags & FIB_RULE_INVERT != 0;
    found.more.tos = tos;
    found.more.harmless = flags & !FIB_RULE_INVERT != 0;
    for attribute in Attributes::new(nlas) {
        let (kind, value) = attribute?;
        found.add(kind, value, (from, to))?;
    }
    Ok(Some(found.rule(family, action)))
}

impl Found {
    /// Adds an attribute; `lengths` of the source's and the destination's prefix.
    fn add(&mut self, kind: u16, value: &[u8], lengths: (u8, u8)) -> Result<(), DecodeError> {
        // The kernel always sends it; -1 means none.
        let unless_none = |value| parse_u32(value).map(|n| Some(n).filter(|n| *n != u32::MAX));
        match (kind, value) {
            (FRA_PRIORITY, _) => self.priority = parse_u32(value)?,
            (FRA_PROTOCOL, [protocol]) => self.protocol = *protocol,
            (FRA_TABLE, _) => self.table = parse_u32(value)?,
            (FRA_GOTO, _) => self.goto = Some(parse_u32(value)?),
            (FRA_SUPPRESS_PREFIXLEN, _) => self.suppress_prefixlength = unless_none(value)?,
            (FRA_SUPPRESS_IFGROUP, _) => self.more.suppress_ifgroup = unless_none(value)?,
            (FRA_SRC, _) => self.selector.from = IpNet::new(parse_ip(value)?, lengths.0).ok(),
            (FRA_DST, _) => self.selector.to = IpNet::new(parse_ip(value)?, lengths.1).ok(),
            (FRA_IIFNAME, _) => match string(value).parse() {
                Ok(name) => self.selector.iif = Some(name),
                Err(_) => self.more.iif = Some(string(value)),
            },
            (FRA_OIFNAME, _) => self.more.oif = Some(string(value)),
            (FRA_FWMARK, _) => self.mark = Some(parse_u32(value)?),
            (FRA_FWMASK, _) => self.mark_mask = Some(parse_u32(value)?),
            (FRA_UID_RANGE, [start @ .., _, _, _, _]) => {
                self.selector.uid = Some(UidRange { start: parse_u32(start)?, end: parse_u32(&value[4..])? });
            }
            (FRA_IP_PROTO, [proto]) => self.selector.proto = Some(*proto),
            (FRA_SPORT_RANGE, [a, b, c, d]) => self.selector.sport = Some(ports([*a, *b], [*c, *d])),
            (FRA_DPORT_RANGE, [a, b, c, d]) => self.selector.dport = Some(ports([*a, *b], [*c, *d])),
            (FRA_DSCP, [dscp]) => self.selector.dscp = Some(*dscp),
            (FRA_DSCP_MASK, [mask]) => self.more.dscp_mask = Some(*mask).filter(|mask| *mask != 0x3f),
            (FRA_SPORT_MASK, [a, b]) => self.more.sport_mask = mask([*a, *b]),
            (FRA_DPORT_MASK, [a, b]) => self.more.dport_mask = mask([*a, *b]),
            (FRA_TUN_ID, _) => self.more.tun_id = value.first_chunk().map(|id| u64::from_be_bytes(*id)),
            (FRA_L3MDEV, [on]) => self.more.l3mdev = *on != 0,
            // It affects accounting, not routing.
            (FRA_FLOW, _) => self.more.harmless = true,
            (FRA_PAD, _) => {}
            (newer, _) => self.more.unknown.push(newer),
        }
        Ok(())
    }

    fn rule(mut self, family: Family, action: u8) -> FoundRule {
        // The kernel leaves out a value of 0 and a full mask.
        if self.mark.is_some() || self.mark_mask.is_some() {
            let mask = self.mark_mask.unwrap_or(u32::MAX);
            self.selector.fwmark = Some(FwMark { value: self.mark.unwrap_or(0), mask });
        }
        let action = match (action, self.goto) {
            (FR_ACT_TO_TBL, _) => Action::Lookup {
                table: TableId::observed(self.table),
                suppress_prefixlength: self.suppress_prefixlength,
            },
            (FR_ACT_GOTO, Some(target)) => Action::Goto(target),
            (FR_ACT_NOP, _) => Action::Nop,
            (FR_ACT_BLACKHOLE, _) => Action::Blackhole,
            (FR_ACT_UNREACHABLE, _) => Action::Unreachable,
            (FR_ACT_PROHIBIT, _) => Action::Prohibit,
            (other, _) => Action::Other(other),
        };
        let more = (self.more != More::default()).then(|| Box::new(self.more));
        let rule = Rule { priority: self.priority, family, selector: self.selector, action };
        FoundRule { rule, protocol: self.protocol, more }
    }
}

/// Both ends are in the host's byte order.
fn ports(start: [u8; 2], end: [u8; 2]) -> PortRange {
    PortRange { start: u16::from_ne_bytes(start), end: u16::from_ne_bytes(end) }
}

/// A full mask means none: Linux 6.15 sends it with every single port.
fn mask(mask: [u8; 2]) -> Option<u16> {
    Some(u16::from_ne_bytes(mask)).filter(|mask| *mask != u16::MAX)
}
