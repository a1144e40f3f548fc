//! What can have happened.

use multihome::model::names::Family;
use multihome::state::drain::Level;
use proptest::prelude::*;
use proptest::sample::select;

use super::OURS;

/// Something that has happened.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// The link's device appears, gets its address and is reported.
    Up {
        link: usize,
        shared_gateway: bool,
    },
    /// The same of IPv6: its addresses, and what its caller says.
    Up6 {
        link: usize,
        /// 0: link-local only; 1, 2: of this prefix; 3: of one that other links have, too; 4: unique local.
        address: u8,
        gateway: bool,
        delegated: bool,
    },
    Down6(usize),
    /// The interface has addresses of this prefix instead, and nobody says so.
    Renumber(usize, u8),
    /// A router advertises itself, or does no more.
    Advertisement(usize, bool),
    /// Main refuses a prefix that somebody has delegated to this host.
    Delegation(u8),
    /// Down, its address gone, reported.
    HangUp(usize),
    Unregister(usize),
    Carrier(usize, bool),
    /// The address goes, or the device does down, and nobody says so.
    Strip(usize, Family),
    Down(usize),
    /// pppd's `defaultroute`.
    PppdDefault(usize),
    /// A default route of somebody's: by no link, by a link as well, by none but links.
    ForeignDefault {
        metric: u32,
        lan: bool,
        link: Option<usize>,
        table: u32,
    },
    /// The same of IPv6, with or without a gateway.
    ForeignDefault6 {
        metric: u32,
        lan: bool,
        link: Option<usize>,
        gateway: bool,
        table: u32,
    },
    Rule {
        family: Family,
        priority: u32,
        protocol: u8,
        from: bool,
        complete: bool,
        table: u32,
    },
    /// One of our rules once more, or somebody else's equal one.
    SameRule {
        which: usize,
        protocol: u8,
    },
    Nexthop {
        id: u32,
        protocol: u8,
        group: bool,
    },
    OwnDefault {
        metric: u32,
        link: usize,
    },
    OwnDefault6 {
        metric: u32,
        link: usize,
        gateway: bool,
    },
    Strict(usize),
    /// `ip rule flush`.
    FlushRules,
    /// Somebody has put a link's device, or the LAN's, into a group: one of ours, or another.
    Group {
        link: Option<usize>,
        group: u32,
    },
    /// Somebody takes a link out of use, or ends that.
    Drain {
        link: usize,
        force: bool,
        levels: [Option<Level>; 2],
    },
    /// One of our hooks ran, with the old or the new configuration, and perhaps was killed.
    Hook {
        old: bool,
        until: Option<usize>,
    },
}

pub fn steps() -> impl Strategy<Value = Step> {
    let link = 0..7_usize;
    let protocol = select(vec![OURS, 4]);
    let metric = select(vec![0_u32, 1, 2, 7, 50, 51, 4_000_000, 4_000_002]);
    let table = select(vec![254_u32, 254, 1, 2, 101]);
    let metric6 = select(vec![512_u32, 512, 513, 514, 1024, 4_000_000, 4_000_001]);
    let family = select(vec![Family::V4, Family::V6]);
    let level = proptest::option::of(select(vec![Level::Drained, Level::Cut, Level::Held]));
    let ids = select(vec![7001_u32, 7002, 7050, 7100, 7101, 7102, 7200, 9000]);
    prop_oneof![
        8 => (link.clone(), any::<bool>()).prop_map(|(link, shared_gateway)| Step::Up { link, shared_gateway }),
        8 => (link.clone(), 0..5_u8, any::<bool>(), any::<bool>())
            .prop_map(|(link, address, gateway, delegated)| Step::Up6 { link, address, gateway, delegated }),
        3 => link.clone().prop_map(Step::Down6),
        2 => (link.clone(), 0..5_u8).prop_map(|(link, address)| Step::Renumber(link, address)),
        2 => (link.clone(), any::<bool>()).prop_map(|(link, on)| Step::Advertisement(link, on)),
        1 => (0..3_u8).prop_map(Step::Delegation),
        3 => link.clone().prop_map(Step::HangUp),
        3 => link.clone().prop_map(Step::Unregister),
        2 => (link.clone(), any::<bool>()).prop_map(|(link, on)| Step::Carrier(link, on)),
        1 => (link.clone(), family.clone()).prop_map(|(link, family)| Step::Strip(link, family)),
        1 => link.clone().prop_map(Step::Down),
        2 => link.clone().prop_map(Step::PppdDefault),
        1 => (metric.clone(), any::<bool>(), proptest::option::of(link.clone()), table.clone())
            .prop_map(|(metric, lan, link, table)| Step::ForeignDefault { metric, lan, link, table }),
        1 => (
            (metric6.clone(), any::<bool>(), proptest::option::of(link.clone())),
            any::<bool>(),
            select(vec![254_u32, 254, 254, 1, 2])
        )
            .prop_map(|((metric, lan, link), gateway, table)| {
                Step::ForeignDefault6 { metric, lan, link, gateway, table }
            }),
        1 => (family, 90..230_u32, protocol.clone(), any::<bool>(), any::<bool>(), 1..4_u32).prop_map(
            |(family, priority, protocol, from, complete, table)| {
                Step::Rule { family, priority, protocol, from, complete, table }
            }
        ),
        1 => (0..20_usize, protocol.clone()).prop_map(|(which, protocol)| Step::SameRule { which, protocol }),
        1 => (ids, protocol, any::<bool>()).prop_map(|(id, protocol, group)| Step::Nexthop { id, protocol, group }),
        1 => (metric, link.clone()).prop_map(|(metric, link)| Step::OwnDefault { metric, link }),
        1 => (metric6, link.clone(), any::<bool>())
            .prop_map(|(metric, link, gateway)| Step::OwnDefault6 { metric, link, gateway }),
        1 => link.clone().prop_map(Step::Strict),
        1 => Just(Step::FlushRules),
        1 => (proptest::option::of(link), select(vec![7000, 7001, 7006, 7031, 7032, 42]))
            .prop_map(|(link, group)| Step::Group { link, group }),
        3 => (0..7_usize, any::<bool>(), level.clone(), level)
            .prop_map(|(link, force, v4, v6)| Step::Drain { link, force, levels: [v4, v6] }),
        6 => (any::<bool>(), proptest::option::of(0..12_usize)).prop_map(|(old, until)| Step::Hook { old, until }),
    ]
}
