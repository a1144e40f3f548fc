//! What the kernel tells of its changes, and which of that can concern us.

mod interest;
mod judge;
mod listen;
#[cfg(test)]
mod tests;

use std::fmt;

pub(super) use interest::Interest;
pub(super) use listen::{Heard, Notices};

use crate::model::change::Change;
use crate::model::firewall::nft::TABLE;
use crate::model::names::{Family, TableId};

/// What a notice or a change is about. Repairs of the same thing are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Thing {
    /// Default routes of a family in a table.
    Routes(Family, u32),
    /// Rules of a family at a priority.
    Rules(Family, u32),
    Nexthops,
    /// Our table.
    Nftables,
    /// Our chains.
    Iptables,
    /// Interfaces, their addresses and their sysctls.
    Interfaces,
}

impl Thing {
    /// What a change is about; `None`: connections, which no notice is about.
    pub(super) fn of(change: &Change) -> Option<Self> {
        Some(match change {
            Change::Route(route) => Self::Routes(route.family, route.table.get()),
            Change::DeleteRoute(route) => Self::Routes(route.family, route.table.get()),
            Change::Rule(rule) | Change::KernelRule(rule) | Change::DeleteRule(rule) => {
                Self::Rules(rule.family, rule.priority)
            }
            Change::Nexthop { .. } | Change::Group { .. } | Change::DeleteNexthop(_) => Self::Nexthops,
            Change::Nftables(_) => Self::Nftables,
            Change::Firewall(_) => Self::Iptables,
            Change::LooseRpFilter(_)
            | Change::IgnoreLinkdown(..)
            | Change::OwnArp(..)
            | Change::HashPolicy(..)
            | Change::DeviceGroup { .. }
            | Change::Prefer { .. } => Self::Interfaces,
            Change::FlushConnections(..) | Change::FlushPrefix(..) | Change::MarkConnections(_) => return None,
        })
    }
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Routes(family, table) if *table == TableId::MAIN.get() => {
                write!(f, "the {family} default routes of table main")
            }
            Self::Routes(family, table) => write!(f, "the {family} default routes of table {table}"),
            Self::Rules(family, priority) => write!(f, "the {family} rules of priority {priority}"),
            Self::Nexthops => f.write_str("the nexthop objects"),
            Self::Nftables => write!(f, "table inet {TABLE} of nftables"),
            Self::Iptables => f.write_str("the chains of iptables"),
            Self::Interfaces => f.write_str("the settings of interfaces"),
        }
    }
}

/// A notice that can concern us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) thing: Thing,
    /// Who made the object, if that says who changes things: not if it is ours or the kernel's.
    pub(super) protocol: Option<u8>,
    /// The netlink port of the process that made the change; 0: the kernel. A process's first socket has its pid.
    pub(super) port: u32,
    /// The process, where the notice names it.
    pub(super) process: Option<Process>,
}

impl Notice {
    /// Whether it is of a transaction whose maker is told at its end.
    fn is_unnamed(&self) -> bool {
        self.process.is_none() && matches!(self.thing, Thing::Nftables | Thing::Iptables)
    }
}

/// A process that changes things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) name: String,
}
