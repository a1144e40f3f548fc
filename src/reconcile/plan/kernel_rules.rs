//! The rules that the kernel starts with, where they are gone. Pure.

use crate::model::names::{Family, TableId};
use crate::model::routing::{Action, FoundRule, Rule, Selector};

/// The kernel's last two rules of IPv4, where `ip rule flush` has taken them and no other rule says where a packet goes that
/// no rule wants: then main leads nowhere, whatever it holds. The second is of no use to us, but whoever keeps routes
/// in table default lost both at once.
pub(super) fn lost(found: &[FoundRule], ours: u8) -> Vec<Rule> {
    const LOCAL: u32 = 255;
    const DEFAULT: u32 = 253;
    let takes_all =
        |f: &&FoundRule| f.rule.family == Family::V4 && f.protocol != ours && f.rule.selector == Selector::default();
    let is_way = |f: &FoundRule| match f.rule.action {
        // Whatever else it asks for, it does not take all.
        Action::Lookup { .. } if !f.complete => false,
        Action::Lookup { table, suppress_prefixlength } => {
            suppress_prefixlength.is_none() && ![LOCAL, DEFAULT].contains(&table.get())
        }
        // Where it jumps to decides.
        Action::Goto(_) => false,
        // Somebody refuses all that comes so far, or has an action that we have no word for.
        Action::Unreachable => true,
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
    let lost = [(32766, TableId::MAIN), (32767, TableId::observed(DEFAULT))].map(rule);
    lost.into_iter().filter(|rule| !found.iter().any(|f| f.complete && f.rule == *rule)).collect()
}
