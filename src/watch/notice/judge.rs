//! Whether a notice can concern us. Pure, and by the message's header as far as that goes: a routing daemon that loads a
//! full table causes a hundred thousand notices, none of which does.

use super::{Interest, Notice, Process, Thing};
use crate::kernel::netlink::constants::{
    AF_INET, AF_INET6, FRA_PRIORITY, FRA_PROTOCOL, FRA_TABLE, IFLA_GROUP, IFLA_IFNAME, IFLA_WIRELESS, NETCONFA_IFINDEX,
    NETCONFA_IFINDEX_ALL, NFNL_SUBSYS_NFTABLES, NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6, NFT_MSG_DELCHAIN,
    NFT_MSG_DELRULE, NFT_MSG_DELSETELEM, NFT_MSG_DELTABLE, NFT_MSG_NEWCHAIN, NFT_MSG_NEWGEN, NFT_MSG_NEWRULE,
    NFT_MSG_NEWSETELEM, NFTA_CHAIN_NAME, NFTA_CHAIN_TABLE, NFTA_GEN_PROC_NAME, NFTA_GEN_PROC_PID, NFTA_RULE_CHAIN,
    NHA_ID, RT_SCOPE_UNIVERSE, RTA_TABLE, RTM_DELADDR, RTM_DELLINK, RTM_DELNETCONF, RTM_DELNEXTHOP, RTM_DELROUTE,
    RTM_DELRULE, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWNETCONF, RTM_NEWNEXTHOP, RTM_NEWROUTE, RTM_NEWRULE, RTN_UNREACHABLE,
};
use crate::kernel::netlink::netfilter::payload;
use crate::kernel::netlink::nla::{attribute, string};
use crate::model::firewall::{PREFIX, nft::TABLE};
use crate::model::names::{Family, TableId};
use crate::model::numbering::{self, DEFAULT6_RULE, KERNEL};

/// What a message on the socket of routes is about, if that can concern us. `port` is that of its header.
pub(super) fn route(kind: u16, port: u32, body: &[u8], interest: &Interest) -> Option<Notice> {
    let (thing, protocol) = match kind {
        RTM_NEWROUTE | RTM_DELROUTE => of_route(body, interest)?,
        RTM_NEWRULE | RTM_DELRULE => of_rule(body, interest)?,
        RTM_NEWNEXTHOP | RTM_DELNEXTHOP => of_nexthop(body, interest)?,
        RTM_NEWLINK | RTM_DELLINK => of_interface(body, interest)?,
        RTM_NEWADDR | RTM_DELADDR => of_address(body, interest)?,
        RTM_NEWNETCONF | RTM_DELNETCONF => of_sysctl(body, interest)?,
        _ => return None,
    };
    let protocol = Some(protocol).filter(|protocol| ![0, KERNEL, interest.protocol].contains(protocol));
    Some(Notice { thing, protocol, port, process: None })
}

/// `struct rtmsg`.
fn of_route(body: &[u8], interest: &Interest) -> Option<(Thing, u8)> {
    let &[family, to_len, _, _, table, protocol, _, kind, ..] = body.first_chunk::<12>()?;
    let is_ours = protocol == interest.protocol;
    // What DHCPv6 clients write for a delegation (RFC 8415, 6.3).
    let is_delegated = family == AF_INET6 && kind == RTN_UNREACHABLE;
    if !is_ours && !is_delegated && to_len != 0 {
        return None;
    }
    let family = family_of(family)?;
    let table = number(&body[12..], RTA_TABLE).unwrap_or(u32::from(table));
    let is_looked_at = interest.tables.contains(&table);
    (is_ours || is_looked_at).then_some((Thing::Routes(family, table), protocol))
}

/// `struct fib_rule_hdr`. The kernel's own rules may have to be put back.
fn of_rule(body: &[u8], interest: &Interest) -> Option<(Thing, u8)> {
    let (header, attributes) = body.split_first_chunk::<12>()?;
    let family = family_of(header[0])?;
    let protocol = attribute(attributes, FRA_PROTOCOL).and_then(|value| value.first()).copied().unwrap_or_default();
    let priority = number(attributes, FRA_PRIORITY).unwrap_or_default();
    let table = number(attributes, FRA_TABLE).unwrap_or(u32::from(header[4]));
    let is_the_kernels = numbering::is_the_kernels(priority) || priority == DEFAULT6_RULE;
    let is_of_a_link = interest.tables.contains(&table) && table != TableId::MAIN.get();
    let matters =
        protocol == interest.protocol || is_the_kernels || is_of_a_link || interest.priorities.contains(&priority);
    matters.then_some((Thing::Rules(family, priority), protocol))
}

/// `struct nhmsg`.
fn of_nexthop(body: &[u8], interest: &Interest) -> Option<(Thing, u8)> {
    let (header, attributes) = body.split_first_chunk::<8>()?;
    let protocol = header[2];
    let is_in_range = number(attributes, NHA_ID).is_some_and(|id| interest.nexthops.contains(&id));
    (protocol == interest.protocol || is_in_range).then_some((Thing::Nexthops, protocol))
}

/// `struct ifinfomsg`. In another family than none it is about a port of a bridge.
fn of_interface(body: &[u8], interest: &Interest) -> Option<(Thing, u8)> {
    let (header, attributes) = body.split_first_chunk::<16>()?;
    // A wireless interface tells of each scan.
    if header[0] != 0 || attribute(attributes, IFLA_WIRELESS).is_some() {
        return None;
    }
    let index = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
    let matters = interest.indices.contains(&index)
        || number(attributes, IFLA_GROUP).is_some_and(|group| interest.groups.contains(&group))
        || attribute(attributes, IFLA_IFNAME)
            .is_some_and(|name| interest.interfaces.iter().any(|known| string(name) == known.as_str()));
    matters.then_some((Thing::Interfaces, 0))
}

/// `struct ifaddrmsg`.
fn of_address(body: &[u8], interest: &Interest) -> Option<(Thing, u8)> {
    let &[family, _, _, scope, i0, i1, i2, i3] = body.first_chunk::<8>()?;
    let is_of_a_link = interest.indices.contains(&u32::from_ne_bytes([i0, i1, i2, i3]));
    let is_of_the_lan = interest.lan6 && family == AF_INET6 && scope == RT_SCOPE_UNIVERSE;
    (is_of_a_link || is_of_the_lan).then_some((Thing::Interfaces, 0))
}

/// `struct netconfmsg`, which is padded: a sysctl of an interface has changed.
fn of_sysctl(body: &[u8], interest: &Interest) -> Option<(Thing, u8)> {
    let index = number(body.get(4..)?, NETCONFA_IFINDEX)?;
    (index == NETCONFA_IFINDEX_ALL || interest.indices.contains(&index)).then_some((Thing::Interfaces, 0))
}

/// A message on the socket of the packet filter.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OfFilter {
    /// A part of a transaction.
    Notice(Notice),
    /// The end of a transaction: who has made it.
    By(Process),
}

/// What a message on the socket of the packet filter is, if it can concern us. Elements of sets do not: others fill ours.
pub(super) fn filter(kind: u16, port: u32, body: &[u8], interest: &Interest) -> Option<OfFilter> {
    if kind == NFT_MSG_NEWGEN {
        let attributes = payload(body);
        let pid = attribute(attributes, NFTA_GEN_PROC_PID)?.try_into().ok().map(u32::from_be_bytes)?;
        let name = string(attribute(attributes, NFTA_GEN_PROC_NAME)?);
        return Some(OfFilter::By(Process { pid, name }));
    }
    if kind >> 8 != NFNL_SUBSYS_NFTABLES || matches!(kind, NFT_MSG_NEWSETELEM | NFT_MSG_DELSETELEM) {
        return None;
    }
    let attributes = payload(body);
    // The first attribute of each of them is the table's name.
    let table = attribute(attributes, NFTA_CHAIN_TABLE).map(|name| name.strip_suffix(&[0]).unwrap_or(name))?;
    let thing = match *body.first()? {
        NFPROTO_INET if table == TABLE.as_bytes() => Thing::Nftables,
        NFPROTO_IPV4 | NFPROTO_IPV6 if interest.iptables && is_of_iptables(kind, table, attributes) => Thing::Iptables,
        _ => return None,
    };
    Some(OfFilter::Notice(Notice { thing, protocol: None, port, process: None }))
}

/// Whether it is about our chains of iptables-nft(8), or about those that jump to them.
fn is_of_iptables(kind: u16, table: &[u8], attributes: &[u8]) -> bool {
    if ![&b"mangle"[..], b"nat"].contains(&table) {
        return false;
    }
    let chain = match kind {
        NFT_MSG_DELTABLE => return true,
        NFT_MSG_NEWCHAIN | NFT_MSG_DELCHAIN => attribute(attributes, NFTA_CHAIN_NAME),
        NFT_MSG_NEWRULE | NFT_MSG_DELRULE => attribute(attributes, NFTA_RULE_CHAIN),
        _ => None,
    };
    chain.map(string).is_some_and(|chain| {
        chain.starts_with(PREFIX) || ["PREROUTING", "OUTPUT", "POSTROUTING"].contains(&chain.as_str())
    })
}

fn family_of(number: u8) -> Option<Family> {
    match number {
        AF_INET => Some(Family::V4),
        AF_INET6 => Some(Family::V6),
        _ => None,
    }
}

/// The number in an attribute of rtnetlink.
fn number(attributes: &[u8], kind: u16) -> Option<u32> {
    attribute(attributes, kind)?.try_into().ok().map(u32::from_ne_bytes)
}
