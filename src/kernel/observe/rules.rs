//! Rules of the routing policy database.

use std::net::IpAddr;
use std::ops::ControlFlow;

use ipnet::IpNet;
use netlink_packet_core::{DefaultNla, Nla};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};

use super::{parse, read};
use crate::kernel::Error;
use crate::kernel::netlink::constants::{FRA_DPORT_MASK, FRA_DSCP, FRA_DSCP_MASK, FRA_SPORT_MASK, RTM_GETRULE};
use crate::kernel::netlink::socket::Socket;
use crate::model::names::{Family, TableId};
use crate::model::routing::{Action, FoundRule, Rule, Selector};
use crate::model::routing::{FwMark, PortRange, UidRange};

/// All rules of both families, those of each in the kernel's order, by one dump: a kernel without IPv6 has none of it.
/// The request is its header only: what the strict check of `fib_nl_dumprule()` accepts.
pub(crate) fn rules(socket: &mut Socket) -> Result<Vec<FoundRule>, Error> {
    let mut request = RuleMessage::default();
    request.header.family = AddressFamily::Unspec;
    let each = |all: &mut Vec<FoundRule>, body: &[u8]| {
        all.extend(rule(&parse(body)?));
        Ok(ControlFlow::Continue(()))
    };
    socket.dump(RTM_GETRULE, &request, Vec::new, each).map_err(read("rules"))
}

fn value(nla: &DefaultNla) -> Vec<u8> {
    let mut value = vec![0; nla.value_len()];
    nla.emit_value(&mut value);
    value
}

/// A rule; `None`: of multicast routing.
pub(crate) fn rule(message: &RuleMessage) -> Option<FoundRule> {
    let header = &message.header;
    let family = match header.family {
        AddressFamily::Inet => Family::V4,
        AddressFamily::Inet6 => Family::V6,
        _ => return None,
    };
    let mut table = u32::from(header.table);
    let mut priority = 0;
    let mut protocol = 0;
    let mut suppress_prefixlength = None;
    let mut mark_value = None;
    let mut mark_mask = None;
    // A flag such as `not` inverts the meaning; no rule of ours has any.
    // That the interface of `iif`, or the target of a guard, is not there now changes nothing about what the rule says.
    let mut complete = (header.flags - RuleFlags::IifDetached - RuleFlags::Unresolved).is_empty() && header.tos == 0;
    let mut target = None;
    let mut selector = Selector::default();
    let prefix = |addr: &IpAddr, len| IpNet::new(*addr, len).ok();
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(n) => priority = *n,
            RuleAttribute::Protocol(p) => protocol = (*p).into(),
            RuleAttribute::Table(n) => table = *n,
            RuleAttribute::Goto(n) => target = Some(*n),
            // The kernel always says something; -1 stands for nothing.
            RuleAttribute::SuppressPrefixLen(n) => suppress_prefixlength = Some(*n).filter(|n| *n != u32::MAX),
            RuleAttribute::Source(addr) => selector.from = prefix(addr, header.src_len),
            RuleAttribute::Destination(addr) => selector.to = prefix(addr, header.dst_len),
            RuleAttribute::Iifname(name) => match name.parse() {
                Ok(name) => selector.iif = Some(name),
                Err(_) => complete = false,
            },
            RuleAttribute::FwMark(n) => mark_value = Some(*n),
            RuleAttribute::FwMask(n) => mark_mask = Some(*n),
            RuleAttribute::UidRange(r) => selector.uid = Some(UidRange { start: r.start, end: r.end }),
            RuleAttribute::IpProtocol(p) => selector.proto = Some((*p).into()),
            RuleAttribute::SourcePortRange(r) => selector.sport = Some(PortRange { start: r.start, end: r.end }),
            RuleAttribute::DestinationPortRange(r) => selector.dport = Some(PortRange { start: r.start, end: r.end }),
            RuleAttribute::Other(nla) => match (nla.kind(), &value(nla)[..]) {
                (FRA_DSCP, [dscp]) => selector.dscp = Some(*dscp),
                // A full mask says no more than none. Linux 6.15 gives it with every single port.
                (FRA_SPORT_MASK | FRA_DPORT_MASK, [0xff, 0xff]) | (FRA_DSCP_MASK, [0x3f]) => {}
                _ => complete = false,
            },
            RuleAttribute::SuppressIfGroup(u32::MAX) => {}
            _ => complete = false,
        }
    }
    // The kernel says no value where it is 0, and no mask where it is full.
    selector.fwmark = match (mark_value, mark_mask) {
        (None, None) => None,
        (value, mask) => Some(FwMark { value: value.unwrap_or(0), mask: mask.unwrap_or(u32::MAX) }),
    };
    let action = match (header.action, target) {
        (RuleAction::ToTable, _) => Action::Lookup { table: TableId::observed(table), suppress_prefixlength },
        (RuleAction::Unreachable, _) => Action::Unreachable,
        (RuleAction::Goto, Some(target)) => Action::Goto(target),
        _ => {
            complete = false;
            Action::Unreachable
        }
    };
    Some(FoundRule { rule: Rule { priority, family, selector, action }, protocol, complete })
}
