//! The changes of the packet filter: whether nftables or iptables holds the managed chains, and what leads from the
//! observed to the desired ones. Pure.

use crate::config::{Config, Firewall};
use crate::model::change::Change;
use crate::model::firewall::{FoundFirewall, Lacking, Table, TableKind};
use crate::model::names::Family;
use crate::model::observed::Observed;
use crate::reconcile::link_state::Live;

mod iptables;
mod nat;
mod nft;
mod render;
pub mod sets;
mod sticky;
mod traffic;

pub(crate) use render::{device_groups, misgrouped, unmasqueraded};

/// What the managed rules have to do without, of which `refused` is known of this call.
pub(crate) fn without(config: &Config, observed: &Observed, refused: Lacking) -> Lacking {
    let found = &observed.firewall;
    let is_nft = found.uses_nftables(config.settings.firewall, refused);
    if is_nft { Lacking::default() } else { refused.or(found.without()) }
}

/// The changes that lead to the desired chains, and then take ours out of what does not hold them any more.
pub(crate) fn changes(config: &Config, live: &Live<'_>, observed: &Observed, without: Lacking) -> Vec<Change> {
    let found = &observed.firewall;
    if config.settings.firewall == Firewall::None {
        return Vec::new();
    }
    let is_nft = found.uses_nftables(config.settings.firewall, without);
    let mut changes = Vec::new();
    if is_nft {
        let wanted = render::rulesets(config, live, observed, without, None);
        changes.extend(nft::transaction(config, live, &wanted, found).map(Change::Nftables));
    } else {
        let mut wanted = Vec::new();
        for family in families(config, live, found) {
            for ruleset in render::rulesets(config, live, observed, without, Some(*family)) {
                wanted.push((Table { family: *family, kind: ruleset.kind }, ruleset.of(*family)));
            }
        }
        let batches = iptables::batches(&wanted, without, found);
        changes.extend(batches.into_iter().map(Change::Firewall));
    }
    changes.extend(iptables::leftovers(found).into_iter().map(Change::Firewall));
    // One without chains does nothing, and may hold sets.
    if !is_nft && found.any_of_nftables() {
        changes.push(Change::Nftables(nft::removal()));
    }
    changes
}

/// The families whose packets go through chains of iptables: of IPv6 from when a link has it for the first time.
fn families(config: &Config, live: &Live<'_>, found: &FoundFirewall) -> &'static [Family] {
    let has_had_ipv6 = !live.v6.is_empty() || found.any_of(Family::V6);
    if config.uses_ipv6() && has_had_ipv6 { &Family::BOTH } else { &[Family::V4] }
}

/// The change that has the sets of uplinks' IPv6 prefixes hold what they are now, where the rules that name them are there.
pub(crate) fn refilled_sets(config: &Config, live: &Live<'_>, observed: &Observed, without: Lacking) -> Option<Change> {
    let found = &observed.firewall;
    let table = found.nft.as_ref().filter(|_| found.uses_nftables(config.settings.firewall, without))?;
    nat::refilled(config, live, table).map(Change::Nftables)
}

/// Whether the rules that translate what leaves by some uplink in IPv6 are to be made, and nothing is in their way.
pub(crate) fn begins_nat6(config: &Config, live: &Live<'_>, observed: &Observed, without: Lacking) -> bool {
    let found = &observed.firewall;
    if found.hidden || live.v6.is_empty() {
        return false;
    }
    if found.uses_nftables(config.settings.firewall, without) {
        return found.nft.as_ref().is_some_and(|table| nat::begins(config, live, table));
    }
    let changes = changes(config, live, observed, without);
    let nat6 = Table { family: Family::V6, kind: TableKind::Nat };
    changes.iter().any(|change| matches!(change, Change::Firewall(batch) if batch.table == nat6))
}

/// The changes that take all managed chains away.
pub(crate) fn removal(found: &FoundFirewall) -> Vec<Change> {
    let mut changes = Vec::new();
    if found.any_of_nftables() || found.nft.as_ref().is_some_and(|table| table.is_there) {
        changes.push(Change::Nftables(nft::removal()));
    }
    if found.over_netlink {
        changes.extend(nft::removal_of_iptables(found).map(Change::Nftables));
    } else {
        changes.extend(iptables::batches(&[], Lacking::default(), found).into_iter().map(Change::Firewall));
    }
    changes.extend(iptables::leftovers(found).into_iter().map(Change::Firewall));
    changes
}
