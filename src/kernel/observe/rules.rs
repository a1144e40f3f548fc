//! Rules of the routing policy database, whoever made them.

use ipnet::IpNet;
use netlink_packet_core::{DefaultNla, Nla};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};

use super::{parse, read};
use crate::kernel::Error;
use crate::kernel::netlink::constants::{FRA_DPORT_MASK, FRA_DSCP, FRA_DSCP_MASK, FRA_SPORT_MASK, RTM_GETRULE};
use crate::kernel::netlink::socket::Socket;
use crate::model::names::{Family, TableId};
use crate::model::routing::{Action, FoundRule, FwMark, More, PortRange, Rule, Selector, UidRange};

/// All rules of a family, in the kernel's order; of both families for `AddressFamily::Unspec`, also on a kernel without
/// IPv6. The request consists of the header only, as the strict check of `fib_nl_dumprule()` demands.
pub(crate) fn rules(socket: &mut Socket, family: AddressFamily) -> Result<Vec<FoundRule>, Error> {
    let mut request = RuleMessage::default();
    request.header.family = family;
    socket.list(RTM_GETRULE, &request, |body| Ok(rule(&parse(body)?))).map_err(read("rules"))
}

/// `None`: a rule of multicast routing.
pub(crate) fn rule(message: &RuleMessage) -> Option<FoundRule> {
    let header = &message.header;
    let family = match header.family {
        AddressFamily::Inet => Family::V4,
        AddressFamily::Inet6 => Family::V6,
        _ => return None,
    };
    let mut table = u32::from(header.table);
    let (mut priority, mut protocol, mut target) = (0, 0, None);
    let (mut suppress_prefixlength, mut mark, mut mark_mask) = (None, None, None);
    let mut selector = Selector::default();
    // These flags say that the interface of `iif` or the target of `goto` does not exist now. They do not change the
    // rule.
    let flags = header.flags - RuleFlags::IifDetached - RuleFlags::OifDetached - RuleFlags::Unresolved;
    let mut more = More {
        invert: flags.contains(RuleFlags::Invert),
        tos: header.tos,
        harmless: !(flags - RuleFlags::Invert).is_empty(),
        ..More::default()
    };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(n) => priority = *n,
            RuleAttribute::Protocol(p) => protocol = (*p).into(),
            RuleAttribute::Table(n) => table = *n,
            RuleAttribute::Goto(n) => target = Some(*n),
            // The kernel always sends it; -1 means none.
            RuleAttribute::SuppressPrefixLen(n) => suppress_prefixlength = Some(*n).filter(|n| *n != u32::MAX),
            RuleAttribute::SuppressIfGroup(n) => more.suppress_ifgroup = Some(*n).filter(|n| *n != u32::MAX),
            RuleAttribute::Source(addr) => selector.from = IpNet::new(*addr, header.src_len).ok(),
            RuleAttribute::Destination(addr) => selector.to = IpNet::new(*addr, header.dst_len).ok(),
            RuleAttribute::Iifname(name) => match name.parse() {
                Ok(name) => selector.iif = Some(name),
                Err(_) => more.iif = Some(name.clone()),
            },
            RuleAttribute::Oifname(name) => more.oif = Some(name.clone()),
            RuleAttribute::FwMark(n) => mark = Some(*n),
            RuleAttribute::FwMask(n) => mark_mask = Some(*n),
            RuleAttribute::UidRange(r) => selector.uid = Some(UidRange { start: r.start, end: r.end }),
            RuleAttribute::IpProtocol(p) => selector.proto = Some((*p).into()),
            RuleAttribute::SourcePortRange(r) => selector.sport = Some(PortRange { start: r.start, end: r.end }),
            RuleAttribute::DestinationPortRange(r) => selector.dport = Some(PortRange { start: r.start, end: r.end }),
            RuleAttribute::TunId(id) => more.tun_id = Some(*id),
            RuleAttribute::L3MDev(on) => more.l3mdev = *on,
            // It affects accounting, not routing.
            RuleAttribute::Realm(_) => more.harmless = true,
            RuleAttribute::Other(nla) => other(nla, &mut selector, &mut more),
            newer => more.unknown.push(newer.kind()),
        }
    }
    // The kernel leaves out a value of 0 and a full mask.
    if mark.is_some() || mark_mask.is_some() {
        selector.fwmark = Some(FwMark { value: mark.unwrap_or(0), mask: mark_mask.unwrap_or(u32::MAX) });
    }
    let lookup = Action::Lookup { table: TableId::observed(table), suppress_prefixlength };
    let action = action(header.action, lookup, target);
    let more = (more != More::default()).then(|| Box::new(more));
    Some(FoundRule { rule: Rule { priority, family, selector, action }, protocol, more })
}

/// The action of a rule; `lookup` if it looks up a table.
fn action(action: RuleAction, lookup: Action, target: Option<u32>) -> Action {
    match (action, target) {
        (RuleAction::ToTable, _) => lookup,
        (RuleAction::Goto, Some(target)) => Action::Goto(target),
        (RuleAction::Unreachable, _) => Action::Unreachable,
        (RuleAction::Blackhole, _) => Action::Blackhole,
        (RuleAction::Prohibit, _) => Action::Prohibit,
        (RuleAction::Nop, _) => Action::Nop,
        (other, _) => Action::Other(other.into()),
    }
}

/// An attribute that netlink-packet-route does not know.
fn other(nla: &DefaultNla, selector: &mut Selector, more: &mut More) {
    let mut value = vec![0; nla.value_len()];
    nla.emit_value(&mut value);
    // Port masks are in the host's byte order. A full mask means none: Linux 6.15 sends it with every single port.
    let ports = |mask: &[u8; 2]| Some(u16::from_ne_bytes(*mask)).filter(|mask| *mask != u16::MAX);
    match (nla.kind(), &value[..]) {
        (FRA_DSCP, [dscp]) => selector.dscp = Some(*dscp),
        (FRA_DSCP_MASK, [mask]) => more.dscp_mask = Some(*mask).filter(|mask| *mask != 0x3f),
        (FRA_SPORT_MASK, [a, b]) => more.sport_mask = ports(&[*a, *b]),
        (FRA_DPORT_MASK, [a, b]) => more.dport_mask = ports(&[*a, *b]),
        (kind, _) => more.unknown.push(kind),
    }
}
