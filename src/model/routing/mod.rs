//! Routes, nexthops and rules as the kernel holds them, in the terms of ip-route(8),
//! ip-nexthop(8) and ip-rule(8); each is written as the arguments that ip(8) takes.

use std::fmt;
use std::net::IpAddr;

mod rules;

pub use rules::{Action, FoundRule, FwMark, More, PortRange, Rule, Selector, UidRange};

use crate::model::names::{Family, HostAddr, IfName, TableId, Weight};

/// A network device. The index tells it from a later one of the same name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    /// Kernel's interface index: never used twice while the system runs.
    pub index: u32,
    pub name: IfName,
}

/// A sysctl that makes an interface answer ARP for its own addresses only. By default Linux answers for any address of
/// the host on any interface, also where two interfaces share an Ethernet segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArpKey {
    /// Answer for the interface's own addresses only.
    Ignore,
    /// Ask with the best of the interface's own addresses.
    Announce,
}

impl ArpKey {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ignore => "arp_ignore",
            Self::Announce => "arp_announce",
        }
    }

    /// The lowest value that has this effect.
    pub fn value(self) -> u32 {
        match self {
            Self::Ignore => 1,
            Self::Announce => 2,
        }
    }
}

/// A device, and the gateway behind it if there is one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NextHop {
    pub device: Device,
    /// `None`: the device leads to one peer.
    pub gateway: Option<HostAddr>,
    /// The gateway is directly reachable although no address of the device covers it.
    pub onlink: bool,
}

/// A next hop and its share of new flows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WeightedNextHop {
    pub next_hop: NextHop,
    pub weight: Weight,
}

/// Where a managed default route leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A nexthop group, by id. The kernel itself removes a member whose device goes down.
    Group(u32),
    /// One or more next hops, sorted by device.
    NextHops(Vec<WeightedNextHop>),
}

/// A managed default route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultRoute {
    pub family: Family,
    pub table: TableId,
    /// The lowest of a table wins.
    pub metric: u32,
    pub target: Target,
}

/// A default route as the kernel holds it, whoever made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRoute {
    pub family: Family,
    pub table: TableId,
    pub metric: u32,
    /// Who made it: `rtm_protocol`.
    pub protocol: u8,
    pub target: FoundTarget,
}

/// Where a found route leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundTarget {
    /// A nexthop object or group, by id; its devices as the kernel resolved them.
    Nexthop { id: u32, devices: Vec<u32> },
    /// Next hops that multihome could have written, in the kernel's order, which a deletion must repeat.
    NextHops(Vec<WeightedNextHop>),
    /// Anything else: unreachable, a gateway of the other family, the device of no link.
    Other {
        kind: RouteKind,
        /// Its next hops as ip-route(8) would show them; empty where there are none.
        text: String,
        /// The same, as a deletion must give them to the kernel.
        hops: Vec<FoundNextHop>,
    },
}

/// Type of a route, `rtm_type` of rtnetlink(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// Forward by the next hops.
    Unicast,
    /// To this host.
    Local,
    /// To all of a network.
    Broadcast,
    /// To any host of several.
    Anycast,
    /// To a group.
    Multicast,
    /// Drop silently; EINVAL to a socket.
    Blackhole,
    /// Refuse with ICMP "host unreachable"; EHOSTUNREACH to a socket.
    Unreachable,
    /// Refuse with ICMP "administratively prohibited"; EACCES to a socket.
    Prohibit,
    /// To the next rule.
    Throw,
    /// Any other, by its number.
    Other(u8),
}

impl RouteKind {
    /// Numbers (`RTN_*` of linux/rtnetlink.h), and the words of ip-route(8).
    const ALL: [(Self, u8, &'static str); 9] = [
        (Self::Unicast, 1, ""),
        (Self::Local, 2, "local "),
        (Self::Broadcast, 3, "broadcast "),
        (Self::Anycast, 4, "anycast "),
        (Self::Multicast, 5, "multicast "),
        (Self::Blackhole, 6, "blackhole "),
        (Self::Unreachable, 7, "unreachable "),
        (Self::Prohibit, 8, "prohibit "),
        (Self::Throw, 9, "throw "),
    ];

    /// The kind with this number.
    pub fn of(number: u8) -> Self {
        Self::ALL.iter().find(|(_, n, _)| *n == number).map_or(Self::Other(number), |(kind, ..)| *kind)
    }

    /// Its number.
    pub fn number(self) -> u8 {
        if let Self::Other(number) = self {
            return number;
        }
        Self::ALL.iter().find(|(kind, ..)| *kind == self).map_or(0, |(_, number, _)| *number)
    }

    /// The word of ip-route(8) before the prefix, with a space behind it; empty where it can be left out.
    fn before_prefix(self) -> &'static str {
        Self::ALL.iter().find(|(kind, ..)| *kind == self).map_or("", |(.., word)| *word)
    }

    /// Whether such a route delivers packets to this host: packets that come in by an interface, or its own
    /// (`ip_route_input_slow()`).
    pub(crate) fn delivers(self, comes_in: bool) -> bool {
        self == Self::Local || comes_in && self.is_to_many()
    }

    /// Whether it is not for a single host.
    pub(crate) fn is_to_many(self) -> bool {
        matches!(self, Self::Broadcast | Self::Anycast | Self::Multicast)
    }
}

/// A next hop of a route as the kernel holds it, whoever made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundNextHop {
    pub device: u32,
    pub gateway: Option<IpAddr>,
    /// Share of the flows.
    pub weight: u16,
    /// The gateway is directly reachable although no address of the device covers it.
    pub onlink: bool,
    /// The kernel skips it: its device is down, or has no carrier and `ignore_routes_with_linkdown`.
    pub dead: bool,
}

impl FoundNextHop {
    /// A next hop that is not dead.
    pub fn new(device: u32, gateway: Option<IpAddr>) -> Self {
        Self { device, gateway, weight: 1, onlink: false, dead: false }
    }
}

impl FoundTarget {
    /// Indices of the devices it leads to.
    pub fn devices(&self) -> Vec<u32> {
        match self {
            Self::Nexthop { devices, .. } => devices.clone(),
            Self::Other { hops, .. } => hops.iter().map(|hop| hop.device).collect(),
            Self::NextHops(next_hops) => next_hops.iter().map(|l| l.next_hop.device.index).collect(),
        }
    }

    /// Whether it is what `target` says.
    pub fn is(&self, target: &Target) -> bool {
        match (self, target) {
            (Self::Nexthop { id, .. }, Target::Group(wanted)) => id == wanted,
            // The kernel stores a multipath route with one next hop as a plain route, without the weight.
            (Self::NextHops(found), Target::NextHops(wanted)) if wanted.len() == 1 => {
                found.len() == 1 && found[0].next_hop == wanted[0].next_hop
            }
            (Self::NextHops(found), Target::NextHops(wanted)) => {
                let mut found = found.clone();
                found.sort();
                found == *wanted
            }
            _ => false,
        }
    }
}

/// A nexthop object as the kernel holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NexthopObject {
    /// Who made it: `nh_protocol`.
    pub protocol: u8,
    pub kind: NexthopKind,
}

/// What a nexthop object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NexthopKind {
    /// One next hop.
    Single(NextHop),
    /// One next hop by the device of no link, such as one that a link used before.
    ForeignDevice,
    /// A group of single objects.
    Group(Vec<Member>),
    /// Anything that multihome never writes.
    Other,
}

/// Member of a nexthop group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    pub id: u32,
    /// Its share of new flows.
    pub weight: Weight,
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(gateway) = self.gateway {
            write!(f, "via {gateway} ")?;
        }
        write!(f, "dev {}", self.device.name.quoted())?;
        if self.onlink { f.write_str(" onlink") } else { Ok(()) }
    }
}

/// The arguments of ip-route(8) for next hops; a single one without `nexthop`.
fn fmt_next_hops(next_hops: &[WeightedNextHop], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if let [only] = next_hops {
        return write!(f, "{}", only.next_hop);
    }
    let mut space = "";
    for WeightedNextHop { next_hop, weight } in next_hops {
        // ip-route(8) takes `onlink` before the weight as well as after it.
        write!(f, "{space}nexthop {next_hop} weight {weight}")?;
        space = " ";
    }
    Ok(())
}

impl Target {
    /// The arguments of ip-route(8) that add it to a multipath route: with its weight, where it has a gateway.
    pub(crate) fn fmt_added(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::NextHops(next_hops) = self
            && let [WeightedNextHop { next_hop, weight }] = &next_hops[..]
            && next_hop.gateway.is_some()
        {
            return write!(f, "nexthop {next_hop} weight {weight}");
        }
        write!(f, "{self}")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(id) => write!(f, "nhid {id}"),
            Self::NextHops(next_hops) => fmt_next_hops(next_hops, f),
        }
    }
}

impl fmt::Display for FoundTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nexthop { id, .. } => write!(f, "nhid {id}"),
            Self::NextHops(next_hops) => fmt_next_hops(next_hops, f),
            Self::Other { kind, text, .. } => f.write_str(format!("{}{text}", kind.before_prefix()).trim_end()),
        }
    }
}

impl FoundRoute {
    /// The arguments of `ip route del` that select only this route.
    pub(crate) fn selection(&self) -> impl fmt::Display + '_ {
        Selection(self)
    }

    /// The command of ip(8) that deletes only this route.
    pub(crate) fn deletion(&self) -> String {
        format!("{} route del {}", self.family.ip(), self.selection())
    }
}

struct Selection<'a>(&'a FoundRoute);

impl fmt::Display for Selection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FoundRoute { family, table, metric, protocol, target } = self.0;
        let (kind, next_hops) = match target {
            FoundTarget::Other { kind, text, .. } => (kind.before_prefix(), text.clone()),
            target => ("", target.to_string()),
        };
        write!(f, "table {table} {kind}default metric {metric}")?;
        // In IPv6, the protocol of a single next hop among several is not known.
        if *protocol != 0 {
            write!(f, " protocol {protocol}")?;
        }
        // Without a gateway an IPv6 selection would be of all next hops of the metric.
        let gateway = if *family == Family::V6 && next_hops.starts_with("dev ") { " via ::" } else { "" };
        f.write_str(format!("{gateway} {next_hops}").trim_end())
    }
}
