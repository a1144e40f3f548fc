//! One change of the kernel, and the command that makes it.

use std::fmt;

use ipnet::IpNet;

use crate::model::firewall::Batch;
use crate::model::firewall::nft::Transaction;
use crate::model::names::{Family, IfName};
use crate::model::numbering::KERNEL;
use crate::model::observed::LanAddress;
use crate::model::routing::{ArpKey, DefaultRoute, Device, FoundRoute, FwMark, Member, NextHop, Rule};

/// One change of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Loosen the reverse path filter of an interface.
    LooseRpFilter(IfName),
    /// Make lookups skip the routes by a device while it has no carrier.
    IgnoreLinkdown(Device, Family),
    /// Make an interface answer ARP for its own addresses only.
    OwnArp(Device, ArpKey),
    /// Set `net.ipv4.fib_multipath_hash_policy`, or its twin of IPv6.
    HashPolicy(Family, u8),
    /// Put a link's device into the group that our firewall rules match.
    DeviceGroup {
        device: Device,
        group: u32,
    },
    /// Create or replace a single nexthop object.
    Nexthop {
        id: u32,
        next_hop: NextHop,
    },
    /// Create or replace a nexthop group.
    Group {
        id: u32,
        members: Vec<Member>,
    },
    /// Delete a managed nexthop object or group.
    DeleteNexthop(u32),
    /// Create an IPv4 default route, or replace the first of its table and metric; or add the next hop of an IPv6 one to
    /// those of its table and metric.
    Route(DefaultRoute),
    DeleteRoute(FoundRoute),
    Rule(Rule),
    /// Put back a rule that the kernel starts with, with the kernel's protocol number.
    KernelRule(Rule),
    /// Delete a managed rule.
    DeleteRule(Rule),
    /// Load our chains of a table of iptables.
    Firewall(Batch),
    /// Load our table of `nf_tables`, or delete it.
    Nftables(Transaction),
    /// Deprecate an IPv6 address of the LAN, or take that back.
    Prefer {
        address: LanAddress,
        is_preferred: bool,
    },
    /// Delete the connection-tracking entries of a family that bear a link's mark under the mask of all links' marks.
    FlushConnections(Family, FwMark),
    /// The same, of those that have an address in an IPv6 prefix which is the link's no more.
    FlushPrefix(FwMark, IpNet),
    /// Give an uplink's mark to the tracked connections that leave by it and bear no link's.
    MarkConnections(Unmarked),
}

/// The tracked connections of an uplink that bear no link's mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmarked {
    /// The uplink's interface.
    pub device: Device,
    /// Its address there, or a prefix of it, from which they leave or to which they came.
    pub ours: IpNet,
    /// Its mark, under the mask of all.
    pub mark: FwMark,
}

impl Change {
    /// Whether packets may take another route after it.
    pub(crate) fn is_route(&self) -> bool {
        let is_other =
            matches!(self, Self::LooseRpFilter(_) | Self::OwnArp(..) | Self::DeviceGroup { .. } | Self::Prefer { .. });
        !is_other && !self.is_firewall() && !self.is_about_connections()
    }

    /// Whether it is one of connection tracking, which the kernel does not show.
    pub(crate) fn is_about_connections(&self) -> bool {
        matches!(self, Self::FlushConnections(..) | Self::FlushPrefix(..) | Self::MarkConnections(_))
    }

    /// Whether it is one of the packet filter.
    pub(crate) fn is_firewall(&self) -> bool {
        matches!(self, Self::Firewall(_) | Self::Nftables(_))
    }

    /// In a few words: its command, unless that is a whole ruleset.
    pub(crate) fn headline(&self, protocol: u8) -> String {
        match self {
            Self::Firewall(batch) => batch.headline(),
            Self::Nftables(transaction) => transaction.headline(),
            change => change.command(protocol).to_string(),
        }
    }

    /// The change as a command that can be pasted; `protocol` marks what multihome manages.
    pub fn command(&self, protocol: u8) -> impl fmt::Display + '_ {
        Command { change: self, protocol }
    }
}

struct Command<'a> {
    change: &'a Change,
    protocol: u8,
}

impl fmt::Display for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = self.protocol;
        match self.change {
            // sysctl(8) would read the dot of a VLAN's name as a separator.
            Change::LooseRpFilter(name) => write!(f, "echo 2 > /proc/sys/net/ipv4/conf/{}/rp_filter", name.quoted()),
            Change::IgnoreLinkdown(device, family) => {
                let (family, name) = (family.word(), device.name.quoted());
                write!(f, "echo 1 > /proc/sys/net/{family}/conf/{name}/ignore_routes_with_linkdown")
            }
            Change::OwnArp(device, key) => {
                let (value, name, key) = (key.value(), device.name.quoted(), key.name());
                write!(f, "echo {value} > /proc/sys/net/ipv4/conf/{name}/{key}")
            }
            // Its valid lifetime stays, which ip-address(8) has no word for.
            Change::Prefer { address: LanAddress { device, address, .. }, is_preferred } => {
                let lifetime = if *is_preferred { "forever" } else { "0" };
                write!(f, "ip -6 address change {address} dev {} preferred_lft {lifetime}", device.name.quoted())
            }
            Change::HashPolicy(family, n) => {
                write!(f, "sysctl -w net.{}.fib_multipath_hash_policy={n}", family.word())
            }
            Change::DeviceGroup { device, group } => {
                write!(f, "ip link set dev {} group {group}", device.name.quoted())
            }
            Change::Firewall(batch) => write!(f, "{batch}"),
            Change::Nftables(transaction) => write!(f, "{transaction}"),
            Change::FlushConnections(family, FwMark { value, mask }) => {
                write!(f, "conntrack -D -f {} --mark {value:#x}/{mask:#x}", family.word())
            }
            // As conntrack(8) has it: of the reply, the destination is our end.
            Change::FlushPrefix(FwMark { value, mask }, prefix) => {
                write!(f, "conntrack -D -f ipv6 --reply-dst {prefix} --mark {value:#x}/{mask:#x}")
            }
            Change::MarkConnections(Unmarked { ours, mark: FwMark { value, mask }, .. }) => {
                let (ip, ours) = match ours {
                    IpNet::V4(ours) => ("ipv4", ours.addr().to_string()),
                    IpNet::V6(ours) => ("ipv6", ours.to_string()),
                };
                write!(f, "conntrack -U -f {ip} --reply-dst {ours} --mark {value:#x}/{mask:#x}")
            }
            Change::Nexthop { id, next_hop } => write!(f, "ip nexthop replace id {id} {next_hop} protocol {protocol}"),
            Change::Group { id, members } => {
                let members: Vec<_> = members.iter().map(|Member { id, weight }| format!("{id},{weight}")).collect();
                write!(f, "ip nexthop replace id {id} group {} protocol {protocol}", members.join("/"))
            }
            Change::DeleteNexthop(id) => write!(f, "ip nexthop del id {id}"),
            Change::Route(DefaultRoute { family: Family::V4, table, metric, target }) => {
                write!(f, "ip route replace table {table} default metric {metric} protocol {protocol} {target}")
            }
            Change::Route(DefaultRoute { family: Family::V6, table, metric, target }) => {
                write!(f, "ip -6 route append table {table} default metric {metric} protocol {protocol} ")?;
                target.fmt_added(f)
            }
            Change::DeleteRoute(route) => write!(f, "{}", route.deletion()),
            Change::KernelRule(rule) => write!(f, "{} rule add {rule} protocol {KERNEL}", rule.family.ip()),
            Change::Rule(rule) => write!(f, "{} rule add {rule} protocol {protocol}", rule.family.ip()),
            Change::DeleteRule(rule) => write!(f, "{} rule del {rule} protocol {protocol}", rule.family.ip()),
        }
    }
}
