//! Gateways that do not answer ARP or neighbour discovery: the kernel passes them over where it can, which no rule and no route shows.

use std::fs;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::ctl::lookup::read::{Fib, Neighbour};
use crate::ctl::lookup::{Answer, FibNextHop, FibRoute, pass_over, pass_to_first};
use crate::kernel::{self, sysctl};
use crate::model::names::DeviceName;

/// A gateway of a route that does not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Silent {
    #[serde(skip)]
    device: u32,
    pub(super) interface: DeviceName,
    pub(super) gateway: IpAddr,
    /// It is being asked for, and may answer yet.
    pub(super) asked: bool,
}

/// The gateways of a route that do not answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Silence {
    pub(super) gateways: Vec<Silent>,
    /// Whether the kernel asks which gateways answer.
    asks_neighbours: bool,
    /// The kernel chooses among the other next hops.
    pub(super) passed_over: bool,
}

impl Silence {
    pub(super) fn of(route: &FibRoute, fib: &mut Fib) -> Result<Self, kernel::Error> {
        let mut gateways = Vec::new();
        for (next_hop, _) in route.shares() {
            let Some(gateway) = next_hop.hop.gateway else { continue };
            let state = fib.neighbour(next_hop.hop.device, gateway)?;
            if state != Neighbour::Good {
                let (device, interface) = (next_hop.hop.device, next_hop.name.clone());
                gateways.push(Silent { device, interface, gateway, asked: state == Neighbour::Asked });
            }
        }
        // nexthop_select_path_hthr() does so always, fib_select_multipath() where it is told to, and ip6_pol_route() on a
        // host that is no router.
        let asks_neighbours = match route.prefix {
            _ if route.nexthop.is_some() => true,
            IpNet::V4(_) => uses_neighbours(),
            IpNet::V6(_) => !sysctl::forwards6()?,
        };
        let passed_over = asks_neighbours && !gateways.is_empty() && gateways.len() < route.shares().len();
        Ok(Self { gateways, asks_neighbours, passed_over })
    }

    fn has(&self, next_hop: &FibNextHop) -> bool {
        self.gateways
            .iter()
            .any(|silent| silent.device == next_hop.hop.device && Some(silent.gateway) == next_hop.hop.gateway)
    }

    /// The next hops with their shares in percent, as the kernel chooses.
    pub(super) fn shares<'a>(&self, route: &'a FibRoute) -> Vec<(&'a FibNextHop, f64)> {
        let mut shares = route.shares();
        match route.prefix {
            _ if !self.asks_neighbours => {}
            IpNet::V6(_) if route.nexthop.is_none() => pass_to_first(&mut shares, |next_hop| self.has(next_hop)),
            _ => pass_over(&mut shares, |next_hop| self.has(next_hop)),
        }
        shares
    }

    /// Whether it is why the kernel's answer is another route than the walk's: where a gateway is silent, IPv4 takes the
    /// next of the default routes of one metric (`fib_select_default()`), and IPv6 any other of the table
    /// (`rt6_score_route()`).
    pub(super) fn explains(&self, route: &FibRoute, answer: &Answer) -> bool {
        let Answer::Way { table, prefix_len, local: false, .. } = answer else { return false };
        let is_candidate = match route.prefix {
            IpNet::V4(_) => prefix_len.is_none_or(|len| len == 0),
            IpNet::V6(_) => self.asks_neighbours,
        };
        !self.gateways.is_empty() && *table == route.table && is_candidate
    }
}

fn uses_neighbours() -> bool {
    fs::read_to_string("/proc/sys/net/ipv4/fib_multipath_use_neigh").is_ok_and(|text| text.trim() == "1")
}
