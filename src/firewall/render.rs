//! What our chains should be for a configuration. Pure.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Chain, Ruleset, Table};
use crate::config::{Config, Firewall, Link, LinkKind};
use crate::links::LiveLink;
use crate::observed::Observed;
use crate::records::Records;
use crate::state::Device;
use crate::types::IfName;

/// As many device groups are ours, from `device-group` on: one for each link there can be.
pub const LINK_GROUPS: u32 = 32;

/// A link as rules speak of it.
struct Side<'a> {
    link: &'a Link,
    /// Matches what comes in by it.
    from: String,
    /// Matches what leaves by it.
    to: String,
    /// Subnets that its interface reaches without the gateway.
    near: Vec<String>,
}

/// The device group of a link: by its place in the configuration.
fn group(config: &Config, link: &Link) -> u32 {
    let place = config.links.iter().take_while(|l| l.name != link.name).count();
    // At most 32 links, so the conversion holds.
    config.settings.device_group.saturating_add(u32::try_from(place).unwrap_or(u32::MAX))
}

/// Whether we may give the device of this group another: it has none, or one of ours.
fn is_free(config: &Config, found: u32) -> bool {
    found == 0 || our_groups(config).contains(&found)
}

/// The device groups that are ours, whatever the links are.
pub fn our_groups(config: &Config) -> Range<u32> {
    let first = config.settings.device_group;
    first..first.saturating_add(LINK_GROUPS)
}

/// Of the devices in groups of ours those whose group is not that of a link which they are, by record or by name:
/// their link has left the configuration, or is on another interface now, and the group may mean another link.
pub fn strays(config: &Config, records: &Records, grouped: Vec<(Device, u32)>) -> Vec<Device> {
    let is_on = |link: &Link, device: &Device| {
        link.interface == device.name || records.get(&link.name).is_some_and(|record| record.index == device.index)
    };
    let is_right = |(device, found): &(Device, u32)| {
        config.links.iter().any(|link| group(config, link) == *found && is_on(link, device))
    };
    grouped.into_iter().filter(|one| !is_right(one)).map(|(device, _)| device).collect()
}

/// Live uplinks by which packets of a private network behind us would leave with their own source,
/// which no provider takes: such a network is there, and nobody at all rewrites sources.
pub fn unmasqueraded<'a>(live: &[LiveLink<'a>], observed: &Observed) -> Vec<&'a Link> {
    if observed.private_lan.is_none() || observed.firewall.foreign_nat {
        return Vec::new();
    }
    let plain = |link: &&Link| matches!(link.kind, LinkKind::Uplink { .. }) && !link.masquerade;
    live.iter().map(|l| l.link).filter(plain).collect()
}

/// Interfaces of live links and the device groups that they should be in, where they are not yet.
pub fn device_groups(config: &Config, live: &[LiveLink<'_>], observed: &Observed) -> BTreeMap<IfName, u32> {
    let mut groups = BTreeMap::new();
    if config.settings.firewall == Firewall::None || observed.firewall.by_name() {
        return groups;
    }
    for l in live {
        let name = &l.leg.device.name;
        let Some(found) = observed.interfaces.get(name).map(|i| i.group) else { continue };
        let wanted = group(config, l.link);
        if found != wanted && is_free(config, found) {
            groups.insert(name.clone(), wanted);
        }
    }
    groups
}

/// What both tables should hold; nothing at all with `firewall = "none"`.
pub fn rulesets(config: &Config, live: &[LiveLink<'_>], observed: &Observed) -> Option<Vec<Ruleset>> {
    if config.settings.firewall == Firewall::None {
        return None;
    }
    let by_name = observed.firewall.by_name();
    let sides: Vec<_> = config.links.iter().filter_map(|link| side(config, link, live, observed, by_name)).collect();
    let mut rulesets = vec![mangle(config, &sides, by_name)];
    let masquerade = |side: &&Side<'_>| side.link.masquerade;
    let rules: Vec<_> = sides.iter().filter(masquerade).map(|side| format!("{} -j MASQUERADE", side.to)).collect();
    if !rules.is_empty() {
        // Where it is among others does not matter: the administrator's own rules come first, since
        // they were there first, and the first that matches decides.
        let chain = Chain { name: "MULTIHOME-POSTROUTING", hook: "POSTROUTING", last: false, rules };
        rulesets.push(Ruleset { table: Table::Nat, chains: vec![chain], by_name });
    }
    Some(rulesets)
}

fn side<'a>(
    config: &Config,
    link: &'a Link,
    live: &[LiveLink<'_>],
    observed: &Observed,
    by_name: bool,
) -> Option<Side<'a>> {
    let live = live.iter().find(|l| l.link.name == link.name);
    let name = live.map_or(&link.interface, |l| &l.leg.device.name);
    let found = observed.interfaces.get(name);
    // The administrator's own group of a device stays, and the device is known by its name.
    let named = by_name || found.is_some_and(|i| !is_free(config, i.group));
    let (from, to) = if named {
        if !is_plain(name) {
            return None;
        }
        (format!("-i {name}"), format!("-o {name}"))
    } else {
        let group = group(config, link);
        (format!("-m devgroup --src-group {group:#x}"), format!("-m devgroup --dst-group {group:#x}"))
    };
    let mut near = Vec::new();
    // A pinned packet goes by the link's table, hence by its gateway, which need not pass it on to
    // its own subnet. Point-to-point lines have no neighbours.
    if matches!(link.kind, LinkKind::Uplink { .. }) && live.is_some_and(|l| l.leg.gateway.is_some()) {
        let subnets = found.map(|i| &i.addresses[..]).unwrap_or_default();
        near = subnets.iter().filter(|a| a.reaches.prefix_len() < 31).map(|a| a.reaches.to_string()).collect();
        near.sort();
        near.dedup();
    }
    Some(Side { link, from, to, near })
}

/// Whether iptables takes the name for what it is: it reads a trailing `+` as "any that begins so".
fn is_plain(name: &IfName) -> bool {
    name.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b"._-@".contains(&b)) && !name.as_str().starts_with('-')
}

fn mangle(config: &Config, sides: &[Side<'_>], by_name: bool) -> Ruleset {
    let mask = config.marks();
    let unpinned = format!("-m connmark --mark 0x0/{mask:#x}");
    let pinned = format!("-m connmark ! --mark 0x0/{mask:#x}");
    let new = format!("-m conntrack --ctstate NEW {unpinned}");
    let restore = format!("{pinned} -j CONNMARK --restore-mark --nfmask {mask:#x} --ctmask {mask:#x}");
    let pin = |side: &Side<'_>| format!("-j CONNMARK --set-xmark {:#x}/{mask:#x}", side.link.mark.get());

    let mut prerouting = Vec::new();
    let mut postrouting = Vec::new();
    let mut neighbours = Vec::new();
    for side in sides {
        let Side { link, from, to, near } = side;
        // When the connection was pinned does not matter so, or whether the address was there by then.
        let own = |net| format!("-d {net} -m connmark --mark {:#x}/{mask:#x} -j RETURN", link.mark.get());
        neighbours.extend(near.iter().map(own));
        prerouting.push(format!("{from} {new} {}", pin(side)));
        // With the mark, what comes from the Internet for the LAN would be sent out again.
        prerouting.push(format!("{from} -j RETURN"));
        postrouting.push(format!("{to} {new} {}", pin(side)));
        // The mark has done its work. The tunnel's own packets would inherit it, and some kinds look
        // their way up with it (vxlan_get_route()): back into the tunnel.
        if link.kind == LinkKind::Tunnel {
            postrouting.push(format!("{to} -j MARK --set-xmark 0x0/{mask:#x}"));
        }
    }
    prerouting.extend(neighbours.iter().cloned());
    prerouting.push(restore.clone());
    // An error about a packet of the LAN (too big for the line, say) belongs to the connection that
    // is pinned, and goes to the LAN nevertheless.
    let mut output = vec!["-p icmp -m conntrack --ctstate RELATED -j RETURN".to_owned()];
    output.extend(neighbours);
    output.push(restore);
    // Pins come after the marks of the administrator, whose rules decide over a connection's first
    // packet and no further.
    let chain = |name, hook, last, rules| Chain { name, hook, last, rules };
    let mut chains = vec![
        chain("MULTIHOME-PREROUTING", "PREROUTING", true, prerouting),
        chain("MULTIHOME-OUTPUT", "OUTPUT", true, output),
    ];
    if !postrouting.is_empty() {
        chains.push(chain("MULTIHOME-POSTROUTING", "POSTROUTING", false, postrouting));
    }
    Ruleset { table: Table::Mangle, chains, by_name }
}
