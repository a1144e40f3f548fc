//! The state of each link, as it is when a pass is over.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::notice::Interest;
use crate::config::{Config, Firewall};
use crate::kernel::{self, Kernel, Linux};
use crate::model::names::{Family, HostAddr, IfName, LinkName, Tier};
use crate::model::observed::{Observed, Scope};
use crate::model::routing::NextHop;
pub(super) use crate::reconcile::link_state::Status;
use crate::reconcile::link_state::{LinkState, LinkStates, LiveLink};
use crate::state::records::LinkRecords;

impl Status {
    /// Why traffic does not go by the link, or that it does.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Up => "it can carry traffic",
            Self::Down => "no caller has reported it up, or its caller has reported it down",
            Self::Stale => "its interface is gone",
            Self::Dead => "its interface is down or has lost its address",
            Self::NoCarrier => "its interface has lost its carrier",
            Self::NoGateway => "it has no gateway, and another uplink can carry traffic",
            Self::Drained | Self::Held => "it is kept out of new connections",
            Self::Cut => "it is kept out of all connections",
        }
    }
}

/// The state of a link. By whom it is drained makes no difference here.
fn without_drill(state: &LinkState<'_>) -> Status {
    match state.status() {
        Status::Held => Status::Drained,
        status => status,
    }
}

/// A link in a family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LinkView {
    pub(super) name: LinkName,
    pub(super) family: Family,
    /// `None`: it is a tunnel.
    pub(super) tier: Option<Tier>,
    pub(super) status: Status,
    /// Its interface now; `None`: it has no next hop.
    pub(super) interface: Option<IfName>,
    /// Its own address, where it has a next hop.
    pub(super) local: Option<HostAddr>,
    /// What its routes and rules are made of.
    pub(super) way: Option<(NextHop, Vec<IpNet>)>,
    /// The provider's resolvers that are beyond its first router.
    pub(super) resolvers: Vec<HostAddr>,
}

#[cfg(test)]
impl LinkView {
    /// One without a next hop.
    pub(super) fn of(name: LinkName, family: Family, tier: Option<Tier>, status: Status) -> Self {
        Self { name, family, tier, status, interface: None, local: None, way: None, resolvers: Vec::new() }
    }
}

/// The resolvers that are not on the link itself: a router of the administrator's own that answers for others says nothing
/// of what is behind it.
fn resolvers(live: &LiveLink<'_>, records: &LinkRecords, observed: &Observed) -> Vec<HostAddr> {
    let record = records.record(&live.link.name, live.family);
    let Some(said) = record.and_then(|record| record.said(live.family)) else { return Vec::new() };
    let device = &live.next_hop.device;
    let interface = observed.interfaces.values().find(|interface| interface.device.index == device.index);
    let mut networks = Vec::new();
    for address in interface.into_iter().flat_map(|found| found.addresses.iter().chain(&found.addresses6)) {
        networks.push(address.reaches);
    }
    let mut beyond = said.resolvers.clone();
    beyond.retain(|resolver| {
        Some(*resolver) != live.next_hop.gateway && !networks.iter().any(|network| network.contains(&resolver.get()))
    });
    beyond
}

/// A look at all links, by position, those of IPv4 first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Links(pub(super) Vec<LinkView>);

impl Links {
    /// Looks at the links, and at what can concern them.
    ///
    /// # Errors
    /// The kernel cannot be read.
    pub(super) fn look(config: &Config, records: &LinkRecords) -> Result<(Self, Interest), kernel::Error> {
        let scope = Scope { firewall: Firewall::None, ..Scope::new(config, records) };
        let observed = Linux::open()?.observe(&scope)?;
        let states = LinkStates::new(config, records, &observed);
        let mut links = Vec::new();
        for family in Family::BOTH {
            for (link, state) in states.iter_of(family) {
                let routed = state.routed();
                links.push(LinkView {
                    name: link.name.clone(),
                    family,
                    tier: link.tier(),
                    status: without_drill(state),
                    interface: routed.map(|live| live.next_hop.device.name.clone()),
                    local: routed.and_then(|live| live.local),
                    way: routed.map(|live| (live.next_hop.clone(), live.sources())),
                    resolvers: routed.map(|live| resolvers(live, records, &observed)).unwrap_or_default(),
                });
            }
        }
        let indices: BTreeSet<_> = observed.interfaces.values().map(|found| found.device.index).collect();
        Ok((Self(links), Interest::new(config, &scope.interfaces, indices)))
    }

    /// The link in a family.
    pub(super) fn get(&self, name: &LinkName, family: Family) -> Option<&LinkView> {
        self.0.iter().find(|view| view.name == *name && view.family == family)
    }

    /// The links that can carry traffic of a family.
    pub(super) fn up(&self, family: Family) -> impl Iterator<Item = &LinkView> {
        self.0.iter().filter(move |view| view.family == family && view.status == Status::Up)
    }

    /// The lowest tier with an uplink that can carry traffic of the family.
    pub(super) fn tier(&self, family: Family) -> Option<Tier> {
        self.up(family).filter_map(|view| view.tier).min()
    }
}
