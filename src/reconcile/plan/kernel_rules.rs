//! Missing rules of those that the kernel starts with. Pure.

use crate::model::names::{Family, TableId};
use crate::model::numbering::{KERNELS_DEFAULT_RULE, KERNELS_MAIN_RULE};
use crate::model::routing::{Action, FoundRule, Rule, Selector};
use crate::reconcile::desired::Desired;

/// The kernel's last two IPv4 rules, and the last IPv6 rule where IPv6 is routed, if `ip rule flush` has deleted them and
/// no foreign rule decides about all remaining packets: then nothing looks up main. multihome does not need the second,
/// but routes in table `default` do.
pub(super) fn lost(found: &[FoundRule], desired: &Desired, managed: u8) -> Vec<Rule> {
    let main = (KERNELS_MAIN_RULE, TableId::MAIN);
    let mut lost = of_family(Family::V4, &[main, (KERNELS_DEFAULT_RULE, TableId::DEFAULT)], found, managed);
    if desired.routes.iter().any(|route| route.family == Family::V6) {
        lost.extend(of_family(Family::V6, &[main], found, managed));
    }
    lost
}

/// The kernel's `rules` of a family that are lost.
fn of_family(family: Family, rules: &[(u32, TableId)], found: &[FoundRule], managed: u8) -> Vec<Rule> {
    let mut foreign = found.iter().filter(|found| found.protocol != managed && found.rule.family == family);
    if foreign.any(FoundRule::decides_about_all) {
        return Vec::new();
    }
    let mut lost = Vec::new();
    for (priority, table) in rules.iter().copied() {
        let action = Action::Lookup { table, suppress_prefixlength: None };
        let rule = Rule { family, priority, selector: Selector::default(), action };
        if !found.iter().any(|found| found.is_complete() && found.rule == rule) {
            lost.push(rule);
        }
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::routing::More;

    const MANAGED: u8 = 98;

    fn foreign(action: Action, more: Option<More>) -> FoundRule {
        let rule = Rule { family: Family::V4, priority: 1000, selector: Selector::default(), action };
        FoundRule { rule, protocol: 0, more: more.map(Box::new) }
    }

    fn lookup(table: TableId) -> Action {
        Action::Lookup { table, suppress_prefixlength: None }
    }

    #[test]
    fn the_kernels_rules_are_put_back_unless_a_foreign_rule_decides_about_all() {
        for action in [lookup(TableId::MAIN), lookup(TableId::observed(52)), Action::Unreachable, Action::Other(200)] {
            assert_eq!(lost(&[foreign(action, None)], &Desired::default(), MANAGED), [], "{action:?}");
        }
        let vrf = More { l3mdev: true, ..More::default() };
        for (action, more) in [
            (lookup(TableId::LOCAL), None),
            (Action::Lookup { table: TableId::MAIN, suppress_prefixlength: Some(0) }, None),
            (Action::Goto(2000), None),
            (Action::Nop, None),
            (lookup(TableId::observed(52)), Some(vrf.clone())),
            (Action::Unreachable, Some(vrf)),
            (Action::Prohibit, Some(More { tos: 0x10, ..More::default() })),
        ] {
            assert_eq!(lost(&[foreign(action, more)], &Desired::default(), MANAGED).len(), 2, "{action:?}");
        }
    }
}
