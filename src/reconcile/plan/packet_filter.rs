//! When a plan loads the managed chains, and which marks connections get that began without them.

use super::routes::Tables;
use super::rules::Missing;
use super::{Change, Plan};
use crate::config::{Config, Otherwise};
use crate::model::change::Unmarked;
use crate::model::firewall::{Lacking, Table, TableKind};
use crate::model::names::{Family, TableId};
use crate::model::observed::Observed;
use crate::model::routing::FwMark;
use crate::reconcile::firewall;
use crate::reconcile::link_state::{Live, LiveLink};

/// When the managed chains are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// A connection that began without managed rules is sticky only if these exist before another link can carry it.
    First,
    /// A kill switch by sets holds when its packets are marked; its rule comes before them, since the bit may have been
    /// another's. And what leaves by a new link has a source that its provider knows.
    BeforeRoutes,
    /// Routes must not wait for a packet filter that is locked or cannot be changed.
    Last,
}

pub(super) fn turn(
    config: &Config,
    live: &Live<'_>,
    observed: &Observed,
    without: Lacking,
    tables: &Tables,
    missing: &Missing<'_>,
) -> Turn {
    let keeps_tables = tables.stale.is_empty();
    if keeps_tables && missing.are_source_rules(config) && nobody_waits(live, observed) {
        Turn::First
    } else if config.has_kill_switch_by_sets() || keeps_tables && firewall::begins_nat(config, live, observed, without)
    {
        Turn::BeforeRoutes
    } else {
        Turn::Last
    }
}

impl Plan {
    pub(super) fn load_firewall(&mut self, config: &Config, live: &Live<'_>, observed: &Observed, without: Lacking) {
        self.is_filter_hidden = observed.firewall.hidden;
        if !self.is_filter_hidden {
            self.changes.extend(firewall::changes(config, live, observed, without));
        }
    }

    /// Connections that began while our rules were away get a mark with their next packet, which another uplink may
    /// take by then: if just one carries, they are given its mark.
    pub(super) fn mark_connections(&mut self, config: &Config, live: &Live<'_>, observed: &Observed) {
        // Marks go before policies: what began before a kill switch would leave in spite of it.
        if config.policies.iter().any(|policy| policy.otherwise == Otherwise::Unreachable) {
            return;
        }
        for family in Family::BOTH {
            let is_loaded = self.changes.iter().any(|change| marks_connections(change, family));
            if !is_loaded || observed.firewall.marks_connections(family) {
                continue;
            }
            let [device] = used_devices(observed, family)[..] else { continue };
            let mut uplinks =
                live.of(family).iter().filter(|l| l.carries_default() && l.next_hop.device.index == device);
            let Some(only) = uplinks.next() else { continue };
            let mark = FwMark { value: only.link.mark.get(), mask: config.marks() };
            for ours in only.sources() {
                let device = only.next_hop.device.clone();
                self.changes.push(Change::MarkConnections(Unmarked { device, ours, mark }));
            }
        }
    }
}

/// Whether a change loads the chains that mark connections of a family.
fn marks_connections(change: &Change, family: Family) -> bool {
    match change {
        Change::Firewall(batch) => batch.table == Table { family, kind: TableKind::Mangle },
        Change::Nftables(transaction) => transaction.makes_table(),
        _ => false,
    }
}

/// Whether the default route in use leads by live links only, so that there is no hurry to replace it.
fn nobody_waits(live: &Live<'_>, observed: &Observed) -> bool {
    let mut any_used = false;
    for family in Family::BOTH {
        for device in used_devices(observed, family) {
            any_used = true;
            if !is_live(device, live.of(family)) {
                return false;
            }
        }
    }
    any_used
}

/// Indices of the devices that the default route of a family leads by which is in use.
fn used_devices(observed: &Observed, family: Family) -> Vec<u32> {
    let defaults = observed.routes.iter().filter(|route| route.family == family && route.table == TableId::MAIN);
    defaults.min_by_key(|route| route.metric).map(|used| used.target.devices()).unwrap_or_default()
}

fn is_live(device: u32, live: &[LiveLink<'_>]) -> bool {
    live.iter().any(|l| l.carrier && l.next_hop.device.index == device)
}
