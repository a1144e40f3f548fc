//! Guards of kill switches while the numbering moves.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;

use multihome::config;
use multihome::model::change::Change;
use multihome::model::names::Family;
use multihome::reconcile::{FlushScope, reconcile};
use multihome::state::records::LinkRecords;

use crate::fake::Fake;
use crate::fake::watched::Watched;
use crate::kill_switch::Packet;

/// The rules of addresses need the room of the first policies where there are more than nine uplinks: then the guards of
/// the old configuration lead to what is the rule of an address in the new one, and the reverse.
#[test]
fn guards_lead_past_the_rules_of_addresses_however_many_uplinks_there_are() {
    let config = |uplinks: usize| {
        let mut text = String::from("[[tunnel]]\nname = \"vpn\"\ninterface = \"tun0\"\n");
        for n in 1..=uplinks {
            write!(text, "[[uplink]]\nname = \"isp{n}\"\ninterface = \"ppp{n}\"\n").unwrap();
        }
        let kill = "name = \"kill\"\nuid = [4242, 4343]\nvia = \"vpn\"\notherwise = \"unreachable\"\n";
        write!(text, "[[policy]]\nname = \"to\"\nto = \"192.0.2.1\"\nvia = \"isp1\"\n[[policy]]\n{kill}").unwrap();
        config::parse(&text, Path::new("test.toml")).unwrap()
    };
    let mut lines = String::new();
    let mut records = BTreeMap::new();
    for n in 1..=12 {
        writeln!(lines, "link {} ppp{n} up address 10.9.0.{n} peer 10.8.0.{n}", 20 + n).unwrap();
        let record = format!("interface = \"ppp{n}\"\nindex = {}\nsince = 0\n[v4]\nlocal = \"10.9.0.{n}\"", 20 + n);
        records.insert(format!("isp{n}").parse().unwrap(), record.parse().unwrap());
    }
    let records: LinkRecords = records.into_iter().collect();
    let bound: Vec<_> = (1..=12).map(|n| Some(IpAddr::from([10, 9, 0, n]))).chain([None]).collect();
    for (before, after) in [(9, 10), (10, 9), (9, 12), (12, 3), (8, 9), (1, 11)] {
        let mut fake = Fake::parse(&lines);
        reconcile(&config(before), &records, &FlushScope::All, &mut fake).unwrap();
        let assert_safe = |fake: &Fake, when: &str| {
            for from in &bound {
                let packet = Packet { family: Family::V4, from: *from, iif: "lo", uid: 4242, mark: 0 };
                assert_eq!(packet.leaves_by(fake), [0; 0], "{packet:?}, {before} to {after} {when}\n{fake}");
            }
        };
        assert_safe(&fake, "at first");
        let each = |_, change: &Change, fake: &mut Fake| {
            assert_safe(fake, &format!("before {}", change.command(77)));
            Ok(())
        };
        let outcome =
            reconcile(&config(after), &records, &FlushScope::All, &mut Watched::new(&mut fake, each)).unwrap();
        assert!(outcome.failures.is_empty(), "{before} to {after}: {:?}", outcome.failures);
        assert_safe(&fake, "in the end");
    }
}
