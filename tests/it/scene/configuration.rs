//! Random configurations.

use std::fmt::Write as _;
use std::path::Path;

use multihome::config::{self, Config};
use proptest::prelude::*;
use proptest::sample::select;

/// Text of a configuration with this many uplinks and tunnels.
pub fn configs(uplinks: usize, tunnels: usize) -> impl Strategy<Value = (String, Config)> {
    let ranks = proptest::collection::vec((select(vec![1_u16, 2, 8, 256]), 1..4_u8), uplinks);
    let selectors = select(vec![
        "proto = \"tcp\"\ndport = [25, \"6000-6010\"]",
        "from = \"192.0.2.7\"",
        "from = [\"192.0.2.0/24\", \"198.18.0.0/15\"]\nproto = \"udp\"",
        "to = \"203.0.113.99\"\nproto = \"udp\"\ndport = 1130",
        "dscp = 46",
        "uid = 1000\niif = \"eth0\"",
        "fwmark = \"0x10000/0x30000\"",
        "to = [\"203.0.113.99\", \"2001:db8:99::/48\"]",
        "from = \"2001:db8:ff::/64\"\nproto = \"icmp\"",
        "to-set = \"streaming\"",
        "from-set = \"kids\"\nto-set = \"streaming\"\nproto = \"udp\"",
    ]);
    let links = uplinks + tunnels;
    // Most have IPv6 in the usual way.
    let ipv6 = select(vec![
        "",
        "",
        "",
        "",
        "ipv6 = \"off\"\n",
        "prefixes = [\"2001:db8:5000::/56\"]\n",
        "nat6 = \"none\"\n",
        "nat6 = \"none\"\nprefixes = [\"2001:db8:6000::/56\"]\n",
    ]);
    let ipv6 = proptest::collection::vec(ipv6, links);
    let via = proptest::sample::subsequence((0..links).collect::<Vec<_>>(), 1..=links);
    let policies = proptest::collection::vec((selectors, via, any::<bool>()), 0..4);
    let modes = select(vec!["auto", "objects", "multipath"]);
    let numbers = (select(vec![0_u32, 50]), select(vec![7000_u32, 6900, 7050]), select(vec![0_usize, 100]));
    let hash = proptest::option::of(0..2_u8);
    ((ranks, ipv6), policies, modes, numbers, hash, select(vec![100_u32, 120])).prop_map(
        move |((ranks, ipv6), policies, mode, (metric, id, tables), hash, priority)| {
            let mut text = String::new();
            for (i, own) in ipv6.iter().enumerate() {
                let kind = if i < uplinks { "uplink" } else { "tunnel" };
                let table = tables + i + 1;
                writeln!(text, "[[{kind}]]\nname = \"l{i}\"\ninterface = \"ppp{i}\"\ntable = {table}").unwrap();
                let own = if i < uplinks { own } else { own.trim_start_matches("nat6 = \"none\"\n") };
                // Without any link that may have IPv6 nobody looks for what a killed hook has left without rules.
                text.push_str(if i == 0 { own.trim_start_matches("ipv6 = \"off\"\n") } else { own });
                if let Some((weight, tier)) = ranks.get(i) {
                    writeln!(text, "weight = {weight}\ntier = {tier}").unwrap();
                    // Not where there is no [check] either.
                    writeln!(text, "check = {}", i != 1).unwrap();
                }
            }
            let has_sets = policies.iter().any(|(selector, ..)| selector.contains("-set"));
            for (i, (selector, via, unreachable)) in policies.iter().enumerate() {
                // Owners go with no set.
                let selector = if has_sets { selector.trim_start_matches("uid = 1000\n") } else { selector };
                let via: Vec<_> = via.iter().map(|i| format!("l{i}")).collect();
                let otherwise = if *unreachable { "unreachable" } else { "default" };
                writeln!(text, "[[policy]]\nname = \"p{i}\"\n{selector}\nvia = {via:?}\notherwise = \"{otherwise}\"")
                    .unwrap();
            }
            writeln!(text, "[settings]\nmetric = {metric}\nnexthop-id = {id}\nnexthops = \"{mode}\"").unwrap();
            writeln!(text, "rule-priority = {priority}").unwrap();
            if let Some(hash) = hash {
                writeln!(text, "hash-policy = {hash}").unwrap();
            }
            if priority == 120 {
                text.push_str("[check]\n");
            }
            let config = config::parse(&text, Path::new("random.toml")).unwrap_or_else(|e| panic!("{e}\n{text}"));
            (text, config)
        },
    )
}
