//! The route of a table that a packet takes: `fib_table_lookup()` and `fib6_table_lookup()` of the kernel.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv6Addr};

use super::{FibRoute, LEGACY_TOS, Packet, Refusal};
use crate::model::names::Family;
use crate::model::routing::RouteKind;

/// What a table has for a packet.
pub(super) enum Found<'a> {
    None {
        /// Routes that would fit, but for their dead devices.
        dead: bool,
    },
    Throw,
    Refused(Refusal),
    Route(&'a FibRoute),
}

impl<'a> Found<'a> {
    /// What a route says; `None`: it leads nowhere, since all its devices are dead.
    fn of(route: &'a FibRoute) -> Option<Self> {
        Some(match route.kind {
            RouteKind::Blackhole => Self::Refused(Refusal::Blackhole),
            RouteKind::Unreachable => Self::Refused(Refusal::Unreachable),
            RouteKind::Prohibit => Self::Refused(Refusal::Prohibit),
            RouteKind::Throw => Self::Throw,
            _ if route.next_hops.iter().any(|next_hop| !next_hop.hop.dead) => Self::Route(route),
            _ => return None,
        })
    }
}

/// The best of a table's routes to the destination: the longest prefix; among equal ones the kernel's order, in which
/// they come.
pub(super) fn find<'a>(routes: &'a [FibRoute], packet: &Packet) -> Found<'a> {
    let mut fitting: Vec<_> = routes.iter().filter(|route| route.prefix.contains(&packet.to)).collect();
    fitting.sort_by_key(|route| Reverse(route.prefix.prefix_len()));
    let found = match packet.family() {
        Family::V4 => {
            let mut fitting = fitting.iter().filter(|r| r.tos == 0 || r.tos == (packet.dscp << 2) & LEGACY_TOS);
            fitting.find_map(|route| Found::of(route))
        }
        Family::V6 => find6(&fitting, packet),
    };
    found.unwrap_or(Found::None { dead: !fitting.is_empty() })
}

/// `fitting`: the longest prefix first.
fn find6<'a>(fitting: &[&'a FibRoute], packet: &Packet) -> Option<Found<'a>> {
    let from = packet.from.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let mut is_entered = false;
    for of_prefix in fitting.chunk_by(|a, b| a.prefix == b.prefix) {
        let (mut narrow, plain): (Vec<&FibRoute>, Vec<_>) = of_prefix.iter().partition(|route| route.from.is_some());
        let has_narrow = !narrow.is_empty();
        narrow.retain(|route| route.from.is_some_and(|net| net.contains(&from)));
        narrow.sort_by_key(|route| Reverse(route.from.map(|net| net.prefix_len())));
        // Where a prefix has routes for some sources and none for this one, the kernel goes on with a shorter prefix,
        // unless it comes back there (`fib6_node_lookup_1()`). It always comes to the root.
        let is_passed_over = has_narrow && narrow.is_empty() && !is_entered && of_prefix[0].prefix.prefix_len() > 0;
        if is_passed_over {
            continue;
        }
        is_entered = true;
        let by_source = narrow.chunk_by(|a, b| a.from == b.from);
        if let Some(found) = by_source.chain([&plain[..]]).find_map(|routes| best(routes, packet)) {
            return Some(found);
        }
    }
    None
}

/// The best of routes to the same prefix from the same sources, which come by their metrics: of those of the lowest metric
/// the one with the highest score; if all of these are dead, of all others (`find_rr_leaf()`).
fn best<'a>(routes: &[&'a FibRoute], packet: &Packet) -> Option<Found<'a>> {
    let lowest = routes.first()?.metric;
    let first = routes.iter().take_while(|route| route.metric == lowest).count();
    let (first, others) = routes.split_at(first);
    highest(first, packet).or_else(|| highest(others, packet))
}

fn highest<'a>(routes: &[&'a FibRoute], packet: &Packet) -> Option<Found<'a>> {
    let mut usable: Vec<_> = routes.iter().filter(|route| Found::of(route).is_some()).collect();
    usable.sort_by_key(|route| Reverse(score(route, packet)));
    usable.first().and_then(|route| Found::of(route))
}

/// `rt6_score_route()`: the preference of an advertised router, of which 1 is high, 0 medium and 3 low; then whether it
/// leads back where the packet came from (`ip6_pol_route_input()`).
fn score(route: &FibRoute, packet: &Packet) -> (u8, bool) {
    let iif = packet.iif.as_ref().map(|(index, _)| *index);
    let mut live = route.next_hops.iter().filter(|next_hop| !next_hop.hop.dead);
    (route.preference ^ 2, live.any(|next_hop| Some(next_hop.hop.device) == iif))
}
