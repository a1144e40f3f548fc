//! `mhctl drill` of links with IPv6.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::ctl::*;
use crate::support::six::*;
use crate::support::*;

/// Starts it; returns when the link is drained in IPv6.
fn drill(server: &Server, args: &str) -> std::process::Child {
    let child = ctl(server, args).stdout(Stdio::piped()).spawn().unwrap();
    until("isp1 is drained", || json(server, "status --json")["links"][0]["ipv6"]["state"] == "held");
    until("the IPv6 default has moved", || defaults6()[0] == "default via fe80::2 dev ppp1 proto 77 metric 512");
    child
}

fn report(child: std::process::Child) -> Value {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A connection of isp1 in which both ends have talked.
fn track(tuple: &str) {
    let conntrack = |words: String| drop(ok(Command::new("conntrack").args(words.split(' '))));
    conntrack(format!("-I {tuple} --timeout 100 -u ASSURED,SEEN_REPLY"));
    conntrack(format!("-U {tuple} --mark 1"));
}

#[test]
fn a_drill_is_about_both_families() {
    let server = Server::new(ARTICLE);
    for (line, six) in [(ISP1, SIX1), (ISP2, SIX2)] {
        server.up(line);
        six.up(&server);
    }
    track("-p udp -s 2001:db8:1::10 -d 2620:fe::9 --sport 1000 --dport 53");
    track("-p udp -s 198.51.100.10 -d 192.0.2.9 --sport 1000 --dport 53");
    let report = report(drill(&server, "drill isp1 --for 3s --json"));
    assert_eq!((&report["back"], &report["no_route_seconds"]), (&json!(true), &json!(0.0)));
    assert_eq!(report["ipv6"]["no_route_seconds"], 0.0);
    assert!(report["ipv6"]["asked"].as_u64().is_some_and(|asked| asked > 100), "{report}");
    let listed = report["connections"]["listed"].as_array().unwrap().iter().map(|listed| &listed["from"]);
    let mut from: Vec<_> = listed.collect();
    from.sort_by_key(ToString::to_string);
    assert_eq!(from, [&json!("198.51.100.10:1000"), &json!("[2001:db8:1::10]:1000")]);
    assert!(defaults6()[0].contains("nexthop via fe80::1 dev ppp0"), "{:#?}", defaults6());
}

#[test]
fn links_with_ipv6_only_can_be_drilled() {
    let server = Server::new(ARTICLE);
    for (line, six) in [(ISP1, SIX1), (ISP2, SIX2)] {
        line.create();
        ip(&format!("addr flush dev {}", line.device));
        six.up(&server);
    }
    let child = drill(&server, "drill isp1 --for 2s --json");
    let (code, error) = refused(&server, "drill isp1");
    assert_eq!(code, Some(1));
    assert!(error.contains("isp1 is drained by process"), "{error}");
    let report = report(child);
    assert_eq!((&report["back"], &report["ipv6"]["no_route_seconds"]), (&json!(true), &json!(0.0)));
    assert_eq!(report["no_route_seconds"], Value::Null, "nobody has IPv4");
}

#[test]
fn the_only_link_with_ipv6_stays_in_use_for_it() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    server.up(ISP2);
    SIX1.up(&server);
    let child = ctl(&server, "drill isp1 --for 2s --json").stdout(Stdio::piped()).spawn().unwrap();
    until("isp1 is drained", || json(&server, "status --json")["links"][0]["state"] == "held");
    assert_eq!(json(&server, "status --json")["links"][0]["ipv6"]["state"], "up");
    let report = report(child);
    assert_eq!((&report["no_route_seconds"], &report["ipv6"]["no_route_seconds"]), (&json!(0.0), &json!(0.0)));
    let (code, error) = refused(&server, "drill isp1 --dry-run");
    assert_eq!((code, error.as_str()), (Some(0), ""));
    server.lose(ISP2);
    let (_, error) = refused(&server, "drill isp1");
    assert!(error.contains("no other uplink is up"), "{error}");
}
