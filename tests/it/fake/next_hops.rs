//! IPv6 routes: each next hop is a route of its own, and those of one metric with a gateway are shown and used as one
//! (`fib6_add_rt2node()`, `ip6_route_del()`, `fib6_dump_node()`, `rt6_qualify_for_ecmp()`).

use std::collections::BTreeSet;
use std::net::IpAddr;

use multihome::model::names::{Family, HostAddr, TableId};
use multihome::model::routing::{FoundNextHop, FoundRoute, FoundTarget, NextHop, WeightedNextHop};

use super::{EEXIST, EHOSTUNREACH, EINVAL, ENETDOWN, ENODEV, ESRCH, Fake, Held, Via};

/// `RTPROT_RA`, of the routes that the kernel makes for router advertisements.
pub const RA: u8 = 9;

/// `IP6_RT_PRIO_USER`, where a request has no metric.
const METRIC: u32 = 1024;

impl Held {
    /// An IPv6 route of one next hop.
    pub fn by_hop(table: TableId, metric: u32, protocol: u8, hop: WeightedNextHop) -> Self {
        let metric = if metric == 0 { METRIC } else { metric };
        let via = Via::NextHops(vec![hop]);
        Self { family: Family::V6, table, metric, protocol, via, dead: BTreeSet::new() }
    }

    /// The next hop of an IPv6 route that others of its metric can join.
    pub fn hop(&self) -> Option<&WeightedNextHop> {
        match &self.via {
            Via::NextHops(hops) if self.is_hop() => hops.first(),
            _ => None,
        }
    }

    /// Whether it can be one of several: it has a gateway, and the kernel has not made it for an advertisement.
    pub fn is_hop(&self) -> bool {
        let has_gateway = matches!(&self.via, Via::NextHops(hops) if hops[0].next_hop.gateway.is_some());
        let is_advertised = self.protocol == RA && self.metric == METRIC;
        self.family == Family::V6 && !is_advertised && has_gateway
    }

    /// Whether a request asks for it: what is not given is not compared. That a next hop has no gateway can be said
    /// (`via ::`).
    fn is_asked_for(&self, hop: Option<(u32, Option<IpAddr>)>) -> bool {
        match (&self.via, hop) {
            (Via::Nexthop(_), _) | (_, None) => true,
            (Via::Unreachable, Some(_)) => false,
            (Via::NextHops(hops), Some((device, gateway))) => {
                let own = &hops[0].next_hop;
                own.device.index == device && own.gateway.map(HostAddr::get) == gateway
            }
        }
    }
}

impl Fake {
    /// `RTM_NEWROUTE` with CREATE and APPEND.
    pub fn append_leg(&mut self, table: TableId, metric: u32, protocol: u8, hop: WeightedNextHop) -> Result<(), i32> {
        self.check_hop6(&hop.next_hop)?;
        self.append6(Held::by_hop(table, metric, protocol, hop))
    }

    /// The same of a route that is in order.
    pub fn append6(&mut self, new: Held) -> Result<(), i32> {
        let place = self.place(Family::V6, new.table, new.metric);
        if self.routes[place.clone()].iter().any(|held| is_duplicate(&held.via, &new.via)) {
            return Err(EEXIST);
        }
        self.routes.insert(place.end, new);
        Ok(())
    }

    /// `fib6_nh_init()`, `ip6_validate_gw()`.
    fn check_hop6(&self, hop: &NextHop) -> Result<(), i32> {
        let nic = self.nic(hop.device.index).ok_or(ENODEV)?;
        let is_own = |gateway: HostAddr| self.nics.values().flat_map(|n| &n.addresses6).any(|a| a.local == gateway);
        match hop.gateway {
            _ if !nic.up => Err(ENETDOWN),
            Some(gateway) if is_own(gateway) => Err(EINVAL),
            Some(gateway) if !gateway.is_link_local() && !hop.onlink && !nic.reaches(gateway) => Err(EHOSTUNREACH),
            _ => Ok(()),
        }
    }

    /// `RTM_DELROUTE`. Where the request has no gateway, all next hops go with the first that it asks for.
    pub fn delete_route6(&mut self, wanted: &FoundRoute) -> Result<(), i32> {
        match &wanted.target {
            FoundTarget::Nexthop { id, .. } => {
                let at = self.asked_for(wanted, |held| held.via == Via::Nexthop(*id));
                at.map(|at| self.routes.remove(at)).map(drop).ok_or(ESRCH)
            }
            FoundTarget::NextHops(hops) => {
                let hops = hops.iter().map(|l| (l.next_hop.device.index, l.next_hop.gateway.map(HostAddr::get)));
                self.delete_hops6(wanted, hops.collect())
            }
            FoundTarget::Other { hops, .. } => {
                let hops = hops.iter().map(|FoundNextHop { device, gateway, .. }| (*device, *gateway)).collect();
                self.delete_hops6(wanted, hops)
            }
        }
    }

    fn delete_hops6(&mut self, wanted: &FoundRoute, hops: Vec<(u32, Option<IpAddr>)>) -> Result<(), i32> {
        if hops.is_empty() {
            let at = self.asked_for(wanted, |held| held.is_asked_for(None)).ok_or(ESRCH)?;
            let first = self.routes.remove(at);
            let place = (first.table, first.metric);
            self.routes.retain(|held| !(first.is_hop() && held.is_hop() && (held.table, held.metric) == place));
        }
        let mut done = Ok(());
        for hop in hops {
            match self.asked_for(wanted, |held| held.is_asked_for(Some(hop))) {
                Some(at) => _ = self.routes.remove(at),
                None => done = Err(ESRCH),
            }
        }
        done
    }

    /// The first IPv6 route of the table that the request asks for.
    fn asked_for(&self, wanted: &FoundRoute, is_asked_for: impl Fn(&Held) -> bool) -> Option<usize> {
        self.routes.iter().position(|held| {
            held.family == Family::V6
                && held.table == wanted.table
                && (wanted.metric == 0 || held.metric == wanted.metric)
                && (wanted.protocol == 0 || held.protocol == wanted.protocol)
                && is_asked_for(held)
        })
    }

    /// The IPv6 routes as a dump has them: next hops of one metric as one route, at the place and with the protocol of the
    /// first; what stands between the first and the last is left out.
    pub fn dumped6(&self) -> Vec<Vec<&Held>> {
        let routes: Vec<_> = self.routes.iter().filter(|held| held.family == Family::V6).collect();
        let place = |held: &Held| (held.table, held.metric);
        let mut dumped: Vec<Vec<&Held>> = Vec::new();
        for (at, held) in routes.iter().enumerate() {
            let is_sibling = |other: &&Held| other.is_hop() && place(other) == place(held);
            let is_hidden = routes[..at].iter().any(is_sibling) && routes[at + 1..].iter().any(is_sibling);
            let first = dumped.iter_mut().find(|next_hops| held.is_hop() && is_sibling(&next_hops[0]));
            match first {
                Some(next_hops) => next_hops.push(held),
                None if is_hidden => {}
                None => dumped.push(vec![held]),
            }
        }
        dumped
    }
}

/// `rt6_duplicate_nexthop()`: weight and `onlink` are not compared.
fn is_duplicate(held: &Via, new: &Via) -> bool {
    match (held, new) {
        (Via::NextHops(held), Via::NextHops(new)) => {
            let (held, new) = (&held[0].next_hop, &new[0].next_hop);
            held.device.index == new.device.index && held.gateway == new.gateway
        }
        (held, new) => held == new,
    }
}
