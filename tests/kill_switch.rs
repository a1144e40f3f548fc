//! A policy with `otherwise = "unreachable"` while the configuration changes: tables and marks go by a link's place in
//! it, and at no instant do they lead what the policy is for by another line, nor what is pinned to its tunnel.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod fake;

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::Path;

use multihome::config::{self, Config};
use multihome::reconcile::{About, reconcile};
use multihome::records::Records;
use multihome::state::Action;
use multihome::types::TableId;
use proptest::prelude::*;

use fake::Fake;
use fake::watched::Watched;

/// Links: name, interface, kind. The index of the interface is 11 and the place.
const LINKS: [(&str, &str, &str); 5] = [
    ("vpn", "tun0", "tunnel"),
    ("other", "tun1", "tunnel"),
    ("isp1", "ppp0", "uplink"),
    ("isp2", "ppp1", "uplink"),
    ("isp3", "ppp2", "uplink"),
];
const VPN: u32 = 11;

fn config(order: &[usize], more: bool, rule_priority: u32) -> Config {
    let mut text = String::new();
    for (name, interface, kind) in order.iter().map(|place| LINKS[*place]) {
        write!(text, "[[{kind}]]\nname = \"{name}\"\ninterface = \"{interface}\"\n").unwrap();
    }
    if more {
        let via = LINKS[*order.last().unwrap()].0;
        write!(text, "[[policy]]\nname = \"more\"\nto = \"192.0.2.0/24\"\nvia = \"{via}\"\n").unwrap();
    }
    text += "[[policy]]\nname = \"kill\"\nfrom = \"192.168.7.0/24\"\nvia = \"vpn\"\notherwise = \"unreachable\"\n";
    write!(text, "[settings]\nrule-priority = {rule_priority}\n").unwrap();
    config::parse(&text, Path::new("test.toml")).unwrap()
}

/// The tunnel and some of the rest, in any order, a policy more or not, and the first rule's priority.
fn configs() -> impl Strategy<Value = Config> {
    let order = Just((1..LINKS.len()).collect::<Vec<_>>()).prop_shuffle();
    (order, 1..LINKS.len(), any::<prop::sample::Index>(), any::<bool>(), prop_oneof![3 => Just(100), 1 => Just(150)])
        .prop_map(|(mut order, count, at, more, rule_priority)| {
            order.truncate(count);
            order.insert(at.index(count + 1), 0);
            config(&order, more, rule_priority)
        })
}

fn records(up: &[bool]) -> Records {
    let up = LINKS.iter().enumerate().filter(|(place, _)| up[*place]);
    up.map(|(place, (name, interface, _))| {
        let record = format!(
            "interface = \"{interface}\"\nindex = {}\nsince = 0\n[v4]\nlocal = \"10.{place}.0.2\"\ngateway = \"10.{place}.0.1\"",
            11 + place
        );
        (name.parse().unwrap(), record.parse().unwrap())
    })
    .collect()
}

fn machine() -> Fake {
    let mut text = String::new();
    for (place, (_, interface, _)) in LINKS.iter().enumerate() {
        writeln!(text, "link {} {interface} up address 10.{place}.0.2 peer 10.{place}.0.1", 11 + place).unwrap();
    }
    Fake::parse(&text)
}

/// Devices by which a packet of the policy leaves that bears `mark`: rules as `fib_rules_lookup()` tries them.
fn leaves_by(fake: &Fake, mark: u32) -> Vec<u32> {
    let from = Ipv4Addr::new(192, 168, 7, 9);
    for found in &fake.rules {
        let selector = &found.rule.selector;
        let matches = selector.from.is_none_or(|net| net.contains(&from))
            && selector.to.is_none()
            && selector.fwmark.is_none_or(|wanted| mark & wanted.mask == wanted.value);
        match found.rule.action {
            Action::Unreachable if matches => return vec![],
            Action::Lookup { table, suppress_prefixlength: None } if matches && table != TableId::observed(255) => {
                let devices: Vec<_> = fake.carriers(table).iter().map(|(index, _)| *index).collect();
                if !devices.is_empty() {
                    return devices;
                }
            }
            _ => {}
        }
    }
    vec![]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, verbose: 0, ..ProptestConfig::default() })]

    #[test]
    fn nothing_leaves_in_the_clear_while_the_configuration_changes(
        before in configs(), after in configs(), up in any::<[bool; 5]>(), up_after in any::<[bool; 5]>()
    ) {
        let mut fake = machine();
        reconcile(&before, &records(&up), &About::All, &mut fake).unwrap();
        let pin = before.links.iter().find(|l| l.name.as_str() == "vpn").unwrap().mark.get();
        fake.tracked.insert(pin);
        let assert_safe = |fake: &Fake, what: &str| {
            let marks = fake.tracked.iter().copied().chain([0]);
            for mark in marks {
                let devices = leaves_by(fake, mark);
                assert!(devices.iter().all(|index| *index == VPN), "mark {mark:#x} by {devices:?} {what}\n{fake}");
            }
        };
        assert_safe(&fake, "at first");
        let records = records(&up_after);
        let check = |_, change: &multihome::plan::Change, fake: &mut Fake| {
            assert_safe(fake, &format!("before {}", change.command(77)));
            Ok(())
        };
        reconcile(&after, &records, &About::All, &mut Watched::new(&mut fake, check)).unwrap();
        assert_safe(&fake, "in the end");
    }
}
