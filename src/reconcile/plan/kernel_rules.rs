//! Missing rules of those that the kernel starts with. Pure.

use crate::model::names::{Family, TableId};
use crate::model::routing::{Action, FoundRule, Rule, Selector};

/// The kernel's last two IPv4 rules, if `ip rule flush` has deleted them and no foreign rule decides about all
/// remaining packets: then nothing looks up main. multihome does not need the second, but routes in table `default` do.
pub(super) fn lost(found: &[FoundRule], managed: u8) -> Vec<Rule> {
    if found.iter().any(|rule| rule.protocol != managed && takes_all(rule)) {
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

/// Whether a rule decides about every IPv4 packet that reaches it.
fn takes_all(found: &FoundRule) -> bool {
    let rule = &found.rule;
    let decides = match rule.action {
        // A rule with further selectors does not match all packets.
        Action::Lookup { table, suppress_prefixlength } => {
            found.is_complete()
                && suppress_prefixlength.is_none()
                && ![TableId::LOCAL, TableId::DEFAULT].contains(&table)
        }
        // Its target decides.
        Action::Goto(_) => false,
        // A refusal, or an unknown action.
        _ => true,
    };
    decides && rule.family == Family::V4 && rule.selector == Selector::default()
}
