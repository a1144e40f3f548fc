//! The rules that the kernel starts with, where they are gone. Pure.

use crate::model::names::{Family, TableId};
use crate::model::routing::{Action, FoundRule, Rule, Selector};

/// The kernel's last two rules of IPv4, where `ip rule flush` has taken them and no other rule says where a packet goes that
/// no rule wants: then main leads nowhere, whatever it holds. The second is of no use to us, but whoever keeps routes
/// in table default lost both at once.
pub(super) fn lost(found: &[FoundRule], ours: u8) -> Vec<Rule> {
    if found.iter().any(|rule| rule.protocol != ours && takes_all(rule)) {
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

/// Whether a rule decides about every packet of IPv4 that comes so far.
fn takes_all(found: &FoundRule) -> bool {
    let rule = &found.rule;
    let decides = match rule.action {
        // If it asks for more, it does not take all.
        Action::Lookup { table, suppress_prefixlength } => {
            found.is_complete()
                && suppress_prefixlength.is_none()
                && ![TableId::LOCAL, TableId::DEFAULT].contains(&table)
        }
        // Where it jumps to decides.
        Action::Goto(_) => false,
        // Somebody refuses all that comes so far, or has an action of which we know nothing.
        _ => true,
    };
    decides && rule.family == Family::V4 && rule.selector == Selector::default()
}
