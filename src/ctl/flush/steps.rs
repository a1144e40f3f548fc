//! What to do so that nothing of ours is left. Pure, but for looking.

use std::cmp::Reverse;
use std::ptr;

use crate::config::{Config, LinkKind};
use crate::ctl::lookup::observed_next_hops;
use crate::kernel::netlink::constants::RTPROT_STATIC;
use crate::kernel::{self, Kernel};
use crate::model::change::Change;
use crate::model::firewall::Firewall;
use crate::model::names::{Family, TableId, Tier, Weight};
use crate::model::observed::{Observed, Preference, Scope};
use crate::model::routing::{Action, DefaultRoute, Device, FoundRoute, NextHop, NexthopKind, Target, WeightedNextHop};
use crate::reconcile::firewall::removal;
use crate::reconcile::link_state::{Live, LiveLink};
use crate::state::records::LinkRecords;

/// A change, and the protocol number that it bears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) change: Change,
    pub(super) protocol: u8,
}

/// Our default route would go, and there is nothing to put in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CutOff;

/// What the kernel holds.
pub(super) struct Seen {
    pub(super) observed: Observed,
    /// Devices in our groups.
    grouped: Vec<Device>,
}

impl Seen {
    /// Looks: with `firewall = "none"` too there may be chains of a time when it was not, and
    /// without IPv6 rules and routes of a time when it was used.
    pub(super) fn by(kernel: &mut impl Kernel, config: &Config, records: &LinkRecords) -> Result<Self, kernel::Error> {
        let scope = Scope { firewall: Firewall::Auto, leftovers: true, ipv6: true, ..Scope::new(config, records) };
        let observed = kernel.observe(&scope)?;
        let grouped = kernel.in_groups(&config.settings.numbers.link_groups())?;
        Ok(Self { observed, grouped: grouped.into_iter().map(|(device, _)| device).collect() })
    }
}

/// What to do so that nothing of ours is left, in an order that makes before it breaks: at no prefix
/// is there no default route where there was one. `refused` are the ways that the kernel would not
/// take. Pure.
pub(super) fn steps(
    config: &Config,
    live: &Live<'_>,
    Seen { observed, grouped }: &Seen,
    refused: &[NextHop],
) -> Result<Vec<Step>, CutOff> {
    let ours = config.settings.protocol;
    let mut plains = Vec::new();
    let mut replaced: Vec<&FoundRoute> = Vec::new();
    for family in Family::BOTH {
        let Some(plain) = plain_default(config, live.of(family), family, observed, refused)? else { continue };
        let standing = at_metric(observed, family, plain.metric).filter(|f| f.protocol == ours);
        match family {
            // It takes the place of the first of its metric.
            Family::V4 => replaced.extend(standing.take(1)),
            // It would become a next hop of those of its metric, or would be one already: a spare carries meanwhile.
            Family::V6 => {
                for route in standing {
                    plains.push(Step { change: Change::DeleteRoute(route.clone()), protocol: ours });
                    replaced.push(route);
                }
            }
        }
        // It is the administrator's from here on: daemons leave RTPROT_STATIC alone, where they purge RTPROT_BOOT at
        // their start. pppd looks at no protocol. It leads by a device of ours, so that the next apply with that link up
        // replaces it in place.
        plains.push(Step { change: Change::Route(plain), protocol: RTPROT_STATIC });
    }
    let mut changes = Vec::new();
    // Backwards: a policy goes before the rule that keeps it from what main knows better.
    let mut rules: Vec<_> = observed.rules.iter().filter(|f| f.protocol == ours).map(|f| f.rule.clone()).collect();
    rules.sort_by_key(|rule| (!matches!(rule.action, Action::Unreachable), Reverse(rule.priority)));
    for rule in rules {
        changes.push(Change::DeleteRule(rule));
    }
    let routes = observed.routes.iter().filter(|f| f.protocol == ours && !replaced.iter().any(|r| ptr::eq(*r, *f)));
    for route in routes {
        changes.push(Change::DeleteRoute(route.clone()));
    }
    let mut nexthops: Vec<_> = observed.nexthops.iter().flatten().filter(|(_, n)| n.protocol == ours).collect();
    nexthops.sort_by_key(|(_, n)| !matches!(n.kind, NexthopKind::Group(_)));
    for (id, _) in nexthops {
        changes.push(Change::DeleteNexthop(*id));
    }
    for address in observed.lan6.iter().filter(|address| address.preference == Preference::DeprecatedByUs) {
        changes.push(Change::Prefer { address: address.clone(), is_preferred: true });
    }
    for device in grouped {
        changes.push(Change::DeviceGroup { device: device.clone(), group: 0 });
    }
    // Last: what else is ours goes even where iptables fails.
    changes.extend(removal(&observed.firewall));
    let changes = changes.into_iter().map(|change| Step { change, protocol: ours });
    plains.extend(changes);
    Ok(plains)
}

/// Main's default routes of a family.
fn of_main(observed: &Observed, family: Family) -> impl Iterator<Item = &FoundRoute> + Clone {
    observed.routes.iter().filter(move |f| f.family == family && f.table == TableId::MAIN)
}

/// Those of a metric; the first is in use.
fn at_metric(observed: &Observed, family: Family, metric: u32) -> impl Iterator<Item = &FoundRoute> {
    of_main(observed, family).filter(move |f| f.metric == metric)
}

/// The default route that stays, if there has to be a new one: somebody else's at its place is left
/// alone, also the one of an earlier flush, and in IPv6 any of somebody else is enough.
fn plain_default(
    config: &Config,
    live: &[LiveLink<'_>],
    family: Family,
    observed: &Observed,
    refused: &[NextHop],
) -> Result<Option<DefaultRoute>, CutOff> {
    let metric = config.settings.numbers.tier_metric(family, Tier::default());
    let ours = config.settings.protocol;
    let stays = match family {
        Family::V4 => at_metric(observed, family, metric).next().is_some_and(|f| f.protocol != ours),
        // A router's advertisement, or what a program has made of it.
        Family::V6 => of_main(observed, family).any(|f| f.protocol != ours && !f.target.devices().is_empty()),
    };
    if stays {
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
    let standing = of_main(observed, family).filter(|f| f.protocol == ours);
    let old = standing.clone().flat_map(|f| observed_next_hops(&f.target, observed)).map(|(leg, _)| leg);
    match ranked.into_iter().map(|(_, leg)| leg).chain(old).find(|leg| !refused.contains(leg)) {
        Some(leg) => {
            let leg = WeightedNextHop { next_hop: leg.clone(), weight: Weight::default() };
            Ok(Some(DefaultRoute { family, table: TableId::MAIN, metric, target: Target::NextHops(vec![leg]) }))
        }
        None if standing.count() > 0 => Err(CutOff),
        None => Ok(None),
    }
}
