//! The desired managed chains and device groups. Pure.

use std::collections::BTreeMap;

use super::matched::{group, is_free, matched_link};
use super::{nat, sticky, traffic};
use crate::config::{Config, Firewall, Link};
use crate::model::firewall::{Lacking, Ruleset, TableKind};
use crate::model::names::{Family, IfName};
use crate::model::observed::Observed;
use crate::model::routing::Device;
use crate::reconcile::link_state::{Live, LiveLink};
use crate::state::records::LinkRecords;

/// The devices in a managed group that do not belong to the link of the group: their link has left the configuration,
/// or is on another interface now.
pub(crate) fn misgrouped(
    config: &Config,
    records: &LinkRecords,
    routed: &Live<'_>,
    grouped: Vec<(Device, u32)>,
) -> Vec<Device> {
    let mut misgrouped = Vec::new();
    for (device, found) in grouped {
        let link = config.links.iter().find(|link| group(config, link) == found);
        if !link.is_some_and(|link| is_on(link, &device, records, routed)) {
            misgrouped.push(device);
        }
    }
    misgrouped
}

/// Whether a link is on the device: by its next hop if it is up, otherwise by record or by name.
fn is_on(link: &Link, device: &Device, records: &LinkRecords, routed: &Live<'_>) -> bool {
    if let Some(l) = routed.iter().find(|l| l.link.name == link.name) {
        return l.next_hop.device.index == device.index;
    }
    link.interface == device.name
        || Family::BOTH
            .iter()
            .any(|family| records.record(&link.name, *family).is_some_and(|record| record.index == device.index))
}

/// Live uplinks by which packets of a private network would leave with a private source address, which providers drop:
/// no rule rewrites it, managed or foreign.
pub(crate) fn unmasqueraded<'a>(live: &[LiveLink<'a>], observed: &Observed) -> Vec<&'a Link> {
    if observed.private_lan.is_none() || observed.firewall.foreign_nat {
        return Vec::new();
    }
    live.iter().map(|l| l.link).filter(|link| link.is_uplink() && !link.masquerade).collect()
}

/// The interfaces of live links whose device group must change, with the new group; none if rules do `without` groups.
pub(crate) fn device_groups(
    config: &Config,
    live: &Live<'_>,
    observed: &Observed,
    without: Lacking,
) -> BTreeMap<IfName, u32> {
    let mut groups = BTreeMap::new();
    if config.settings.firewall == Firewall::None || without.device_groups {
        return groups;
    }
    for l in live.iter() {
        let name = &l.next_hop.device.name;
        let Some(found) = observed.interfaces.get(name).map(|i| i.group) else { continue };
        let wanted = group(config, l.link);
        if found != wanted && is_free(config, found) {
            groups.insert(name.clone(), wanted);
        }
    }
    groups
}

/// The desired chains of both kinds of table, for both families as nftables has them, or for one as iptables does.
pub(super) fn rulesets(
    config: &Config,
    live: &Live<'_>,
    observed: &Observed,
    without: Lacking,
    only: Option<Family>,
) -> Vec<Ruleset> {
    let mut links = Vec::new();
    for link in &config.links {
        links.extend(matched_link(config, link, live, observed, without.device_groups));
    }
    if let Some(only) = only {
        for link in &mut links {
            link.segment_networks.retain(|net| Family::of(net.addr()) == only);
            link.own.retain(|own| own.family() == only);
        }
    }
    let families = match only {
        Some(Family::V4) => &[Family::V4][..],
        Some(Family::V6) => &[Family::V6],
        None if config.uses_ipv6() => &Family::BOTH,
        None => &[Family::V4],
    };
    let nat = nat::chains(config, &links, live, &observed.firewall, only.is_none());
    let mut mangle = sticky::mangle(config, &links, families);
    if only.is_none() {
        mangle.chains.extend(traffic::chains(&links, families));
    }
    vec![mangle, Ruleset { kind: TableKind::Nat, chains: nat }]
}
