//! Named sets, and the rules that mark packets whose addresses are in them. Pure.
//!
//! A set is made before the first rule that names it, and never deleted or emptied: others have filled it.

use std::borrow::Cow;

use crate::config::{Config, Otherwise, Sets};
use crate::model::firewall::nft::{Command, Rule, Statement};
use crate::model::firewall::set::{AddressSet, End};
use crate::model::firewall::{FoundFirewall, Lacking, Match};
use crate::model::names::{Family, SetName};

/// The sets of the configuration, one for each name and family.
pub(crate) fn all(config: &Config) -> Vec<AddressSet> {
    let mut all = Vec::new();
    let pairs = config.set_names().into_iter().flat_map(|name| Family::BOTH.map(|family| (name, family)));
    for (id, (name, family)) in (1..).zip(pairs) {
        all.push(AddressSet::of(name, family, id));
    }
    all
}

/// The set of that name for a family; `None`: no policy names it.
pub(crate) fn find(config: &Config, name: &SetName, family: Family) -> Option<AddressSet> {
    let named = AddressSet::of(name, family, 0);
    all(config).into_iter().find(|set| set.name == named.name)
}

/// The commands that make all sets.
pub(super) fn made(config: &Config) -> Vec<Command> {
    all(config).into_iter().map(Command::AddSet).collect()
}

/// The rules that mark packets whose addresses are in sets. What has such a bit already got it from somebody else.
pub(super) fn marking(config: &Config) -> Vec<Rule> {
    let pairs = config.sets();
    if pairs.is_empty() {
        return Vec::new();
    }
    let nobodys = Statement::Mark { value: 0, mask: config.set_marks() };
    let mut rules = vec![Rule { conditions: Vec::new(), statement: nobodys, comment: String::new() }];
    for pair in pairs {
        let bit = pair.mark.get();
        for family in Family::BOTH {
            rules.push(Rule {
                conditions: conditions(config, pair, family),
                statement: Statement::Mark { value: bit, mask: bit },
                comment: pair.to_string(),
            });
        }
    }
    rules
}

fn conditions(config: &Config, pair: &Sets, family: Family) -> Vec<Match> {
    let mut conditions = Vec::new();
    for (end, name) in [(End::Source, &pair.from), (End::Destination, &pair.to)] {
        let set = name.as_ref().and_then(|name| find(config, name, family));
        conditions.extend(set.map(|set| Match::InSet(end, set)));
    }
    conditions
}

/// Whether nothing can tell which packets are in sets, which `refused` is known of this call.
fn are_lost(config: &Config, found: &FoundFirewall, refused: Lacking) -> bool {
    // What is hidden is not known to be lost.
    let is_there = found.nft.is_some() && found.uses_nftables(config.settings.firewall, refused);
    !found.hidden && (refused.nftables || !is_there)
}

/// The names of the policies that do not hold, since nothing can tell which packets are in their sets.
pub(crate) fn lost<'a>(config: &'a Config, found: &FoundFirewall, refused: Lacking) -> Vec<&'a str> {
    if !are_lost(config, found, refused) {
        return Vec::new();
    }
    config.policies.iter().filter(|policy| policy.sets.is_some()).map(|policy| policy.name.as_str()).collect()
}

/// The configuration as far as it can be carried out. Where nothing can tell which packets are in sets, a kill switch holds
/// for all that its other selectors select. Without any it does not hold: it would refuse all that leaves.
pub fn carried_out<'a>(config: &'a Config, found: &FoundFirewall, refused: Lacking) -> Cow<'a, Config> {
    if lost(config, found, refused).is_empty() {
        return Cow::Borrowed(config);
    }
    let mut config = config.clone();
    for policy in &mut config.policies {
        if policy.otherwise == Otherwise::Unreachable && policy.has_other_selectors() {
            policy.sets = None;
        }
    }
    Cow::Owned(config)
}
