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
pub use outcome::{Failure, Outcome, Warning};

use crate::config::Config;
use crate::kernel::{self, Kernel};
use crate::model::change::Change;
use crate::model::names::LinkName;
use crate::model::observed::{Observed, Scope};
use crate::model::routing::{DefaultRoute, Target};
use crate::state::records::LinkRecords;
use link_state::{LinkStates, LiveLink};
use plan::Plan;
use refused::Refused;

/// A plan is made anew at most this often: each time the world has moved, or a change was refused.
const ROUNDS: usize = 64;

/// Which links reconciling is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlushScope {
    /// All of them.
    All,
    /// The one whose event it is.
    Link(LinkName),
    /// None: what there was to do has been done by a call before.
    None,
}

/// Brings the kernel to what `config` wants while the links of `records` are up, and looks again
/// until it holds that. A change that fails is tried once more against what the kernel holds by
/// then: a device may have gone in between. If it fails again, it is told of and left out, and the
/// rest is made without it; any prefix of a plan is safe to stop at.
///
/// # Errors
/// When the kernel cannot be read, or refuses for want of privileges.
pub fn reconcile(
    config: &Config,
    records: &LinkRecords,
    flush_scope: &FlushScope,
    kernel: &mut impl Kernel,
) -> Result<Outcome, kernel::Error> {
    let start = Instant::now();
    let scope = Scope::new(config, records);
    let mut run = Run::new(config, records, kernel);
    for round in 0..=ROUNDS {
        let observed = run.kernel.observe(&scope)?;
        let states = LinkStates::new(config, records, &observed);
        let plan = run.plan(&states, &observed);
        if plan.changes.is_empty() || round == ROUNDS {
            run.conclude(plan);
            break;
        }
        run.apply(plan.changes, round, &states)?;
    }
    // After the routes have moved: a packet that comes in between would mark the connection for the dead link once
    // more.
    run.flush_connections(flush_scope)?;
    run.outcome.elapsed = start.elapsed();
    Ok(run.outcome)
}

/// What would be changed now.
///
/// # Errors
/// When the kernel cannot be read.
pub fn preview(config: &Config, records: &LinkRecords, kernel: &mut impl Kernel) -> Result<Plan, kernel::Error> {
    let observed = kernel.observe(&Scope::new(config, records))?;
    let states = LinkStates::new(config, records, &observed);
    let routed = states.routed();
    let mut plan = Plan::new(config, &routed, &observed);
    Refused::default().add_misgrouped(&mut plan, config, records, &routed, kernel)?;
    let flushes = connections::flushes(config, records, &carrying(&routed), &FlushScope::All, kernel)?;
    plan.changes.extend(flushes);
    Ok(plan)
}

/// A call of [`reconcile`].
struct Run<'a, K> {
    config: &'a Config,
    records: &'a LinkRecords,
    kernel: &'a mut K,
    /// Changes that were refused once.
    failed_once: Vec<Change>,
    refused: Refused,
    outcome: Outcome,
}

impl<'a, K: Kernel> Run<'a, K> {
    fn new(config: &'a Config, records: &'a LinkRecords, kernel: &'a mut K) -> Self {
        let (refused, outcome) = (Refused::default(), Outcome::default());
        Self { config, records, kernel, failed_once: Vec::new(), refused, outcome }
    }

    /// What to change now; notes what there is to tell of the links.
    fn plan(&mut self, states: &LinkStates<'_>, observed: &Observed) -> Plan {
        let routed = self.refused.usable(states);
        self.outcome.live = carrying(&routed);
        self.outcome.warnings = outcome::warnings(states, observed);
        let dead = states.iter().filter(|(_, state)| state.is_dead());
        self.outcome.dead = dead.map(|(link, _)| link.name.clone()).collect();

        let mut plan = self.refused.plan(self.config, &routed, observed);
        // No reason to leave the routes as they are.
        if let Err(error) = self.refused.add_misgrouped(&mut plan, self.config, self.records, &routed, self.kernel) {
            self.refused.group_members = true;
            self.outcome.failures.push(Failure::Refused { error, link: None });
        }
        // Once is enough for what has no trace in the kernel.
        let made = &self.outcome.made;
        plan.changes.retain(|change| !(leaves_no_trace(change) && made.contains(change)));
        plan
    }

    /// Notes what the last plan says: there is nothing left to do, or no end.
    fn conclude(&mut self, plan: Plan) {
        self.outcome.failures.extend(plan.problems.into_iter().map(Failure::Problem));
        if !plan.changes.is_empty() {
            self.outcome.failures.push(Failure::NotConverging);
        }
    }

    /// Makes these changes. One that is refused ends it, and a new plan is made; but not a rule: there may be more rules
    /// than rounds, and what comes after a kill switch's waits for them.
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

    /// Whether a change is wanted again although it was made, as the first `made_before` were in earlier rounds.
    fn has_no_effect(&self, change: &Change, made_before: usize, round: usize) -> bool {
        let times = self.outcome.made[..made_before].iter().filter(|made| *made == change).count();
        match change {
            // A rule that is wanted again after it was added lost a selector on the way: old
            // kernels skip what they do not know. What they made of it is deleted by this plan.
            Change::Rule(_) | Change::KernelRule(_) => times >= 1,
            // The kernel deletes the first rule that matches what is given, which can be another
            // one, or one of several; the next plan adds again, behind, what was wanted.
            Change::DeleteRule(_) => times >= 4 && round >= 4,
            _ => false,
        }
    }

    /// Makes a change. A rule has its second try at once.
    fn make(&mut self, change: &Change) -> Result<(), kernel::Error> {
        let protocol = self.config.settings.protocol;
        match self.kernel.apply(change, protocol) {
            Err(error) if is_rule(change) && !error.is_permission() => self.kernel.apply(change, protocol),
            tried => tried,
        }
    }

    /// Notes that a change was refused: it is tried once more, or what it is about is left out.
    fn refuse(&mut self, change: Change, error: kernel::Error, states: &LinkStates<'_>) {
        if let Change::Firewall(batch) = &change {
            // Once more by the names of interfaces, if that can be it.
            if batch.by_group && matches!(&error, kernel::Error::Firewall(e) if e.is_about_rules()) {
                self.refused.device_groups = true;
            } else {
                self.refused.firewall = true;
                self.outcome.failures.push(Failure::Refused { error, link: None });
            }
        } else if is_rule(&change) || self.failed_once.contains(&change) {
            let link = link_of(&change, states);
            match &link {
                Some(link) => self.refused.links.push(link.clone()),
                None => self.refused.changes.push(change),
            }
            self.outcome.failures.push(Failure::Refused { error, link });
        } else {
            self.failed_once.push(change);
        }
    }

    /// Frees the connections of links that are gone.
    fn flush_connections(&mut self, flush_scope: &FlushScope) -> Result<(), kernel::Error> {
        for change in connections::flushes(self.config, self.records, &self.outcome.live, flush_scope, self.kernel)? {
            match self.kernel.apply(&change, self.config.settings.protocol) {
                Ok(()) => self.outcome.made.push(change),
                Err(error) => self.outcome.failures.push(Failure::Refused { error, link: None }),
            }
        }
        Ok(())
    }
}

/// The names of the links that can carry traffic.
fn carrying(routed: &[LiveLink<'_>]) -> Vec<LinkName> {
    routed.iter().filter(|l| l.carrier).map(|l| l.link.name.clone()).collect()
}

fn is_rule(change: &Change) -> bool {
    matches!(change, Change::Rule(_) | Change::KernelRule(_) | Change::DeleteRule(_))
}

/// The one link that a change leads traffic to, if it does so: without the change there is no use
/// in the link's other routes and rules either.
fn link_of(change: &Change, states: &LinkStates<'_>) -> Option<LinkName> {
    let device = match change {
        Change::Nexthop { next_hop, .. } => &next_hop.device,
        Change::Route(DefaultRoute { target: Target::NextHops(next_hops), .. }) if next_hops.len() == 1 => {
            &next_hops[0].next_hop.device
        }
        _ => return None,
    };
    let mut routed = states.iter().filter_map(|(_, state)| state.routed());
    routed.find(|l| l.next_hop.device == *device).map(|l| l.link.name.clone())
}

/// Whether the kernel does not show that a change was made.
fn leaves_no_trace(change: &Change) -> bool {
    matches!(change, Change::FlushConnections(_) | Change::MarkConnections(_))
}
