//! What of IPv6 matters to kill switches beside their rules. Pure.

use std::collections::BTreeSet;

use super::Detour;
use super::taker::rule_for_main;
use crate::config::Config;
use crate::model::names::Family;
use crate::model::observed::Observed;
use crate::model::routing::{FoundRule, Rule};

/// The kernel's own rule for main, where it is gone and we have rules of our own: an apply puts back ours only.
pub(super) fn without_main(config: &Config, wanted: &[Rule], observed: &Observed, mhctl: &str) -> Option<Detour> {
    let mut wanted = wanted.iter().filter(|rule| rule.family == Family::V6).peekable();
    wanted.peek()?;
    let mut rules = observed.rules.iter().filter(|found| found.rule.family == Family::V6);
    if rules.any(FoundRule::decides_about_all) {
        return None;
    }
    let ours = observed.rules.iter().filter(|found| found.protocol == config.settings.protocol);
    let held: BTreeSet<_> = ours.map(|found| &found.rule).collect();
    let all_held = wanted.all(|rule| held.contains(rule));
    // First what kill switches refuse by.
    let first = if all_held { String::new() } else { format!("{mhctl} apply; ") };
    Some(Detour {
        what: "no IPv6 rule leads to table main, as if by `ip -6 rule flush`: IPv6 goes nowhere".to_owned(),
        fix: format!("{first}{}", rule_for_main(Family::V6)),
        policies: vec![None],
        is_trouble: true,
    })
}
