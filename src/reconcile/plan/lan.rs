//! Preferred and deprecated IPv6 addresses of the LAN. Pure.
//!
//! While an uplink is down or drained, no host should begin anything from its prefix: we deprecate our own addresses of
//! it on the LAN, and a router advertisement daemon that follows the addresses tells the hosts (RFC 8475).

use std::net::IpAddr;

use ipnet::IpNet;

use super::Change;
use crate::config::Config;
use crate::model::names::Family;
use crate::model::observed::{Observed, Preference};
use crate::reconcile::link_state::{Live, LiveLink};

/// The addresses to deprecate, and those that we have deprecated and whose uplink is back.
pub(super) fn preferred(config: &Config, live: &Live<'_>, observed: &Observed) -> Vec<Change> {
    let mut changes = Vec::new();
    if observed.lan6.is_empty() {
        return changes;
    }
    let lost = lost_prefixes(config, live, observed);
    for found in &observed.lan6 {
        let address = IpAddr::V6(found.address.addr());
        let is_live = live.v6.iter().any(|l| is_in_use(l) && is_in(&l.prefixes, &address));
        let is_wanted = match found.preference {
            Preference::Preferred if !is_live && is_in(&lost, &address) => false,
            // Nothing else tells by now whose prefix it was.
            Preference::PreferredAgain if !is_live => false,
            Preference::DeprecatedByUs if is_live => true,
            _ => continue,
        };
        changes.push(Change::Prefer { address: found.clone(), is_preferred: is_wanted });
    }
    changes
}

fn is_in(prefixes: &[IpNet], address: &IpAddr) -> bool {
    prefixes.iter().any(|prefix| prefix.contains(address))
}

fn is_in_use(l: &LiveLink<'_>) -> bool {
    l.carrier && l.level.is_none()
}

/// The prefixes of uplinks that they do not have now: configured ones, and those of rules that the kernel still holds.
fn lost_prefixes(config: &Config, live: &Live<'_>, observed: &Observed) -> Vec<IpNet> {
    let numbers = config.settings.numbers;
    let mut lost = Vec::new();
    for link in config.uplinks() {
        let now = live.v6.iter().find(|l| l.link.name == link.name && is_in_use(l));
        let mut before: Vec<IpNet> = link.prefixes.iter().copied().map(IpNet::V6).collect();
        for found in &observed.rules {
            let is_source = found.protocol == config.settings.protocol
                && found.rule.family == Family::V6
                && found.rule.priority == numbers.source_rule(link.position);
            before.extend(found.rule.selector.from.filter(|_| is_source));
        }
        let now = now.map(|l| &l.prefixes[..]).unwrap_or_default();
        lost.extend(before.into_iter().filter(|prefix| !now.iter().any(|own| own.contains(prefix))));
    }
    lost
}
