//! Routes of others in a link's table, which lead a policy's traffic elsewhere, and what status says of where a policy's
//! traffic goes.

use std::process::Command;

use serde_json::Value;

use crate::support::ctl::{json, said};
use crate::support::*;

const KILL_SWITCH: &str = "\n[[policy]]\nname = 'k'\nuid = 1234\nvia = 'isp2'\notherwise = 'unreachable'\n";

fn server() -> Server {
    let server = Server::new(&format!("{ARTICLE}{KILL_SWITCH}"));
    server.up(ISP1);
    server
}

/// What status tells of: what, what to do, and how doctor weighs it.
fn told(server: &Server) -> Vec<[String; 3]> {
    let status = json(server, "status --json");
    let output = server.bare(CTL).args(["doctor", "--json"]).output().unwrap();
    let doctor: Value = serde_json::from_slice(&output.stdout).unwrap();
    let detours = status["kernel"]["detours"].as_array().unwrap();
    assert_eq!(status["kernel"]["as_wanted"], detours.is_empty(), "{status}");
    let told = detours.iter().map(|detour| {
        let mut findings = doctor["findings"].as_array().unwrap().iter();
        let finding = findings.find(|f| f["what"] == detour["what"]).unwrap_or_else(|| panic!("{doctor}"));
        [&detour["what"], &detour["mend"], &finding["weight"]].map(|v| v.as_str().unwrap().to_owned())
    });
    told.collect()
}

/// What status says of where a policy's traffic goes.
fn way(server: &Server, policy: &str) -> String {
    let status = said(server, "status");
    let line = status.lines().find_map(|line| Some(line.split_once(&format!("{policy}  "))?.1.trim().to_owned()));
    line.unwrap_or_else(|| panic!("{policy} in {status}"))
}

/// That just this is told of, and that deleting it mends it.
fn is_told(server: &Server, what: &str, delete: &str, weight: &str) {
    let all = told(server);
    let [[told, mend, weighed]] = &all[..] else { panic!("{all:#?}") };
    assert_eq!(told, what);
    assert_eq!(*mend, format!("delete it: {delete}"));
    assert_eq!(weighed, weight);
    ok(Command::new("sh").args(["-c", delete]));
    assert_eq!(told_nothing(server), "");
}

fn told_nothing(server: &Server) -> String {
    told(server).concat().join("\n")
}

#[test]
fn a_default_route_by_another_interface_in_the_table_of_a_kill_switch_is_told_of() {
    let server = server();
    assert_eq!(way(&server, "k"), "refused: isp2 is not up");
    ip("route add default via 198.51.100.1 dev ppp0 table 2");
    assert!(ip("route get 100.64.9.1 uid 1234").contains("dev ppp0"));
    assert_eq!(way(&server, "k"), "does not hold: by isp1");
    // The pages of isp2 may go by any line.
    is_told(
        &server,
        "the default route of metric 0 of table 2, which is foreign, leads by ppp0 and not by isp2: it takes the traffic \
         of policies \"isp2's own pages\", \"k\"",
        "ip route del default table 2 metric 0 via 198.51.100.1 dev ppp0 protocol 3",
        "trouble",
    );
    assert_eq!(way(&server, "k"), "refused: isp2 is not up");
}

#[test]
fn one_that_takes_over_later_is_told_of_now() {
    let server = server();
    server.up(ISP2);
    ip("route add default via 198.51.100.1 dev ppp0 table 2 metric 5");
    assert_eq!(way(&server, "k"), "by isp2");
    is_told(
        &server,
        "the default route of metric 5 of table 2, which is foreign, leads by ppp0 and not by isp2: it takes what is for \
         isp2 while isp2 is down",
        "ip route del default table 2 metric 5 via 198.51.100.1 dev ppp0 protocol 3",
        "trouble",
    );
    ip("route add 100.64.9.0/25 dev ppp0 table 2");
    assert!(ip("route get 100.64.9.1 uid 1234").contains("dev ppp0"));
    is_told(
        &server,
        "route 100.64.9.0/25 of table 2, which is foreign, leads by ppp0 and not by isp2: it takes what is for isp2 and \
         goes there",
        "ip route del 100.64.9.0/25 table 2 metric 0 dev ppp0 protocol 3",
        "trouble",
    );
    // No kill switch uses the table of isp1.
    ip("route add default dev ppp1 table 1 metric 5 proto static");
    is_told(
        &server,
        "the default route of metric 5 of table 1, which is foreign, leads by ppp1 and not by isp1: it takes what is for \
         isp1 while isp1 is down",
        "ip route del default table 1 metric 5 dev ppp1 protocol 4",
        "note",
    );
    for net in 0..20 {
        ip(&format!("route add 100.65.{net}.0/24 dev ppp0 table 2"));
    }
    let all = told(&server);
    assert!(all.len() == 1 && all[0][0].starts_with("route 100.65.0.0/24 of table 2 (and 19 more), "), "{all:?}");
}

#[test]
fn what_leads_nowhere_else_is_no_trouble() {
    let server = server();
    server.up(ISP2);
    ip("link add lan type veth peer name lan-far");
    ip("link set lan up");
    ip("addr add 192.168.2.1/24 dev lan");
    for own in [
        // As older scripts have it: the LAN, which main leads to before any table is asked.
        "192.168.2.0/24 dev lan",
        "192.168.2.128/25 dev lan",
        "203.0.113.0/24 dev ppp1",
        "unreachable default metric 5",
        "throw 10.0.0.0/8",
    ] {
        ip(&format!("route add {own} table 2"));
        assert_eq!(told_nothing(&server), "", "{own}");
    }
    assert_eq!(way(&server, "k"), "by isp2");
}

#[test]
fn a_route_of_mains_own_is_where_a_policys_traffic_goes() {
    let server = server();
    server.up(ISP2);
    assert_eq!(way(&server, "isp2's own pages"), "by isp2");
    ip("route add 203.0.113.80 dev ppp0");
    assert_eq!(way(&server, "isp2's own pages"), "by isp1: main has a route to 203.0.113.80");
    // That is the administrator's own, which the packet filter follows.
    server.apply();
    assert_eq!(told_nothing(&server), "");
    assert_eq!(way(&server, "mail"), "by isp1");
    // A policy about all places is not about this one.
    ip("route add 8.8.8.8 dev ppp0");
    server.apply();
    assert_eq!(way(&server, "k"), "by isp2");
    let status = json(&server, "status --json");
    assert_eq!(status["policies"][2]["link"], Value::Null);
    assert_eq!(status["policies"][2]["elsewhere"]["is_mains"], true);
}
