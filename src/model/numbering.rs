//! Numbering: priorities of rules, metrics, ids of nexthop objects, device groups, tables and marks. `[settings]` gives
//! the first number of each kind; all others are computed here.
//!
//! Nothing overflows: the configuration is refused beyond the limits below.

use std::ops::Range;

use crate::model::names::{Family, TableId, Tier};
use crate::model::routing::Selector;

/// `RTPROT_KERNEL`, of the rules that the kernel starts with.
pub const KERNEL: u8 = 2;

/// `RTPROT_RA`: a program that reads router advertisements itself uses it, at our metric perhaps.
pub(crate) const RA: u8 = 9;

/// Maximum number of links: a mark has 32 bits.
pub(crate) const MAX_LINKS: u8 = 32;

/// Number of metrics for tiers, from `metric` on.
pub const TIERS: u32 = Tier::MAX as u32;

/// Metric of the IPv6 default route of tier 1: below the 1024 of those that the kernel makes for router advertisements
/// (`IP6_RT_PRIO_USER`), so that these stay, unused.
const METRIC6: u32 = 512;

/// Metric of a default route in a link's table, as ip-route(8) would give it: IPv6 has no 0.
const TABLE_METRIC6: u32 = 1024;

/// Number of metrics for spares, from `spare-metric` on.
const SPARES: u32 = MAX_LINKS as u32;

/// Number of managed device groups, from `device-group` on.
const DEVICE_GROUPS: u32 = MAX_LINKS as u32;

/// Distance from `nexthop-id` to the id of the first tier's group. The links' objects are in between.
const FIRST_GROUP_ID: u32 = 100;

/// Number of managed ids, from `nexthop-id` on.
const NEXTHOP_IDS: u32 = 2 * FIRST_GROUP_ID;

/// Priorities of the rules that the kernel starts with: for `local`, for main, and for `default`, which IPv6 lacks
/// (`fib_default_rules_init()`, `fib6_rules_net_init()`).
pub(crate) const KERNELS_LOCAL_RULE: u32 = 0;
pub(crate) const KERNELS_MAIN_RULE: u32 = 32766;
pub(crate) const KERNELS_DEFAULT_RULE: u32 = 32767;

/// Priority of the IPv6 rule that looks up [`TableId::DEFAULT`]: the last before the kernel's own for main.
pub(crate) const DEFAULT6_RULE: u32 = KERNELS_MAIN_RULE - 1;

/// Last priority of policies.
pub(crate) const LAST_PRIORITY: u32 = DEFAULT6_RULE - 1;

// Distances from `rule-priority`, that of the first mark's rule, in the order of the rules.
const PROBE_RULES: u32 = 40;
const GUARDED_MAIN_RULE: u32 = GUARD_RULES_WITH_DSCP - 1;
const GUARD_RULES_WITH_DSCP: u32 = GUARD_RULES_WITH_PORTS - 1;
const GUARD_RULES_WITH_PORTS: u32 = GUARD_RULES - 1;
const GUARD_RULES: u32 = MAIN_RULE - 1;
const MAIN_RULE: u32 = 90;
const SOURCE_RULES: u32 = MAIN_RULE + 1;
/// The policies start here, or behind the source rules if these need more room.
const POLICIES: u32 = 100;

/// Highest `rule-priority`: with as many uplinks as there can be, their source rules end at [`LAST_PRIORITY`].
pub(crate) const MAX_RULE_PRIORITY: u32 = LAST_PRIORITY + 1 - (SOURCE_RULES + MAX_LINKS as u32);

/// Highest `spare-metric`.
pub(crate) const MAX_SPARE_METRIC: u32 = u32::MAX - SPARES;

/// Highest `metric`: the spares come after all tiers.
pub(crate) const MAX_METRIC: u32 = MAX_SPARE_METRIC - TIERS;

/// Highest `nexthop-id`.
pub(crate) const MAX_NEXTHOP_ID: u32 = u32::MAX - NEXTHOP_IDS;

/// Highest `device-group`.
pub(crate) const MAX_DEVICE_GROUP: u32 = u32::MAX - DEVICE_GROUPS;

/// Whether the kernel starts with a rule of this priority.
pub(crate) fn is_the_kernels(priority: u32) -> bool {
    [KERNELS_LOCAL_RULE, KERNELS_MAIN_RULE, KERNELS_DEFAULT_RULE].contains(&priority)
}

/// Default table of the link at `position`.
pub fn table(position: u8) -> u32 {
    u32::from(position) + 1
}

/// Default mark of the link at `position`.
pub fn mark(position: u8) -> u32 {
    1 << position
}

/// The bits of the mark that sets of policies get, in order: the highest first of those that nobody has taken, so that a
/// link more changes none of them.
pub(crate) fn set_marks(taken: u32) -> impl Iterator<Item = u32> {
    (0..u32::BITS).rev().map(|n| 1 << n).filter(move |bit| taken & bit == 0)
}

/// Priorities of the `count` rules of a policy, from `first` on.
pub(crate) fn policy_rules(first: u32, count: usize) -> Range<u32> {
    // Validation has already refused more rules than there is room for.
    first..first.saturating_add(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The first number of each kind, as `[settings]` gives it. A *position* is that of a link in the configuration, from
/// 0, uplinks before tunnels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbering {
    /// Priority of the first rule.
    pub rule_priority: u32,
    /// Metric of the default route of tier 1.
    pub metric: u32,
    /// Metric of the first uplink's spare; each further uplink adds 1.
    pub spare_metric: u32,
    /// First managed nexthop id.
    pub nexthop_id: u32,
    /// First of the 32 device groups that links' interfaces get, each its own.
    pub device_group: u32,
}

impl Default for Numbering {
    fn default() -> Self {
        Self { rule_priority: 100, metric: 0, spare_metric: 4_000_000, nexthop_id: 7000, device_group: 7000 }
    }
}

impl Numbering {
    /// Priority of a mark rule, by its order among them: tunnels first.
    pub fn mark_rule(self, order: u8) -> u32 {
        self.rule_priority + u32::from(order)
    }

    /// Priority of the rule for probes of the uplink at `position`, behind the rules of all marks.
    pub(crate) fn probe_rule(self, position: u8) -> u32 {
        self.rule_priority + PROBE_RULES + u32::from(position)
    }

    /// Priority of the rule that looks up main without its default route.
    pub(crate) fn main_rule(self) -> u32 {
        self.rule_priority + MAIN_RULE
    }

    /// Priority of its copy before the guards, which would jump over the original.
    pub(crate) fn guarded_main_rule(self) -> u32 {
        self.rule_priority + GUARDED_MAIN_RULE
    }

    /// Priority of a guard. Linux before 4.17 drops protocol and ports from a rule, and before 6.12 DSCP. A pass then
    /// deletes the truncated rule, and the kernel deletes the first match at that priority. Therefore selectors that
    /// can be truncated get a priority of their own.
    pub(crate) fn guard_rule(self, selector: &Selector) -> u32 {
        let Selector { proto, sport, dport, dscp, .. } = selector;
        let distance = if dscp.is_some() {
            GUARD_RULES_WITH_DSCP
        } else if proto.is_some() || sport.is_some() || dport.is_some() {
            GUARD_RULES_WITH_PORTS
        } else {
            GUARD_RULES
        };
        self.rule_priority + distance
    }

    /// Priority of the source rule of the uplink at `position`.
    pub(crate) fn source_rule(self, position: u8) -> u32 {
        self.rule_priority + SOURCE_RULES + u32::from(position)
    }

    /// Priorities of source rules for this number of uplinks.
    pub(crate) fn source_rules(self, uplinks: u8) -> Range<u32> {
        self.source_rule(0)..self.first_policy(uplinks)
    }

    /// Priority of the first policy rule for this number of uplinks.
    pub(crate) fn first_policy(self, uplinks: u8) -> u32 {
        self.source_rule(uplinks).max(self.rule_priority + POLICIES)
    }

    /// Maximum number of policy rules for this number of uplinks.
    pub(crate) fn room_for_policies(self, uplinks: u8) -> usize {
        // 0 with 32 uplinks and the highest `rule-priority`.
        (LAST_PRIORITY + 1).saturating_sub(self.first_policy(uplinks)) as usize
    }

    /// Metric of a tier's default route.
    pub(crate) fn tier_metric(self, family: Family, tier: Tier) -> u32 {
        let first = if family == Family::V4 { self.metric } else { METRIC6 };
        first + rank(tier)
    }

    /// The table whose default routes of tiers carry.
    pub(crate) fn carrying_table(family: Family) -> TableId {
        if family == Family::V4 { TableId::MAIN } else { TableId::DEFAULT }
    }

    /// Metric of the default route in a link's table.
    pub(crate) fn table_metric(family: Family) -> u32 {
        if family == Family::V4 { 0 } else { TABLE_METRIC6 }
    }

    /// Metric of an uplink's spare, by its rank among the spares, from 0.
    pub(crate) fn metric_of_spare(self, rank: u8) -> u32 {
        self.spare_metric + u32::from(rank)
    }

    /// Whether a metric of main belongs to a spare rather than a tier.
    pub fn is_spare(self, metric: u32) -> bool {
        metric >= self.spare_metric
    }

    /// Id of the nexthop object of the link at `position`; `nexthop-id` itself stays free.
    pub(crate) fn link_nexthop(self, position: u8) -> u32 {
        self.nexthop_id + 1 + u32::from(position)
    }

    /// Id of a tier's nexthop group.
    pub(crate) fn tier_nexthop(self, tier: Tier) -> u32 {
        self.nexthop_id + FIRST_GROUP_ID + rank(tier)
    }

    /// All managed ids of nexthop objects.
    pub(crate) fn nexthops(self) -> Range<u32> {
        self.nexthop_id..self.nexthop_id + NEXTHOP_IDS
    }

    /// Whether a managed id belongs to a group rather than a link's object.
    pub(crate) fn is_group(self, id: u32) -> bool {
        id >= self.nexthop_id + FIRST_GROUP_ID
    }

    /// Device group of the link at `position`.
    pub(crate) fn link_group(self, position: u8) -> u32 {
        self.device_group + u32::from(position)
    }

    /// All managed device groups.
    pub(crate) fn link_groups(self) -> Range<u32> {
        self.device_group..self.device_group + DEVICE_GROUPS
    }
}

/// A tier's rank, from 0.
fn rank(tier: Tier) -> u32 {
    u32::from(tier.get()) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_numbers_leave_room_for_all_that_follow() {
        let highest = Numbering {
            rule_priority: MAX_RULE_PRIORITY,
            metric: MAX_METRIC,
            spare_metric: MAX_SPARE_METRIC,
            nexthop_id: MAX_NEXTHOP_ID,
            device_group: MAX_DEVICE_GROUP,
        };
        let (last, last_tier) = (MAX_LINKS - 1, Tier::new(Tier::MAX).unwrap());
        assert_eq!(MAX_RULE_PRIORITY, 32642);
        assert_eq!(highest.source_rule(last), LAST_PRIORITY);
        assert_eq!(highest.room_for_policies(MAX_LINKS), 0);
        assert!(highest.mark_rule(last) < highest.probe_rule(0));
        assert!(highest.probe_rule(last) < highest.guarded_main_rule());
        assert!(highest.tier_metric(Family::V4, last_tier) < highest.metric_of_spare(0));
        assert!(highest.link_nexthop(last) < highest.tier_nexthop(Tier::default()));
        assert!(highest.is_group(highest.tier_nexthop(last_tier)) && !highest.is_group(highest.link_nexthop(last)));
        assert!(highest.link_groups().contains(&highest.link_group(last)));
        assert_eq!((table(last), mark(last)), (32, 0x8000_0000));
    }
}
