//! Which links can carry traffic now: configuration, records and interfaces put together. Pure.

use crate::config::{Config, Firewall, Link, LinkKind};
use crate::hold::Hold;
use crate::observed::{Interface, Observed, Scope};
use crate::records::Records;
use crate::state::{ArpKey, Leg};
use crate::types::{HostAddr, IfName};

/// A link that can carry traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveLink<'a> {
    /// As configured.
    pub link: &'a Link,
    /// The way out by it.
    pub leg: Leg,
    /// Its own address, if it is known.
    pub local: Option<HostAddr>,
}

/// Why a link does not carry traffic, or that it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState<'a> {
    /// It can.
    Up(LiveLink<'a>),
    /// No caller has said that it is up.
    Down,
    /// Said to be up, but its interface is gone, or another one bears its name.
    Stale,
    /// Said to be up, but its interface is down, or has lost its carrier or its address.
    Dead,
    /// It could, and is kept out of use for a while.
    Held(Hold),
}

impl Scope {
    /// What there is to look at for `config` and `records`.
    pub fn new(config: &Config, records: &Records) -> Self {
        let configured = config.links.iter().map(|link| &link.interface);
        let recorded = records.values().map(|record| &record.interface);
        Self {
            interfaces: configured.chain(recorded).cloned().collect(),
            tables: config.links.iter().map(|link| link.table).collect(),
            protocol: config.settings.protocol,
            firewall: config.settings.firewall == Firewall::Iptables,
            hash_policy: config.settings.hash_policy.is_some(),
        }
    }
}

/// State of one link. Where no uplink is left but those that are held, a hold that was not forced keeps none of them
/// out of use: no rehearsal is worth the Internet.
pub fn state<'a>(link: &'a Link, config: &Config, records: &Records, observed: &Observed) -> LinkState<'a> {
    let is_uplink = |link: &Link| link.kind != LinkKind::Tunnel;
    let carries = |l: &Link| {
        is_uplink(l) && !records.held.contains_key(&l.name) && matches!(ability(l, records, observed), LinkState::Up(_))
    };
    match (ability(link, records, observed), records.held.get(&link.name)) {
        (LinkState::Up(_), Some(hold)) if hold.force || !is_uplink(link) || config.links.iter().any(carries) => {
            LinkState::Held(*hold)
        }
        (state, _) => state,
    }
}

/// State of one link if nobody held it.
fn ability<'a>(link: &'a Link, records: &Records, observed: &Observed) -> LinkState<'a> {
    let interface = |name: &IfName| observed.interfaces.get(name);
    let record = records.get(&link.name).filter(|record| {
        // What was said of another device, or of IPv6 alone, takes no static link down.
        let present = interface(&record.interface).is_some_and(|found| found.device.index == record.index);
        link.gateway.is_none() || present && record.v4.is_some()
    });
    let Some(record) = record else {
        // A static Ethernet link has no caller: it is up while its interface is.
        return match (link.gateway, interface(&link.interface)) {
            (Some(gateway), Some(found)) if found.usable && !found.addresses.is_empty() => {
                let local = source_towards(gateway, found);
                LinkState::Up(LiveLink { link, leg: leg(Some(gateway), found), local })
            }
            _ => LinkState::Down,
        };
    };
    let Some(v4) = record.v4 else { return LinkState::Down };
    match interface(&record.interface) {
        Some(found) if found.device.index != record.index => LinkState::Stale,
        None => LinkState::Stale,
        Some(found) if !found.usable => LinkState::Dead,
        // pppd clears the address before it runs ip-down: a numbered line without any is going.
        Some(found) if v4.local.is_some() && found.addresses.is_empty() => LinkState::Dead,
        Some(found) => {
            let gateway = v4.gateway.or(link.gateway);
            // An address can change without a word, and nothing leaves by the old one any more.
            let is_there = |local: &HostAddr| found.addresses.iter().any(|a| a.local == *local);
            let local = v4.local.map(|local| {
                let now = gateway.map_or(found.addresses.first().map(|a| a.local), |g| source_towards(g, found));
                Some(local).filter(is_there).or(now).unwrap_or(local)
            });
            LinkState::Up(LiveLink { link, leg: leg(gateway, found), local })
        }
    }
}

/// All links that can carry traffic, in the order of the configuration.
pub fn live<'a>(config: &'a Config, records: &Records, observed: &Observed) -> Vec<LiveLink<'a>> {
    let states = config.links.iter().map(|link| state(link, config, records, observed));
    states.filter_map(|s| if let LinkState::Up(live) = s { Some(live) } else { None }).collect()
}

/// Interfaces of links that share an Ethernet segment with another link's, and what has to be set so that each answers
/// ARP for its own addresses only: else what is sent to one line's address comes in by the other.
pub fn lax_arp<'a>(live: &[LiveLink<'_>], observed: &'a Observed) -> Vec<(&'a IfName, ArpKey)> {
    let found = live.iter().filter_map(|l| observed.interfaces.get(&l.leg.device.name)).filter(|found| found.arp);
    let found: Vec<_> = found.collect();
    let mut lax = Vec::new();
    for interface in &found {
        if found.iter().any(|other| other.device != interface.device && overlap(other, interface)) {
            lax.extend(interface.lax_arp.iter().map(|key| (&interface.device.name, *key)));
        }
    }
    lax
}

/// Whether a subnet of one interface is, in part, another's.
fn overlap(one: &Interface, other: &Interface) -> bool {
    let nets = |of: &Interface| of.addresses.iter().map(|a| a.reaches).collect::<Vec<_>>();
    nets(one).iter().any(|a| nets(other).iter().any(|b| a.contains(b) || b.contains(a)))
}

fn leg(gateway: Option<HostAddr>, interface: &Interface) -> Leg {
    let reached = |gateway: HostAddr| interface.addresses.iter().any(|a| a.reaches.contains(&gateway.get()));
    // Some providers' gateways are in no subnet of ours; without the flag fib_check_nh() refuses them.
    let onlink = gateway.is_some_and(|g| !reached(g));
    Leg { device: interface.device.clone(), gateway, onlink }
}

/// The interface's address in the gateway's subnet, else its first.
fn source_towards(gateway: HostAddr, interface: &Interface) -> Option<HostAddr> {
    let near = interface.addresses.iter().find(|a| a.reaches.contains(&gateway.get()));
    near.or(interface.addresses.first()).map(|a| a.local)
}
