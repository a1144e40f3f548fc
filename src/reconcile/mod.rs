//! Observe, plan, apply, verify: the function that every event runs.

mod connections;
pub mod desired;
pub mod firewall;
pub mod link_state;
mod outcome;
pub mod plan;
mod refused;

use std::time::Instant;

pub(crate) use outcome::summary;
pub use outcome::{Carrying, Failure, Outcome, Warning};

use crate::config::{Config, Firewall};
use crate::kernel::{self, Kernel};
use crate::model::change::Change;
use crate::model::firewall::{Batch, Variant};
use crate::model::names::{Family, LinkName};
use crate::model::observed::{Observed, Preference, Scope};
use crate::model::routing::{DefaultRoute, FoundRoute, Target};
use crate::state::records::LinkRecords;
use link_state::LinkStates;
use plan::Plan;
use refused::Refused;

/// Maximum number of plans in one call. A new one is made after changes, whether made or refused.
const ROUNDS: usize = 64;

/// Which links' connections may have to be flushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlushScope {
    All,
    Link(LinkName),
    /// None: an earlier call has flushed them.
    None,
}

/// Brings the kernel to the desired state of `config` and `records`: observes, plans and applies until the plan is
/// empty. A refused change is tried once more after another observation, since a device may have gone meanwhile. If it
/// is refused again, it becomes a failure, and the rest is done without it. A plan is safe to stop at any point.
///
/// # Errors
/// The kernel cannot be read, or the process lacks privileges. What was made until then stays.
pub fn reconcile(
    config: &Config,
    records: &LinkRecords,
    flush_scope: &FlushScope,
    kernel: &mut impl Kernel,
) -> Result<Outcome, kernel::Error> {
    let start = Instant::now();
    let mut scope = Scope { leftovers: *flush_scope == FlushScope::All, ..Scope::new(config, records) };
    let mut run = Run::new(config, records, kernel);
    for round in 0..=ROUNDS {
        if run.refused.without.nftables && config.settings.firewall == Firewall::Auto {
            scope.firewall = Firewall::Iptables;
        }
        let observed = run.kernel.observe(&scope)?;
        let states = LinkStates::new(config, records, &observed);
        let plan = run.plan(&states, &observed);
        if plan.changes.is_empty() || round == ROUNDS {
            run.conclude(plan);
            break;
        }
        run.apply(plan.changes, round, &states)?;
    }
    // After the change of routes: before it, the next packet would mark the connection for the dead link again.
    run.flush_connections(flush_scope)?;
    run.outcome.elapsed = start.elapsed();
    Ok(run.outcome)
}

/// The plan that [`reconcile`] would begin with.
///
/// # Errors
/// The kernel cannot be read.
pub fn preview(config: &Config, records: &LinkRecords, kernel: &mut impl Kernel) -> Result<Plan, kernel::Error> {
    let observed = kernel.observe(&Scope { leftovers: true, ..Scope::new(config, records) })?;
    let states = LinkStates::new(config, records, &observed);
    let routed = states.routed();
    let mut plan = Plan::new(config, &routed, &observed);
    Refused::default().add_misgrouped(&mut plan, config, records, &routed, kernel)?;
    let flushes = connections::flushes(config, records, &Carrying::of(&routed), &FlushScope::All, kernel)?;
    plan.changes.extend(flushes);
    Ok(plan)
}

/// A call of [`reconcile`].
struct Run<'a, K> {
    config: &'a Config,
    records: &'a LinkRecords,
    kernel: &'a mut K,
    /// Refused once, to be tried again.
    failed_once: Vec<Change>,
    refused: Refused,
    outcome: Outcome,
}

impl<'a, K: Kernel> Run<'a, K> {
    fn new(config: &'a Config, records: &'a LinkRecords, kernel: &'a mut K) -> Self {
        let (refused, outcome) = (Refused::default(), Outcome::default());
        Self { config, records, kernel, failed_once: Vec::new(), refused, outcome }
    }

    /// The next plan. Updates the parts of the outcome that are about links.
    fn plan(&mut self, states: &LinkStates<'_>, observed: &Observed) -> Plan {
        let routed = self.refused.usable(states);
        self.outcome.carrying = Carrying::of(&routed);
        self.outcome.warnings.retain(Warning::is_of_refusal);
        self.outcome.warnings.extend(outcome::warnings(states, observed));
        self.outcome.dead = outcome::dead(states);
        let again = observed.lan6.iter().filter(|found| found.preference == Preference::PreferredAgain);
        self.outcome.preferred_again.extend(again.map(|found| (found.device.index, found.address.addr())));

        let mut plan = self.refused.plan(self.config, &routed, observed);
        // The routes are changed all the same.
        if let Err(error) = self.refused.add_misgrouped(&mut plan, self.config, self.records, &routed, self.kernel) {
            self.refused.group_members = true;
            self.outcome.failures.push(Failure::Refused { error, link: None });
        }
        // Flushing leaves no trace in the kernel, and once is enough.
        let made = &self.outcome.made;
        plan.changes.retain(|change| !(change.is_about_connections() && made.contains(change)));
        plan
    }

    /// Adds the failures of the last plan. If it is not empty, the routes do not converge.
    fn conclude(&mut self, plan: Plan) {
        self.outcome.failures.extend(plan.problems.into_iter().map(Failure::Problem));
        if !plan.changes.is_empty() {
            self.outcome.failures.push(Failure::NotConverging);
        }
    }

    /// Makes these changes. A refusal ends the round, and a new plan is made. After a refused rule the round goes on:
    /// there may be more rules than rounds, and changes after those of a kill switch wait for them.
    fn apply(&mut self, changes: Vec<Change>, round: usize, states: &LinkStates<'_>) -> Result<(), kernel::Error> {
        let made_before = self.outcome.made.len();
        for change in changes {
            if self.has_no_effect(&change, made_before, round) {
                let command = change.command(self.config.settings.protocol).to_string();
                self.outcome.failures.push(Failure::NoEffect(command));
                self.refused.changes.push(change);
                continue;
            }
            match self.make(&change) {
                Ok(()) => self.outcome.made.push(change),
                Err(error) if error.is_permission() => return Err(error),
                Err(error) => {
                    let goes_on = is_rule(&change);
                    self.refuse(change, error, states);
                    if !goes_on {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a change is planned again although it was made in an earlier round, as the first `made_before` changes
    /// were.
    fn has_no_effect(&self, change: &Change, made_before: usize, round: usize) -> bool {
        let times = self.outcome.made[..made_before].iter().filter(|made| *made == change).count();
        match change {
            // An old kernel ignores selectors that it does not know. This plan deletes the truncated rule.
            Change::Rule(_) | Change::KernelRule(_) => times >= 1,
            // The kernel deletes the first rule that matches the request, which can be another one or one of several.
            // The next plan adds a desired rule again, behind the others.
            Change::DeleteRule(_) => times >= 4 && round >= 4,
            // What was there cannot be read.
            Change::Firewall(batch) if batch.table.family == Family::V6 => times >= 2,
            // A foreign route of the same table and metric hides managed IPv6 next hops, or its own next hop is shown as
            // managed.
            Change::Route(DefaultRoute { family: Family::V6, .. })
            | Change::DeleteRoute(FoundRoute { family: Family::V6, .. }) => times >= 2,
            _ => false,
        }
    }

    /// Makes a change. A rule is tried again at once.
    fn make(&mut self, change: &Change) -> Result<(), kernel::Error> {
        let protocol = self.config.settings.protocol;
        match self.kernel.apply(change, protocol) {
            Err(error) if is_rule(change) && !error.is_permission() => self.kernel.apply(change, protocol),
            tried => tried,
        }
    }

    /// Handles a refusal: the change is tried once more, or left out together with its link.
    fn refuse(&mut self, change: Change, error: kernel::Error, states: &LinkStates<'_>) {
        if matches!(change, Change::Nftables(_)) {
            self.refuse_nftables(change, error);
        } else if let Change::Firewall(batch) = &change {
            self.refuse_iptables(batch, error);
        } else if is_rule(&change) || self.failed_once.contains(&change) {
            let link = link_of(&change, states);
            match &link {
                Some(link) => self.refused.links.push(link.clone()),
                None => self.refused.changes.push(change),
            }
            let link = link.map(|(_, name)| name);
            self.outcome.failures.push(Failure::Refused { error, link });
        } else {
            self.failed_once.push(change);
        }
    }

    /// Handles a refusal of chains in iptables. Those of IPv6 come when those of IPv4 are there, so that these go on.
    fn refuse_iptables(&mut self, batch: &Batch, error: kernel::Error) {
        let (is_lasting, is_about_rules) = match &error {
            kernel::Error::Firewall(error) => (error.is_lasting(), error.is_about_rules()),
            _ => (false, false),
        };
        let is_ipv6 = batch.table.family == Family::V6;
        self.refused.ip6tables |= is_ipv6;
        if is_ipv6 && batch.variant == Variant::Usual && is_lasting {
            self.outcome.warnings.push(Warning::WithoutIp6tables(error.to_string()));
        } else if !is_ipv6 && batch.by_group && is_about_rules {
            // Try interface names instead of device groups, if these may be the reason.
            self.refused.without.device_groups = true;
        } else {
            self.refused.firewall |= !is_ipv6;
            self.outcome.failures.push(Failure::Refused { error, link: None });
        }
    }

    /// Handles a refusal of a transaction: it is tried once more, since what it deletes may have gone meanwhile. Then
    /// iptables gets the rules of our table, unless the configuration asks for nftables.
    fn refuse_nftables(&mut self, change: Change, error: kernel::Error) {
        let makes_table = matches!(&change, Change::Nftables(transaction) if transaction.makes_table());
        if !self.failed_once.contains(&change) {
            self.failed_once.push(change);
            return;
        }
        let is_for_good = makes_table && !error.is_temporary();
        self.refused.without.nftables |= is_for_good;
        if is_for_good && self.config.settings.firewall == Firewall::Auto {
            self.outcome.warnings.push(Warning::WithoutNftables(error.to_string()));
        } else {
            self.refused.firewall = true;
            self.outcome.failures.push(Failure::Refused { error, link: None });
        }
    }

    /// Flushes the connections of links that are gone.
    fn flush_connections(&mut self, flush_scope: &FlushScope) -> Result<(), kernel::Error> {
        for change in connections::flushes(self.config, self.records, &self.outcome.carrying, flush_scope, self.kernel)?
        {
            match self.kernel.apply(&change, self.config.settings.protocol) {
                Ok(()) => self.outcome.made.push(change),
                Err(error) => self.outcome.failures.push(Failure::Refused { error, link: None }),
            }
        }
        Ok(())
    }
}

fn is_rule(change: &Change) -> bool {
    matches!(change, Change::Rule(_) | Change::KernelRule(_) | Change::DeleteRule(_))
}

/// The only link of a change, in its family. Lacking the change the link's other routes and rules of the family are
/// useless, too.
fn link_of(change: &Change, states: &LinkStates<'_>) -> Option<(Family, LinkName)> {
    let (family, device) = match change {
        Change::Nexthop { next_hop, .. } => (Family::V4, &next_hop.device),
        Change::Route(DefaultRoute { family, target: Target::NextHops(next_hops), .. }) if next_hops.len() == 1 => {
            (*family, &next_hops[0].next_hop.device)
        }
        _ => return None,
    };
    let mut routed = states.iter_of(family).filter_map(|(_, state)| state.routed());
    routed.find(|l| l.next_hop.device == *device).map(|l| (family, l.link.name.clone()))
}
