//! Where things of ours stand: distances from the first priority and the first id that the
//! configuration gives.

/// From the first rule, that of a mark, to the rule that looks into main without its default.
pub const MAIN_RULE: u32 = 90;

/// From the first rule to those that lead what is a kill switch's past the rules of addresses.
pub const GUARD_RULES: u32 = MAIN_RULE - 1;

/// The same with protocol or ports, which Linux before 4.17 loses, and with DSCP, which it loses before 6.12. What is left
/// of such a rule is deleted, and the kernel deletes the first of the priority that has what is left.
pub const GUARD_RULES_WITH_PORTS: u32 = GUARD_RULES - 1;
/// See [`GUARD_RULES_WITH_PORTS`].
pub const GUARD_RULES_WITH_DSCP: u32 = GUARD_RULES_WITH_PORTS - 1;

/// From the first rule to that of [`MAIN_RULE`] once more, since guards would lead past it, too.
pub const GUARDED_MAIN_RULE: u32 = GUARD_RULES_WITH_DSCP - 1;

/// From the first rule to those of the uplinks' addresses.
pub const SOURCE_RULES: u32 = MAIN_RULE + 1;

/// From the first nexthop's id, less one, to that of the first tier's group.
pub const GROUP_IDS: u32 = 100;

/// From the first rule to the first policy's: 100, unless the uplinks' addresses need the room.
pub fn policy_rules(uplinks: usize) -> u32 {
    // At most 32 uplinks.
    SOURCE_RULES.saturating_add(u32::try_from(uplinks).unwrap_or(u32::MAX)).max(100)
}

/// `RTPROT_KERNEL`: who made the rules that there are from the start.
pub const KERNEL: u8 = 2;

/// As many device groups are ours, from `device-group` on: one for each link there can be.
pub const LINK_GROUPS: u32 = 32;
