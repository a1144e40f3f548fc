//! Links that are up although nobody has told of it: their lines connected before our hooks were called. Which these are,
//! and by what next hop, follows from what the kernel holds, and from what each pppd tells its hooks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Error;
use super::sessions::{Session, sessions};
use super::tree::Tree;
use crate::config::{Config, Link};
use crate::ctl::lookup::FibRoute;
use crate::ctl::lookup::read::Fib;
use crate::event::{Addresses, Event, EventKind};
use crate::kernel::{Kernel, Linux};
use crate::model::firewall::Firewall;
use crate::model::names::{Family, HostAddr, IfName, TableId};
use crate::model::observed::{Interface, InterfaceState, Observed, Scope};
use crate::model::routing::RouteKind;
use crate::reconcile::link_state::{LinkState, LinkStates};
use crate::state::records::{LinkRecord, LinkRecords, Records};

/// A link that is up with a family, and that nobody has told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Untold<'a> {
    pub link: &'a Link,
    family: Family,
    interface: IfName,
    local: HostAddr,
    next_hop: NextHop,
}

/// Where packets leave to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextHop {
    /// The other end, or a router.
    Address(HostAddr),
    /// The interface itself.
    Interface,
    /// A router whose address nobody has told the kernel.
    Unknown,
}

/// All of them, in the order of the configuration.
pub(super) fn untold<'a>(config: &'a Config, records: &LinkRecords) -> Result<Vec<Untold<'a>>, Error> {
    let sessions = sessions(&Tree::new("/".as_ref()));
    let mut scope = Scope { firewall: Firewall::None, ..Scope::new(config, records) };
    scope.interfaces.extend(sessions.keys().cloned());
    let observed = Linux::open()?.observe(&scope)?;
    let defaults = [defaults(Family::V4)?, defaults(Family::V6)?].concat();
    Ok(find(config, records, &observed, &defaults, &sessions))
}

/// Main's default routes of a family, of whatever metric.
pub(super) fn defaults(family: Family) -> Result<Vec<FibRoute>, Error> {
    let anywhere = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let mut routes = Fib::open()?.routes(TableId::MAIN, anywhere)?;
    routes.retain(|route| route.prefix.prefix_len() == 0 && route.kind == RouteKind::Unicast);
    Ok(routes)
}

/// Pure.
fn find<'a>(
    config: &'a Config,
    records: &LinkRecords,
    observed: &Observed,
    defaults: &[FibRoute],
    sessions: &BTreeMap<IfName, Session>,
) -> Vec<Untold<'a>> {
    let states = LinkStates::new(config, records, observed);
    let mut found: Vec<Untold<'a>> = Vec::new();
    let configured = config.links.iter().map(|link| &link.interface);
    let interfaces: BTreeSet<_> = configured.chain(sessions.keys()).collect();
    for name in interfaces {
        let Some(interface) = observed.interfaces.get(name).filter(|i| i.state == InterfaceState::Up) else { continue };
        for family in Family::BOTH {
            let way = if family == Family::V4 { way(interface, defaults) } else { way6(interface, defaults) };
            let Some((local, next_hop)) = way else { continue };
            // As the hook would: by what pppd calls the link, and by the interface where it calls it nothing.
            let names = sessions.get(name).map(|session| session.names.clone()).unwrap_or_default();
            let event = up(name, names, local, next_hop);
            let Some(link) = Records::default().recognise(&event, config) else { continue };
            let untold = Untold { link, family, interface: name.clone(), local, next_hop };
            let is_first = found.iter().all(|other| other.link.name != link.name || other.family != family);
            if is_first && !untold.is_told(&states, records, interface, observed) {
                found.push(untold);
            }
        }
    }
    found.sort_by_key(|untold| (untold.link.position, untold.family));
    found
}

/// The same in IPv6. Of a point-to-point interface any address tells: pppd gives it one after IPV6CP. An Ethernet has a
/// link-local one by itself.
fn way6(interface: &Interface, defaults: &[FibRoute]) -> Option<(HostAddr, NextHop)> {
    let global = interface.addresses6.iter().find(|address| !address.local.is_link_local());
    if interface.arp {
        let mut hops = defaults.iter().filter(|route| route.prefix.addr().is_ipv6()).flat_map(|route| &route.next_hops);
        let has_router = hops.any(|next_hop| next_hop.hop.device == interface.device.index && !next_hop.hop.dead);
        return Some((global?.local, if has_router { NextHop::Interface } else { NextHop::Unknown }));
    }
    Some((global.or(interface.addresses6.first())?.local, NextHop::Interface))
}

/// Our address on an interface, and what is next by it; `None`: it has no address.
fn way(interface: &Interface, defaults: &[FibRoute]) -> Option<(HostAddr, NextHop)> {
    let first = interface.addresses.first()?.local;
    let of_ipv4 = defaults.iter().filter(|route| route.prefix.addr().is_ipv4());
    let hops = of_ipv4.flat_map(|route| &route.next_hops).map(|next_hop| next_hop.hop);
    let mut gateways =
        hops.filter(|hop| hop.device == interface.device.index && !hop.dead).map(|hop| hop.gateway).peekable();
    let is_default = gateways.peek().is_some();
    let router = gateways.find_map(|gateway| match gateway? {
        IpAddr::V4(gateway) => HostAddr::new(gateway).ok(),
        IpAddr::V6(_) => None,
    });
    if let Some(router) = router {
        let near = interface.addresses.iter().find(|address| address.reaches.contains(&router.get()));
        return Some((near.map_or(first, |address| address.local), NextHop::Address(router)));
    }
    // The other end, as pppd and OpenVPN's topology p2p leave it.
    let peer = interface.addresses.iter().find_map(|address| {
        let other = HostAddr::new(address.reaches.addr()).ok().filter(|other| *other != address.local)?;
        (address.reaches.prefix_len() == 32).then_some((address.local, NextHop::Address(other)))
    });
    let direct = if is_default || !interface.arp { NextHop::Interface } else { NextHop::Unknown };
    Some(peer.unwrap_or((first, direct)))
}

fn up(interface: &IfName, names: Vec<String>, local: HostAddr, next_hop: NextHop) -> Event {
    let gateway = if let NextHop::Address(gateway) = next_hop { Some(gateway) } else { None };
    let kind = EventKind::Up(Addresses { local: Some(local), gateway, ..Addresses::none(local.family()) });
    Event { kind, interface: interface.clone(), names, session: None }
}

impl Untold<'_> {
    /// Whether somebody has told of it, or need not: with a gateway of its own a link is known.
    fn is_told(
        &self,
        states: &LinkStates<'_>,
        records: &LinkRecords,
        interface: &Interface,
        observed: &Observed,
    ) -> bool {
        let Self { link, family, .. } = self;
        let is_on_it =
            |record: &LinkRecord| record.interface == interface.device.name && record.index == interface.device.index;
        let is_known = match family {
            Family::V4 => link.gateway.is_some() || records.values().any(is_on_it),
            Family::V6 => {
                let is_used = link.ipv6 && observed.has_ipv6() && (link.is_uplink() || !self.local.is_link_local());
                // It may be up on another interface.
                let elsewhere =
                    states.state(link, Family::V4).routed().is_some_and(|l| l.next_hop.device != interface.device);
                link.gateway6.is_some() || !is_used || elsewhere
            }
        };
        is_known || !matches!(states.state(link, *family), LinkState::Down | LinkState::Stale)
    }

    /// What its caller would have said; `None`: the router is not known.
    pub fn event(&self) -> Option<Event> {
        let known = self.next_hop != NextHop::Unknown;
        known.then(|| up(&self.interface, vec![self.link.ipparam.clone()], self.local, self.next_hop))
    }

    /// The command that tells of it.
    pub fn command(&self, mhctl: &str) -> String {
        let Self { link, family, interface, local, next_hop } = self;
        // In one word with its option: a name may begin with a dash.
        let told = format!("{mhctl} link up {} --interface={}", link.name, interface.quoted());
        match (family, next_hop) {
            (Family::V4, NextHop::Address(gateway)) => format!("{told} --local={local} --gateway={gateway}"),
            (Family::V4, NextHop::Interface) => format!("{told} --local={local}"),
            (Family::V4, NextHop::Unknown) => format!("{told} --local={local} --gateway=ROUTER"),
            (Family::V6, NextHop::Unknown) => format!("{told} --ipv6 --gateway6=ROUTER"),
            (Family::V6, _) => format!("{told} --ipv6"),
        }
    }
}

/// Says how to take up what is not, and what to wait for where no link is up at all.
pub(super) fn advise(untold: &[Untold<'_>], any_up: bool, mhctl: &str, out: &mut impl Write) -> io::Result<()> {
    for untold in untold {
        let is_up = if untold.family == Family::V4 { "is up" } else { "has IPv6" };
        writeln!(out, "{} {is_up} on {untold}, and no caller has reported it; if it is to be used:", untold.link.name)?;
        writeln!(out, "  {}", untold.command(mhctl))?;
    }
    if !any_up && untold.is_empty() {
        writeln!(
            out,
            "no link is up: each is when its line next connects, or after `{mhctl} link up`; see {mhctl} status"
        )?;
    }
    Ok(())
}

/// Interface, address and next hop.
impl fmt::Display for Untold<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {}", self.interface, self.local)?;
        match self.next_hop {
            NextHop::Address(gateway) => write!(f, " via {gateway}"),
            NextHop::Interface => Ok(()),
            NextHop::Unknown => write!(f, " by a router that no default route names"),
        }
    }
}

#[cfg(test)]
mod tests;
