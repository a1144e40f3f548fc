//! What requests do to IPv4 routes: `fib_table_insert()` and `fib_table_delete()`.

use std::collections::BTreeSet;
use std::ops::Range;

use multihome::model::names::{Family, HostAddr, TableId, Weight};
use multihome::model::routing::{FoundNextHop, FoundRoute, FoundTarget, NextHop, RouteKind};

use super::{EEXIST, EINVAL, ENETDOWN, ENETUNREACH, ENODEV, ESRCH, Fake, Held, Via};

impl Fake {
    /// `fib_check_nh()`.
    pub(super) fn check_next_hop(&self, next_hop: &NextHop) -> Result<(), i32> {
        let nic = self.nic(next_hop.device.index).ok_or(ENODEV)?;
        match next_hop.gateway {
            _ if !nic.up => Err(ENETDOWN),
            Some(gateway) if !next_hop.onlink && !nic.reaches(gateway) => Err(ENETUNREACH),
            None if next_hop.onlink => Err(EINVAL),
            _ => Ok(()),
        }
    }

    fn check_via(&self, via: &Via) -> Result<(), i32> {
        match via {
            Via::NextHops(next_hops) => next_hops.iter().try_for_each(|l| self.check_next_hop(&l.next_hop)),
            Via::Nexthop(id) if self.resolve(*id).is_empty() => Err(EINVAL),
            Via::Nexthop(_) | Via::Unreachable => Ok(()),
        }
    }

    /// Where a route of that place goes: before the first alias, or after the last.
    pub(super) fn place(&self, family: Family, table: TableId, metric: u32) -> Range<usize> {
        let key = (family, table, metric);
        self.routes.partition_point(|r| (r.family, r.table, r.metric) < key)
            ..self.routes.partition_point(|r| (r.family, r.table, r.metric) <= key)
    }

    /// `RTM_NEWROUTE` with CREATE and REPLACE: the first alias only, of whatever protocol.
    pub fn replace_route(&mut self, new: Held) -> Result<(), i32> {
        self.check_via(&new.via)?;
        let place = self.place(new.family, new.table, new.metric);
        let same = |held: &Held| held.protocol == new.protocol && held.via == new.via;
        match self.routes[place.clone()].iter().position(same) {
            Some(0) => {}
            Some(_) => return Err(EEXIST),
            None if place.is_empty() => self.routes.insert(place.start, new),
            None => self.routes[place.start] = new,
        }
        Ok(())
    }

    pub(super) fn delete_route(&mut self, route: &FoundRoute) -> Result<(), i32> {
        let at = self.routes.iter().position(|held| held.family == Family::V4 && is_deleted_by(held, route));
        at.map(|at| self.routes.remove(at)).map(drop).ok_or(ESRCH)
    }

    /// As `ip route prepend`, and the ioctl of pppd; `false`: refused.
    pub fn prepend_route(&mut self, new: Held) -> bool {
        let place = self.place(new.family, new.table, new.metric);
        let same = |held: &Held| held.protocol == new.protocol && held.via == new.via;
        let taken = self.check_via(&new.via).is_ok() && !self.routes[place.clone()].iter().any(same);
        if taken {
            self.routes.insert(place.start, new);
        }
        taken
    }
}

impl Held {
    /// A route of IPv4.
    pub fn new(table: TableId, metric: u32, protocol: u8, mut via: Via) -> Self {
        // The kernel keeps no weight of a single next hop.
        if let Via::NextHops(next_hops) = &mut via
            && let [only] = &mut next_hops[..]
        {
            only.weight = Weight::default();
        }
        Self { family: Family::V4, table, metric, protocol, via, dead: BTreeSet::new() }
    }
}

/// `fib_table_delete()`, `fib_nh_match()`: what is not given is not compared, metric 0 is not given,
/// and of several next hops a single one is compared with the first only.
fn is_deleted_by(held: &Held, wanted: &FoundRoute) -> bool {
    let place = held.table == wanted.table && (wanted.metric == 0 || held.metric == wanted.metric);
    if !place || held.protocol != wanted.protocol {
        return false;
    }
    let hop = |held: &NextHop, device: u32, gateway: Option<HostAddr>| {
        held.device.index == device && (gateway.is_none() || gateway == held.gateway)
    };
    match (&wanted.target, &held.via) {
        (FoundTarget::Nexthop { id, .. }, via) => *via == Via::Nexthop(*id),
        (FoundTarget::NextHops(wanted), Via::NextHops(held)) => {
            let compared = if wanted.len() == 1 { 1 } else { held.len() };
            wanted.len() >= compared
                && held
                    .iter()
                    .zip(wanted)
                    .take(compared)
                    .all(|(h, w)| hop(&h.next_hop, w.next_hop.device.index, w.next_hop.gateway))
        }
        (FoundTarget::Other { kind, .. }, Via::Unreachable) => *kind == RouteKind::Unreachable,
        // Without any next hop what is by a nexthop object matches as well as all else of the type.
        (FoundTarget::Other { kind, hops, .. }, via) if hops.is_empty() => {
            *kind == RouteKind::Unicast && !matches!(via, Via::Unreachable)
        }
        (FoundTarget::Other { hops, .. }, Via::NextHops(held)) => {
            let gateway = |next_hop: &NextHop| next_hop.gateway.map(HostAddr::get);
            let same = |next_hop: &NextHop, w: &FoundNextHop| {
                next_hop.device.index == w.device && (w.gateway.is_none() || w.gateway == gateway(next_hop))
            };
            let compared = if hops.len() == 1 { 1 } else { held.len() };
            hops.len() >= compared && held.iter().zip(hops).take(compared).all(|(h, w)| same(&h.next_hop, w))
        }
        (FoundTarget::NextHops(_), _) | (FoundTarget::Other { .. }, Via::Nexthop(_)) => false,
    }
}
