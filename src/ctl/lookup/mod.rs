//! The way of a packet through the kernel's rules and routes, whoever made them. Pure, but for [`read`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nix::libc;

use crate::model::names::{DeviceName, Family, TableId, Weight};
use crate::model::numbering;
use crate::model::observed::Observed;
use crate::model::routing::{FoundNextHop, FoundRule, FoundTarget, Member, NextHop, NexthopKind, RouteKind};

mod find;
pub mod read;
mod show;
mod walk;

pub use show::{Names, errno_text, owner, proto_text, protocol_name, rule_deletion, rule_text};
pub use walk::{End, Miss, Outcome, Step, Walk, walk};

/// The bits of `tos` that old selectors compare: the code point without its upper three (`INET_DSCP_LEGACY_TOS_MASK`).
pub(super) const LEGACY_TOS: u8 = 0x1c;

/// The first packet of a connection, as the lookup sees it (`struct flowi4`, `struct flowi6`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub to: IpAddr,
    /// Source, of the same family; `None`: this host's, and not chosen yet.
    pub from: Option<IpAddr>,
    /// Interface that it came in by; `None`: it is this host's own.
    pub iif: Option<(u32, DeviceName)>,
    pub proto: u8,
    /// Source port; 0 where there is none, or none yet.
    pub sport: u16,
    pub dport: u16,
    pub mark: u32,
    /// Owner of the socket; of what is forwarded, root: so says `ip_route_input_slow()`.
    pub uid: u32,
    /// Differentiated services code point.
    pub dscp: u8,
}

impl Packet {
    /// The family of its addresses.
    pub fn family(&self) -> Family {
        Family::of(self.to)
    }
}

/// How packets are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Silently; EINVAL to a socket.
    Blackhole,
    /// With ICMP.
    Unreachable,
    /// With ICMP "administratively prohibited".
    Prohibit,
}

/// A route to the destination. [`crate::model::routing::FoundRoute`] is a default route as it is compared with what we
/// write: its next hops name links' devices only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FibRoute {
    pub table: TableId,
    pub prefix: IpNet,
    /// IPv6: only for packets from there.
    pub from: Option<IpNet>,
    /// Its type of service; 0: any.
    pub tos: u8,
    pub metric: u32,
    /// IPv6: preference of an advertised router, in the two bits of RFC 4191; 0: medium.
    pub preference: u8,
    /// Who made it.
    pub protocol: u8,
    pub kind: RouteKind,
    /// Nexthop object or group.
    pub nexthop: Option<u32>,
    pub next_hops: Vec<FibNextHop>,
}

/// A next hop, and what is known of its device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FibNextHop {
    pub hop: FoundNextHop,
    pub name: DeviceName,
    pub group: u32,
}

/// Of each table that was read, the routes that cover the destination, in the kernel's order.
pub type Tables = BTreeMap<TableId, Vec<FibRoute>>;

impl FibRoute {
    /// A default route that has no metric and is nobody's.
    pub fn default_by(family: Family, table: TableId, next_hops: Vec<FibNextHop>) -> Self {
        let prefix = match family {
            Family::V4 => IpNet::V4(Ipv4Net::default()),
            Family::V6 => IpNet::V6(Ipv6Net::default()),
        };
        Self {
            table,
            prefix,
            from: None,
            tos: 0,
            metric: 0,
            preference: 0,
            protocol: 0,
            kind: RouteKind::Unicast,
            nexthop: None,
            next_hops,
        }
    }

    /// Whether `packet`, which takes it, ends on this host.
    pub fn delivers(&self, packet: &Packet) -> bool {
        // IPv6 routes to an anycast address of this host lead to the loopback (`ip6_rt_get_dev_rcu()`).
        let is_own_anycast = self.kind == RouteKind::Anycast && packet.family() == Family::V6;
        is_own_anycast || self.kind.delivers(packet.iif.is_some())
    }

    /// The next hops that carry, with their shares in percent.
    pub fn shares(&self) -> Vec<(&FibNextHop, f64)> {
        let live = self.next_hops.iter().filter(|next_hop| !next_hop.hop.dead);
        let sum: f64 = live.clone().map(|next_hop| f64::from(next_hop.hop.weight)).sum();
        live.map(|next_hop| (next_hop, f64::from(next_hop.hop.weight) * 100.0 / sum)).collect()
    }
}

/// The next hops of an observed default route, with their weights; none where they are by the devices of no links.
pub fn observed_next_hops<'a>(target: &'a FoundTarget, observed: &'a Observed) -> Vec<(&'a NextHop, u16)> {
    let id = match target {
        FoundTarget::NextHops(all) => return all.iter().map(|l| (&l.next_hop, l.weight.get())).collect(),
        FoundTarget::Nexthop { id, .. } => id,
        FoundTarget::Other { .. } => return Vec::new(),
    };
    let Some(objects) = &observed.nexthops else { return Vec::new() };
    let members = match objects.get(id).map(|object| &object.kind) {
        Some(NexthopKind::Group(members)) => members.as_slice(),
        _ => &[Member { id: *id, weight: Weight::default() }],
    };
    let mut next_hops = Vec::new();
    for Member { id, weight } in members {
        if let Some(NexthopKind::Single(next_hop)) = objects.get(id).map(|object| &object.kind) {
            next_hops.push((next_hop, weight.get()));
        }
    }
    next_hops
}

/// What next hops carry where the kernel passes over those that are `silent`: the next one takes such a one's share, and
/// the first one the last's (`nexthop_select_path_hthr()`, `fib_select_multipath()`). If all are silent, it takes the
/// first.
pub fn pass_over<T>(shares: &mut [(T, f64)], silent: impl Fn(&T) -> bool) {
    let mut passed = 0.0;
    for (next_hop, share) in shares.iter_mut() {
        if silent(next_hop) {
            passed += std::mem::take(share);
        } else {
            *share += std::mem::take(&mut passed);
        }
    }
    let first = shares.iter().position(|(next_hop, _)| !silent(next_hop)).unwrap_or(0);
    if let Some((_, share)) = shares.get_mut(first) {
        *share += passed;
    }
}

/// The same of the next hops of an IPv6 multipath route: the first one that answers takes the shares of all that are
/// silent (`fib6_select_path()`).
pub fn pass_to_first<T>(shares: &mut [(T, f64)], silent: impl Fn(&T) -> bool) {
    let Some(first) = shares.iter().position(|(next_hop, _)| !silent(next_hop)) else { return };
    let mut passed = 0.0;
    for (_, share) in shares.iter_mut().filter(|(next_hop, _)| silent(next_hop)) {
        passed += std::mem::take(share);
    }
    shares[first].1 += passed;
}

/// What the kernel itself says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A way.
    Way {
        /// Table that it is from.
        table: TableId,
        /// Prefix length of the route; `None`: this kernel does not tell.
        prefix_len: Option<u8>,
        /// Whether it ends on this host.
        local: bool,
        device: u32,
        name: DeviceName,
        /// Next router.
        gateway: Option<IpAddr>,
        /// Source address that it chose.
        source: Option<IpAddr>,
    },
    /// None, by this error number.
    Refused(i32),
}

/// What keeps the kernel's answer from being the walk's; `None`: they agree.
pub fn difference(end: &End<'_>, answer: &Answer, rules: &[FoundRule]) -> Option<String> {
    let errno = match end {
        End::Unknown(_) => return None,
        End::Refused { how: Refusal::Blackhole, .. } => libc::EINVAL,
        End::Refused { how: Refusal::Prohibit, .. } => libc::EACCES,
        End::NoWay | End::Refused { how: Refusal::Unreachable, by_route: false } => libc::ENETUNREACH,
        End::Refused { how: Refusal::Unreachable, by_route: true } => libc::EHOSTUNREACH,
        End::Route(route) => return differs_from_route(route, answer, rules),
    };
    match answer {
        Answer::Refused(n) if *n == errno => None,
        Answer::Refused(n) => Some(format!("it refuses with \"{}\", not \"{}\"", errno_text(*n), errno_text(errno))),
        Answer::Way { name, table, .. } => Some(format!("it finds a way by {name}, in table {table}")),
    }
}

fn differs_from_route(route: &FibRoute, answer: &Answer, rules: &[FoundRule]) -> Option<String> {
    match answer {
        Answer::Refused(n) => Some(format!("it refuses with \"{}\"", errno_text(*n))),
        Answer::Way { table, .. } if *table != route.table && !one_trie(route.table, *table, rules) => {
            Some(format!("it takes table {table}"))
        }
        Answer::Way { prefix_len: Some(len), .. } if *len != route.prefix.prefix_len() => {
            Some(format!("it takes a route of prefix length {len}"))
        }
        // A broadcast that comes in is delivered here, one of this host's own goes out.
        Answer::Way { local: true, .. } if route.kind.is_to_many() => None,
        Answer::Way { local, .. } if *local != (route.kind == RouteKind::Local) => {
            Some(if *local { "it keeps it here".to_owned() } else { "it sends it out".to_owned() })
        }
        Answer::Way { local: true, .. } => None,
        Answer::Way { device, gateway, name, .. } => {
            let mut hops = route.next_hops.iter().map(|next_hop| next_hop.hop);
            let is_known = hops.any(|hop| hop.device == *device && hop.gateway == *gateway && !hop.dead);
            (!is_known).then(|| match gateway {
                Some(gateway) => format!("it leaves by {name} via {gateway}"),
                None => format!("it leaves by {name}"),
            })
        }
    }
}

/// While nobody has added a rule, local and main are one trie in IPv4, and the kernel says main
/// (`fib_trie_table()`, `fib_unmerge()`).
fn one_trie(a: TableId, b: TableId, rules: &[FoundRule]) -> bool {
    let both = [a, b].iter().all(|table| [TableId::MAIN, TableId::LOCAL].contains(table));
    both && rules.iter().all(|found| numbering::is_the_kernels(found.rule.priority))
}

#[cfg(test)]
mod tests {
    use super::pass_over;

    /// As the kernel sent 200 connections each through a group of the weights 1, 1 and 2 (Linux 6.18).
    #[test]
    fn the_next_one_takes_the_share_of_one_that_is_silent() {
        for (silent, expected) in [
            (&[][..], [25.0, 25.0, 50.0]),
            (&[1], [0.0, 50.0, 50.0]),
            (&[2], [25.0, 0.0, 75.0]),
            (&[3], [75.0, 25.0, 0.0]),
            (&[1, 3], [0.0, 100.0, 0.0]),
            (&[1, 2, 3], [100.0, 0.0, 0.0]),
        ] {
            let mut shares = [(1, 25.0), (2, 25.0), (3, 50.0)];
            pass_over(&mut shares, |next_hop| silent.contains(next_hop));
            let off = shares.iter().zip(expected).map(|((_, share), expected)| (share - expected).abs());
            assert!(off.sum::<f64>() < 0.001, "{silent:?}: {shares:?}");
        }
    }
}
