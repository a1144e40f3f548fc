//! docs/status.md has each key that `status --json` prints, and no other.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::ctl::*;
use crate::support::*;

/// The keys of the tables: those of a row that is about one key each in its first cell, and those that the second names.
fn documented() -> BTreeSet<String> {
    let text = include_str!("../../docs/status.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" |"));
    let mut keys = BTreeSet::new();
    for (first, rest) in rows {
        keys.extend(first.split(", ").map(|key| key.trim_matches('`').to_owned()));
        let named = rest.split('`').skip(1).step_by(2);
        keys.extend(named.filter(|word| INNER.contains(word)).map(str::to_owned));
    }
    keys
}

/// Keys of objects that have no table of their own.
const INNER: [&str; 7] = ["link", "interface", "percent", "what", "is_mains", "mend", "policies"];

fn keys(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                into.insert(key.clone());
                keys(value, into);
            }
        }
        Value::Array(all) => all.iter().for_each(|value| keys(value, into)),
        _ => {}
    }
}

#[test]
fn each_key_is_documented_and_each_documented_key_is_there() {
    let server = Server::new(&format!("{ARTICLE}{HOME_ALONE}"));
    server.up(ISP1);
    server.up(ISP2);
    ip("-6 addr add 2001:db8:1::10/64 dev ppp0 nodad");
    ok(&mut ctl(&server, "link up isp1 --interface ppp0 --gateway6 fe80::1 --prefix 2001:db8:100::/48"));
    server.apply();
    // Somebody takes traffic, of a policy and of all.
    ip("route add 10.99.0.0/16 dev ppp1");
    ip("rule add priority 50 lookup 77");
    ip("route add default dev ppp0 table 77");
    let mut found = BTreeSet::new();
    let status = json(&server, "status --json");
    assert_eq!(status["version"], 1);
    keys(&status, &mut found);
    let undocumented: Vec<_> = found.difference(&documented()).cloned().collect();
    assert_eq!(undocumented, [""; 0]);
    // Seen only while watching, or in states that this is not about (tests/it/ipv6).
    let elsewhere = ["received_bytes_per_second", "sent_bytes_per_second", "refused", "elsewhere_ipv6"];
    let missing: Vec<_> =
        documented().difference(&found).filter(|key| !elsewhere.contains(&key.as_str())).cloned().collect();
    assert_eq!(missing, [""; 0]);
}

/// A policy that main's route goes before.
const HOME_ALONE: &str = "
[[policy]]
name = \"all of the neighbours\"
to = \"10.99.0.0/16\"
via = \"isp1\"
";
