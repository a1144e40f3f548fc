//! `mhctl flush`: takes away everything of ours, and leaves a plain default route through the best
//! link, so that nobody is cut off.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::ptr;

use tracing::{info, warn};

use super::Error;
use crate::cli::Common;
use crate::config::{self, Config, LinkKind, Otherwise};
use crate::ctl::lookup::observed_next_hops;
use crate::ctl::show;
use crate::hook::pass::{self, Pass};
use crate::kernel::netlink::constants::RTPROT_STATIC;
use crate::kernel::{self, Kernel, Linux};
use crate::model::change::Change;
use crate::model::firewall::Firewall;
use crate::model::names::{Family, TableId, Weight};
use crate::model::observed::{Observed, Scope};
use crate::model::routing::{Action, DefaultRoute, Device, FoundRoute, NextHop, NexthopKind, Target, WeightedNextHop};
use crate::model::sh::quoted;
use crate::reconcile::firewall::removal;
use crate::reconcile::link_state::{LinkStates, LiveLink};
use crate::state::records::{Effect, LinkRecords, Records, Store};

/// Starts the timer at boot, whoever has enabled it.
const TIMER: &str = "/etc/systemd/system/timers.target.wants/multihome.timer";

/// Other programs may change things meanwhile; after so many looks they win.
const ROUNDS: usize = 16;

/// No options of its own.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Goes:  rules, routes and nexthops with our protocol number, our table of
       nftables, our chains in iptables, our device groups, the records of
       links that are up.
Comes: a plain default route, of protocol static, by the best uplink.
Ends:  policies with otherwise = \"unreachable\": what they refuse goes by that
       route. Their names are said.
Stays: what others made; marks of tracked connections, which nothing heeds any
       more; a reverse path filter that was made loose, a hash-policy and
       ignore_routes_with_linkdown that were set, since what they were is not
       known.
Afterwards a link counts again at its next event, or with `mhctl link up`.
Rules, and links with a gateway in the configuration, come back at any event or
apply, so stop the timer before: systemctl stop multihome.timer
Example: mhctl flush --dry-run  # see it; without --dry-run do it")]
pub struct Args {}

/// A change, and the protocol number that it bears.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    change: Change,
    protocol: u8,
}

/// Our default route would go, and there is nothing to put in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CutOff;

/// What the kernel holds.
struct Seen {
    observed: Observed,
    /// Devices in our groups.
    grouped: Vec<Device>,
}

impl Seen {
    /// Looks: with `firewall = "none"` too there may be chains of a time when it was not.
    fn by(kernel: &mut impl Kernel, config: &Config, records: &LinkRecords) -> Result<Self, kernel::Error> {
        let observed =
            kernel.observe(&Scope { firewall: Firewall::Auto, leftovers: true, ..Scope::new(config, records) })?;
        let grouped = kernel.in_groups(&config.settings.numbers.link_groups())?;
        Ok(Self { observed, grouped: grouped.into_iter().map(|(device, _)| device).collect() })
    }
}

/// What to do so that nothing of ours is left, in an order that makes before it breaks: at no prefix
/// is there no default route where there was one. `refused` are the ways that the kernel would not
/// take. Pure.
fn steps(
    config: &Config,
    live: &[LiveLink<'_>],
    Seen { observed, grouped }: &Seen,
    refused: &[NextHop],
) -> Result<Vec<Step>, CutOff> {
    let ours = config.settings.protocol;
    let plain = plain_default(config, live, observed, refused)?;
    // It takes the place of the first of its metric.
    let replaced = plain.as_ref().and_then(|plain| first(observed, plain.metric));
    // It is the administrator's from here on: daemons leave RTPROT_STATIC alone, where they purge RTPROT_BOOT at their
    // start. pppd looks at no protocol. It leads by a device of ours, so that the next apply with that link up replaces
    // it in place.
    let plain = plain.map(|route| Step { change: Change::Route(route), protocol: RTPROT_STATIC });
    let mut changes = Vec::new();
    // Backwards: a policy goes before the rule that keeps it from what main knows better.
    let mut rules: Vec<_> = observed.rules.iter().filter(|f| f.protocol == ours).map(|f| f.rule.clone()).collect();
    rules.sort_by_key(|rule| (!matches!(rule.action, Action::Unreachable), Reverse(rule.priority)));
    for rule in rules {
        changes.push(Change::DeleteRule(rule));
    }
    let routes = observed.routes.iter().filter(|f| f.protocol == ours && !replaced.is_some_and(|r| ptr::eq(r, *f)));
    for route in routes {
        changes.push(Change::DeleteRoute(route.clone()));
    }
    let mut nexthops: Vec<_> = observed.nexthops.iter().flatten().filter(|(_, n)| n.protocol == ours).collect();
    nexthops.sort_by_key(|(_, n)| !matches!(n.kind, NexthopKind::Group(_)));
    for (id, _) in nexthops {
        changes.push(Change::DeleteNexthop(*id));
    }
    for device in grouped {
        changes.push(Change::DeviceGroup { device: device.clone(), group: 0 });
    }
    // Last: what else is ours goes even where iptables fails.
    changes.extend(removal(&observed.firewall));
    let changes = changes.into_iter().map(|change| Step { change, protocol: ours });
    Ok(plain.into_iter().chain(changes).collect())
}

/// What hosts of a LAN lose with our rules; `None`: others translate their addresses, or nobody ever did. Pure.
fn lost(live: &[LiveLink<'_>], observed: &Observed, mhctl: &str) -> Option<String> {
    let lan = observed.private_lan.filter(|_| !observed.firewall.foreign_nat)?;
    let translates = observed.firewall.masquerades();
    let uplinks = live.iter().filter(|l| l.link.is_uplink() && l.link.masquerade);
    let LiveLink { link, next_hop, .. } = uplinks.clone().next().filter(|_| translates)?;
    let device = next_hop.device.name.quoted();
    Some(format!(
        "without our rules nothing translates the addresses of {lan}, and its hosts have no Internet: \
         `{mhctl} link up {} --interface {device}` brings it back, \
         `iptables -t nat -A POSTROUTING -o {device} -j MASQUERADE` does without us",
        link.name
    ))
}

/// What of the policies that refuse traffic now comes to pass when they are gone; `None`: there is no such policy. Pure.
fn opened(config: &Config, live: &[LiveLink<'_>], before: &Observed, steps: &[Step]) -> Option<String> {
    const SHOWN: usize = 10;
    let ours = before.rules.iter().filter(|f| f.protocol == config.settings.protocol);
    let refusing: BTreeSet<_> =
        ours.filter(|f| f.rule.action == Action::Unreachable).map(|f| f.rule.priority).collect();
    let mut names = Vec::new();
    for (policy, priorities) in config.policies.iter().zip(config.policy_priorities()) {
        if policy.otherwise == Otherwise::Unreachable && refusing.range(priorities).next().is_some() {
            names.push(policy.name.as_str());
        }
    }
    let by = remaining_default(config, live, before, steps);
    let (are, their) = if names.len() == 1 { ("is", "its") } else { ("are", "their") };
    Some(format!("{} {are} refused no longer: {their} traffic goes by {by}", show::policies(names, SHOWN)?))
}

/// What the default route leads by when the steps are made.
fn remaining_default(config: &Config, live: &[LiveLink<'_>], before: &Observed, steps: &[Step]) -> String {
    let new = steps.iter().find_map(|step| match &step.change {
        Change::Route(DefaultRoute { target: Target::NextHops(hops), .. }) => {
            Some(hops.iter().map(|hop| hop.next_hop.device.index))
        }
        _ => None,
    });
    let main = before.routes.iter().filter(|f| f.family == Family::V4 && f.table == TableId::MAIN);
    let others = main.filter(|f| f.protocol != config.settings.protocol);
    let devices: Vec<u32> = match (new, others.min_by_key(|f| f.metric)) {
        (Some(new), _) => new.collect(),
        (None, Some(other)) => other.target.devices(),
        (None, None) => Vec::new(),
    };
    let mut ways = Vec::new();
    for device in devices {
        let link = live.iter().find(|l| l.next_hop.device.index == device).map(|l| l.link.name.to_string());
        let known = before.interfaces.values().find(|interface| interface.device.index == device);
        ways.extend(link.or_else(|| Some(known?.device.name.to_string())));
    }
    if ways.is_empty() { "whatever default route there is".to_owned() } else { ways.join(", ") }
}

/// The default route of that metric that is in use.
fn first(observed: &Observed, metric: u32) -> Option<&FoundRoute> {
    observed.routes.iter().find(|f| f.family == Family::V4 && f.table == TableId::MAIN && f.metric == metric)
}

/// The default route that stays, if there has to be a new one: somebody else's at its place is left
/// alone, also the one of an earlier flush.
fn plain_default(
    config: &Config,
    live: &[LiveLink<'_>],
    observed: &Observed,
    refused: &[NextHop],
) -> Result<Option<DefaultRoute>, CutOff> {
    let metric = config.settings.numbers.metric;
    let ours = config.settings.protocol;
    if first(observed, metric).is_some_and(|f| f.protocol != ours) {
        return Ok(None);
    }
    // Of those with a carrier, and of the lowest tier, the one of the largest share, and of those the first.
    let mut ranked: Vec<_> = live
        .iter()
        .filter_map(|l| match l.link.kind {
            LinkKind::Uplink { weight, tier } => Some(((!l.carrier, tier, Reverse(weight)), &l.next_hop)),
            LinkKind::Tunnel => None,
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    // Where our own default leads by something that is no live link any more, that is better than nothing.
    let standing =
        observed.routes.iter().filter(|f| f.family == Family::V4 && f.table == TableId::MAIN && f.protocol == ours);
    let old = standing.clone().flat_map(|f| observed_next_hops(&f.target, observed)).map(|(leg, _)| leg);
    match ranked.into_iter().map(|(_, leg)| leg).chain(old).find(|leg| !refused.contains(leg)) {
        Some(leg) => {
            let leg = WeightedNextHop { next_hop: leg.clone(), weight: Weight::default() };
            Ok(Some(DefaultRoute {
                family: Family::V4,
                table: TableId::MAIN,
                metric,
                target: Target::NextHops(vec![leg]),
            }))
        }
        None if standing.count() > 0 => Err(CutOff),
        None => Ok(None),
    }
}

pub(super) fn run(_: &Args, common: &Common) -> Result<ExitCode, Error> {
    let config = config::load(&common.config)?;
    let pass = Pass { config: &config, store: Store::new(&common.state_dir), who: "mhctl flush".to_owned() };
    if common.dry_run {
        let records = undrilled(&pass)?;
        let seen = Seen::by(&mut Linux::open()?, &config, &records)?;
        let live = LinkStates::new(&config, &records, &seen.observed).routed().v4;
        let steps = steps(&config, &live, &seen, &[]).map_err(|CutOff| Error::CutOff)?;
        if seen.observed.firewall.hidden {
            writeln!(io::stdout(), "# {}", pass::FILTER_HIDDEN)?;
        }
        print(&steps, &pass.store.records().0, &pass.store)?;
        for told in [opened(&config, &live, &seen.observed, &steps), lost(&live, &seen.observed, &common.mhctl())]
            .iter()
            .flatten()
        {
            writeln!(io::stdout(), "# {told}")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let lock = pass.lock("lock")?;
    let (entries, _) = pass.store.records();
    let records = undrilled(&pass)?;
    let mut kernel = Linux::open()?;
    let before = Seen::by(&mut kernel, &config, &records)?;
    let live = LinkStates::new(&config, &records, &before.observed).routed().v4;
    let steps = steps(&config, &live, &before, &[]).map_err(|CutOff| Error::CutOff)?;
    let (opened, lost) =
        (opened(&config, &live, &before.observed, &steps), lost(&live, &before.observed, &common.mhctl()));
    let made = flush(&config, &records, &mut kernel)?;
    forget(&pass, &entries)?;
    drop(lock);
    kernel.flush_route_cache()?;
    let count = entries.iter().len();
    let lines = if count == 1 { "1 record".to_owned() } else { format!("{count} records") };
    info!("flushed: {}, {lines}", pass::changes(made));
    for told in [opened, lost].iter().flatten() {
        warn!("{told}");
    }
    if Path::new("/run/systemd/system").exists() && Path::new(TIMER).exists() {
        warn!("multihome.timer brings our rules back within a minute: systemctl stop multihome.timer");
    }
    Ok(ExitCode::SUCCESS)
}

/// The records, if no link is drained.
fn undrilled(pass: &Pass<'_>) -> Result<LinkRecords, Error> {
    let records = pass.link_records();
    match records.drained.iter().next() {
        Some((link, drain)) => Err(Error::Drilled { link: link.clone(), pid: drain.pid }),
        None => Ok(records),
    }
}

/// Makes the changes, and looks again until there is nothing left; how many there were.
fn flush(config: &Config, records: &LinkRecords, kernel: &mut impl Kernel) -> Result<usize, Error> {
    let mut refused = Vec::new();
    let mut refusal = None;
    let mut made = 0;
    for _ in 0..ROUNDS {
        let seen = Seen::by(kernel, config, records)?;
        let live = LinkStates::new(config, records, &seen.observed).routed().v4;
        let steps = match steps(config, &live, &seen, &refused) {
            Ok(steps) if steps.is_empty() => return Ok(made),
            Ok(steps) => steps,
            Err(CutOff) => return Err(refusal.map_or(Error::CutOff, Error::Kernel)),
        };
        for Step { change, protocol } in steps {
            match (kernel.apply(&change, protocol), change) {
                (Ok(()), _) => made += 1,
                // The best link will not do: the next best, before anything is broken.
                (Err(error), Change::Route(DefaultRoute { target: Target::NextHops(legs), .. }))
                    if !error.is_permission() =>
                {
                    refused.extend(legs.into_iter().map(|leg| leg.next_hop));
                    refusal = Some(error);
                    break;
                }
                (Err(error), _) => return Err(error.into()),
            }
        }
    }
    Err(Error::NotConverging)
}

/// Removes the records as they were read: what was noted since is of an event that comes after us.
fn forget(pass: &Pass<'_>, seen: &Records) -> Result<(), Error> {
    let _lock = pass.lock("records.lock")?;
    let (now, _) = pass.store.records();
    let written = pass.store.convert_old(&now);
    let mut gone = now.iter().filter(|entry| seen.iter().any(|other| other == *entry));
    let removed = written.and_then(|()| gone.try_for_each(|entry| pass.store.write(&Effect::Remove(entry.clone()))));
    Ok(removed.map_err(pass::Error::from)?)
}

fn print(steps: &[Step], entries: &Records, store: &Store) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for Step { change, protocol } in steps {
        writeln!(out, "{}", change.command(*protocol))?;
    }
    for entry in entries {
        let path = store.path(&entry.interface, entry.family());
        writeln!(out, "rm -f {}", quoted(&fs::canonicalize(&path).unwrap_or(path)))?;
    }
    let nothing = steps.is_empty() && entries.iter().next().is_none();
    writeln!(out, "{}", if nothing { "# nothing to take away" } else { "ip route flush cache" })
}
