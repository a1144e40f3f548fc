//! The rules of a plan: missing and obsolete ones, and their order. Pure.
//!
//! At no step may a packet of a kill switch leave by another link. Therefore kill switches and their guards are added
//! before any route. Source rules, which guards jump over, are added after the guards and deleted before them.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::{Change, Plan};
use crate::config::{Config, Firewall};
use crate::model::firewall::Lacking;
use crate::model::names::{Family, TableId};
use crate::model::numbering;
use crate::model::observed::Observed;
use crate::model::routing::{Action, FwMark, Rule, Selector};
use crate::reconcile::desired::{DefaultRouteMode, Desired};
use crate::reconcile::firewall;
use crate::reconcile::link_state::Live;

/// Missing rules, in the order in which they are added.
#[derive(Default)]
pub(super) struct Missing<'a> {
    /// Before any route: all that refuse, and what goes with kill switches.
    pub(super) kill_switches: Vec<&'a Rule>,
    /// After the routes.
    pub(super) others: Vec<&'a Rule>,
}

impl<'a> Missing<'a> {
    pub(super) fn new(desired: &'a Desired, observed: &Observed) -> Self {
        let held: BTreeSet<_> = observed.rules.iter().filter_map(|found| desired.index_of(found)).collect();
        let mut missing = Self::default();
        // By rising priority: the main rule is added before any policy.
        for (index, rule) in desired.rules.iter().enumerate() {
            if held.contains(&index) {
                continue;
            }
            // One that refuses the last prefixes of a lost link, too: the rules that tell these go before the others come.
            let is_refusal = rule.action == Action::Unreachable;
            if is_refusal || desired.kill_switches.contains(&rule.priority) {
                missing.kill_switches.push(rule);
            } else {
                missing.others.push(rule);
            }
        }
        // Guards last: they jump over the rules of an older numbering, which refuse until the new ones do.
        missing.kill_switches.sort_by_key(|rule| is_guard(rule));
        missing
    }

    /// Tables that they look up.
    pub(super) fn tables(&self) -> impl Iterator<Item = TableOf> {
        self.kill_switches.iter().chain(&self.others).filter_map(|rule| table_of(rule))
    }

    /// Whether all of them are source rules.
    pub(super) fn are_source_rules(&self, config: &Config) -> bool {
        let sources = config.settings.numbers.source_rules(config.uplink_count());
        self.kill_switches.iter().chain(&self.others).all(|rule| sources.contains(&rule.priority))
    }
}

/// Obsolete managed rules, in the order in which they are deleted.
pub(super) struct Obsolete<'a> {
    /// Guards, and before them the rules that they jump over. They are deleted before any rule is added that they would
    /// jump over.
    pub(super) guards: Vec<&'a Rule>,
    /// After everything is added.
    pub(super) others: Vec<&'a Rule>,
    /// Where the guards that the kernel holds lead, obsolete or not.
    led_to: BTreeSet<(Family, u32)>,
}

impl<'a> Obsolete<'a> {
    pub(super) fn new(desired: &Desired, observed: &'a Observed, managed: u8) -> Self {
        let mut kept = BTreeSet::new();
        let mut obsolete = Vec::new();
        let mut led_to = BTreeSet::new();
        // A set, since thousands of guards may have the same jump.
        let mut jumps = BTreeSet::new();
        for found in observed.rules.iter().filter(|found| found.protocol == managed) {
            led_to.extend(found.rule.action.jump().map(|to| (found.rule.family, to)));
            // The second of two equal managed rules is obsolete.
            if desired.index_of(found).is_some_and(|index| kept.insert(index)) {
                continue;
            }
            jumps.extend(found.rule.action.jump().map(|to| (found.rule.priority, to)));
            obsolete.push(&found.rule);
        }
        let (mut guards, mut others): (Vec<&Rule>, Vec<&Rule>) =
            obsolete.into_iter().partition(|rule| is_guard(rule) || is_jumped(rule, &jumps));
        guards.sort_by_key(|rule| is_guard(rule));
        // By falling priority: an `unreachable` is deleted after the rules behind it, which would match its packets,
        // and before those in front of it.
        others.sort_by_key(|rule| Reverse(rule.priority));
        Self { guards, others, led_to }
    }

    /// Takes the rules of older policies that a missing guard leads to past an older kill switch, in front of its own, unless
    /// they are of a kill switch themselves. They are deleted before that guard is added. Where a guard leads as far
    /// already, it would lose its way.
    pub(super) fn take_misleading(&mut self, missing: &Missing<'_>) -> Vec<&'a Rule> {
        let refused: BTreeSet<_> =
            self.iter().filter(|rule| rule.action == Action::Unreachable).map(selected).collect();
        let mut misleading = Vec::new();
        for family in Family::BOTH {
            let added = missing.kill_switches.iter().filter(|rule| rule.family == family);
            let first = added.clone().filter_map(|guard| guard.action.jump()).min();
            let last = added.filter(|rule| !is_guard(rule)).map(|rule| rule.priority).max();
            let (Some(first), Some(last)) = (first, last) else { continue };
            if self.led_to.range((family, first)..=(family, u32::MAX)).next().is_some() {
                continue;
            }
            for rule in std::mem::take(&mut self.others) {
                let is_led_to = rule.family == family && (first..=last).contains(&rule.priority);
                let taken = is_led_to && rule.action.table().is_some() && !refused.contains(&selected(rule));
                if taken { misleading.push(rule) } else { self.others.push(rule) }
            }
        }
        misleading
    }

    /// Rules that refuse, while our table changes, what bears the mark of a set whose bit had another meaning: old rules of
    /// that bit are there with the new ones, and would lead packets of a kill switch to links of another policy.
    pub(super) fn refusals(&self, config: &Config, firewall: &[Change]) -> Vec<Rule> {
        let mut bits = 0;
        if firewall.iter().any(|change| matches!(change, Change::Nftables(_))) {
            let marks = self.iter().filter(|rule| !is_guard(rule)).filter_map(|rule| rule.selector.fwmark);
            bits = marks.fold(0, |all, mark| all | mark.value) & config.set_marks();
        }
        let mut refusals = Vec::new();
        for bit in numbering::set_marks(!bits) {
            let selector = Selector { fwmark: Some(FwMark { value: bit, mask: bit }), ..Selector::default() };
            // Before any guard.
            let priority = config.settings.numbers.guarded_main_rule();
            for family in Family::BOTH {
                let (selector, action) = (selector.clone(), Action::Unreachable);
                refusals.push(Rule { priority, family, selector, action });
            }
        }
        refusals
    }

    fn iter(&self) -> impl Iterator<Item = &'a Rule> {
        self.guards.iter().chain(&self.others).copied()
    }
}

fn is_guard(rule: &Rule) -> bool {
    rule.action.jump().is_some()
}

fn selected(rule: &Rule) -> (Family, &Selector) {
    (rule.family, &rule.selector)
}

/// Whether guards with these jumps jump over the rule.
fn is_jumped(rule: &Rule, jumps: &BTreeSet<(u32, u32)>) -> bool {
    rule.action.table().is_some() && jumps.iter().any(|(from, to)| (*from..*to).contains(&rule.priority))
}

/// A table in one family: the other has one of its own under the same number.
pub(super) type TableOf = (Family, TableId);

/// The table that a rule looks up, if it is not main.
pub(super) fn table_of(rule: &Rule) -> Option<TableOf> {
    rule.action.table().map(|table| (rule.family, table))
}

/// Tables that obsolete rules look up.
pub(super) fn stale_tables(config: &Config, obsolete: &Obsolete<'_>) -> BTreeSet<TableOf> {
    let numbers = config.settings.numbers;
    // An obsolete source rule cannot match packets of a policy: no policy has these priorities for any number of
    // uplinks, unless all priorities have moved.
    let have_moved = obsolete.iter().any(|rule| rule.priority < numbers.rule_priority);
    let sources = numbers.source_rules(0);
    let misleading = obsolete.iter().filter(|rule| have_moved || !sources.contains(&rule.priority));
    misleading.filter_map(table_of).collect()
}

/// The rules of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PolicyRules {
    pub all: usize,
    /// How many of them are missing in the kernel.
    pub missing: usize,
}

impl Plan {
    /// The rules of each policy, according to this plan, which was made for the same arguments.
    pub(crate) fn policy_rules(&self, config: &Config, live: &Live<'_>, observed: &Observed) -> Vec<PolicyRules> {
        let mut to_add = BTreeSet::new();
        for change in &self.changes {
            if let Change::Rule(rule) = change {
                to_add.insert(rule);
            }
        }
        // Rules do not depend on the mode.
        let config = &*firewall::sets::carried_out(config, &observed.firewall, Lacking::default());
        let desired = Desired::new(config, live, DefaultRouteMode::Multipath).for_kernel(observed, config);
        let mut all = Vec::with_capacity(config.policies.len());
        for rules in desired.policy_rules(config) {
            let missing = rules.iter().filter(|rule| to_add.contains(*rule)).count();
            all.push(PolicyRules { all: rules.len(), missing });
        }
        all
    }

    pub(super) fn make_rules(&mut self, rules: &[&Rule]) {
        self.changes.extend(rules.iter().map(|rule| Change::Rule((*rule).clone())));
    }

    pub(super) fn delete_rules(&mut self, rules: &[&Rule]) {
        self.changes.extend(rules.iter().map(|rule| Change::DeleteRule((*rule).clone())));
    }

    /// Tables and marks follow the position in the configuration. After it has changed, a connection mark must not lead
    /// to another link: a connection of a tunnel would go on unencrypted.
    pub(super) fn flush_moved_marks(
        &mut self,
        config: &Config,
        live: &Live<'_>,
        observed: &Observed,
        stale_tables: &BTreeSet<TableOf>,
    ) {
        if config.settings.firewall == Firewall::None {
            return;
        }
        for (family, bit, table) in marked_tables(config, observed) {
            let live = live.of(family);
            let mut links = live.iter().filter(|l| l.link.mark.get() == bit && l.link.table == table);
            let Some(now) = links.next().map(|l| l.next_hop.device.index) else { continue };
            let routes = observed
                .routes
                .iter()
                .filter(|route| route.family == family && route.table == table)
                .filter(|route| route.protocol == config.settings.protocol);
            let before: Vec<_> = routes.flat_map(|route| route.target.devices()).collect();
            let is_elsewhere = live.iter().any(|l| before.contains(&l.next_hop.device.index));
            if !before.contains(&now) && (is_elsewhere || stale_tables.iter().any(|(_, stale)| *stale == table)) {
                self.changes.push(Change::FlushConnections(family, FwMark { value: bit, mask: config.marks() | bit }));
            }
        }
    }

    /// Connections of an IPv6 prefix that a live link has lost must not stay on it: nobody answers to their addresses
    /// there any more.
    pub(super) fn flush_lost_prefixes(&mut self, config: &Config, live: &Live<'_>, obsolete: &Obsolete<'_>) {
        if config.settings.firewall == Firewall::None {
            return;
        }
        for rule in obsolete.iter().filter(|rule| rule.family == Family::V6) {
            let Some(prefix) = rule.selector.from else { continue };
            for l in &live.v6 {
                // It may only have become a part of another one.
                let is_lost = !l.prefixes.iter().any(|now| now.contains(&prefix));
                if is_lost && config.settings.numbers.source_rule(l.link.position) == rule.priority {
                    let mark = FwMark { value: l.link.mark.get(), mask: config.marks() };
                    self.changes.push(Change::FlushPrefix(mark, prefix));
                }
            }
        }
    }
}

/// Marks and the tables to which they lead now. As long as no link has had IPv6, only IPv4 has rules to tell.
fn marked_tables(config: &Config, observed: &Observed) -> Vec<(Family, u32, TableId)> {
    let managed = observed.rules.iter().filter(|found| found.protocol == config.settings.protocol);
    let mut marked: Vec<_> = managed
        .filter_map(|found| link_mark(&found.rule).map(|(bit, table)| (found.rule.family, bit, table)))
        .collect();
    if !observed.leads_ipv6(config.settings.protocol) {
        marked.extend(marked.clone().into_iter().map(|(_, bit, table)| (Family::V6, bit, table)));
    }
    marked
}

/// Mark and table of a mark rule; `None`: another rule.
fn link_mark(rule: &Rule) -> Option<(u32, TableId)> {
    let mark = rule.selector.fwmark.filter(|mark| mark.value == mark.mask)?;
    let table = rule.action.table()?;
    let is_mark_alone = rule.selector == Selector { fwmark: Some(mark), ..Selector::default() };
    is_mark_alone.then_some((mark.value, table))
}
