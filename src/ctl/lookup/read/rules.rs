//! A rule as the kernel gives it, in full.

use std::net::IpAddr;

use ipnet::Ipv4Net;
use netlink_packet_core::{DefaultNla, Nla};
use netlink_packet_route::rule::{RuleAction as WireAction, RuleAttribute, RuleFlags, RuleMessage};

use crate::ctl::lookup::{FibRule, Masked, Ports, Refusal, RuleAction};
use crate::kernel::netlink::constants::{FRA_DPORT_MASK, FRA_DSCP, FRA_DSCP_MASK, FRA_SPORT_MASK};

/// A rule.
pub(super) fn rule(message: &RuleMessage) -> FibRule {
    let header = &message.header;
    let mut rule = FibRule {
        invert: header.flags.contains(RuleFlags::Invert),
        tos: header.tos,
        action: RuleAction::Nop,
        ..FibRule::lookup(0, 0)
    };
    let net = |addr: &IpAddr, len| match addr {
        IpAddr::V4(addr) => Ipv4Net::new(*addr, len).ok().map(|net| net.trunc()),
        IpAddr::V6(_) => None,
    };
    let mut table = u32::from(header.table);
    let mut suppress_prefixlength = None;
    let mut suppress_ifgroup = None;
    let mut target = 0;
    let mut masks = Masks::default();
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(n) => rule.priority = *n,
            RuleAttribute::Protocol(p) => rule.protocol = (*p).into(),
            RuleAttribute::Source(addr) => rule.from = net(addr, header.src_len),
            RuleAttribute::Destination(addr) => rule.to = net(addr, header.dst_len),
            RuleAttribute::Iifname(name) => rule.iif = Some(name.clone()),
            RuleAttribute::Oifname(name) => rule.oif = Some(name.clone()),
            RuleAttribute::FwMark(n) => masks.mark_value = *n,
            RuleAttribute::FwMask(n) => masks.mark = Some(*n),
            RuleAttribute::UidRange(r) => rule.uid = Some((r.start, r.end)),
            RuleAttribute::IpProtocol(p) => rule.proto = Some((*p).into()),
            RuleAttribute::SourcePortRange(r) => rule.sport = Some(Ports::Range(r.start, r.end)),
            RuleAttribute::DestinationPortRange(r) => rule.dport = Some(Ports::Range(r.start, r.end)),
            RuleAttribute::L3MDev(on) => rule.l3mdev = *on,
            RuleAttribute::TunId(_) => rule.tunnel = true,
            RuleAttribute::Goto(n) => target = *n,
            RuleAttribute::Table(n) => table = *n,
            // -1 stands for nothing.
            RuleAttribute::SuppressPrefixLen(n) => suppress_prefixlength = Some(*n).filter(|n| *n != u32::MAX),
            RuleAttribute::SuppressIfGroup(n) => suppress_ifgroup = Some(*n).filter(|n| *n != u32::MAX),
            // It changes what is counted, not where packets go.
            RuleAttribute::Realm(_) => {}
            RuleAttribute::Other(nla) => masks.other(nla, &mut rule),
            other => rule.unknown.push(other.kind()),
        }
    }
    masks.put(&mut rule);
    rule.action = match header.action {
        WireAction::ToTable => RuleAction::Lookup { table, suppress_prefixlength, suppress_ifgroup },
        WireAction::Goto => RuleAction::Goto(target),
        WireAction::Nop => RuleAction::Nop,
        WireAction::Blackhole => RuleAction::Refuse(Refusal::Blackhole),
        WireAction::Unreachable => RuleAction::Refuse(Refusal::Unreachable),
        WireAction::Prohibit => RuleAction::Refuse(Refusal::Prohibit),
        WireAction::Unspec => RuleAction::Other(0),
        WireAction::Other(n) => RuleAction::Other(n),
        _ => RuleAction::Other(u8::MAX),
    };
    rule
}

/// Masks of a rule, which come apart from their values.
#[derive(Default)]
struct Masks {
    mark_value: u32,
    mark: Option<u32>,
    sport: Option<u16>,
    dport: Option<u16>,
    dscp: Option<u8>,
}

impl Masks {
    fn other(&mut self, nla: &DefaultNla, rule: &mut FibRule) {
        let mut value = vec![0; nla.value_len()];
        nla.emit_value(&mut value);
        match (nla.kind(), &value[..]) {
            (FRA_DSCP, [dscp]) => rule.dscp = Some(Masked { value: *dscp, mask: 0x3f }),
            (FRA_DSCP_MASK, [mask]) => self.dscp = Some(*mask),
            // struct fib_rule_port_range and its masks are in the host's byte order.
            (FRA_SPORT_MASK, &[a, b]) => self.sport = Some(u16::from_ne_bytes([a, b])),
            (FRA_DPORT_MASK, &[a, b]) => self.dport = Some(u16::from_ne_bytes([a, b])),
            (kind, _) => rule.unknown.push(kind),
        }
    }

    fn put(self, rule: &mut FibRule) {
        // The kernel gives both where the mask is not 0, and the value alone where it is not 0.
        rule.mark = match (self.mark_value, self.mark) {
            (0, None) => None,
            (value, mask) => Some(Masked { value, mask: mask.unwrap_or(u32::MAX) }),
        };
        let ports = |ports: &mut Option<Ports>, mask: Option<u16>| {
            if let (Some(Ports::Range(value, _)), Some(mask)) = (*ports, mask.filter(|mask| *mask != u16::MAX)) {
                *ports = Some(Ports::Masked(Masked { value, mask }));
            }
        };
        ports(&mut rule.sport, self.sport);
        ports(&mut rule.dport, self.dport);
        if let (Some(dscp), Some(mask)) = (&mut rule.dscp, self.dscp) {
            dscp.mask = mask;
        }
    }
}
