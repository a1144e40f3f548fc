//! The rules of a plan: what is missing, what is obsolete, and what of it comes first. Pure.
//!
//! What is a kill switch's leaves by no other line at any step. So kill switches are made before any route, with their
//! guards. The rules of addresses, which guards jump over, are made after them and deleted before them.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::{Change, Plan};
use crate::config::{Config, Firewall};
use crate::model::names::TableId;
use crate::model::observed::Observed;
use crate::model::routing::FwMark;
use crate::model::routing::{Action, FoundRule, Rule, Selector};
use crate::reconcile::desired::{Desired, Make};
use crate::reconcile::link_state::LiveLink;

/// Rules that are not there, in the order in which they are made.
pub(super) struct Missing<'a> {
    /// Before any route.
    pub(super) kill_switches: Vec<&'a Rule>,
    /// After the routes.
    pub(super) others: Vec<&'a Rule>,
}

impl<'a> Missing<'a> {
    pub(super) fn new(desired: &'a Desired, observed: &Observed) -> Self {
        let there: BTreeSet<_> = observed.rules.iter().filter_map(|found| desired.place(found)).collect();
        // Rising priority: the rule for main's better routes is there before any policy is.
        let missing = desired.rules.iter().enumerate().filter(|(at, _)| !there.contains(at)).map(|(_, rule)| rule);
        let (kill_switches, others) = missing.partition(|rule| desired.kill_switches.contains(&rule.priority));
        Self { kill_switches, others }
    }

    /// The links' tables that they look up.
    pub(super) fn tables(&self) -> impl Iterator<Item = TableId> {
        self.kill_switches.iter().chain(&self.others).filter_map(|rule| rule.action.table())
    }

    /// Whether they are rules of uplinks' addresses alone.
    pub(super) fn are_sources(&self, config: &Config) -> bool {
        let sources = config.settings.numbers.source_rules(config.uplink_count());
        self.kill_switches.is_empty() && self.others.iter().all(|rule| sources.contains(&rule.priority))
    }
}

/// Rules of ours that nothing wants, in the order in which they are deleted.
pub(super) struct Obsolete<'a> {
    /// Guards, and before them what they jump over. They go before any rule is made that they would jump over.
    pub(super) guards: Vec<&'a Rule>,
    /// When all is made.
    pub(super) others: Vec<&'a Rule>,
}

impl<'a> Obsolete<'a> {
    pub(super) fn new(desired: &Desired, observed: &'a Observed, ours: u8) -> Self {
        let mut kept = BTreeSet::new();
        // The second of two equal rules of ours is one too many.
        let is_obsolete = |f: &&FoundRule| f.protocol == ours && desired.place(f).is_none_or(|at| !kept.insert(at));
        let obsolete: Vec<_> = observed.rules.iter().filter(is_obsolete).map(|f| &f.rule).collect();
        // There may be thousands of guards, which jump alike.
        let jump = |rule: &&Rule| if let Action::Goto(to) = rule.action { Some((rule.priority, to)) } else { None };
        let jumps: BTreeSet<_> = obsolete.iter().filter_map(jump).collect();
        let is_jumped = |rule: &Rule| {
            let over = |(from, to): &(u32, u32)| (*from..*to).contains(&rule.priority);
            rule.action.table().is_some() && jumps.iter().any(over)
        };
        let (mut guards, mut others): (Vec<_>, Vec<_>) =
            obsolete.into_iter().partition(|rule| is_guard(rule) || is_jumped(rule));
        guards.sort_by_key(|rule| is_guard(rule));
        // Backwards: an `unreachable` outlives what would take its packets behind it, and no rule before it.
        others.sort_by_key(|rule| Reverse(rule.priority));
        Self { guards, others }
    }
}

fn is_guard(rule: &Rule) -> bool {
    matches!(rule.action, Action::Goto(_))
}

/// Tables that obsolete rules look up.
pub(super) fn misleading(config: &Config, obsolete: &Obsolete<'_>) -> BTreeSet<TableId> {
    let numbers = config.settings.numbers;
    let all = || obsolete.guards.iter().chain(&obsolete.others);
    // The rule of an address that a line no longer has misleads nobody. No policy stands there, unless all priorities
    // have moved.
    let has_moved = all().any(|rule| rule.priority < numbers.rule_priority);
    let sources = numbers.source_rules(0);
    let is_source = |rule: &Rule| !has_moved && sources.contains(&rule.priority);
    all().filter(|rule| !is_source(rule)).filter_map(|rule| rule.action.table()).collect()
}

/// Rules that a policy needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyRules {
    /// How many there are.
    pub all: usize,
    /// How many of them the kernel does not hold.
    pub missing: usize,
}

impl Plan {
    /// What this plan, for the same arguments, says of each policy.
    pub fn policy_rules(&self, config: &Config, live: &[LiveLink<'_>], observed: &Observed) -> Vec<PolicyRules> {
        let missing = self.changes.iter().filter_map(|c| if let Change::Rule(rule) = c { Some(rule) } else { None });
        let missing: BTreeSet<_> = missing.collect();
        // How default routes are made does not matter to rules.
        let desired = Desired::new(config, live, Make::Multipath).as_known_to(observed);
        let of_policy = |rules: Vec<&Rule>| PolicyRules {
            all: rules.len(),
            missing: rules.iter().filter(|rule| missing.contains(*rule)).count(),
        };
        desired.policy_rules(config).map(of_policy).collect()
    }

    pub(super) fn make_rules(&mut self, rules: &[&Rule]) {
        self.changes.extend(rules.iter().map(|rule| Change::Rule((*rule).clone())));
    }

    pub(super) fn break_rules(&mut self, rules: &[&Rule]) {
        self.changes.extend(rules.iter().map(|rule| Change::DeleteRule((*rule).clone())));
    }

    /// Tables and marks go by the place in the configuration. A pin that was one link's must not lead by another
    /// link, nor by that one's table: what it kept on its line would go on in the clear.
    pub(super) fn forget_moved_pins(
        &mut self,
        config: &Config,
        live: &[LiveLink<'_>],
        observed: &Observed,
        misleading: &BTreeSet<TableId>,
    ) {
        if config.settings.firewall == Firewall::None {
            return;
        }
        let mask = config.marks();
        for found in observed.rules.iter().filter(|f| f.protocol == config.settings.protocol) {
            let (Some(bit), Some(table)) = (found.rule.selector.fwmark, found.rule.action.table()) else { continue };
            // Not those of policies, of which there can be thousands.
            if bit.value != bit.mask || found.rule.selector != (Selector { fwmark: Some(bit), ..Selector::default() }) {
                continue;
            }
            let is_link = |l: &&LiveLink<'_>| l.link.mark.get() == bit.value && l.link.table == table;
            let now = live.iter().find(is_link).map(|l| l.leg.device.index);
            let routes = observed.routes.iter().filter(|r| r.table == table && r.protocol == found.protocol);
            let before: Vec<_> = routes.flat_map(|r| r.target.devices()).collect();
            let elsewhere = live.iter().any(|l| before.contains(&l.leg.device.index));
            let moved = now.is_some_and(|now| !before.contains(&now)) && (elsewhere || misleading.contains(&table));
            if moved {
                self.changes.push(Change::Forget(FwMark { value: bit.value, mask: mask | bit.mask }));
            }
        }
    }
}
