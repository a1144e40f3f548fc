//! Observe, plan, apply, verify: the function that every event runs.

pub mod desired;
pub mod firewall;
pub mod link_state;
pub mod plan;

use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use thiserror::Error;

use crate::config::{Config, Firewall, Link, LinkKind, NexthopMode};
use crate::kernel::{self, Kernel};
use crate::model::change::Change;
use crate::model::names::{IfName, LinkName, TableId};
use crate::model::observed::{Observed, Scope};
use crate::model::routing::{Device, FwMark};
use crate::state::records::Records;
use link_state::{LinkState, LiveLink, routed, state};
use plan::{Plan, Problem};

/// A plan is made anew at most this often: each time the world has moved, or a change was refused.
const ROUNDS: usize = 64;

/// Something that is not as it should be after reconciling; the rest is.
#[derive(Debug, Error)]
pub enum Failure {
    /// Something of somebody else's stands in the way.
    #[error(transparent)]
    Problem(Problem),
    /// The kernel refused twice.
    #[error("{error}{}", link.as_ref().map(|l| format!("; link {l} is left out until its next event")).unwrap_or_default())]
    Refused {
        /// What it said.
        error: kernel::Error,
        /// Link that cannot be used for it.
        link: Option<LinkName>,
    },
    /// The kernel said yes, and holds something else.
    #[error(
        "`{0}` had no effect: this kernel is too old for it (ports and protocols in rules need Linux 4.17, \
         dscp needs 6.12), or another program undoes it at once"
    )]
    NoEffect(String),
    /// A line was said to be up, and no packet can leave by it.
    #[error(
        "{0} is recorded as up, but {1} is down, or has no carrier or no address: \
         once it has, run `mhctl apply`, or have its caller say again that it is up"
    )]
    Dead(LinkName, IfName),
    /// Other programs change the same things all the time.
    #[error("the routes do not come to rest: another program keeps changing them; `ip monitor` shows which")]
    Restless,
}

/// Something that the kernel holds as configured, and that will not work.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Warning {
    /// A private network's packets leave by a link with their own source.
    #[error(
        "{1} is private, packets are forwarded, and nothing rewrites their source where they leave by {0}: \
         its provider will drop them; write masquerade = true there, or add rules of your own"
    )]
    Unmasqueraded(LinkName, Ipv4Net),
    /// An Ethernet without a router.
    #[error(
        "{0} has no gateway, and {1} is an Ethernet: each host of the Internet is looked for on it by ARP; \
         have the caller say the router's address, or write gateway there"
    )]
    NoGateway(LinkName, IfName),
    /// The same, where another uplink can carry traffic.
    #[error(
        "{0} is not used: it has no gateway, and {1} is an Ethernet; \
         have the caller say the router's address, or write gateway there"
    )]
    Unused(LinkName, IfName),
}

/// Failures on one line of a length that a log takes.
pub fn summary(failures: &[Failure]) -> String {
    const SHOWN: usize = 3;
    let mut all: Vec<_> = failures.iter().take(SHOWN).map(ToString::to_string).collect();
    if let Some(more) = failures.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        all.push(format!("and {more} more: `mhctl plan` shows what is missing"));
    }
    all.join("; ")
}

/// What reconciling did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Changes that were made, in order.
    pub made: Vec<Change>,
    /// What is not as it should be.
    pub failures: Vec<Failure>,
    /// What is as it was configured, and will not work like that.
    pub warnings: Vec<Warning>,
    /// Links that carry traffic now.
    pub live: Vec<LinkName>,
    /// Links that are recorded as up and cannot carry traffic: down, or without carrier or address.
    pub dead: Vec<LinkName>,
    /// How long it took.
    pub elapsed: Duration,
}

/// What the kernel is not asked for again.
#[derive(Default)]
struct Refused {
    links: Vec<LinkName>,
    changes: Vec<Change>,
    /// Device groups are not known to this iptables or kernel.
    device_groups: bool,
    firewall: bool,
    /// The devices in our groups cannot be told.
    grouped: bool,
}

impl Refused {
    fn plan(&self, config: &Config, records: &Records, observed: &mut Observed) -> (Plan, Vec<LinkName>) {
        observed.firewall.no_groups |= self.device_groups;
        let observed = &*observed;
        let usable = |l: &LiveLink<'_>| !self.links.contains(&l.link.name);
        let routed: Vec<_> = routed(config, records, observed).into_iter().filter(usable).collect();
        // Without its group no default route can be made of nexthop objects.
        let no_group = self.changes.iter().any(|c| matches!(c, Change::Group { .. }));
        let classic = no_group.then(|| {
            let mut config = config.clone();
            config.settings.nexthops = NexthopMode::Multipath;
            config
        });
        let mut plan = Plan::new(classic.as_ref().unwrap_or(config), &routed, observed);
        // Where the new default cannot be made the old one is better than none.
        let is_main = |c: &Change| matches!(c, Change::Route(route) if route.table == TableId::MAIN);
        let keep_old = self.changes.iter().any(is_main);
        let breaks = |c: &Change| match c {
            Change::DeleteRoute(route) => route.table == TableId::MAIN,
            Change::DeleteNexthop(_) => true,
            _ => false,
        };
        let refused = |c: &Change| self.changes.contains(c) || self.firewall && matches!(c, Change::Firewall(_));
        plan.changes.retain(|change| !(refused(change) || keep_old && breaks(change)));
        (plan, routed.into_iter().filter(|l| l.carrier).map(|l| l.link.name.clone()).collect())
    }

    /// Where `plan` changes what our device groups mean, or who is in them, takes those that have strayed out of them:
    /// before that, so that whoever comes after a crash finds the rest of the plan, and so asks again. The kernel
    /// goes through all its devices for it, which an event that changes nothing is spared.
    fn add_strays(
        &self,
        plan: &mut Plan,
        config: &Config,
        records: &Records,
        kernel: &mut impl Kernel,
    ) -> Result<(), kernel::Error> {
        let concerned = |c: &Change| matches!(c, Change::DeviceGroup { .. } | Change::Firewall(_));
        let Some(at) = plan.changes.iter().position(concerned).filter(|_| !self.grouped) else { return Ok(()) };
        let grouped = kernel.in_groups(&config.settings.numbers.link_groups())?;
        let moves = |c: &Change, gone: &Device| matches!(c, Change::DeviceGroup { device, .. } if device == gone);
        let strays = firewall::strays(config, records, grouped).into_iter();
        let strays = strays.filter(|stray| !plan.changes.iter().any(|change| moves(change, stray)));
        let leave = strays.map(|device| Change::DeviceGroup { device, group: 0 });
        let leave: Vec<_> = leave.filter(|change| !self.changes.contains(change)).collect();
        plan.changes.splice(at..at, leave);
        Ok(())
    }
}

/// What would be changed now.
pub fn preview(config: &Config, records: &Records, kernel: &mut impl Kernel) -> Result<Plan, kernel::Error> {
    let mut observed = kernel.observe(&Scope::new(config, records))?;
    let refused = Refused::default();
    let (mut plan, live) = refused.plan(config, records, &mut observed);
    refused.add_strays(&mut plan, config, records, kernel)?;
    let gone = gone(config, records, &live, &About::All);
    plan.changes.extend(forgets(config, &gone, kernel)?);
    Ok(plan)
}

/// Which links reconciling is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// All of them.
    All,
    /// The one whose event it is.
    Link(LinkName),
    /// None: what there was to do has been done by a call before.
    Nothing,
}

fn warnings(states: &[LinkState<'_>], observed: &Observed) -> Vec<Warning> {
    let live: Vec<_> = states.iter().filter_map(LinkState::live).cloned().collect();
    let unmasqueraded = firewall::unmasqueraded(&live, observed).into_iter();
    let mut warnings: Vec<_> = unmasqueraded
        .filter_map(|link| Some(Warning::Unmasqueraded(link.name.clone(), observed.private_lan?)))
        .collect();
    for state in states {
        let (LinkState::Up(l) | LinkState::NoGateway(l)) = state else { continue };
        if l.lacks_gateway(observed) {
            let (link, interface) = (l.link.name.clone(), l.leg.device.name.clone());
            let used = matches!(state, LinkState::Up(_));
            warnings.push(if used { Warning::NoGateway(link, interface) } else { Warning::Unused(link, interface) });
        }
    }
    warnings
}

/// Links that are gone and whose connections others can take over. To look for their pins the kernel
/// walks all tracked connections, which is done only where it can have become necessary: for the
/// link that the event is about; for all, if that one is the first that could take over; and for
/// links that are gone although nobody has said so.
fn gone<'a>(config: &'a Config, records: &Records, live: &[LinkName], about: &About) -> Vec<&'a Link> {
    let is_live = |link: &Link| live.contains(&link.name);
    let uplinks: Vec<_> =
        config.links.iter().filter(|l| matches!(l.kind, LinkKind::Uplink { .. }) && is_live(l)).collect();
    if config.settings.firewall == Firewall::None || uplinks.is_empty() {
        return Vec::new();
    }
    let concerned = |link: &&Link| match about {
        About::All => true,
        About::Link(name) => {
            let first = matches!(uplinks[..], [only] if only.name == *name);
            first || link.name == *name || records.contains_key(&link.name)
        }
        About::Nothing => false,
    };
    config.links.iter().filter(|link| !is_live(link)).filter(concerned).collect()
}

/// The changes that free the connections of links that are gone, where there are such connections.
fn forgets(config: &Config, gone: &[&Link], kernel: &mut impl Kernel) -> Result<Vec<Change>, kernel::Error> {
    let mask = config.marks();
    let mut changes = Vec::new();
    for link in gone {
        let pin = FwMark { value: link.mark.get(), mask };
        if kernel.is_pinned(pin)? {
            changes.push(Change::Forget(pin));
        }
    }
    Ok(changes)
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
    records: &Records,
    about: &About,
    kernel: &mut impl Kernel,
) -> Result<Outcome, kernel::Error> {
    let start = Instant::now();
    let scope = Scope::new(config, records);
    let protocol = config.settings.protocol;
    let mut outcome = Outcome::default();
    let mut refused = Refused::default();
    let mut failed_once: Vec<Change> = Vec::new();
    for round in 0.. {
        let mut observed = kernel.observe(&scope)?;
        let (mut plan, live) = refused.plan(config, records, &mut observed);
        // No reason to leave the routes as they are.
        if let Err(error) = refused.add_strays(&mut plan, config, records, kernel) {
            refused.grouped = true;
            outcome.failures.push(Failure::Refused { error, link: None });
        }
        outcome.live = live;
        let states: Vec<_> = config.links.iter().map(|link| state(link, config, records, &observed)).collect();
        outcome.warnings = warnings(&states, &observed);
        let dead = config.links.iter().zip(&states).filter(|(_, state)| state.is_dead());
        outcome.dead = dead.map(|(link, _)| link.name.clone()).collect();
        // Once is enough for what has no trace in the kernel.
        plan.changes.retain(|c| !(matches!(c, Change::Forget(_)) && outcome.made.contains(c)));
        let rest = plan.changes.is_empty();
        if rest || round == ROUNDS {
            outcome.failures.extend(plan.problems.into_iter().map(Failure::Problem));
            if !rest {
                outcome.failures.push(Failure::Restless);
            }
            break;
        }
        let earlier = outcome.made.len();
        for change in plan.changes {
            let made = outcome.made[..earlier].iter().filter(|made| **made == change).count();
            let no_effect = match change {
                // A rule that is wanted again after it was added lost a selector on the way: old
                // kernels skip what they do not know. What they made of it is deleted by this plan.
                Change::Rule(_) | Change::KernelRule(_) => made >= 1,
                // The kernel deletes the first rule that matches what is given, which can be another
                // one, or one of several; the next plan adds again, behind, what was wanted.
                Change::DeleteRule(_) => made >= 4 && round >= 4,
                _ => false,
            };
            if no_effect {
                outcome.failures.push(Failure::NoEffect(change.command(protocol).to_string()));
                refused.changes.push(change);
                continue;
            }
            // There may be more rules than rounds, and what comes after a kill switch's waits for them: a rule has its
            // second try at once.
            let is_rule = matches!(change, Change::Rule(_) | Change::KernelRule(_) | Change::DeleteRule(_));
            let tried = kernel.apply(&change, protocol);
            let again = is_rule && tried.as_ref().is_err_and(|error| !error.is_permission());
            match if again { kernel.apply(&change, protocol) } else { tried } {
                Ok(()) => outcome.made.push(change),
                Err(error) if error.is_permission() => return Err(error),
                Err(error) if let Change::Firewall(batch) = &change => {
                    // Once more by the names of interfaces, if that can be it.
                    if batch.by_group && matches!(&error, kernel::Error::Firewall(e) if e.is_about_rules()) {
                        refused.device_groups = true;
                    } else {
                        refused.firewall = true;
                        outcome.failures.push(Failure::Refused { error, link: None });
                    }
                    break;
                }
                Err(error) => {
                    if is_rule || failed_once.contains(&change) {
                        let link = link_of(&change, config, records, &observed);
                        match &link {
                            Some(link) => refused.links.push(link.clone()),
                            None => refused.changes.push(change),
                        }
                        outcome.failures.push(Failure::Refused { error, link });
                    } else {
                        failed_once.push(change);
                    }
                    if !is_rule {
                        break;
                    }
                }
            }
        }
    }
    // After the routes have moved: a packet that comes in between would pin the connection to the
    // dead link once more.
    let gone = gone(config, records, &outcome.live, about);
    for change in forgets(config, &gone, kernel)? {
        match kernel.apply(&change, protocol) {
            Ok(()) => outcome.made.push(change),
            Err(error) => outcome.failures.push(Failure::Refused { error, link: None }),
        }
    }
    outcome.elapsed = start.elapsed();
    Ok(outcome)
}

/// The one link that a change leads traffic to, if it does so: without the change there is no use
/// in the link's other routes and rules either.
fn link_of(change: &Change, config: &Config, records: &Records, observed: &Observed) -> Option<LinkName> {
    use crate::model::routing::{DefaultRoute, Target};
    let routed = routed(config, records, observed);
    let device = match change {
        Change::Nexthop { leg, .. } => &leg.device,
        Change::Route(DefaultRoute { target: Target::Legs(legs), .. }) if legs.len() == 1 => &legs[0].leg.device,
        _ => return None,
    };
    routed.iter().find(|l| l.leg.device == *device).map(|l| l.link.name.clone())
}
