//! Which links can carry traffic now: configuration, records and interfaces put together. Pure.

use crate::config::{Config, Firewall, Link};
use crate::model::names::HostAddr;
use crate::model::observed::{Address, Interface, InterfaceState, Observed, Scope};
use crate::model::routing::{ArpKey, Device, NextHop};
use crate::state::drain::Drain;
use crate::state::records::{LinkRecord, LinkRecords};

/// A link with a way out: it can carry traffic, or could if it had its carrier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveLink<'a> {
    pub link: &'a Link,
    /// The way out by it.
    pub next_hop: NextHop,
    /// Its own address, if it is known.
    pub local: Option<HostAddr>,
    /// Whether its interface has its carrier.
    pub carrier: bool,
}

impl LiveLink<'_> {
    /// Whether it carries a part of the default route now.
    pub fn carries_default(&self) -> bool {
        self.link.is_uplink() && self.carrier
    }

    /// Whether it is an Ethernet without a router: each host of the Internet is looked for on it by ARP.
    pub(crate) fn lacks_gateway(&self, observed: &Observed) -> bool {
        let interface = observed.interfaces.get(&self.next_hop.device.name);
        self.next_hop.gateway.is_none() && interface.is_some_and(|interface| interface.arp)
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

    /// The link, if it has routes: it can carry traffic, or lacks only its carrier.
    pub fn routed(&self) -> Option<&LiveLink<'a>> {
        if let Self::Up(live) | Self::NoCarrier(live) = self { Some(live) } else { None }
    }

    /// Whether it was said to be up, and no packet can leave by it.
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self, Self::Dead | Self::NoCarrier(_))
    }
}

/// The state of each configured link at one observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStates<'a> {
    /// By the links' positions.
    all: Vec<(&'a Link, LinkState<'a>)>,
}

impl<'a> LinkStates<'a> {
    /// Where no uplink is left but those that are drained, a drain that was not forced keeps none of them out of use: no
    /// rehearsal is worth the Internet. Nor is an uplink without a router passed over where it is all there is.
    pub fn new(config: &'a Config, records: &LinkRecords, observed: &Observed) -> Self {
        let mut all: Vec<_> = config.links.iter().map(|link| (link, ability(link, records, observed))).collect();
        let another = all.iter().any(|(_, state)| is_in_full_use(state, records, observed));
        for (_, state) in &mut all {
            if let Some(live) = state.routed()
                && let Some(unused) = out_of_use(live, another, records, observed)
            {
                *state = unused;
            }
        }
        Self { all }
    }

    /// Each link and its state, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = (&'a Link, &LinkState<'a>)> {
        self.all.iter().map(|(link, state)| (*link, state))
    }

    /// The state of `link`, which is of the same configuration.
    pub fn of(&self, link: &Link) -> &LinkState<'a> {
        &self.all[usize::from(link.position)].1
    }

    /// The links that can carry traffic, in the order of the configuration.
    pub fn live(&self) -> Vec<LiveLink<'a>> {
        self.all.iter().filter_map(|(_, state)| state.live()).cloned().collect()
    }

    /// The links that have routes, in the order of the configuration: those that can carry traffic, and those that lack
    /// only their carrier.
    pub fn routed(&self) -> Vec<LiveLink<'a>> {
        self.all.iter().filter_map(|(_, state)| state.routed()).cloned().collect()
    }
}

impl Scope {
    /// What there is to look at for `config` and `records`.
    pub fn new(config: &Config, records: &LinkRecords) -> Self {
        let configured = config.links.iter().map(|link| &link.interface);
        let recorded = records.values().map(|record| &record.interface);
        Self {
            interfaces: configured.chain(recorded).cloned().collect(),
            indices: records.values().map(|record| record.index).collect(),
            tables: config.links.iter().map(|link| link.table).collect(),
            protocol: config.settings.protocol,
            firewall: config.settings.firewall == Firewall::Iptables,
            hash_policy: config.settings.hash_policy.is_some(),
        }
    }
}

/// Whether this is the state of an uplink that can carry traffic, whatever the others do.
fn is_in_full_use(state: &LinkState<'_>, records: &LinkRecords, observed: &Observed) -> bool {
    state.live().is_some_and(|live| {
        live.link.is_uplink() && !records.drained.contains_key(&live.link.name) && !live.lacks_gateway(observed)
    })
}

/// What keeps a link out of use that has a way out; `another`: an uplink is in full use.
fn out_of_use<'a>(
    live: &LiveLink<'a>,
    another: bool,
    records: &LinkRecords,
    observed: &Observed,
) -> Option<LinkState<'a>> {
    let is_uplink = live.link.is_uplink();
    match records.drained.get(&live.link.name) {
        Some(drain) if drain.force || !is_uplink || another => Some(LinkState::Drained(*drain)),
        None if is_uplink && another && live.lacks_gateway(observed) => Some(LinkState::NoGateway(live.clone())),
        _ => None,
    }
}

/// State of one link if nobody drained it, and it were the only one.
fn ability<'a>(link: &'a Link, records: &LinkRecords, observed: &Observed) -> LinkState<'a> {
    match (link.gateway, records.get(&link.name)) {
        (None, Some(record)) => recorded_ability(link, record, observed),
        // What was said of another device, or of IPv6 alone, takes no static link down.
        (Some(_), Some(record)) if record.v4.is_some() && interface_of(record, observed).is_some() => {
            recorded_ability(link, record, observed)
        }
        (Some(gateway), _) => static_ability(link, gateway, observed),
        (None, None) => LinkState::Down,
    }
}

/// A static Ethernet link has no caller: it is up while its interface is.
fn static_ability<'a>(link: &'a Link, gateway: HostAddr, observed: &Observed) -> LinkState<'a> {
    match observed.interfaces.get(&link.interface) {
        Some(found) if found.state != InterfaceState::Down && !found.addresses.is_empty() => {
            with_way_out(link, Some(gateway), source_towards(gateway, found), found)
        }
        _ => LinkState::Down,
    }
}

/// A link of which a caller has said that it is up.
fn recorded_ability<'a>(link: &'a Link, record: &LinkRecord, observed: &Observed) -> LinkState<'a> {
    let Some(v4) = record.v4 else { return LinkState::Down };
    let Some(found) = interface_of(record, observed) else { return LinkState::Stale };
    // pppd clears the address before it runs ip-down: a numbered line without any is going.
    let is_going = v4.local.is_some() && found.addresses.is_empty();
    if found.state == InterfaceState::Down || is_going {
        return LinkState::Dead;
    }
    let gateway = v4.gateway.or(link.gateway);
    let local = v4.local.map(|local| current_address(local, gateway, found));
    with_way_out(link, gateway, local, found)
}

/// The interface of a record, whatever it is called by now, unless it is gone.
fn interface_of<'a>(record: &LinkRecord, observed: &'a Observed) -> Option<&'a Interface> {
    observed.interfaces.values().find(|found| found.device.index == record.index)
}

/// The address that stands for `local` now: it can change without a word, and nothing leaves by the old one any more.
fn current_address(local: HostAddr, gateway: Option<HostAddr>, interface: &Interface) -> HostAddr {
    if interface.addresses.iter().any(|address| address.local == local) {
        return local;
    }
    let first = interface.addresses.first().map(|address| address.local);
    gateway.map_or(first, |gateway| source_towards(gateway, interface)).unwrap_or(local)
}

/// A link by an interface that is not down.
fn with_way_out<'a>(
    link: &'a Link,
    gateway: Option<HostAddr>,
    local: Option<HostAddr>,
    interface: &Interface,
) -> LinkState<'a> {
    let carrier = interface.state == InterfaceState::Up;
    let live = LiveLink { link, next_hop: next_hop(gateway, interface), local, carrier };
    if carrier { LinkState::Up(live) } else { LinkState::NoCarrier(live) }
}

/// Interfaces of links that share an Ethernet segment with another link's, and what has to be set so that each answers
/// ARP for its own addresses only: else what is sent to one line's address comes in by the other.
pub fn lax_arp<'a>(live: &[LiveLink<'_>], observed: &'a Observed) -> Vec<(&'a Device, ArpKey)> {
    let interfaces = live.iter().filter_map(|l| observed.interfaces.get(&l.next_hop.device.name));
    let ethernets: Vec<_> = interfaces.filter(|interface| interface.arp).collect();
    let mut lax = Vec::new();
    for interface in &ethernets {
        if ethernets.iter().any(|other| other.device != interface.device && overlap(other, interface)) {
            lax.extend(interface.lax_arp.iter().map(|key| (&interface.device, *key)));
        }
    }
    lax
}

/// Whether a subnet of one interface is, in part, another's.
fn overlap(one: &Interface, other: &Interface) -> bool {
    for a in &one.addresses {
        for b in &other.addresses {
            if a.reaches.contains(&b.reaches) || b.reaches.contains(&a.reaches) {
                return true;
            }
        }
    }
    false
}

fn next_hop(gateway: Option<HostAddr>, interface: &Interface) -> NextHop {
    // Some providers' gateways are in no subnet of ours; without the flag fib_check_nh() refuses them.
    let onlink = gateway.is_some_and(|gateway| address_towards(gateway, interface).is_none());
    NextHop { device: interface.device.clone(), gateway, onlink }
}

/// The interface's address in the gateway's subnet, else its first.
fn source_towards(gateway: HostAddr, interface: &Interface) -> Option<HostAddr> {
    address_towards(gateway, interface).or(interface.addresses.first()).map(|address| address.local)
}

/// The interface's address in the gateway's subnet.
fn address_towards(gateway: HostAddr, interface: &Interface) -> Option<&Address> {
    interface.addresses.iter().find(|address| address.reaches.contains(&gateway.get()))
}
