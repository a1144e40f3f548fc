//! The state of each link, from configuration, records and observed interfaces. Pure.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::config::{Config, Link};
use crate::event::Addresses;
use crate::model::names::{Family, HostAddr};
use crate::model::observed::{Address, Interface, InterfaceState, Observed, Scope};
use crate::model::routing::{ArpKey, Device, NextHop};
use crate::state::drain::{Drain, Level};
use crate::state::records::{LinkRecord, LinkRecords};

mod ipv6;
mod status;

pub(crate) use ipv6::global_addresses;
pub(crate) use status::Status;

/// A link with a next hop in a family: it can carry traffic, or lacks only its carrier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveLink<'a> {
    pub link: &'a Link,
    pub family: Family,
    pub next_hop: NextHop,
    /// Its own address, if known.
    pub local: Option<HostAddr>,
    /// IPv6: the prefixes whose packets leave by it, sorted; none contains another.
    pub prefixes: Vec<IpNet>,
    /// Whether its interface has its carrier.
    pub carrier: bool,
    /// How far it is out of use: never [`Level::Held`].
    pub level: Option<Level>,
}

impl LiveLink<'_> {
    /// Whether it is part of the default route now.
    pub fn carries_default(&self) -> bool {
        self.link.is_uplink() && self.carrier && self.level.is_none()
    }

    /// Whether its connections stay with it. Else no mark and no source leads to its table, only probes.
    pub(crate) fn keeps_connections(&self) -> bool {
        self.level != Some(Level::Cut)
    }

    /// The sources whose packets leave by it.
    pub fn sources(&self) -> Vec<IpNet> {
        match self.family {
            Family::V4 => self.local.map(|local| IpNet::from(local.get())).into_iter().collect(),
            Family::V6 => self.prefixes.clone(),
        }
    }

    /// Whether it is an Ethernet without a gateway, on which the kernel would look for each host of the Internet by
    /// ARP.
    pub(crate) fn lacks_gateway(&self, observed: &Observed) -> bool {
        let interface = observed.interfaces.get(&self.next_hop.device.name);
        self.next_hop.gateway.is_none() && interface.is_some_and(|interface| interface.arp)
    }
}

/// The links that have routes, in the order of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Live<'a> {
    pub v4: Vec<LiveLink<'a>>,
    pub v6: Vec<LiveLink<'a>>,
    /// Metrics of tiers that main's IPv6 defaults of others keep.
    pub kept6: BTreeSet<u32>,
}

impl<'a> Live<'a> {
    /// Those of a family.
    pub fn of(&self, family: Family) -> &[LiveLink<'a>] {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// Those of both families.
    pub fn iter(&self) -> impl Iterator<Item = &LiveLink<'a>> {
        self.v4.iter().chain(&self.v6)
    }
}

/// The state of a link in a family, in the words of the glossary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState<'a> {
    Up(LiveLink<'a>),
    /// No caller has reported it up.
    Down,
    /// Reported up, but its interface is gone, or another one has its name.
    Stale,
    /// Reported up, but its interface is down or has lost its address.
    Dead,
    /// It lacks only its carrier. Its routes stay: the kernel skips them until the carrier is back, and then uses them
    /// at once.
    NoCarrier(LiveLink<'a>),
    /// An Ethernet uplink without a gateway, not used while another uplink can carry traffic.
    NoGateway(LiveLink<'a>),
    /// It could carry traffic, and is kept out of new connections.
    Drained(LiveLink<'a>, Drain),
}

impl<'a> LinkState<'a> {
    /// The link, if it can carry traffic.
    pub fn live(&self) -> Option<&LiveLink<'a>> {
        if let Self::Up(live) = self { Some(live) } else { None }
    }

    /// The link, if it has routes: it can carry traffic, or lacks only its carrier, or is drained and not held.
    pub fn routed(&self) -> Option<&LiveLink<'a>> {
        match self {
            Self::Up(live) | Self::NoCarrier(live) => Some(live),
            Self::Drained(live, _) if live.level.is_some() => Some(live),
            _ => None,
        }
    }

    /// Whether mh-watch looks at it: it is up, or drained by mh-watch. Of any other it may say what was once.
    pub(crate) fn is_looked_at(&self) -> bool {
        matches!(self, Self::Up(_)) || matches!(self, Self::Drained(live, _) if live.level.is_some())
    }

    /// Whether it is recorded as up, and no packet can leave by it.
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self, Self::Dead | Self::NoCarrier(_))
    }
}

/// The state of each configured link at one observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStates<'a> {
    /// IPv4, by the links' positions.
    v4: Vec<(&'a Link, LinkState<'a>)>,
    /// IPv6 likewise.
    v6: Vec<(&'a Link, LinkState<'a>)>,
    kept6: BTreeSet<u32>,
}

impl<'a> LinkStates<'a> {
    /// If only drained uplinks remain, a drain that is not forced is ignored, so that the host stays online. Likewise
    /// an uplink without a gateway is used if it is the only one. Each family counts for itself.
    pub fn new(config: &'a Config, records: &LinkRecords, observed: &Observed) -> Self {
        let mut v4: Vec<_> = config.links.iter().map(|link| (link, ability(link, records, observed))).collect();
        take_out_of_use(&mut v4, records, observed);
        let only = ipv6::only_uplink(config);
        let mut v6 = Vec::with_capacity(v4.len());
        for (link, state) in &v4 {
            let is_only = only.is_some_and(|only| only.name == link.name);
            v6.push((*link, ipv6::ability(link, records, observed, state, is_only, config)));
        }
        take_out_of_use(&mut v6, records, observed);
        Self { v4, v6, kept6: ipv6::kept_metrics(config, records, observed) }
    }

    /// Each link with its state in a family, by position.
    pub fn iter_of(&self, family: Family) -> impl Iterator<Item = (&'a Link, &LinkState<'a>)> {
        self.all(family).iter().map(|(link, state)| (*link, state))
    }

    fn all(&self, family: Family) -> &[(&'a Link, LinkState<'a>)] {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// The state in a family of `link`, which must be of the same configuration.
    pub fn state(&self, link: &Link, family: Family) -> &LinkState<'a> {
        &self.all(family)[usize::from(link.position)].1
    }

    /// The links that can carry traffic.
    pub fn live(&self) -> Live<'a> {
        self.those(LinkState::live)
    }

    /// The links that have routes (see [`LinkState::routed`]).
    pub fn routed(&self) -> Live<'a> {
        self.those(LinkState::routed)
    }

    fn those(&self, of: for<'s> fn(&'s LinkState<'a>) -> Option<&'s LiveLink<'a>>) -> Live<'a> {
        let [v4, v6] =
            Family::BOTH.map(|family| self.all(family).iter().filter_map(|(_, state)| of(state)).cloned().collect());
        Live { v4, v6, kept6: self.kept6.clone() }
    }
}

/// Sets the state of links that could carry traffic and are kept out of use.
fn take_out_of_use<'a>(all: &mut [(&'a Link, LinkState<'a>)], records: &LinkRecords, observed: &Observed) {
    let another = all.iter().any(|(_, state)| is_in_full_use(state, records, observed));
    for (_, state) in all {
        if let Some(live) = state.routed()
            && let Some(unused) = out_of_use(live, another, records, observed)
        {
            *state = unused;
        }
    }
}

impl Scope {
    /// What must be observed for `config` and `records`.
    pub fn new(config: &Config, records: &LinkRecords) -> Self {
        let configured = config.links.iter().map(|link| &link.interface);
        let recorded = records.all().map(|record| &record.interface);
        Self {
            interfaces: configured.chain(recorded).cloned().collect(),
            indices: records.all().map(|record| record.index).collect(),
            tables: config.links.iter().map(|link| link.table).collect(),
            protocol: config.settings.protocol,
            firewall: config.settings.firewall,
            leftovers: false,
            hash_policy: config.settings.hash_policy.is_some(),
            ipv6: config.uses_ipv6(),
            has_ipv6: records.all().any(|record| record.v6.is_some())
                || config.links.iter().any(|link| link.gateway6.is_some()),
            lan6: !records.deprecated.0.is_empty() || config.links.iter().any(|link| !link.prefixes.is_empty()),
            deprecated: records.deprecated.0.clone(),
        }
    }
}

/// Whether this is the state of an uplink that can carry traffic independently of the others.
fn is_in_full_use(state: &LinkState<'_>, records: &LinkRecords, observed: &Observed) -> bool {
    state.live().is_some_and(|live| {
        let is_drained = records.drain(&live.link.name, live.family).is_some();
        live.link.is_uplink() && !is_drained && !live.lacks_gateway(observed)
    })
}

/// The state that keeps a link with a next hop out of use, if any; `another`: an uplink is in full use.
fn out_of_use<'a>(
    live: &LiveLink<'a>,
    another: bool,
    records: &LinkRecords,
    observed: &Observed,
) -> Option<LinkState<'a>> {
    let is_uplink = live.link.is_uplink();
    match records.drain(&live.link.name, live.family) {
        Some((drain, level)) if drain.force || !is_uplink || another => {
            let level = (level != Level::Held).then_some(level);
            Some(LinkState::Drained(LiveLink { level, ..live.clone() }, drain))
        }
        None if is_uplink && another && live.lacks_gateway(observed) => Some(LinkState::NoGateway(live.clone())),
        _ => None,
    }
}

/// The state of a link as if it were not drained and the only one.
fn ability<'a>(link: &'a Link, records: &LinkRecords, observed: &Observed) -> LinkState<'a> {
    match (link.gateway, records.get(&link.name)) {
        (None, Some(record)) => recorded_ability(link, record, observed),
        // A record of another interface, or of IPv6 only, does not affect a static link.
        (Some(_), Some(record)) if record.v4.is_some() && interface_of(record, observed).is_some() => {
            recorded_ability(link, record, observed)
        }
        (Some(gateway), _) => static_ability(link, gateway, observed),
        (None, None) => LinkState::Down,
    }
}

/// A static link has no caller: it is up while its interface is.
fn static_ability<'a>(link: &'a Link, gateway: HostAddr, observed: &Observed) -> LinkState<'a> {
    match observed.interfaces.get(&link.interface) {
        Some(found) if found.state != InterfaceState::Down && !found.addresses.is_empty() => {
            with_way_out(link, Some(gateway), source_towards(gateway, found), found)
        }
        _ => LinkState::Down,
    }
}

/// The state of a link that is recorded as up.
fn recorded_ability<'a>(link: &'a Link, record: &LinkRecord, observed: &Observed) -> LinkState<'a> {
    let Some(Addresses { local, gateway, .. }) = &record.v4 else { return LinkState::Down };
    let Some(found) = interface_of(record, observed) else { return LinkState::Stale };
    // pppd removes the address before it runs ip-down: an interface that has lost its address is about to go.
    let is_going = local.is_some() && found.addresses.is_empty();
    if found.state == InterfaceState::Down || is_going {
        return LinkState::Dead;
    }
    let gateway = gateway.or(link.gateway);
    let local = local.map(|local| current_address(local, gateway, found));
    with_way_out(link, gateway, local, found)
}

/// The interface of a record, which may have been renamed; `None`: it is gone.
fn interface_of<'a>(record: &LinkRecord, observed: &'a Observed) -> Option<&'a Interface> {
    observed.interfaces.values().find(|found| found.device.index == record.index)
}

/// The current address in place of `local`, which can change without an event.
fn current_address(local: HostAddr, gateway: Option<HostAddr>, interface: &Interface) -> HostAddr {
    if interface.addresses.iter().any(|address| address.local == local) {
        return local;
    }
    let first = interface.addresses.first().map(|address| address.local);
    gateway.map_or(first, |gateway| source_towards(gateway, interface)).unwrap_or(local)
}

/// The state of a link whose interface is up.
fn with_way_out<'a>(
    link: &'a Link,
    gateway: Option<HostAddr>,
    local: Option<HostAddr>,
    interface: &Interface,
) -> LinkState<'a> {
    let carrier = interface.state == InterfaceState::Up;
    let next_hop = next_hop(gateway, interface);
    let live = LiveLink { link, family: Family::V4, next_hop, local, prefixes: Vec::new(), carrier, level: None };
    if carrier { LinkState::Up(live) } else { LinkState::NoCarrier(live) }
}

/// The sysctls to set on interfaces that share an Ethernet segment with another link's, so that each answers ARP for
/// its own addresses only. Otherwise packets to one link's address can come in by the other.
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

/// Whether a subnet of one interface overlaps with one of the other.
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
    // Some providers' gateways are in no subnet of the interface; fib_check_nh() refuses these without the flag.
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
