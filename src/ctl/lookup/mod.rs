//! The kernel's IPv4 rules and routes in full, whoever made them, and the way of a packet through
//! them. Pure. Where [`crate::model::routing`] has what we write, this has what there may be.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use nix::libc;

mod own;
pub mod read;
mod show;
mod walk;

pub use show::{Names, errno_text, owner, proto_text, protocol_name, rule_deletion, rule_text};
pub use walk::{End, Miss, Outcome, Step, Walk, walk};

/// The first packet of a connection, as the lookup sees it (`struct flowi4`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Destination.
    pub to: Ipv4Addr,
    /// Source; `None`: this host's, and not chosen yet.
    pub from: Option<Ipv4Addr>,
    /// Interface that it came in by; `None`: it is this host's own.
    pub iif: Option<(u32, String)>,
    /// IP protocol.
    pub proto: u8,
    /// Source port; 0 where there is none, or none yet.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Firewall mark.
    pub mark: u32,
    /// Owner of the socket; of what is forwarded, root: so says `ip_route_input_slow()`.
    pub uid: u32,
    /// Differentiated services code point.
    pub dscp: u8,
}

/// A value and the bits of it that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Masked<T> {
    /// The value.
    pub value: T,
    /// The bits.
    pub mask: T,
}

/// A rule, with everything that the kernel can match (`struct fib_rule`, `struct fib4_rule`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FibRule {
    /// Rules are tried in rising order.
    pub priority: u32,
    /// Who made it.
    pub protocol: u8,
    /// `not`: it matches what the rest does not.
    pub invert: bool,
    /// Source prefix.
    pub from: Option<Ipv4Net>,
    /// Destination prefix.
    pub to: Option<Ipv4Net>,
    /// Interface of arrival; `lo` stands for this host's own packets.
    pub iif: Option<String>,
    /// Interface that a socket is bound to.
    pub oif: Option<String>,
    /// Mark.
    pub mark: Option<Masked<u32>>,
    /// Owner of the socket, both ends included.
    pub uid: Option<(u32, u32)>,
    /// IP protocol.
    pub proto: Option<u8>,
    /// Source ports: under a mask where that is not full, else both ends included.
    pub sport: Option<Ports>,
    /// Destination ports.
    pub dport: Option<Ports>,
    /// Code point.
    pub dscp: Option<Masked<u8>>,
    /// The older `tos`, of which the kernel compares three bits; 0: none.
    pub tos: u8,
    /// Tunnel metadata.
    pub tunnel: bool,
    /// Only for devices in a VRF.
    pub l3mdev: bool,
    /// Selectors that a newer kernel has, by the number of their attribute.
    pub unknown: Vec<u16>,
    /// What it does.
    pub action: RuleAction,
}

/// Ports of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// Both ends included.
    Range(u16, u16),
    /// Under a mask (Linux 6.15).
    Masked(Masked<u16>),
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleAction {
    /// Look into a table; what it finds can be too poor.
    Lookup {
        /// The table.
        table: u32,
        /// Prefix lengths up to this do not count.
        suppress_prefixlength: Option<u32>,
        /// Devices of this group do not count.
        suppress_ifgroup: Option<u32>,
    },
    /// Go on at the first rule of this priority.
    Goto(u32),
    /// Nothing.
    Nop,
    /// Refuse.
    Refuse(Refusal),
    /// Something that is not known here.
    Other(u8),
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

/// A route to the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FibRoute {
    /// Its table.
    pub table: u32,
    /// Its prefix.
    pub prefix: Ipv4Net,
    /// Its type of service; 0: any.
    pub tos: u8,
    /// Its metric.
    pub metric: u32,
    /// Who made it.
    pub protocol: u8,
    /// What it does.
    pub kind: RouteKind,
    /// Source address that it gives.
    pub source: Option<Ipv4Addr>,
    /// Nexthop object or group.
    pub nexthop: Option<u32>,
    /// Where it leads.
    pub legs: Vec<FibLeg>,
}

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// On, by its legs.
    Unicast,
    /// To this host.
    Local,
    /// To all of a network, or to a group.
    Broadcast,
    /// Nowhere.
    Refuse(Refusal),
    /// To the next rule.
    Throw,
}

/// A way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FibLeg {
    /// Index of its device.
    pub device: u32,
    /// Name of its device.
    pub name: String,
    /// Group of its device.
    pub group: u32,
    /// Next router.
    pub gateway: Option<IpAddr>,
    /// Share of the flows.
    pub weight: u16,
    /// The kernel passes over it: its device is down, or has no carrier and `ignore_routes_with_linkdown`.
    pub dead: bool,
}

/// Of each table that was read, the routes that cover the destination, in the kernel's order.
pub type Tables = BTreeMap<u32, Vec<FibRoute>>;

impl FibRoute {
    /// Whether `packet`, which takes it, ends on this host (`ip_route_input_slow()`).
    pub fn delivers(&self, packet: &Packet) -> bool {
        self.kind == RouteKind::Local || self.kind == RouteKind::Broadcast && packet.iif.is_some()
    }

    /// The legs that carry, with their shares in percent.
    pub fn shares(&self) -> Vec<(&FibLeg, f64)> {
        let live = || self.legs.iter().filter(|leg| !leg.dead);
        let sum: f64 = live().map(|leg| f64::from(leg.weight)).sum();
        live().map(|leg| (leg, f64::from(leg.weight) * 100.0 / sum)).collect()
    }
}

/// What the kernel itself says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A way.
    Way {
        /// Table that it is from.
        table: u32,
        /// Prefix length of the route; `None`: this kernel does not tell.
        prefix_len: Option<u8>,
        /// Whether it ends on this host.
        local: bool,
        /// Index of the device.
        device: u32,
        /// Name of the device.
        name: String,
        /// Next router.
        gateway: Option<IpAddr>,
        /// Source address that it chose.
        source: Option<Ipv4Addr>,
    },
    /// None, by this error number.
    Refused(i32),
}

/// What keeps the kernel's answer from being the walk's; `None`: they agree.
pub fn difference(end: &End<'_>, answer: &Answer, rules: &[FibRule]) -> Option<String> {
    let refused = |errno: i32| match answer {
        Answer::Refused(n) if *n == errno => None,
        Answer::Refused(n) => Some(format!("it refuses with \"{}\", not \"{}\"", errno_text(*n), errno_text(errno))),
        Answer::Way { name, table, .. } => Some(format!("it finds a way by {name}, in table {table}")),
    };
    match end {
        End::Unknown(_) => None,
        End::Refused { how: Refusal::Blackhole, .. } => refused(libc::EINVAL),
        End::Refused { how: Refusal::Prohibit, .. } => refused(libc::EACCES),
        End::NoWay | End::Refused { how: Refusal::Unreachable, by_route: false } => refused(libc::ENETUNREACH),
        End::Refused { how: Refusal::Unreachable, by_route: true } => refused(libc::EHOSTUNREACH),
        End::Route(route) => match answer {
            Answer::Refused(n) => Some(format!("it refuses with \"{}\"", errno_text(*n))),
            Answer::Way { table, .. } if *table != route.table && !one_trie(route.table, *table, rules) => {
                Some(format!("it takes table {table}"))
            }
            Answer::Way { prefix_len: Some(len), .. } if *len != route.prefix.prefix_len() => {
                Some(format!("it takes a route of prefix length {len}"))
            }
            // A broadcast that comes in is delivered here, one of this host's own goes out.
            Answer::Way { local: true, .. } if route.kind == RouteKind::Broadcast => None,
            Answer::Way { local, .. } if *local != (route.kind == RouteKind::Local) => {
                Some(if *local { "it keeps it here".to_owned() } else { "it sends it out".to_owned() })
            }
            Answer::Way { local: true, .. } => None,
            Answer::Way { device, gateway, name, .. } => {
                let known = route.legs.iter().any(|l| l.device == *device && l.gateway == *gateway && !l.dead);
                (!known).then(|| match gateway {
                    Some(gateway) => format!("it leaves by {name} via {gateway}"),
                    None => format!("it leaves by {name}"),
                })
            }
        },
    }
}

/// While nobody has added a rule, local and main are one trie, and the kernel says main
/// (`fib_trie_table()`, `fib_unmerge()`).
fn one_trie(a: u32, b: u32, rules: &[FibRule]) -> bool {
    let both = [a, b].iter().all(|t| matches!(t, 254 | 255));
    both && rules.iter().all(|rule| matches!(rule.priority, 0 | 32766 | 32767))
}
