//! Traffic that somebody else's rules and routes take: status and doctor ask the kernel, and say who takes what. What
//! is the administrator's own, or is so since a link is down, is no trouble.

use std::process::Command;

use crate::support::ctl::{json, said};
use crate::support::*;
use serde_json::Value;

/// A server with both lines, and devices that are no links.
fn server(config: &str) -> Server {
    let server = Server::new(config);
    server.up(ISP1);
    server.up(ISP2);
    for (device, address) in [("tun9", "10.9.9.2/24"), ("lan", "192.168.2.1/24")] {
        ip(&format!("link add {device} type veth peer name {device}-far"));
        ip(&format!("link set {device}-far up"));
        ip(&format!("link set {device} up"));
        ip(&format!("addr add {address} dev {device}"));
    }
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    server
}

/// What status tells of, in one line each, with what to do.
fn detours(server: &Server) -> Vec<(String, String)> {
    let status = json(server, "status --json");
    let detours = status["kernel"]["detours"].as_array().unwrap();
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let all: Vec<_> = detours.iter().map(|d| (text(&d["what"]), text(&d["mend"]))).collect();
    if !all.is_empty() {
        assert_eq!(status["kernel"]["as_wanted"], false, "{status}");
        let shown = said(server, "status");
        assert!(!shown.contains("in sync") && shown.contains("\nProblem "), "{shown}");
        let doctor = ctl_json(server, "doctor");
        for (what, _) in &all {
            let findings = doctor["findings"].as_array().unwrap();
            assert!(findings.iter().any(|f| f["weight"] == "trouble" && f["what"] == what.as_str()), "{doctor}");
        }
    }
    all
}

/// JSON of a command that may find trouble.
fn ctl_json(server: &Server, command: &str) -> Value {
    let output = server.bare(CTL).args([command, "--json"]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// That just this is told of, and that what is printed to mend it does.
fn told(server: &Server, parts: &[&str], command: &str) {
    let all = detours(server);
    assert_eq!(all.len(), 1, "{all:#?}");
    let (what, mend) = &all[0];
    for part in parts {
        assert!(what.contains(part), "{part}: {what}");
    }
    assert!(mend.contains(command), "{mend}");
    ok(Command::new("sh").args(["-c", command]));
}

fn well(server: &Server, what: &str) {
    assert_eq!(detours(server), [], "{what}");
}

#[test]
fn halves_of_the_internet_in_main_are_told_of_as_one_takeover() {
    let server = server(ARTICLE);
    well(&server, "at first");
    ip("route add 0.0.0.0/1 dev tun9");
    ip("route add 128.0.0.0/1 dev tun9");
    let all = detours(&server);
    assert_eq!(all.len(), 1, "{all:#?}");
    assert!(all[0].0.contains("takes traffic to the Internet, and that of policies \"mail\""), "{all:?}");
    assert!(all[0].0.ends_with("by tun9") && all[0].1.contains("pull-filter ignore redirect-gateway"), "{all:?}");
    ip("route del 128.0.0.0/1");
    told(
        &server,
        &["route 0.0.0.0/1 of table 254, which is foreign, takes traffic to the Internet", "by tun9"],
        "ip route del 0.0.0.0/1 table 254 metric 0 dev tun9 protocol 3",
    );
    well(&server, "afterwards");
}

#[test]
fn a_rule_before_ours_is_told_of() {
    let server = server(ARTICLE);
    ip("route add default dev tun9 table 52");
    ip("rule add priority 50 lookup 52");
    // The table says nothing by itself.
    told(
        &server,
        &["rule 50: lookup 52, which is foreign, takes traffic to the Internet, and that of policies", "by tun9"],
        "ip rule del priority 50 lookup 52",
    );
    ip("rule add priority 50 lookup 52");
    ip("link add tailscale0 type veth peer name far-away");
    let all = detours(&server);
    assert!(all.len() == 1 && all[0].0.starts_with("rule 50: lookup 52, as of tailscale, takes traffic to the"));
    ip("rule del priority 50");
    ip("route add default dev tun9 table 77");
    ip("rule add priority 50 lookup 77");
    told(
        &server,
        &["rule 50: lookup 77, which is foreign, takes traffic to the Internet, and that of policies", "by tun9"],
        "ip rule del priority 50 lookup 77",
    );
    // wg-quick's stands behind ours: policies go on.
    ip("rule add priority 32764 not fwmark 0xca6c lookup 77");
    let all = detours(&server);
    assert!(all.len() == 1 && all[0].0.contains("as of wg-quick, takes traffic to the Internet: by tun9"), "{all:?}");
    assert!(all[0].1.contains("Table = off"), "{all:?}");
    ip("rule del priority 32764");
    ip("rule add priority 50 unreachable");
    told(&server, &["rule 50: unreachable", "it is refused"], "ip rule del priority 50 unreachable");
    ip("rule add priority 50 lookup main");
    told(
        &server,
        &["rule 50: lookup 254", "takes the traffic of policies \"mail\""],
        "ip rule del priority 50 lookup 254",
    );
    ip("rule add priority 50 from 192.168.2.30 lookup 77");
    told(
        &server,
        &["takes the traffic of policy \"one machine of the LAN\": by tun9"],
        "ip rule del priority 50 from 192.168.2.30 lookup 77",
    );
    well(&server, "afterwards");
}

#[test]
fn a_foreign_default_of_a_lower_metric_is_told_of() {
    let server = server(&with_settings(ARTICLE, "metric = 100"));
    ip("route add default via 10.9.9.1 dev tun9 metric 50 proto dhcp");
    told(
        &server,
        &["the default route of metric 50, of dhcp, takes traffic to the Internet: by tun9"],
        "ip route del default table 254 metric 50 via 10.9.9.1 dev tun9 protocol 16",
    );
    ip("route add unreachable default metric 50");
    told(
        &server,
        &["the default route of metric 50", "it is refused"],
        "ip route del default table 254 metric 50 protocol 3",
    );
    ip("route add default via 10.9.9.1 dev tun9 metric 500 proto dhcp");
    well(&server, "it stands behind ours");
}

#[test]
fn a_flush_of_rules_is_told_of_until_something_leads_to_main_again() {
    let server = server(ARTICLE);
    ip("rule flush");
    let all = detours(&server);
    assert!(all.len() == 1 && all[0].0.contains("no rule leads to table main"), "{all:?}");
    // Alone, the kernel's own rule would open the Internet before a kill switch is back.
    assert_eq!(all[0].1, "mhctl apply");
    server.apply();
    well(&server, "afterwards");
    // Somebody's rule for all that comes so far has the place of the kernel's: apply leaves it at that.
    ip("rule add priority 5270 lookup 52");
    ip("rule del priority 32766");
    let all = detours(&server);
    assert_eq!(all[0].1, "mhctl apply; ip rule add priority 32766 lookup main", "{all:?}");
    server.apply();
    ip("rule add priority 32766 lookup main");
    well(&server, "with both");
}

#[test]
fn what_is_the_administrators_own_is_no_trouble() {
    let server = server(ARTICLE);
    ip("route add default dev tun9 table 77");
    for own in [
        "rule add priority 50 from 10.7.0.0/16 lookup 77",
        "rule add priority 50 to 8.8.8.8 lookup 77",
        "rule add priority 50 uidrange 0-0 lookup 77",
        "rule add priority 50 ipproto tcp dport 443 lookup 77",
        "rule add priority 50 fwmark 0x100/0x100 lookup 77",
        "rule add priority 50 lookup 78",
        "rule add priority 50 lookup 77 suppress_prefixlength 0",
    ] {
        ip(own);
        well(&server, own);
        ip("rule del priority 50");
    }
    for own in ["8.8.8.8", "8.0.0.0/8", "203.0.113.99 via 10.9.9.1", "208.67.222.0/24"] {
        ip(&format!("route add {own} dev tun9"));
        well(&server, own);
    }
}

#[test]
fn policies_whose_links_are_down_go_by_the_default_and_that_is_right() {
    let config = ARTICLE.replace("otherwise = \"default\"", "otherwise = \"unreachable\"");
    let server = server(&config);
    well(&server, "both up");
    for line in [ISP1, ISP2] {
        server.lose(line);
        well(&server, line.link);
        // Nobody expects anything of us then.
        ip("route replace default via 10.9.9.1 dev tun9 metric 500");
        well(&server, line.link);
    }
    // A refusal is a promise, whoever breaks it.
    ip("route add default dev tun9 table 77");
    ip("rule add priority 50 lookup 77");
    let all = detours(&server);
    assert!(
        all.len() == 1 && all[0].0.contains("takes the traffic of policy \"isp2's own pages\": by tun9"),
        "{all:?}"
    );
}

#[test]
fn each_kind_of_policy_is_asked_about() {
    let policies = [
        "from = '192.168.2.0/24'",
        "from = '10.9.9.2'",
        "iif = 'lan'",
        "iif = 'lo'\nuid = '1000-2000'",
        "uid = 5",
        "proto = 'udp'\nsport = 4000",
        "proto = 'icmp'",
        "proto = 'gre'",
        "dscp = 46",
        "fwmark = '0x100/0x100'",
        "to = ['198.18.0.0/15', '8.8.4.4']",
        "proto = 'tcp'\ndport = '6000-6010'",
    ];
    let all =
        policies.iter().enumerate().map(|(n, keys)| format!("[[policy]]\nname = 'p{n}'\nvia = ['isp2']\n{keys}\n"));
    let lines = ARTICLE.split("[[policy]]").next().unwrap().to_owned();
    let server = server(&(lines + &all.collect::<String>()));
    well(&server, "as configured");
    ip("route add default dev tun9 table 77");
    ip("rule add priority 50 lookup 77");
    let status = json(&server, "status --json");
    let taken = status["kernel"]["detours"][0]["policies"].as_array().unwrap();
    // The first is all that no policy is about.
    assert_eq!(taken.len(), 1 + policies.len(), "{status}");
}

#[test]
fn a_thousand_policies_are_asked_about_in_no_time() {
    let mut config = ARTICLE.split("[[policy]]").next().unwrap().to_owned();
    for n in 0..1000 {
        let to = format!("198.18.{}.{}", n / 250, n % 250);
        config = format!("{config}[[policy]]\nname = 'p{n}'\nto = '{to}'\nvia = ['isp1', 'isp2']\n");
    }
    let server = server(&config);
    well(&server, "as configured");
    ip("route add 128.0.0.0/1 dev tun9");
    let all = detours(&server);
    assert!(all.len() == 1 && all[0].0.contains("\"p0\", \"p1\", \"p2\" and "), "{all:?}");
}
