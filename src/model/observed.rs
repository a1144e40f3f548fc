//! What the kernel holds, normalised: the second input of a plan.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::Ipv4Net;

use crate::model::firewall;
use crate::model::names::{Family, HostAddr, IfName, TableId};
use crate::model::routing::{ArpKey, Device, FoundRoute, FoundRule, NexthopObject};

/// What to look at, so that the cost of looking does not depend on what else the kernel holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    pub interfaces: BTreeSet<IfName>,
    /// Indices of interfaces: one that is among none of those may have been renamed.
    pub indices: BTreeSet<u32>,
    /// Tables of links; the main table is always looked at.
    pub tables: BTreeSet<TableId>,
    /// Protocol number that marks what is ours: tables that our own rules look up are looked at
    /// as well, since an older configuration may have used them.
    pub protocol: u8,
    /// Whether to look for our chains in the packet filter.
    pub firewall: bool,
    /// Whether `net.ipv4.fib_multipath_hash_policy` matters.
    pub hash_policy: bool,
}

/// What the kernel holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Those of the scope that exist.
    pub interfaces: BTreeMap<IfName, Interface>,
    /// Default routes of the main table and of the tables of the scope. Among those of one table
    /// and metric the first is the one in use, as in the kernel.
    pub routes: Vec<FoundRoute>,
    /// All rules, those of a family in the kernel's order.
    pub rules: Vec<FoundRule>,
    /// All nexthop objects by id; `None`: this kernel has none (before Linux 5.3).
    pub nexthops: Option<BTreeMap<u32, NexthopObject>>,
    /// `net.ipv4.fib_multipath_hash_policy`, if it was looked at.
    pub hash_policy: Option<u8>,
    /// Our chains in the packet filter; empty where they were not looked for.
    pub firewall: firewall::FoundFirewall,
    /// A private network of an interface that is no link's, where packets are forwarded.
    pub private_lan: Option<Ipv4Net>,
}

impl Observed {
    /// Whether this kernel routes IPv6. One that does has the rule that looks up `local`; one without rules needs none.
    pub(crate) fn has_ipv6(&self) -> bool {
        self.rules.iter().any(|found| found.rule.family == Family::V6)
    }
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub device: Device,
    /// Whether packets can leave by it.
    pub state: InterfaceState,
    /// Hosts behind it are found by ARP (neither `IFF_NOARP` nor `IFF_POINTOPOINT`): who leaves by it for
    /// the Internet needs a router's address.
    pub arp: bool,
    /// Its IPv4 addresses, first the first.
    pub addresses: Vec<Address>,
    /// Routes of main by it, but for defaults; only of an Ethernet, and not more than are read of main.
    pub routes: Vec<RouteBy>,
    /// Its device group (`IFLA_GROUP`), 0 unless somebody has set one.
    pub group: u32,
    /// Reverse path filter as it is in force: the larger of `conf.all` and the interface's own.
    pub strict_rp_filter: bool,
    /// What would have to be set for it to keep its addresses to itself.
    pub lax_arp: Vec<ArpKey>,
    /// Its own `ignore_routes_with_linkdown`: whether lookups pass over its routes while it has no carrier;
    /// `None`: the kernel has no such thing (before Linux 4.2).
    pub ignores_linkdown: Option<bool>,
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

/// An IPv4 address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    pub local: HostAddr,
    /// What is reached directly by it: the peer, or the subnet.
    pub reaches: Ipv4Net,
}

/// A route by an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteBy {
    /// Where it leads to.
    pub to: Ipv4Net,
    /// The router; `None`: its hosts are neighbours.
    pub gateway: Option<IpAddr>,
}
