//! Problems that a plan cannot solve.

use thiserror::Error;

use crate::model::routing::FoundRoute;

/// A problem, and what the administrator can do about it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Problem {
    /// A foreign default route is at the metric of a tier.
    #[error(
        "a foreign default route stands at metric {} of table {}: {}; it stays. Delete it \
         (ip route del {}) and keep its owner from adding it, or make its line an [[uplink]]",
        .0.metric, .0.table, .0.target, .0.selection()
    )]
    ForeignDefault(FoundRoute),
    /// A foreign default route is at the metric of a spare.
    #[error(
        "a foreign default route stands at metric {} of table {}, where a spare belongs: {}; it stays. \
         Delete it (ip route del {}), or set `spare-metric` in [settings]",
        .0.metric, .0.table, .0.target, .0.selection()
    )]
    ForeignSpare(FoundRoute),
    /// A foreign nexthop object has a managed id.
    #[error(
        "nexthop id {id} belongs to protocol {protocol}; it stays, and the default route is a multipath route \
         instead of a nexthop group. Set `nexthop-id` in [settings] to a range that is free"
    )]
    ForeignNexthop { id: u32, protocol: u8 },
    /// The kernel lacks nexthop objects, which the configuration demands.
    #[error(
        "this kernel has no nexthop objects (Linux 5.3 has); the default route is a multipath route. \
         Write nexthops = \"auto\" in [settings]"
    )]
    NoNexthopObjects,
}
