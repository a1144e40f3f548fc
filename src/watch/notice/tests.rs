//! Which notices matter.

use std::collections::BTreeSet;

use netlink_packet_core::DefaultNla;

use super::judge::{OfFilter, filter, route};
use super::{Interest, Notice, Process, Thing};
use crate::kernel::netlink::constants::*;
use crate::kernel::netlink::nla::{bytes, text};
use crate::model::names::Family;

/// The article's links: ppp0 is interface 7, and nothing else is there.
fn interest() -> Interest {
    let config = crate::config::parse(include_str!("../../config/tests/article.toml"), "x".as_ref()).unwrap();
    Interest::new(&config, &BTreeSet::from(["wg0".parse().unwrap()]), BTreeSet::from([7]))
}

fn message(header: &[u8], attributes: &[DefaultNla]) -> Vec<u8> {
    [header, &bytes(&attributes)].concat()
}

fn number(kind: u16, n: u32) -> DefaultNla {
    DefaultNla::new(kind, n.to_ne_bytes().to_vec())
}

/// `struct rtmsg` of a route of IPv4 or IPv6.
fn of_route(family: u8, to_len: u8, table: u8, protocol: u8, kind: u8) -> [u8; 12] {
    [family, to_len, 0, 0, table, protocol, 0, kind, 0, 0, 0, 0]
}

fn thing(kind: u16, body: &[u8]) -> Option<Thing> {
    route(kind, 0, body, &interest()).map(|notice| notice.thing)
}

#[test]
fn of_routes_ours_and_defaults_matter() {
    let main = Thing::Routes(Family::V4, 254);
    for (header, expected) in [
        (of_route(2, 24, 254, 12, 1), None),
        (of_route(2, 24, 254, 2, 1), None),
        (of_route(2, 24, 254, 77, 1), Some(main)),
        (of_route(2, 0, 254, 16, 1), Some(main)),
        (of_route(2, 0, 1, 3, 1), Some(Thing::Routes(Family::V4, 1))),
        (of_route(2, 0, 9, 3, 1), None),
        (of_route(2, 0, 255, 3, 1), None),
        (of_route(10, 0, 254, 9, 1), Some(Thing::Routes(Family::V6, 254))),
        (of_route(10, 64, 254, 9, 1), None),
        // What a DHCPv6 client writes for a delegation.
        (of_route(10, 56, 254, 16, 7), Some(Thing::Routes(Family::V6, 254))),
        (of_route(10, 56, 255, 16, 7), None),
        // A multicast route.
        (of_route(128, 0, 254, 17, 5), None),
    ] {
        for kind in [RTM_NEWROUTE, RTM_DELROUTE] {
            assert_eq!(thing(kind, &header), expected, "{header:?}");
        }
    }
    // RT_TABLE_COMPAT: the number is too large for the header.
    let large = |table| message(&of_route(2, 0, 252, 12, 1), &[number(RTA_TABLE, table)]);
    assert_eq!(thing(RTM_NEWROUTE, &large(7000)), None);
    assert_eq!(thing(RTM_NEWROUTE, &large(254)), Some(main));
}

#[test]
fn who_made_a_route_is_kept_unless_it_is_ours_or_the_kernels() {
    for (protocol, kept) in [(77, None), (2, None), (0, None), (186, Some(186))] {
        let notice = route(RTM_NEWROUTE, 9, &of_route(2, 0, 254, protocol, 1), &interest());
        let thing = Thing::Routes(Family::V4, 254);
        assert_eq!(notice, Some(Notice { thing, protocol: kept, port: 9, process: None }));
    }
}

#[test]
fn of_rules_ours_the_kernels_and_those_in_their_places_matter() {
    let rule = |protocol: u8, priority, table| {
        let protocol = DefaultNla::new(FRA_PROTOCOL, vec![protocol]);
        message(&[2; 12], &[protocol, number(FRA_PRIORITY, priority), number(FRA_TABLE, table)])
    };
    for (protocol, priority, table, matters) in [
        (77, 40, 99, true),
        (3, 101, 99, true),
        (3, 40, 99, false),
        (3, 40, 2, true),
        (3, 40, 254, false),
        (2, 32766, 254, true),
        (2, 0, 255, true),
        (3, 5210, 52, false),
    ] {
        let found = thing(RTM_DELRULE, &rule(protocol, priority, table));
        let expected = matters.then_some(Thing::Rules(Family::V4, priority));
        assert_eq!(found, expected, "{protocol} {priority} {table}");
    }
}

#[test]
fn of_nexthop_objects_ours_matter() {
    let object = |protocol, id| message(&[2, 0, protocol, 0, 0, 0, 0, 0], &[number(NHA_ID, id)]);
    for (protocol, id, matters) in [(77, 5, true), (3, 7001, true), (3, 7200, false), (3, 12, false)] {
        assert_eq!(thing(RTM_NEWNEXTHOP, &object(protocol, id)).is_some(), matters, "{protocol} {id}");
    }
}

#[test]
fn of_interfaces_those_of_links_matter() {
    let interface = |family: u8, index: u8, name: &str, group| {
        let header = [family, 0, 0, 0, index, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        message(&header, &[text(IFLA_IFNAME, name), number(IFLA_GROUP, group)])
    };
    for (family, index, name, group, matters) in [
        (0, 7, "renamed", 0, true),
        // It has just appeared.
        (0, 8, "ppp1", 0, true),
        (0, 8, "wg0", 0, true),
        (0, 9, "veth1234", 0, false),
        (0, 9, "veth1234", 7001, true),
        // A port of a bridge.
        (7, 7, "ppp0", 0, false),
    ] {
        let body = interface(family, index, name, group);
        assert_eq!(thing(RTM_DELLINK, &body).is_some(), matters, "{family} {index} {name}");
    }
    // The answer to a scan.
    let scanned = [interface(0, 7, "ppp0", 0), bytes(&[DefaultNla::new(11, vec![0; 8])].as_slice())].concat();
    assert_eq!(thing(16, &scanned), None);
}

#[test]
fn of_addresses_those_of_links_matter_and_ipv6_of_the_lan() {
    for (header, matters) in [
        ([2, 24, 0, 0, 7, 0, 0, 0], true),
        ([2, 24, 0, 0, 9, 0, 0, 0], false),
        ([10, 64, 0, 0, 9, 0, 0, 0], true),
        ([10, 64, 0, 253, 9, 0, 0, 0], false),
    ] {
        assert_eq!(thing(RTM_NEWADDR, &header).is_some(), matters, "{header:?}");
    }
}

/// A message of `nf_tables`.
fn of_table(family: u8, attributes: &[DefaultNla]) -> Vec<u8> {
    message(&[family, 0, 0, 0], attributes)
}

#[test]
fn of_nftables_our_table_matters_but_for_what_others_put_into_its_sets() {
    let is_ours = |kind, family, name: &str| {
        filter(kind, 0, &of_table(family, &[text(NFTA_TABLE_NAME, name)]), &interest()).is_some()
    };
    assert!(is_ours(NFT_MSG_DELTABLE, NFPROTO_INET, "multihome"));
    assert!(is_ours(NFT_MSG_DELRULE, NFPROTO_INET, "multihome"));
    assert!(is_ours(NFT_MSG_DELSET, NFPROTO_INET, "multihome"));
    assert!(!is_ours(NFT_MSG_NEWSETELEM, NFPROTO_INET, "multihome"));
    assert!(!is_ours(NFT_MSG_DELTABLE, NFPROTO_IPV4, "multihome"));
    assert!(!is_ours(NFT_MSG_DELTABLE, NFPROTO_INET, "multihome2"));
    assert!(!is_ours(NFT_MSG_DELTABLE, NFPROTO_IPV4, "nat"));
}

#[test]
fn of_iptables_our_chains_matter_where_they_hold_the_rules() {
    let of_rule = |table, chain| of_table(NFPROTO_IPV4, &[text(NFTA_RULE_TABLE, table), text(NFTA_RULE_CHAIN, chain)]);
    let iptables = Interest { iptables: true, ..interest() };
    for (table, chain, matters) in [
        ("mangle", "MULTIHOME-save", true),
        ("nat", "POSTROUTING", true),
        ("nat", "DOCKER", false),
        ("filter", "OUTPUT", false),
    ] {
        let found = |interest| filter(NFT_MSG_DELRULE, 0, &of_rule(table, chain), interest).is_some();
        assert_eq!((found(&iptables), found(&interest())), (matters, false), "{table} {chain}");
    }
}

#[test]
fn the_end_of_a_transaction_names_its_process() {
    let pid = DefaultNla::new(2, 42_u32.to_be_bytes().to_vec());
    let body = of_table(0, &[number(1, 0), pid, text(3, "nft")]);
    let process = Process { pid: 42, name: "nft".to_owned() };
    assert_eq!(filter(10 << 8 | 15, 0, &body, &interest()), Some(OfFilter::By(process)));
}

#[test]
fn what_is_cut_or_unknown_is_nothing() {
    for length in 0..16 {
        for kind in [RTM_NEWROUTE, RTM_DELLINK, RTM_NEWADDR, RTM_DELRULE, RTM_NEWNEXTHOP, 80, 999, 0xffff] {
            let _ = route(kind, 0, &vec![0xff; length], &interest());
            let _ = filter(kind, 0, &vec![0xff; length], &interest());
        }
        assert_eq!(filter(NFT_MSG_DELTABLE, 0, &vec![1; length], &interest()), None);
    }
}
