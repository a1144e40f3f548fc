//! What status, doctor and check say of kill switches.

use crate::support::*;

const POLICY: &str = "[[policy]]\nname = \"torrents\"\nuid = 4242\nvia = \"vpn\"\notherwise = \"unreachable\"\n";

fn said(server: &Server, command: &[&str]) -> String {
    let output = server.with_args(CTL, command).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Of either family, and what leads past the rules of addresses: each is deleted by hand.
#[test]
fn status_and_doctor_say_that_a_kill_switch_without_one_of_its_rules_does_not_hold() {
    let server = Server::new(&format!("{ARTICLE}{POLICY}"));
    server.up(ISP1);
    let broken = "TROUBLE  the kill switch of policy \"torrents\" does not hold";
    for rule in ["-6 rule del priority 208", "-4 rule del priority 208", "rule del priority 189"] {
        assert!(said(&server, &["status"]).contains("refused: vpn is not up"), "{}", said(&server, &["status"]));
        assert!(!said(&server, &["doctor"]).contains(broken), "{}", said(&server, &["doctor"]));
        ip(rule);
        let status = said(&server, &["status"]);
        assert!(status.contains("does not hold: 1 of its 4 rules missing"), "{rule}: {status}");
        assert!(status.contains("1 change is pending"), "{status}");
        assert!(said(&server, &["doctor"]).contains(broken), "{rule}");
        server.apply();
    }
}

#[test]
fn doctor_tells_of_ipv6_only_where_the_server_has_it() {
    let policy = POLICY.replace("uid = 4242", "from = \"192.168.2.30\"");
    let server = Server::new(&format!("{ARTICLE}{policy}"));
    server.up(ISP1);
    let is_told = || said(&server, &["doctor"]).contains("in IPv6 is not covered");
    assert!(!is_told());
    ip("-6 addr add 2001:db8:1::10/64 dev ppp0 nodad");
    assert!(is_told());
}

#[test]
fn check_names_what_a_kill_switch_does_not_cover() {
    let server = Server::new(ARTICLE);
    assert!(!said(&server, &["check"]).contains("does not cover"));
    server.configure(&format!("{ARTICLE}{POLICY}"));
    let check = said(&server, &["check"]);
    let (_, gaps) = check.split_once("otherwise = \"unreachable\" does not cover:\n").unwrap();
    let gaps: Vec<_> = gaps.lines().collect();
    let expected = [
        "- part of the traffic of policy \"torrents\" goes by isp1: \"mail\" above it takes that",
        "- policy \"torrents\": what others send for a user is not covered",
        "- policy \"torrents\": a connection that bears another link's mark stays on that link",
        "- policy \"torrents\": a socket that names an interface",
        "- policy \"torrents\": what main has a better route for than its default goes by that",
    ];
    assert_eq!(gaps.len(), expected.len(), "{check}");
    for (gap, expected) in gaps.iter().zip(expected) {
        assert!(gap.starts_with(expected), "{gap}");
    }
    let forget =
        ["0x1", "0x2"].map(|mark| ["4", "6"].map(|f| format!("conntrack -D -f ipv{f} --mark {mark}/0x7")).join("; "));
    assert!(gaps[2].contains(&forget.join("; ")), "{check}");
    assert!(check.contains("189      kill switches"), "{check}");
}

/// Nothing of ours tracks connections then, and so nothing puts fragments together before they are routed.
#[test]
fn check_and_doctor_tell_of_fragments_where_the_firewall_is_not_ours() {
    let policy = POLICY.replace("uid = 4242", "iif = \"lan\"\nproto = \"udp\"\ndport = 5060");
    let config = |firewall: &str| with_settings(&format!("{ARTICLE}{policy}"), &format!("firewall = \"{firewall}\""));
    let server = Server::new(&config("none"));
    server.up(ISP1);
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    for command in ["check", "doctor"] {
        let told = said(&server, &[command]);
        assert!(told.contains("policy \"torrents\": fragments of what is forwarded are not covered"), "{told}");
    }
    // What is not forwarded is routed whole.
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
    assert!(!said(&server, &["doctor"]).contains("fragments"));
    server.configure(&config("iptables"));
    assert!(!said(&server, &["check"]).contains("fragments"));
}

/// A socket that is not bound has no source when rules are asked.
#[test]
fn check_and_doctor_tell_of_a_kill_switch_for_a_lines_own_address() {
    let config = |from: &str, via: &str| {
        let policy = POLICY.replace("uid = 4242", &format!("from = \"{from}\"")).replace("\"vpn\"", via);
        format!("{ARTICLE}{policy}")
    };
    let server = Server::new(&config(ISP1.local, "\"isp2\""));
    server.up(ISP1);
    server.up(ISP2);
    let check = said(&server, &["check"]);
    assert!(
        check.contains("policy \"torrents\": if from holds an address of a line of this server, a socket"),
        "{check}"
    );
    let doctor = said(&server, &["doctor"]);
    assert!(doctor.contains("policy \"torrents\": from holds the server's own 198.51.100.10: a socket"), "{doctor}");
    assert!(ip("route get 100.64.0.1 from 198.51.100.10").contains("dev ppp1"));
    assert!(ip("route get 100.64.0.1").contains("dev ppp"), "what is not bound is not refused");
    // By the link itself it leaves, or by no link with that source.
    for other in [config(ISP2.local, "\"isp2\""), config("192.168.2.30", "\"isp2\"")] {
        server.configure(&other);
        server.apply();
        assert!(!said(&server, &["doctor"]).contains("the server's own"), "{other}");
    }
}

/// What check says about sockets that are bound to an interface is so: should a kernel heed rules there, it has to go.
#[test]
fn the_kernel_heeds_no_rule_for_a_socket_that_is_bound_to_an_interface() {
    let server = Server::new(&format!("{ARTICLE}{POLICY}"));
    server.up(ISP1);
    ip("route get 100.64.0.1 uid 4243");
    let refused =
        std::process::Command::new("ip").args(["route", "get", "100.64.0.1", "uid", "4242"]).output().unwrap();
    assert!(!refused.status.success());
    assert!(ip("route get 100.64.0.1 uid 4242 oif ppp0").contains("dev ppp0"));
}
