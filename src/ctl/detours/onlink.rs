//! Parts of the Internet that somebody behind a line has advertised as being on it. The kernel makes routes of main of
//! them, which main knows better than its default: they come before policies and kill switches.

use std::collections::BTreeMap;

use super::strays::MOST_ROUTES;
use super::taker::{route_deletion, route_text};
use super::{Detour, Taker, Takers};
use crate::config::Config;
use crate::ctl::lookup::FibRoute;
use crate::ctl::lookup::read::Fib;
use crate::kernel;
use crate::model::names::{Family, TableId};
use crate::model::numbering::{KERNEL, RA};
use crate::model::observed::{Interface, Observed};
use crate::reconcile::link_state::LinkStates;

/// A line's own subnet is no wider.
const SUBNET: u8 = 64;

/// An uplink's interface and what was advertised there, one detour each; without routes that are told of as `takers`.
pub(super) fn advertised(
    config: &Config,
    states: &LinkStates<'_>,
    observed: &Observed,
    takers: &Takers,
    fib: &mut Fib,
) -> Result<Vec<Detour>, kernel::Error> {
    let mut interfaces = BTreeMap::new();
    for link in config.uplinks() {
        let mut routed = Family::BOTH.into_iter().filter_map(|family| states.state(link, family).routed());
        let name = routed.next().map_or(&link.interface, |l| &l.next_hop.device.name);
        interfaces.extend(observed.interfaces.get(name).map(|found| (found.device.index, (link, found))));
    }
    let mut detours = BTreeMap::new();
    for route in fib.first_routes(Family::V6, TableId::MAIN, MOST_ROUTES)? {
        let [next_hop] = &route.next_hops[..] else { continue };
        let Some((link, interface)) = interfaces.get(&next_hop.hop.device) else { continue };
        if !is_strangers(&route, interface) || is_told(&route, takers) {
            continue;
        }
        let name = &interface.device.name;
        // Of a route that is advertised by itself (RFC 4191), or of a prefix.
        let key = if route.protocol == RA { "accept_ra_rt_info_max_plen" } else { "accept_ra_pinfo" };
        detours.entry(next_hop.hop.device).or_insert_with(|| Detour {
            what: format!(
                "{}, which a router's advertisement on {name} of {} has made, takes what goes there past policies and kill \
                 switches",
                route_text(&route),
                link.name
            ),
            fix: format!(
                "if that is not your provider's: echo 0 > /proc/sys/net/ipv6/conf/{}/{key} (give it its address by \
                 other means then), and {}",
                name.quoted(),
                route_deletion(&route)
            ),
            policies: vec![None],
            is_trouble: true,
        });
    }
    Ok(detours.into_values().collect())
}

fn is_told(route: &FibRoute, takers: &Takers) -> bool {
    takers.values().any(|(taker, _)| matches!(taker, Taker::Route(told, _) if told.prefix == route.prefix))
}

/// Whether a route is of an advertisement, and leads to more than a line's subnet. One that an address of the interface
/// has brought along is the administrator's, or a DHCP client's.
fn is_strangers(route: &FibRoute, interface: &Interface) -> bool {
    let length = route.prefix.prefix_len();
    let is_local = match route.prefix.addr() {
        std::net::IpAddr::V6(addr) => addr.is_unique_local() || addr.is_unicast_link_local() || addr.is_multicast(),
        std::net::IpAddr::V4(_) => true,
    };
    [KERNEL, RA].contains(&route.protocol)
        && (1..SUBNET).contains(&length)
        && !is_local
        && !interface.addresses6.iter().any(|address| address.reaches == route.prefix)
}
