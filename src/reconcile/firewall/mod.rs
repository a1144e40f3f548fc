//! The changes of the packet filter: whether nftables or iptables holds the managed chains, and what leads from the
//! observed to the desired ones. Pure.

use crate::config::{Config, Firewall};
use crate::model::change::Change;
use crate::model::firewall::{ChainName, FoundChains, FoundFirewall, Lacking, Table, TableKind};
use crate::model::names::Family;
use crate::model::observed::Observed;
use crate::reconcile::link_state::Live;

mod iptables;
mod matched;
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

/// Whether a link gets the chain now that translates what leaves by it, and nothing is in the way of that: packets that
/// leave before would go on as they are, and so would their connections.
pub(crate) fn begins_nat(config: &Config, live: &Live<'_>, observed: &Observed, without: Lacking) -> bool {
    let found = &observed.firewall;
    if found.hidden || config.settings.firewall == Firewall::None {
        return false;
    }
    let is_nft = found.uses_nftables(config.settings.firewall, without);
    let mut families = Family::BOTH.into_iter();
    families.any(|family| {
        let own = nat::own_chains(live, family);
        if is_nft {
            let Some(table) = &found.nft else { return false };
            return own.iter().any(|chain| !table.chains.contains_key(&chain.nft()));
        }
        !own.is_empty() && begins_in_iptables(config, live, observed, without, family, &own)
    })
}

/// Whether one of these chains is to be made or filled anew. What goes can wait until its routes are gone.
fn begins_in_iptables(
    config: &Config,
    live: &Live<'_>,
    observed: &Observed,
    without: Lacking,
    family: Family,
    own: &[ChainName],
) -> bool {
    let nothing = FoundChains::new();
    let table = observed.firewall.tables.get(&Table { family, kind: TableKind::Nat }).unwrap_or(&nothing);
    let rulesets = render::rulesets(config, live, observed, without, Some(family));
    let mut wanted = rulesets.iter().filter(|ruleset| ruleset.kind == TableKind::Nat).flat_map(|r| r.of(family));
    wanted.any(|chain| own.contains(&chain.name) && !iptables::is_complete(&chain, without, table))
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
