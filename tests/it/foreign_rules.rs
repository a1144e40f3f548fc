//! Rules of others that stand before a kill switch's, in either family: status tells of those that take its traffic,
//! doctor also of those that may.

use std::process::Command;

use serde_json::Value;

use crate::support::ctl::json;
use crate::support::*;

const KILL_SWITCH: &str = "\n[[policy]]\nname = 'k'\nuid = 1234\nvia = 'isp2'\notherwise = 'unreachable'\n";

fn server(policies: &str) -> Server {
    let lines = ARTICLE.split("[[policy]]").next().unwrap();
    let server = Server::new(&format!("{lines}{policies}"));
    server.up(ISP1);
    ip("link add tun9 type veth peer name tun9-far");
    ip("link set tun9-far up");
    ip("link set tun9 up");
    ip("addr add 10.9.9.2/24 dev tun9");
    server
}

/// What status tells of, with what to do.
fn detours(server: &Server) -> Vec<[String; 2]> {
    let status = json(server, "status --json");
    let detours = status["kernel"]["detours"].as_array().unwrap();
    assert_eq!(status["kernel"]["as_wanted"], detours.is_empty(), "{status}");
    detours.iter().map(|d| [&d["what"], &d["mend"]].map(|v| v.as_str().unwrap().to_owned())).collect()
}

/// What doctor says of kill switches, and how it weighs that.
fn findings(server: &Server) -> Vec<[String; 3]> {
    let output = server.bare(CTL).args(["doctor", "--json"]).output().unwrap();
    let doctor: Value = serde_json::from_slice(&output.stdout).unwrap();
    let all = doctor["findings"].as_array().unwrap().iter();
    let all = all.map(|f| [&f["weight"], &f["what"], &f["mend"]].map(|v| v.as_str().unwrap().to_owned()));
    let all = all.filter(|[_, what, _]| !what.starts_with("policy "));
    all.filter(|[_, what, mend]| {
        what.contains("policy \"k\"") || what.contains("before the kill switch of") || mend.contains("ip -6")
    })
    .collect()
}

/// That status and doctor say so, and that deleting the rule mends it.
fn is_told(server: &Server, rule: &str, taken: &str) {
    ip(&format!("rule add {rule}"));
    let found = findings(server);
    let [[weight, what, mend]] = &found[..] else { panic!("{rule}: {found:#?}") };
    assert_eq!(weight, "trouble", "{rule}");
    assert!(what.contains("which is foreign, ") && what.contains(" of policy \"k\""), "{what}");
    assert!(what.ends_with(taken), "{what}");
    // What no packet shows is nothing for status to tell of.
    let is_certain = !taken.contains("may not hold");
    assert_eq!(detours(server).iter().any(|[told, _]| told == what), is_certain, "{rule}");
    let (_, delete) = mend.split_once('(').unwrap();
    ok(Command::new("sh").args(["-c", delete.split_once(')').unwrap().0]));
    is_silent(server, rule);
}

fn is_silent(server: &Server, what: &str) {
    assert_eq!(findings(server).concat().concat(), "", "{what}");
    assert_eq!(detours(server).concat().concat(), "", "{what}");
}

#[test]
fn a_rule_that_takes_what_a_kill_switch_selects_is_told_of() {
    let server = server(KILL_SWITCH);
    is_silent(&server, "at first");
    ip("route add default dev tun9 table 52");
    ip("route add default dev tun9 table 77");
    // A socket that is bound to the line's address.
    is_told(&server, "priority 98 from 198.51.100.10 lookup 1", "and takes what both select: by ppp0");
    is_told(&server, "priority 50 uidrange 1000-2000 lookup 77", "takes the traffic of policy \"k\": by tun9");
    is_told(&server, "priority 50 to 8.0.0.0/8 lookup 77", "and takes what both select: by tun9");
    is_told(&server, "priority 50 ipproto udp dport 53 lookup main", "and takes what both select: by ppp0");
    is_told(&server, "priority 50 to 8.8.8.8 goto 32766", "and takes what both select: by ppp0");
    is_told(&server, "priority 50 iif lo tos 0x10 lookup 77", "and takes what both select: by tun9");
    is_told(&server, "priority 50 not to 8.8.8.8 lookup 77", "which may not hold");
    // While isp1 is down nothing goes by its table, and doctor knows.
    server.lose(ISP1);
    is_told(&server, "priority 98 from 198.51.100.10 lookup 1", "which may not hold");
}

#[test]
fn what_takes_nothing_of_a_kill_switch_is_no_trouble() {
    let server = server(KILL_SWITCH);
    server.up(ISP2);
    ip("route add default dev tun9 table 77");
    ip("route add 192.168.7.0/24 dev tun9");
    ip("route add default dev ppp1 table 78");
    ip("route add unreachable default table 79");
    for rule in [
        "priority 50 uidrange 0-1000 lookup 77",
        "priority 50 iif tun9 lookup 77",
        // As tailscale has them.
        "priority 50 fwmark 0x80000/0xff0000 lookup main",
        "priority 50 fwmark 0x80000/0xff0000 unreachable",
        // As wg-quick has it.
        "priority 50 lookup main suppress_prefixlength 0",
        "priority 50 lookup 77 suppress_prefixlength 0",
        "priority 50 to 192.168.7.0/24 lookup main",
        "priority 50 lookup 76",
        "priority 50 from 203.0.113.10 uidrange 1000-2000 lookup 78",
        "priority 50 from 203.0.113.10 uidrange 1000-2000 lookup 79",
        "priority 50 uidrange 1000-2000 lookup 2",
        "priority 50 uidrange 1000-2000 goto 190",
        "priority 50 to 9.9.9.9 unreachable",
        "priority 5000 lookup 77",
        // Guards lead past it.
        "priority 195 uidrange 1000-2000 lookup 77",
    ] {
        ip(&format!("rule add {rule}"));
        assert_eq!(findings(&server).concat().concat(), "", "{rule}");
        let priority = rule.split(' ').nth(1).unwrap();
        ip(&format!("rule del priority {priority}"));
    }
    // A few places of somebody's own, as those of a VPN's peers.
    ip("route add 100.100.100.100 dev tun9 table 76");
    ip("rule add priority 50 lookup 76");
    let found = findings(&server);
    assert!(found.len() == 1 && found[0][0] == "note", "{found:?}");
    assert!(found[0][1].ends_with("which may not hold for what it leads to"), "{found:?}");
    assert_eq!(detours(&server).len(), 0);
}

#[test]
fn a_thousand_kill_switches_are_compared_in_no_time() {
    let mut policies = String::new();
    for n in 0..1000 {
        let user = 10_000 + n;
        let policy = format!("[[policy]]\nname = 'p{n}'\nuid = {user}\nvia = 'isp2'\notherwise = 'unreachable'\n");
        policies.push_str(&policy);
    }
    let server = server(&policies);
    ip("route add default dev tun9 table 77");
    for n in 0..40 {
        ip(&format!("rule add priority {n} uidrange {n}-{n} lookup 77"));
    }
    ip("rule add priority 50 from 198.51.100.10 uidrange 10500-30000 lookup 77");
    let found = findings(&server);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0][1].contains("policies \"p500\", \"p501\", \"p502\" and 497 more"), "{found:?}");
}

#[test]
fn a_rule_of_ipv6_before_a_kill_switch_is_told_of() {
    let server = server(KILL_SWITCH);
    ip("-6 addr add 2001:db8::2/64 dev tun9 nodad");
    ip("-6 rule add priority 50 lookup main");
    // Main has neighbours only, which are reached anyway.
    is_silent(&server, "without a default route");
    // By no link, or that would have IPv6 from now on, and rules would be missing.
    ip("-6 route add default via 2001:db8::1 dev tun9");
    let found = findings(&server);
    let [[weight, what, mend]] = &found[..] else { panic!("{found:?}") };
    assert_eq!(weight, "trouble");
    assert_eq!(
        what,
        "IPv6 rule 50: lookup 254, which is foreign, stands before the kill switch of policy \"k\": what both select is \
         not refused"
    );
    assert_eq!(detours(&server).concat()[0], *what);
    let delete = "ip -6 rule del priority 50 lookup 254";
    assert!(mend.contains(delete), "{mend}");
    ok(Command::new("sh").args(["-c", delete]));
    is_silent(&server, "afterwards");
    ip("-6 rule add priority 50 uidrange 0-0 lookup main");
    is_silent(&server, "another user");
}

#[test]
fn the_kernels_own_rule_of_ipv6_is_missed() {
    let server = server(KILL_SWITCH);
    ip("-6 rule flush");
    let mend = |server: &Server| detours(server).into_iter().map(|[_, mend]| mend).collect::<Vec<_>>();
    let status = json(&server, "status --json");
    let detour = &status["kernel"]["detours"][0];
    let expected = format!("{} apply; ip -6 rule add priority 32766 lookup main", server.mhctl());
    assert_eq!(detour["mend"], expected, "{status}");
    server.apply();
    assert_eq!(mend(&server), ["ip -6 rule add priority 32766 lookup main"]);
    assert_eq!(
        findings(&server)[0][1],
        "no IPv6 rule leads to table main, as if by `ip -6 rule flush`: IPv6 goes nowhere"
    );
    ip("-6 rule add priority 32766 lookup main");
    is_silent(&server, "afterwards");
}
