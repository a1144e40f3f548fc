//! What on this system looks like a link: pppd's peers, default routes, leases of dhclient, OpenVPN's clients.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use super::dhclient;
use crate::ctl::lookup::FibRoute;
use crate::ctl::pppd;
use crate::ctl::sessions::{Session, sessions};
use crate::ctl::setup::openvpn;
use crate::ctl::tree::Tree;
use crate::ctl::{Error, take_up};
use crate::kernel::netlink::constants::{RTPROT_BOOT, RTPROT_DHCP, RTPROT_STATIC};
use crate::kernel::{Kernel, Linux};
use crate::model::names::{Family, HostAddr, IfName};
use crate::model::observed::{Interface, InterfaceState, Scope};

/// Something that looks like a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub tunnel: bool,
    /// What it may be called, not yet fit for a name.
    pub name: String,
    pub interface: Option<IfName>,
    /// What pppd says of it.
    pub ipparam: Option<String>,
    pub gateway: Option<HostAddr>,
    /// That of IPv6, where no router advertises itself.
    pub gateway6: Option<HostAddr>,
    /// Where it is not the first.
    pub tier: Option<usize>,
    /// Where it was found, and what to do about it: lines of comment, where `{link}` and `{interface}` stand for its own.
    pub comments: Vec<String>,
}

impl Found {
    pub fn uplink(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// One that is called after its interface.
    fn on(interface: &IfName) -> Self {
        Self { interface: Some(interface.clone()), ..Self::uplink(interface.as_str()) }
    }

    /// The lowest metric of the default routes by an uplink.
    fn metric(&self, defaults: &[FibRoute]) -> Option<u32> {
        let name = self.interface.as_ref().filter(|_| !self.tunnel)?.as_str();
        let by_it =
            defaults.iter().filter(|route| route.next_hops.iter().any(|next_hop| next_hop.name.as_str() == name));
        by_it.map(|route| route.metric).min()
    }
}

/// Looks at the tree, and at the routes and interfaces that there are.
pub(super) fn look(tree: &Tree) -> Result<Vec<Found>, Error> {
    let sessions = sessions(tree);
    let mut found = peers(tree, &sessions);
    let defaults = take_up::defaults(Family::V4)?;
    let defaults6 = take_up::defaults(Family::V6)?;
    let tunnels = tunnels(tree);
    let mut kernel = Linux::open()?;
    let leased = leased(dhclient::leases(tree), &mut kernel)?;
    let dialled = dialled(&sessions, &mut kernel)?;
    for line in routed(&defaults).into_iter().chain(leased).chain(dialled) {
        // What a peer or a tunnel has is that one's.
        if found.iter().chain(&tunnels).all(|known| known.interface != line.interface) {
            found.push(line);
        }
    }
    for line in routed6(&defaults6) {
        if found.iter().chain(&tunnels).all(|known| known.interface != line.interface) {
            found.push(line);
        }
    }
    set_tiers(&mut found, &defaults);
    for line in &mut found {
        line.gateway6 = line.interface.as_ref().and_then(|interface| fixed_router(interface, &defaults6));
    }
    found.extend(tunnels);
    Ok(found)
}

/// pppd's peers.
fn peers(tree: &Tree, sessions: &BTreeMap<IfName, Session>) -> Vec<Found> {
    let Ok(entries) = fs::read_dir(tree.at("/etc/ppp/peers")) else { return Vec::new() };
    let mut names: Vec<_> = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    let mut found = Vec::new();
    for name in names {
        let Ok(text) = fs::read_to_string(tree.at(&format!("/etc/ppp/peers/{name}"))) else { continue };
        let words = pppd::words(&text);
        // Editors and dpkg leave copies.
        if pppd::is_example(&text) || name.contains(['~', '.', '#']) || words.is_empty() {
            continue;
        }
        let ipparam = pppd::value(&words, "ipparam").or(pppd::value(&words, "linkname")).map(str::to_owned);
        // What it is on now, or else what its options say.
        let now = sessions.iter().find(|(_, session)| session.peer.as_ref() == Some(&name)).map(|(on, _)| on.clone());
        let unit = pppd::value(&words, "unit").map(|n| format!("ppp{n}"));
        let said = pppd::value(&words, "ifname").map(str::to_owned).or(unit);
        let mut comments = vec![format!("pppd's peer {name}.")];
        if ipparam.is_none() {
            comments.push(format!("Add to /etc/ppp/peers/{name}: ipparam {{link}}"));
        }
        if pppd::DefaultRoute::after(words.iter().copied()) != pppd::DefaultRoute::None {
            comments.push(format!("Write nodefaultroute in /etc/ppp/peers/{name}: see mhctl doctor"));
        }
        let interface = now.or_else(|| said.and_then(|i| i.parse().ok()));
        found.push(Found { interface, ipparam, comments, ..Found::uplink(&name) });
    }
    guess_interfaces(&mut found, sessions);
    found
}

/// pppd takes the first unit that is free.
fn guess_interfaces(found: &mut [Found], sessions: &BTreeMap<IfName, Session>) {
    let said: Vec<_> = found.iter().filter_map(|peer| peer.interface.clone()).collect();
    let units = (0..100).filter_map(|unit| format!("ppp{unit}").parse::<IfName>().ok());
    let mut free = units.filter(|name| !said.contains(name) && !sessions.contains_key(name));
    for peer in found.iter_mut().filter(|peer| peer.interface.is_none()) {
        peer.interface = free.next();
    }
}

/// The lines of the default routes that there are.
fn routed(defaults: &[FibRoute]) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for (route, next_hop) in
        defaults.iter().flat_map(|route| route.next_hops.iter().map(move |next_hop| (route, next_hop)))
    {
        let Some(interface) = next_hop.name.checked() else { continue };
        if found.iter().any(|f| f.interface.as_ref() == Some(&interface)) {
            continue;
        }
        let gateway = match next_hop.hop.gateway {
            Some(IpAddr::V4(addr)) => HostAddr::new(addr).ok(),
            _ => None,
        };
        let mut comments = vec![format!("The default route there is now, by {}.", next_hop.name)];
        if route.protocol == RTPROT_DHCP {
            comments.extend(by_dhcp());
        }
        let tunnel = ["tun", "tap", "wg"].iter().any(|kind| next_hop.name.as_str().starts_with(kind));
        found.push(Found { tunnel, gateway, comments, ..Found::on(&interface) });
    }
    found
}

/// The lines of the IPv6 default routes. Their routers need not be known: the kernel or a daemon has these routes from
/// advertisements.
fn routed6(defaults: &[FibRoute]) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for next_hop in defaults.iter().flat_map(|route| &route.next_hops) {
        let Some(interface) = next_hop.name.checked() else { continue };
        if found.iter().all(|known| known.interface.as_ref() != Some(&interface)) {
            let comments = vec![format!("The IPv6 default route there is now, by {}.", next_hop.name)];
            let tunnel = ["tun", "tap", "wg"].iter().any(|kind| next_hop.name.as_str().starts_with(kind));
            found.push(Found { tunnel, comments, ..Found::on(&interface) });
        }
    }
    found
}

/// The router of the IPv6 default route by an interface that somebody has written by hand.
fn fixed_router(interface: &IfName, defaults: &[FibRoute]) -> Option<HostAddr> {
    let by_hand = defaults.iter().filter(|route| [RTPROT_BOOT, RTPROT_STATIC].contains(&route.protocol));
    let mut next_hops =
        by_hand.flat_map(|route| &route.next_hops).filter(|next_hop| next_hop.name.as_str() == interface.as_str());
    next_hops.find_map(|next_hop| HostAddr::new(next_hop.hop.gateway?).ok())
}

/// What there is to say of a gateway that a DHCP server has given.
fn by_dhcp() -> [String; 2] {
    [
        "It is from DHCP, and its client may go on adding a default route of its own. Where the".to_owned(),
        "gateway changes, leave it out here and install the client's hook: see docs/callers.md".to_owned(),
    ]
}

fn is_up(interface: &Interface) -> bool {
    interface.state == InterfaceState::Up
}

/// The lines that dhclient has leases for: of two, only one gets a default route.
fn leased(leases: Vec<dhclient::Lease>, kernel: &mut Linux) -> Result<Vec<Found>, Error> {
    let interfaces = leases.iter().map(|lease| lease.interface.clone()).collect();
    let observed = kernel.observe(&Scope { interfaces, ..Scope::default() })?;
    let mut found = Vec::new();
    for lease in leases {
        let Some(interface) = observed.interfaces.get(&lease.interface) else { continue };
        if is_up(interface) && interface.addresses.iter().any(|address| address.local == lease.address) {
            let name = &lease.interface;
            let mut comments = vec![format!("dhclient has a lease for {name}, and there is no default route by it.")];
            comments.extend(by_dhcp());
            found.push(Found { gateway: Some(lease.router), comments, ..Found::on(name) });
        }
    }
    Ok(found)
}

/// The lines of pppds that were called with no file in /etc/ppp/peers; those that a server has called with options of
/// its own, for clients that dial in, are none.
fn dialled(sessions: &BTreeMap<IfName, Session>, kernel: &mut Linux) -> Result<Vec<Found>, Error> {
    let all = kernel.in_groups(&(0..u32::MAX))?.into_iter().map(|(device, _)| device.name);
    let ppp = all.filter(|name| name.as_str().starts_with("ppp"));
    let interfaces = ppp.filter(|name| sessions.get(name).is_none_or(|session| session.peer.is_some())).collect();
    let observed = kernel.observe(&Scope { interfaces, ..Scope::default() })?;
    let mut found = Vec::new();
    for interface in observed.interfaces.values() {
        if is_up(interface) && !interface.addresses.is_empty() {
            let name = &interface.device.name;
            let comments = vec![format!("{name} is up, and no peer's in /etc/ppp/peers.")];
            found.push(Found { comments, ..Found::on(name) });
        }
    }
    Ok(found)
}

/// Uplinks whose default routes have several metrics take over from each other, as those do now.
fn set_tiers(found: &mut [Found], defaults: &[FibRoute]) {
    let metrics: BTreeSet<_> = found.iter().filter_map(|line| line.metric(defaults)).collect();
    for line in found {
        let Some(own) = line.metric(defaults) else { continue };
        let lower = metrics.range(..own).count();
        if lower > 0 {
            line.tier = Some(lower + 1);
            line.comments
                .push(format!("Its metric is {own}, and another's is lower: it stands by. Without `tier` it shares."));
        }
    }
}

/// OpenVPN's clients.
fn tunnels(tree: &Tree) -> Vec<Found> {
    let clients = openvpn::find(&tree.at("/")).into_iter().filter(|conf| conf.value("remote").is_some());
    let found = clients.map(|conf| {
        let name = Path::new(&conf.path).file_stem().and_then(|s| s.to_str()).unwrap_or("vpn");
        let dev = conf.value("dev").filter(|dev| dev.ends_with(|c: char| c.is_ascii_digit()));
        let mut comments = vec![format!("{}: see mhctl setup for the lines to add.", conf.path)];
        if dev.is_none() {
            comments.push(format!("Write in {} which device: dev {{interface}}", conf.path));
        }
        Found { tunnel: true, interface: dev.and_then(|dev| dev.parse().ok()), comments, ..Found::uplink(name) }
    });
    found.collect()
}
