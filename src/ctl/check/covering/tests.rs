use proptest::prelude::*;

use super::*;
use crate::config::Otherwise;
use crate::model::routing::{FwMark, UidRange};
use ipnet::IpNet;

/// What of a packet a policy looks at.
#[derive(Debug, Clone, Copy)]
struct Packet {
    from: u8,
    to: u8,
    iif: u8,
    proto: u8,
    sport: u16,
    dport: u16,
    uid: u32,
    dscp: u8,
    mark: u32,
}

fn matches(policy: &Policy, packet: &Packet) -> bool {
    let addr = |n: u8| std::net::IpAddr::from([192, 0, 2, n]);
    let any = |all: &[IpNet], n| all.is_empty() || all.iter().any(|net| net.contains(&addr(n)));
    let port = |all: &[PortRange], n| all.is_empty() || all.iter().any(|p| (p.start..=p.end).contains(&n));
    any(&policy.from, packet.from)
        && any(&policy.to, packet.to)
        && (policy.iif.is_empty() || policy.iif.iter().any(|name| name.as_str() == format!("eth{}", packet.iif)))
        && policy.proto.is_none_or(|proto| proto == packet.proto)
        && port(&policy.sport, packet.sport)
        && port(&policy.dport, packet.dport)
        && (policy.uid.is_empty() || policy.uid.iter().any(|u| (u.start..=u.end).contains(&packet.uid)))
        && policy.dscp.is_none_or(|dscp| dscp == packet.dscp)
        && policy.fwmark.is_none_or(|mark| packet.mark & mark.mask == mark.value)
}

prop_compose! {
    /// Few values, so that policies meet.
    fn policies()(
        from in prop::collection::vec((0u8..4, 30u8..=32), 0..2),
        to in prop::collection::vec((0u8..4, 30u8..=32), 0..2),
        iif in prop::collection::vec(0u8..2, 0..2),
        proto in prop::option::of(6u8..8),
        sport in prop::collection::vec((1u16..4, 0u16..3), 0..2),
        dport in prop::collection::vec((1u16..4, 0u16..3), 0..2),
        uid in prop::collection::vec((0u32..4, 0u32..3), 0..2),
        dscp in prop::option::of(0u8..2),
        fwmark in prop::option::of((0u32..4, 1u32..4)),
    ) -> Policy {
        let net = |(n, len)| IpNet::new(std::net::IpAddr::from([192, 0, 2, n]), len).unwrap().trunc();
        let port = |(start, more)| PortRange { start, end: start + more };
        Policy {
            name: "p".to_owned(),
            from: from.into_iter().map(net).collect(),
            to: to.into_iter().map(net).collect(),
            sets: None,
            iif: iif.into_iter().map(|n| format!("eth{n}").parse().unwrap()).collect(),
            proto,
            sport: sport.into_iter().map(port).collect(),
            dport: dport.into_iter().map(port).collect(),
            uid: uid.into_iter().map(|(start, more)| UidRange { start, end: start + more }).collect(),
            dscp,
            fwmark: fwmark.map(|(value, mask)| FwMark { value: value & mask, mask }),
            via: vec!["isp1".parse().unwrap()],
            otherwise: Otherwise::Default,
        }
    }
}

prop_compose! {
    fn packets()(
        from in 0u8..4, to in 0u8..4, iif in 0u8..2, proto in 6u8..8, sport in 1u16..6, dport in 1u16..6,
        uid in 0u32..6, dscp in 0u8..2, mark in 0u32..4,
    ) -> Packet {
        Packet { from, to, iif, proto, sport, dport, uid, dscp, mark }
    }
}

proptest! {
    #[test]
    fn what_covers_takes_every_packet(
        a in policies(),
        mut b in policies(),
        narrower in any::<bool>(),
        packets in prop::collection::vec(packets(), 64),
    ) {
        if narrower {
            // Two at random hardly ever cover each other: make the second one a narrower first.
            b = Policy { from: b.from, to: b.to, uid: b.uid, ..a.clone() };
            for (net, wide) in [(&mut b.from, &a.from), (&mut b.to, &a.to)] {
                net.retain(|n| wide.iter().any(|w| w.contains(n)));
            }
        }
        if covers(&a, &b) {
            for packet in &packets {
                prop_assert!(!matches(&b, packet) || matches(&a, packet), "{:?}\n{:?}\n{:?}", a, b, packet);
            }
        }
        prop_assert!(covers(&a, &a));
    }
}

/// Those that come out of the index, by their places.
fn found(policies: &[Policy]) -> Vec<Option<*const Policy>> {
    let mut covering = Covering::default();
    policies.iter().enumerate().map(|(at, policy)| covering.next(at, policy).map(std::ptr::from_ref)).collect()
}

proptest! {
    #[test]
    fn the_first_that_covers_is_found(policies in prop::collection::vec(policies(), 0..40)) {
        let each = policies.iter().enumerate().map(|(at, policy)| {
            policies[..at].iter().find(|above| covers(above, policy)).map(std::ptr::from_ref)
        });
        prop_assert_eq!(found(&policies), each.collect::<Vec<_>>());
    }

    #[test]
    fn a_range_becomes_blocks_that_hold_each_of_its_values_once(start in 0_u32..300, more in 0_u32..300) {
        let blocks = List::Dport.range(start, start + more);
        for value in 0..700 {
            let holds = blocks.iter().filter(|block| List::Dport.block(value, block.bits) == **block).count();
            prop_assert_eq!(holds, usize::from((start..=start + more).contains(&u32::try_from(value).unwrap())));
        }
    }
}

#[test]
fn the_ends_of_all_ranges_are_blocks() {
    assert_eq!(List::Uid.range(0, u32::MAX), [Block { first: 0, bits: 0 }]);
    assert_eq!(List::Uid.range(u32::MAX, u32::MAX), [Block { first: u32::MAX.into(), bits: 32 }]);
    assert_eq!(List::Sport.range(1, 65534).len(), 30);
}

/// How often two of `count` policies are compared.
fn comparisons(count: usize, policy: impl Fn(usize) -> Policy) -> usize {
    let all: Vec<_> = (0..count).map(policy).collect();
    let mut covering = Covering::default();
    let mut compared = 0;
    for (at, policy) in all.iter().enumerate() {
        compared += covering.candidates(policy).iter().map(|candidates| candidates.len()).sum::<usize>();
        covering.next(at, policy);
    }
    compared
}

#[test]
fn not_each_of_thousands_is_compared_with_each() {
    const COUNT: usize = 12_000;
    let net = |n: usize| IpNet::new(std::net::Ipv4Addr::from(u32::try_from(n).unwrap() << 8).into(), 24).unwrap();
    let port = |n: usize| PortRange { start: u16::try_from(n).unwrap() + 1, end: u16::try_from(n).unwrap() + 1 };
    let everything = Policy {
        name: "p".to_owned(),
        from: vec![],
        to: vec![],
        sets: None,
        iif: vec![],
        proto: Some(6),
        sport: vec![],
        dport: vec![],
        uid: vec![],
        dscp: None,
        fwmark: None,
        via: vec!["isp1".parse().unwrap()],
        otherwise: Otherwise::Default,
    };
    let destinations = comparisons(COUNT, |n| Policy { to: vec![net(n)], ..everything.clone() });
    assert_eq!(destinations, 0);
    // All to one network; which port it is tells them apart.
    let ports = comparisons(COUNT, |n| Policy { to: vec![net(1)], dport: vec![port(n)], ..everything.clone() });
    assert!(ports < 2 * COUNT, "{ports}");
    // Each hundred have a source in common, and each hundred a destination.
    let grid = comparisons(COUNT, |n| {
        let (from, to) = (vec![net(n / 100)], vec![net(1000 + n % 100)]);
        Policy { from, to, ..everything.clone() }
    });
    assert!(grid < 200 * COUNT, "{grid}");
    // The first covers all others.
    let same = comparisons(COUNT, |_| everything.clone());
    assert!(same < COUNT, "{same}");
}
