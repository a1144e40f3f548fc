//! Which links can carry traffic now: configuration, records and interfaces put together. Pure.

use crate::config::{Config, Firewall, Link, LinkKind};
use crate::model::names::{HostAddr, IfName};
use crate::model::observed::{Interface, InterfaceState, Observed, Scope};
use crate::model::routing::{ArpKey, Device, Leg};
use crate::state::drain::Drain;
use crate::state::records::Records;

/// A link with a way out: it can carry traffic, or could if it had its carrier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveLink<'a> {
    /// As configured.
    pub link: &'a Link,
    /// The way out by it.
    pub leg: Leg,
    /// Its own address, if it is known.
    pub local: Option<HostAddr>,
    /// Whether its interface has its carrier.
    pub carrier: bool,
}

impl LiveLink<'_> {
    fn is_uplink(&self) -> bool {
        self.link.kind != LinkKind::Tunnel
    }

    /// Whether it carries a part of the default route now.
    pub fn carries_default(&self) -> bool {
        self.is_uplink() && self.carrier
    }

    /// Whether it is an Ethernet without a router: each host of the Internet is looked for on it by ARP.
    pub fn lacks_gateway(&self, observed: &Observed) -> bool {
        let interface = observed.interfaces.get(&self.leg.device.name);
        self.leg.gateway.is_none() && interface.is_some_and(|interface| interface.arp)
    }
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
    /// Said to be up, but its interface is down, or has lost its address.
    Dead,
    /// It has lost its carrier, and nothing else: its routes stay, since the kernel itself takes them up again in the
    /// instant in which the carrier is back, and passes over them until then.
    NoCarrier(LiveLink<'a>),
    /// An Ethernet uplink without a router, not used while another uplink can carry traffic.
    NoGateway(LiveLink<'a>),
    /// It could, and is kept out of use for a while.
    Drained(Drain),
}

impl<'a> LinkState<'a> {
    /// The link, if it can carry traffic.
    pub fn live(&self) -> Option<&LiveLink<'a>> {
        if let Self::Up(live) = self { Some(live) } else { None }
    }

    /// Whether it was said to be up, and no packet can leave by it.
    pub fn is_dead(&self) -> bool {
        matches!(self, Self::Dead | Self::NoCarrier(_))
    }
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

/// State of one link. Where no uplink is left but those that are drained, a drain that was not forced keeps none of them
/// out of use: no rehearsal is worth the Internet. Nor is an uplink without a router passed over where it is all there is.
pub fn state<'a>(link: &'a Link, config: &Config, records: &Records, observed: &Observed) -> LinkState<'a> {
    let ability = ability(link, records, observed);
    let (LinkState::Up(live) | LinkState::NoCarrier(live)) = &ability else { return ability };
    let another = || config.links.iter().any(|other| is_in_full_use(other, records, observed));
    match records.drained.get(&link.name) {
        Some(drain) if drain.force || !live.is_uplink() || another() => LinkState::Drained(*drain),
        None if live.is_uplink() && live.lacks_gateway(observed) && another() => LinkState::NoGateway(live.clone()),
        _ => ability,
    }
}

/// Whether `link` is an uplink that can carry traffic, whatever the others do.
fn is_in_full_use(link: &Link, records: &Records, observed: &Observed) -> bool {
    let LinkState::Up(live) = ability(link, records, observed) else { return false };
    live.is_uplink() && !records.drained.contains_key(&link.name) && !live.lacks_gateway(observed)
}

/// State of one link if nobody drained it, and it were the only one.
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
            (Some(gateway), Some(found)) if found.state != InterfaceState::Down && !found.addresses.is_empty() => {
                with_way_out(link, Some(gateway), source_towards(gateway, found), found)
            }
            _ => LinkState::Down,
        };
    };
    let Some(v4) = record.v4 else { return LinkState::Down };
    match interface(&record.interface) {
        Some(found) if found.device.index != record.index => LinkState::Stale,
        None => LinkState::Stale,
        Some(found) if found.state == InterfaceState::Down => LinkState::Dead,
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
            with_way_out(link, gateway, local, found)
        }
    }
}

/// A link by an interface that is not down.
fn with_way_out<'a>(
    link: &'a Link,
    gateway: Option<HostAddr>,
    local: Option<HostAddr>,
    interface: &Interface,
) -> LinkState<'a> {
    let carrier = interface.state == InterfaceState::Up;
    let live = LiveLink { link, leg: leg(gateway, interface), local, carrier };
    if carrier { LinkState::Up(live) } else { LinkState::NoCarrier(live) }
}

/// All links that can carry traffic, in the order of the configuration.
pub fn live<'a>(config: &'a Config, records: &Records, observed: &Observed) -> Vec<LiveLink<'a>> {
    routed(config, records, observed).into_iter().filter(|l| l.carrier).collect()
}

/// All links that have routes, in the order of the configuration: those that can carry traffic, and those that lack
/// only their carrier.
pub fn routed<'a>(config: &'a Config, records: &Records, observed: &Observed) -> Vec<LiveLink<'a>> {
    let states = config.links.iter().map(|link| state(link, config, records, observed));
    states.filter_map(|s| if let LinkState::Up(l) | LinkState::NoCarrier(l) = s { Some(l) } else { None }).collect()
}

/// Interfaces of links that share an Ethernet segment with another link's, and what has to be set so that each answers
/// ARP for its own addresses only: else what is sent to one line's address comes in by the other.
pub fn lax_arp<'a>(live: &[LiveLink<'_>], observed: &'a Observed) -> Vec<(&'a Device, ArpKey)> {
    let found = live.iter().filter_map(|l| observed.interfaces.get(&l.leg.device.name)).filter(|found| found.arp);
    let found: Vec<_> = found.collect();
    let mut lax = Vec::new();
    for interface in &found {
        if found.iter().any(|other| other.device != interface.device && overlap(other, interface)) {
            lax.extend(interface.lax_arp.iter().map(|key| (&interface.device, *key)));
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
