//! The observed state of the kernel, the second input of a plan.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::model::firewall::{self, Firewall};
use crate::model::names::{Family, HostAddr, IfName, TableId};
use crate::model::routing::{ArpKey, Device, FoundRoute, FoundRule, NexthopObject};

/// What to observe. The cost of an observation must not depend on what else the kernel holds.
// Each is a question of its own.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    pub interfaces: BTreeSet<IfName>,
    /// Indices of interfaces, some of which may have been renamed.
    pub indices: BTreeSet<u32>,
    /// Tables of links; the main table is always looked at.
    pub tables: BTreeSet<TableId>,
    /// Protocol number of managed rules. The tables that these look up are observed, too: an older configuration may
    /// have used them.
    pub protocol: u8,
    /// The packet filter to observe.
    pub firewall: Firewall,
    /// Whether to look for managed chains everywhere, even where that takes a run of a program.
    pub leftovers: bool,
    /// Whether `net.ipv4.fib_multipath_hash_policy` matters.
    pub hash_policy: bool,
    /// Whether any link may have IPv6.
    pub ipv6: bool,
    /// Whether any link is said to have IPv6: then the tables of links matter in IPv6 even if no managed rule of it asks
    /// them yet.
    pub has_ipv6: bool,
    /// Whether IPv6 addresses of other interfaces matter, even if no managed rule is about a prefix.
    pub lan6: bool,
    /// Addresses that we have deprecated, with the index of their interface.
    pub deprecated: BTreeSet<(u32, Ipv6Addr)>,
}

/// The observed state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// The interfaces of the scope that exist.
    pub interfaces: BTreeMap<IfName, Interface>,
    /// Default routes of the main table and of the tables of the scope. Among those of one table
    /// and metric the first is the one in use, as in the kernel.
    pub routes: Vec<FoundRoute>,
    /// All rules, those of a family in the kernel's order.
    pub rules: Vec<FoundRule>,
    /// All nexthop objects by id; `None`: this kernel has none (before Linux 5.3).
    pub nexthops: Option<BTreeMap<u32, NexthopObject>>,
    /// `net.ipv4.fib_multipath_hash_policy`, if the scope asks for it.
    pub hash_policy: Option<u8>,
    /// The same of IPv6, if rules of ours lead IPv6 anywhere.
    pub hash_policy6: Option<u8>,
    /// The packet filter; empty where the scope does not ask for it.
    pub firewall: firewall::FoundFirewall,
    /// IPv6 prefixes that main refuses: what DHCPv6 clients write for a delegation (RFC 8415, 6.3).
    pub delegated: Vec<Ipv6Net>,
    /// IPv6 addresses of interfaces of no link, if the scope asks for them.
    pub lan6: Vec<LanAddress>,
    /// A private network on an interface of no link, if this host forwards packets.
    pub private_lan: Option<Ipv4Net>,
}

impl Observed {
    /// Whether this kernel routes IPv6: then it has at least the rule that looks up `local`.
    pub(crate) fn has_ipv6(&self) -> bool {
        self.rules.iter().any(|found| found.rule.family == Family::V6)
    }

    /// Whether there are managed rules that lead IPv6 packets to the table of a link.
    pub(crate) fn leads_ipv6(&self, managed: u8) -> bool {
        leads_ipv6(&self.rules, managed)
    }
}

/// Whether managed rules lead IPv6 packets to the table of a link: then there may be managed IPv6 routes, even if the
/// configuration wants none.
pub(crate) fn leads_ipv6(rules: &[FoundRule], managed: u8) -> bool {
    let mut managed = rules.iter().filter(|found| found.protocol == managed);
    managed.any(|found| found.rule.family == Family::V6 && found.rule.action.table().is_some())
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub device: Device,
    /// Whether packets can leave by it.
    pub state: InterfaceState,
    /// It uses ARP (neither `IFF_NOARP` nor `IFF_POINTOPOINT`): a default route by it needs a gateway.
    pub arp: bool,
    /// IPv4, in the kernel's order.
    pub addresses: Vec<Address>,
    /// IPv6, in the kernel's order, without those that another host has, too (`IFA_F_DADFAILED`).
    pub addresses6: Vec<Address>,
    /// Routes of the main table by it, without defaults; only for an Ethernet, and only among the first of the table.
    pub routes: Vec<RouteBy>,
    /// Device group (`IFLA_GROUP`); 0 is the default.
    pub group: u32,
    /// The effective reverse path filter is strict. It is the larger of `conf.all` and the interface's own.
    pub strict_rp_filter: bool,
    /// The sysctls that would have to be raised for it to answer ARP for its own addresses only.
    pub lax_arp: Vec<ArpKey>,
    /// `ignore_routes_with_linkdown`: lookups skip its routes while it has no carrier. `None`: the kernel lacks it
    /// (before Linux 4.2).
    pub ignores_linkdown: Option<bool>,
    /// The same of IPv6 (since Linux 4.3).
    pub ignores_linkdown6: Option<bool>,
}

/// Whether packets can leave by an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterfaceState {
    /// Administratively down: the kernel accepts no route by it.
    Down,
    /// Administratively up, and without carrier: the kernel accepts routes by it, but no nexthop object.
    NoCarrier,
    /// Administratively up, and with carrier.
    Up,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    pub local: HostAddr,
    /// The peer, or the subnet.
    pub reaches: IpNet,
}

/// A global IPv6 address of an interface of no link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LanAddress {
    pub device: Device,
    /// With the length of its subnet's prefix.
    pub address: Ipv6Net,
    pub preference: Preference,
}

/// Whether an address serves new connections (RFC 4862, 5.5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preference {
    Preferred,
    /// We have deprecated it, and somebody else has made it preferred since, as a DHCPv6 client does at each renewal.
    PreferredAgain,
    /// Only those that it has: we have deprecated it.
    DeprecatedByUs,
    /// The same, by somebody else.
    Deprecated,
}

/// A route by an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteBy {
    pub to: Ipv4Net,
    /// `None`: the destination is on the link.
    pub gateway: Option<IpAddr>,
}
