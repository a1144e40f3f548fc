//! Routes of somebody else in a link's table that lead by another interface than the link's: what a policy, a mark or
//! an address sends to that table leaves by it, whatever all rules say.

use std::collections::{BTreeMap, HashSet};

use ipnet::IpNet;

use super::taker::way;
use crate::config::{Config, Link};
use crate::ctl::lookup::read::Fib;
use crate::ctl::lookup::{FibNextHop, FibRoute};
use crate::kernel;
use crate::model::names::{Family, TableId};
use crate::model::routing::RouteKind;
use crate::reconcile::link_state::LinkStates;

/// Routes of one table that are read. A link's has one of ours, and few of others.
pub(super) const MOST_ROUTES: usize = 10_000;

/// Which interface each link's table should lead by.
pub(super) struct Owners<'a> {
    family: Family,
    ours: u8,
    /// The index of a link's interface, if it has routes.
    links: BTreeMap<TableId, (&'a Link, Option<u32>)>,
}

/// A route that is astray.
pub(super) struct Stray<'a> {
    pub(super) link: &'a Link,
    pub(super) route: FibRoute,
    /// How many more of its table lead the same way.
    pub(super) more: usize,
}

impl<'a> Owners<'a> {
    pub(super) fn new(config: &'a Config, family: Family, states: &LinkStates<'_>) -> Self {
        let mut links = BTreeMap::new();
        for link in &config.links {
            let index = states.state(link, family).routed().map(|l| l.next_hop.device.index);
            links.insert(link.table, (link, index));
        }
        Self { family, ours: config.settings.protocol, links }
    }

    /// The link in whose table a route of somebody else leads by another interface.
    pub(super) fn strays_from(&self, route: &FibRoute) -> Option<&'a Link> {
        let (link, index) = self.links.get(&route.table)?;
        let is_foreign = route.kind == RouteKind::Unicast && route.protocol != self.ours;
        let is_astray = !route.next_hops.iter().all(|next_hop| is_by(next_hop, link, *index));
        (is_foreign && is_astray).then_some(*link)
    }

    /// All of them, but for what main knows as well, and sends there before any policy is asked: a LAN, say.
    pub(super) fn strays(&self, fib: &mut Fib) -> Result<Vec<Stray<'a>>, kernel::Error> {
        let mut astray = Vec::new();
        for table in self.links.keys() {
            for route in fib.first_routes(self.family, *table, MOST_ROUTES)? {
                astray.extend(self.strays_from(&route).map(|link| (link, route)));
            }
        }
        if astray.is_empty() {
            return Ok(Vec::new());
        }
        let main = Main::read(self.family, fib)?;
        let mut told: BTreeMap<_, Stray<'_>> = BTreeMap::new();
        for (link, route) in astray.into_iter().filter(|(_, route)| !main.leads_alike(route)) {
            let metric = (route.prefix.prefix_len() == 0).then_some(route.metric);
            let key = (route.table, way(&route), metric);
            told.entry(key).and_modify(|stray| stray.more += 1).or_insert(Stray { link, route, more: 0 });
        }
        Ok(told.into_values().collect())
    }
}

/// Whether a next hop is by a link's interface, of which this is the index if it has routes.
fn is_by(next_hop: &FibNextHop, link: &Link, index: Option<u32>) -> bool {
    match index {
        Some(index) => next_hop.hop.device == index,
        None => next_hop.name.as_str() == link.interface.as_str(),
    }
}

/// What main knows better than its default.
pub(super) struct Main(HashSet<(IpNet, u32)>);

impl Main {
    pub(super) fn read(family: Family, fib: &mut Fib) -> Result<Self, kernel::Error> {
        let mut known = HashSet::new();
        for route in fib.first_routes(family, TableId::MAIN, MOST_ROUTES)? {
            known.extend(route.next_hops.iter().map(|next_hop| (route.prefix, next_hop.hop.device)));
        }
        Ok(Self(known))
    }

    /// Whether it leads to all of a network.
    pub(super) fn knows(&self, net: IpNet) -> bool {
        self.0.iter().any(|(known, _)| known.prefix_len() > 0 && known.contains(&net))
    }

    /// Whether it leads to all that a route is for, and by the same interfaces.
    fn leads_alike(&self, route: &FibRoute) -> bool {
        let mut wider = Vec::new();
        for len in 1..=route.prefix.prefix_len() {
            wider.extend(IpNet::new(route.prefix.addr(), len).map(|net| net.trunc()));
        }
        route.next_hops.iter().all(|next_hop| wider.iter().any(|net| self.0.contains(&(*net, next_hop.hop.device))))
    }
}
