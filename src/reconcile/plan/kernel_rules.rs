//! Missing rules of those that the kernel starts with. Pure.

use crate::model::names::{Family, TableId};
use crate::model::routing::{Action, FoundRule, Rule, Selector};

/// The kernel's last two IPv4 rules, if `ip rule flush` has deleted them and no foreign rule decides about all
/// remaining packets: then nothing looks up main. multihome does not need the second, but routes in table `default` do.
pub(super) fn lost(found: &[FoundRule], managed: u8) -> Vec<Rule> {
    let mut foreign = found.iter().filter(|found| found.protocol != managed && found.rule.family == Family::V4);
    if foreign.any(FoundRule::decides_about_all) {
        return Vec::new();
    }
    let mut lost = Vec::new();
    for (priority, table) in [(32766, TableId::MAIN), (32767, TableId::DEFAULT)] {
        let action = Action::Lookup { table, suppress_prefixlength: None };
        let rule = Rule { family: Family::V4, priority, selector: Selector::default(), action };
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
            assert_eq!(lost(&[foreign(action, None)], MANAGED), [], "{action:?}");
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
            assert_eq!(lost(&[foreign(action, more)], MANAGED).len(), 2, "{action:?}");
        }
    }
}
