//! Problems that a plan cannot solve.

use thiserror::Error;

use crate::model::routing::FoundRoute;

/// A problem, and what the administrator can do about it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Problem {
    /// A foreign default route is at the metric of a tier.
    #[error(
        "a foreign default route stands at metric {} of table {}: {}; it stays. Delete it \
         ({}) and keep its owner from adding it, or make its line an [[uplink]]",
        .0.metric, .0.table, .0.target, .0.deletion()
    )]
    ForeignDefault(FoundRoute),
    /// A foreign default route is at the metric of a spare.
    #[error(
        "a foreign default route stands at metric {} of table {}, where a spare belongs: {}; it stays. \
         Delete it ({}), or set `spare-metric` in [settings]",
        .0.metric, .0.table, .0.target, .0.deletion()
    )]
    ForeignSpare(FoundRoute),
    /// A foreign nexthop object has a managed id.
    #[error(
        "nexthop id {id} belongs to protocol {protocol}; it stays, and the default route is a multipath route \
         instead of a nexthop group. Set `nexthop-id` in [settings] to a range that is free"
    )]
    ForeignNexthop { id: u32, protocol: u8 },
    /// Nothing marks the packets whose addresses are in sets.
    #[error(
        "{} not hold: a set needs nftables, and {}; a kill switch holds for all that its other selectors select, if it has \
         any. {}, or select by addresses",
        named(policies),
        if *is_refused { "the kernel has refused multihome's table" } else { "this kernel has no nf_tables" },
        if *is_refused {
            "Write firewall = \"nftables\" in [settings]: then each event tries again, and says why if it is refused"
        } else {
            "Load the module nf_tables (modprobe nf_tables)"
        }
    )]
    NoSets { policies: Vec<String>, is_refused: bool },
    /// The kernel lacks nexthop objects, which the configuration demands.
    #[error(
        "this kernel has no nexthop objects (Linux 5.3 has); the default route is a multipath route. \
         Write nexthops = \"auto\" in [settings]"
    )]
    NoNexthopObjects,
}

/// The policies as the subject of a sentence.
fn named(policies: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<_> = policies.iter().take(SHOWN).map(|name| format!("{name:?}")).collect();
    let more = policies.len().saturating_sub(SHOWN);
    match (policies.len(), more) {
        (1, _) => format!("policy {} does", shown.concat()),
        (_, 0) => format!("policies {} do", shown.join(", ")),
        _ => format!("policies {} and {more} more do", shown.join(", ")),
    }
}
