//! Which objects of the kernel can concern us: from the configuration, and from the interfaces that there are.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::config::{Config, Firewall};
use crate::model::names::{IfName, TableId};

/// What can concern us.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interest {
    /// Of managed objects.
    pub(super) protocol: u8,
    /// Tables whose default routes are looked at.
    pub(super) tables: BTreeSet<u32>,
    /// Priorities of rules that may be managed.
    pub(super) priorities: Range<u32>,
    /// Managed ids of nexthop objects.
    pub(super) nexthops: Range<u32>,
    /// Managed device groups.
    pub(super) groups: Range<u32>,
    /// Interfaces of links, which need not be there.
    pub(super) interfaces: BTreeSet<IfName>,
    /// The same, of those that are.
    pub(super) indices: BTreeSet<u32>,
    /// IPv6 addresses of all interfaces.
    pub(super) lan6: bool,
    /// Chains of iptables.
    pub(super) iptables: bool,
}

impl Interest {
    /// `interfaces` are those that records name besides the configuration, and `indices` those of all that are there.
    pub(crate) fn new(config: &Config, interfaces: &BTreeSet<IfName>, indices: BTreeSet<u32>) -> Self {
        let numbers = config.settings.numbers;
        let tables = config.links.iter().map(|link| link.table).chain([TableId::MAIN, TableId::DEFAULT]);
        let configured = config.links.iter().map(|link| &link.interface);
        let last = config.policy_priorities().last().map_or(config.first_policy(), |priorities| priorities.end);
        Self {
            protocol: config.settings.protocol,
            tables: tables.map(TableId::get).collect(),
            priorities: numbers.rule_priority..last,
            nexthops: numbers.nexthops(),
            groups: numbers.link_groups(),
            interfaces: configured.chain(interfaces).cloned().collect(),
            indices,
            lan6: config.uses_ipv6() && config.uplinks().any(|uplink| uplink.ipv6),
            iptables: config.settings.firewall == Firewall::Iptables,
        }
    }
}
