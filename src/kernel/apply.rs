//! Changes as netlink requests.

use std::net::{IpAddr, Ipv6Addr};

use netlink_packet_core::{DefaultNla, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteNextHopFlags, RouteScope, RouteType,
    RouteVia,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage, RulePortRange, RuleUidRange};

use nix::libc;

use super::netlink::nexthop::NexthopMessage;
use super::netlink::socket::{self, Socket};
use super::observe::lan;
use super::{Error, conntrack, interface, nftables, sysctl};
use crate::kernel::iptables;
use crate::kernel::netlink::constants::{
    FRA_DSCP, FRA_IP_PROTO, RTM_DELNEXTHOP, RTM_DELROUTE, RTM_DELRULE, RTM_NEWNEXTHOP, RTM_NEWROUTE, RTM_NEWRULE,
};
use crate::model::change::Change;
use crate::model::names::{Family, HostAddr, TableId};
use crate::model::numbering::KERNEL;
use crate::model::routing::{
    Action, DefaultRoute, FoundNextHop, FoundRoute, FoundTarget, NextHop, Rule, Selector, Target, WeightedNextHop,
};

const REPLACE: u16 = NLM_F_CREATE | NLM_F_REPLACE;
const APPEND: u16 = NLM_F_CREATE | NLM_F_APPEND;
/// Without EXCL: with it the kernel takes a rule that has no source, destination or DSCP for any at its priority that has
/// one and is like it otherwise, and two guards with different targets for the same (`rule_exists()`,
/// `fib4_rule_compare()`). Both must exist for a moment when one takes the place of the other.
const NEW_RULE: u16 = NLM_F_CREATE;

/// Makes one change.
pub(crate) fn apply(socket: &mut Socket, change: &Change, protocol: u8) -> Result<(), Error> {
    let done = match change {
        Change::LooseRpFilter(name) => return sysctl::loosen_rp_filter(name),
        Change::IgnoreLinkdown(device, Family::V6) => return sysctl::ignore_linkdown6(&device.name),
        Change::IgnoreLinkdown(device, Family::V4) => ignore_missing(interface::ignore_linkdown(socket, device.index)),
        Change::OwnArp(device, key) => ignore_missing(interface::set_arp(socket, device.index, *key)),
        Change::Prefer { address, is_preferred } => lan::prefer(socket, address, *is_preferred),
        Change::HashPolicy(policy) => return sysctl::set_hash_policy(*policy),
        Change::Firewall(batch) => return Ok(iptables::restore(batch)?),
        Change::Nftables(transaction) => return nftables::commit(transaction),
        Change::FlushConnections(family, mark) => conntrack::flush(*family, *mark),
        Change::ForgetPrefix(mark, prefix) => conntrack::forget(*mark, *prefix),
        Change::MarkConnections(unmarked) => conntrack::mark(unmarked, socket),
        Change::DeviceGroup { device, group } => ignore_missing(interface::set_group(socket, device.index, *group)),
        Change::Nexthop { id, next_hop } => {
            let gateway = next_hop.gateway.and_then(HostAddr::v4);
            let message = NexthopMessage::device(*id, protocol, next_hop.device.index, gateway, next_hop.onlink);
            socket.change(RTM_NEWNEXTHOP, REPLACE, &message)
        }
        Change::Group { id, members } => {
            let members: Vec<_> = members.iter().map(|m| (m.id, m.weight.get())).collect();
            socket.change(RTM_NEWNEXTHOP, REPLACE, &NexthopMessage::group(*id, protocol, &members))
        }
        Change::DeleteNexthop(id) => ignore_missing(socket.change(RTM_DELNEXTHOP, 0, &NexthopMessage::delete(*id))),
        Change::Route(route) if route.family == Family::V6 => {
            ignore_present(socket.change(RTM_NEWROUTE, APPEND, &new_next_hop(route, protocol)))
        }
        Change::Route(route) => socket.change(RTM_NEWROUTE, REPLACE, &new_route(route, protocol)),
        Change::DeleteRoute(route) => ignore_missing(socket.change(RTM_DELROUTE, 0, &found_route(route))),
        Change::Rule(new) => socket.change(RTM_NEWRULE, NEW_RULE, &rule(new, protocol)),
        Change::KernelRule(new) => socket.change(RTM_NEWRULE, NEW_RULE, &rule(new, KERNEL)),
        Change::DeleteRule(old) => ignore_missing(socket.change(RTM_DELRULE, 0, &rule(old, protocol))),
    };
    done.map_err(|source| Error::Change { command: change.command(protocol).to_string(), source })
}

/// Deleting an object that does not exist is a success.
fn ignore_missing(done: Result<(), socket::Error>) -> Result<(), socket::Error> {
    done.or_else(|e| if e.is_gone() { Ok(()) } else { Err(e) })
}

/// Adding a next hop that is there is a success.
fn ignore_present(done: Result<(), socket::Error>) -> Result<(), socket::Error> {
    done.or_else(|e| if e.refused() == Some(libc::EEXIST) { Ok(()) } else { Err(e) })
}

fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

/// A default route without next hops.
fn default_route(family: Family, table: TableId, metric: u32, protocol: u8) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = address_family(family);
    message.header.protocol = protocol.into();
    message.attributes.push(RouteAttribute::Table(table.get()));
    if metric != 0 {
        message.attributes.push(RouteAttribute::Priority(metric));
    }
    message
}

fn new_route(route: &DefaultRoute, protocol: u8) -> RouteMessage {
    let mut message = default_route(route.family, route.table, route.metric, protocol);
    message.header.kind = RouteType::Unicast;
    message.header.scope = RouteScope::Universe;
    match &route.target {
        Target::Group(id) => message.attributes.push(RouteAttribute::NhId(*id)),
        Target::NextHops(next_hops) => {
            // A route without a gateway has link scope, as with ip-route(8).
            if let [only] = &next_hops[..]
                && only.next_hop.gateway.is_none()
            {
                message.header.scope = RouteScope::Link;
            }
            add_next_hops(&mut message, next_hops);
        }
    }
    message
}

/// A request that adds the next hop of an IPv6 route to those of its table and metric. One with a gateway is a multipath
/// route of one next hop, so that it keeps its weight when others join it.
fn new_next_hop(route: &DefaultRoute, protocol: u8) -> RouteMessage {
    let mut message = default_route(route.family, route.table, route.metric, protocol);
    message.header.kind = RouteType::Unicast;
    message.header.scope = RouteScope::Universe;
    if let Target::NextHops(next_hops) = &route.target {
        let has_gateways = next_hops.iter().all(|hop| hop.next_hop.gateway.is_some());
        if has_gateways { add_multipath(&mut message, next_hops) } else { add_next_hops(&mut message, next_hops) }
    }
    message
}

/// A request that deletes only this route (`fib_table_delete()`, `fib_nh_match()`).
fn found_route(route: &FoundRoute) -> RouteMessage {
    let mut message = default_route(route.family, route.table, route.metric, route.protocol);
    message.header.scope = RouteScope::NoWhere;
    match &route.target {
        FoundTarget::Nexthop { id, .. } => message.attributes.push(RouteAttribute::NhId(*id)),
        FoundTarget::NextHops(next_hops) if route.family == Family::V4 => add_next_hops(&mut message, next_hops),
        FoundTarget::NextHops(next_hops) => {
            let hops = next_hops.iter().map(|WeightedNextHop { next_hop, .. }| {
                FoundNextHop::new(next_hop.device.index, next_hop.gateway.map(HostAddr::get))
            });
            add_found(&mut message, route.family, &hops.collect::<Vec<_>>());
        }
        FoundTarget::Other { kind, hops, .. } => {
            // A deletion without next hops matches any, so it must give the type.
            message.header.kind = kind.number().into();
            add_found(&mut message, route.family, hops);
        }
    }
    message
}

/// Adds next hops that a deletion must give to the kernel.
fn add_found(message: &mut RouteMessage, family: Family, hops: &[FoundNextHop]) {
    if let [hop] = hops {
        message.attributes.extend(selected_gateway(family, hop));
        message.attributes.push(RouteAttribute::Oif(hop.device));
    } else if !hops.is_empty() {
        let hops = hops.iter().map(|hop| {
            let mut message = RouteNextHop::default();
            message.interface_index = hop.device;
            message.attributes.extend(selected_gateway(family, hop));
            message
        });
        message.attributes.push(RouteAttribute::MultiPath(hops.collect()));
    }
}

/// The gateway that a deletion gives. In IPv6 a deletion without one takes all next hops of a metric with it
/// (`ip6_route_del()`); `::` selects the one that has none.
fn selected_gateway(family: Family, hop: &FoundNextHop) -> Option<RouteAttribute> {
    let none = (family == Family::V6).then_some(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    hop.gateway.or(none).map(|gateway| found_gateway(family, gateway))
}

/// The gateway of a route of `family`, which may be of the other one.
fn found_gateway(family: Family, gateway: IpAddr) -> RouteAttribute {
    match gateway {
        IpAddr::V6(gateway) if family == Family::V4 => RouteAttribute::Via(RouteVia::Inet6(gateway)),
        gateway => RouteAttribute::Gateway(route_address(gateway)),
    }
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}

fn add_next_hops(message: &mut RouteMessage, next_hops: &[WeightedNextHop]) {
    if let [WeightedNextHop { next_hop, .. }] = next_hops {
        if next_hop.onlink {
            message.header.flags |= RouteFlags::Onlink;
        }
        message.attributes.extend(gateway(next_hop));
        message.attributes.push(RouteAttribute::Oif(next_hop.device.index));
    } else {
        add_multipath(message, next_hops);
    }
}

fn add_multipath(message: &mut RouteMessage, next_hops: &[WeightedNextHop]) {
    let hops = next_hops.iter().map(|WeightedNextHop { next_hop, weight }| {
        let mut hop = RouteNextHop::default();
        hop.interface_index = next_hop.device.index;
        // 1 to 256 become 0 to 255.
        hop.hops = u8::try_from(weight.get() - 1).unwrap_or(u8::MAX);
        hop.flags = if next_hop.onlink { RouteNextHopFlags::Onlink } else { RouteNextHopFlags::empty() };
        hop.attributes.extend(gateway(next_hop));
        hop
    });
    message.attributes.push(RouteAttribute::MultiPath(hops.collect()));
}

fn gateway(next_hop: &NextHop) -> Option<RouteAttribute> {
    next_hop.gateway.map(|gateway| RouteAttribute::Gateway(route_address(gateway.get())))
}

fn rule(rule: &Rule, protocol: u8) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = address_family(rule.family);
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Priority(rule.priority));
    attributes.push(RuleAttribute::Protocol(protocol.into()));
    match rule.action {
        Action::Lookup { table, suppress_prefixlength } => {
            message.header.action = RuleAction::ToTable;
            attributes.push(RuleAttribute::Table(table.get()));
            attributes.extend(suppress_prefixlength.map(RuleAttribute::SuppressPrefixLen));
        }
        Action::Unreachable => message.header.action = RuleAction::Unreachable,
        Action::Blackhole => message.header.action = RuleAction::Blackhole,
        Action::Prohibit => message.header.action = RuleAction::Prohibit,
        Action::Nop => message.header.action = RuleAction::Nop,
        Action::Other(number) => message.header.action = number.into(),
        Action::Goto(priority) => {
            message.header.action = RuleAction::Goto;
            attributes.push(RuleAttribute::Goto(priority));
        }
    }
    let Selector { from, to, iif, fwmark, uid, proto, sport, dport, dscp } = &rule.selector;
    if let Some(net) = from {
        message.header.src_len = net.prefix_len();
        attributes.push(RuleAttribute::Source(net.addr()));
    }
    if let Some(net) = to {
        message.header.dst_len = net.prefix_len();
        attributes.push(RuleAttribute::Destination(net.addr()));
    }
    attributes.extend(iif.iter().map(|name| RuleAttribute::Iifname(name.as_str().to_owned())));
    if let Some(mark) = fwmark {
        attributes.push(RuleAttribute::FwMark(mark.value));
        attributes.push(RuleAttribute::FwMask(mark.mask));
    }
    attributes.extend(uid.map(|u| RuleAttribute::UidRange(RuleUidRange { start: u.start, end: u.end })));
    attributes.extend(proto.map(|p| RuleAttribute::Other(DefaultNla::new(FRA_IP_PROTO, vec![p]))));
    attributes.extend(sport.map(|p| RuleAttribute::SourcePortRange(RulePortRange { start: p.start, end: p.end })));
    attributes.extend(dport.map(|p| RuleAttribute::DestinationPortRange(RulePortRange { start: p.start, end: p.end })));
    attributes.extend(dscp.map(|d| RuleAttribute::Other(DefaultNla::new(FRA_DSCP, vec![d]))));
    message
}
