//! A kernel of the tests' own, which does to routes, nexthops and rules what Linux does, the
//! surprising parts above all. It is written and read as text (`text.rs`).

pub mod devices;
mod lookup;
pub mod next_hops;
mod observe;
mod requests;
mod routes;
mod text;
pub mod watched;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use ipnet::Ipv6Net;
use multihome::kernel;
use multihome::kernel::netlink::socket;
use multihome::model::change::Change;
use multihome::model::firewall::FoundFirewall;
use multihome::model::firewall::nft::FoundTable;
use multihome::model::names::{Family, HostAddr, IfName, TableId};
use multihome::model::observed::{Address, LanAddress};
use multihome::model::routing::{Action, FoundRule, NexthopObject, Rule, Selector, WeightedNextHop};

pub const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
pub const EINVAL: i32 = 22;
const ENETDOWN: i32 = 100;
const ENETUNREACH: i32 = 101;
const EHOSTUNREACH: i32 = 113;

/// A network interface.
// Each is one word of ip(8).
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    pub index: u32,
    pub up: bool,
    pub carrier: bool,
    pub strict_rp_filter: bool,
    pub ignores_linkdown: bool,
    pub ignores_linkdown6: bool,
    pub arp: bool,
    pub group: u32,
    pub addresses: Vec<Address>,
    pub addresses6: Vec<Address>,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Via {
    Nexthop(u32),
    NextHops(Vec<WeightedNextHop>),
    Unreachable,
}

/// A default route; the devices of its dead next hops with it (`RTNH_F_DEAD`). Of IPv6 it has one next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub family: Family,
    pub table: TableId,
    pub metric: u32,
    pub protocol: u8,
    pub via: Via,
    pub dead: BTreeSet<u32>,
}

/// The kernel.
#[derive(Debug, Clone)]
pub struct Fake {
    pub nics: BTreeMap<IfName, Nic>,
    /// By family, table and metric; those of one place in the kernel's order.
    pub routes: Vec<Held>,
    /// IPv6 prefixes that main refuses.
    pub delegated: Vec<Ipv6Net>,
    /// IPv6 addresses of interfaces of no link.
    pub lan6: Vec<LanAddress>,
    /// Those of a family in the kernel's order. One that is not `complete` and has the action `Unreachable` stands
    /// for an action that we have no word for, such as `blackhole`.
    pub rules: Vec<FoundRule>,
    pub nexthops: Option<BTreeMap<u32, NexthopObject>>,
    pub hash_policy: u8,
    pub hash_policy6: u8,
    /// Our chains, as nftables or iptables-restore has left them.
    pub firewall: FoundFirewall,
    /// Families and marks of tracked connections.
    pub tracked: BTreeSet<(Family, u32)>,
    /// Linux before 4.17: skips selectors that it does not know.
    pub forgets_ports: bool,
}

impl Default for Fake {
    fn default() -> Self {
        let own = |family, priority, table| FoundRule {
            rule: Rule {
                priority,
                family,
                selector: Selector::default(),
                action: Action::Lookup { table: TableId::observed(table), suppress_prefixlength: None },
            },
            protocol: 2,
            more: None,
        };
        Self {
            nics: BTreeMap::new(),
            routes: Vec::new(),
            delegated: Vec::new(),
            lan6: Vec::new(),
            rules: vec![
                own(Family::V4, 0, 255),
                own(Family::V4, 32766, 254),
                own(Family::V4, 32767, 253),
                own(Family::V6, 0, 255),
                own(Family::V6, 32766, 254),
            ],
            nexthops: Some(BTreeMap::new()),
            hash_policy: 0,
            hash_policy6: 0,
            firewall: FoundFirewall { nft: Some(FoundTable::default()), ..FoundFirewall::default() },
            tracked: BTreeSet::new(),
            forgets_ports: false,
        }
    }
}

impl Nic {
    fn reaches(&self, gateway: HostAddr) -> bool {
        self.addresses.iter().chain(&self.addresses6).any(|a| a.reaches.contains(&gateway.get()))
    }

    pub fn ignores_linkdown(&self, family: Family) -> bool {
        if family == Family::V4 { self.ignores_linkdown } else { self.ignores_linkdown6 }
    }
}

impl Held {
    fn uses(&self, index: u32) -> bool {
        matches!(&self.via, Via::NextHops(next_hops) if next_hops.iter().any(|l| l.next_hop.device.index == index))
    }
}

/// An error as the real door would give it.
pub fn refusal(change: &Change, protocol: u8, number: i32) -> kernel::Error {
    let source = socket::Error::Refused { source: io::Error::from_raw_os_error(number), reason: None };
    kernel::Error::Change { command: change.command(protocol).to_string(), source }
}
