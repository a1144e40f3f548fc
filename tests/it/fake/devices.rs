//! What happens to interfaces, and what the kernel does then.

use std::collections::BTreeSet;

use multihome::model::names::{Family, HostAddr, IfName, TableId};
use multihome::model::observed::Address;
use multihome::model::routing::NexthopKind;

use super::{Fake, Held, Nic, Via};

impl Fake {
    pub fn nic(&self, index: u32) -> Option<&Nic> {
        self.nics.values().find(|nic| nic.index == index)
    }

    /// The interface goes down: its next hops die (`fib_sync_down_dev`, `fib6_ifdown`), its nexthop objects and IPv6
    /// addresses go.
    pub fn down(&mut self, name: &IfName) {
        if let Some(nic) = self.nics.get_mut(name) {
            nic.up = false;
            nic.addresses6.clear();
            let index = nic.index;
            self.sync_down(index, false);
            self.down6(index);
            self.drop_objects_by(index);
        }
    }

    /// It comes up: dead next hops by it live again (`fib_sync_up`, `fib6_ifup`), nexthop objects do not come back. An
    /// Ethernet has its link-local address again.
    pub fn up(&mut self, name: &IfName) {
        if let Some(nic) = self.nics.get_mut(name) {
            nic.up = true;
            if nic.arp && nic.addresses6.is_empty() {
                nic.addresses6.push(link_local(nic.index));
            }
            for route in &mut self.routes {
                route.dead.remove(&nic.index);
            }
        }
    }

    /// It is unregistered: every IPv4 route with a next hop by it goes, survivors and all; of IPv6, only its own.
    pub fn unregister(&mut self, name: &IfName) {
        self.down(name);
        if let Some(nic) = self.nics.remove(name) {
            self.sync_down(nic.index, true);
            self.routes.retain(|route| route.family == Family::V4 || !route.uses(nic.index));
        }
    }

    /// It loses or regains its carrier: routes by it are only passed over meanwhile, and that only where the interface
    /// says so; nexthop objects go for good.
    pub fn carrier(&mut self, name: &IfName, carrier: bool) {
        if let Some(nic) = self.nics.get_mut(name) {
            nic.carrier = carrier;
            let index = nic.index;
            if !carrier {
                self.drop_objects_by(index);
            }
        }
    }

    /// It loses its last address of a family. IPv4: as down to routes, nothing to nexthop objects. IPv6: nothing to
    /// either.
    pub fn strip(&mut self, name: &IfName, family: Family) {
        let Some(nic) = self.nics.get_mut(name) else { return };
        match family {
            Family::V4 => {
                nic.addresses.clear();
                let index = nic.index;
                self.sync_down(index, false);
            }
            Family::V6 => nic.addresses6.clear(),
        }
    }

    fn sync_down(&mut self, index: u32, unregister: bool) {
        self.routes.retain_mut(|route| {
            if route.family == Family::V6 || !route.uses(index) {
                return true;
            }
            route.dead.insert(index);
            let Via::NextHops(next_hops) = &route.via else { return true };
            !unregister && next_hops.iter().any(|l| !route.dead.contains(&l.next_hop.device.index))
        });
    }

    /// `fib6_ifdown()`: next hops are only dead, as long as others of their metric live; the last takes all with it. A
    /// single one goes.
    fn down6(&mut self, index: u32) {
        for route in self.routes.iter_mut().filter(|route| route.family == Family::V6 && route.uses(index)) {
            route.dead.insert(index);
        }
        let place = |route: &Held| (route.table, route.metric);
        let next_hops = |which: &dyn Fn(&Held) -> bool| -> BTreeSet<(TableId, u32)> {
            self.routes.iter().filter(|route| route.is_hop() && which(route)).map(place).collect()
        };
        let (concerned, live) =
            (next_hops(&|next_hop| next_hop.uses(index)), next_hops(&|next_hop| next_hop.dead.is_empty()));
        self.routes.retain(|route| {
            let goes_alone = !route.is_hop() && route.family == Family::V6 && route.uses(index);
            let goes_with_all = concerned.contains(&place(route)) && !live.contains(&place(route));
            !(goes_alone || route.is_hop() && goes_with_all)
        });
    }

    fn drop_objects_by(&mut self, index: u32) {
        self.drop_objects(|_, kind| matches!(kind, NexthopKind::Single(next_hop) if next_hop.device.index == index));
    }

    /// Objects go; groups shrink, empty ones go as well, and what leads to them.
    pub(super) fn drop_objects(&mut self, goes: impl Fn(u32, &NexthopKind) -> bool) {
        let Some(objects) = &mut self.nexthops else { return };
        objects.retain(|id, object| !goes(*id, &object.kind));
        let left: BTreeSet<u32> = objects.keys().copied().collect();
        objects.retain(|_, object| match &mut object.kind {
            NexthopKind::Group(members) => {
                members.retain(|m| left.contains(&m.id));
                !members.is_empty()
            }
            _ => true,
        });
        let objects = &*objects;
        self.routes.retain(|route| !matches!(route.via, Via::Nexthop(id) if !objects.contains_key(&id)));
    }
}

/// The address that the kernel gives an interface.
pub fn link_local(index: u32) -> Address {
    let local = std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 1, u16::try_from(index).unwrap());
    Address { local: HostAddr::new(local).unwrap(), reaches: "fe80::/64".parse().unwrap() }
}
