//! The rules that the kernel starts with, where they are gone. Pure.

use crate::model::names::{Family, TableId};
use crate::model::routing::{Action, FoundRule, Rule, Selector};

/// The kernel's last two rules of IPv4, where `ip rule flush` has taken them and no other rule says where a packet goes that
/// no rule wants: then main leads nowhere, whatever it holds. The second is of no use to us, but whoever keeps routes
/// in table default lost both at once.
pub(super) fn lost(found: &[FoundRule], ours: u8) -> Vec<Rule> {
    let takes_all =
        |f: &&FoundRule| f.rule.family == Family::V4 && f.protocol != ours && f.rule.selector == Selector::default();
    let is_way = |f: &FoundRule| match f.rule.action {
        // Whatever else it asks for, it does not take all.
        Action::Lookup { .. } if !f.is_complete() => false,
        Action::Lookup { table, suppress_prefixlength } => {
            suppress_prefixlength.is_none() && ![TableId::LOCAL, TableId::DEFAULT].contains(&table)
        }
        // Where it jumps to decides.
        Action::Goto(_) => false,
        // Somebody refuses all that comes so far, or has an action of which we know nothing.
        _ => true,
    };
    if found.iter().filter(takes_all).any(is_way) {
        return Vec::new();
    }
    let rule = |(priority, table)| Rule {
        family: Family::V4,
        priority,
        selector: Selector::default(),
        action: Action::Lookup { table, suppress_prefixlength: None },
    };
    let lost = [(32766, TableId::MAIN), (32767, TableId::DEFAULT)].map(rule);
    lost.into_iter().filter(|rule| !found.iter().any(|f| f.is_complete() && f.rule == *rule)).collect()
}
