//! What kill switches do not cover, by their selectors.

use std::path::Path;

use super::*;

const LINKS: &str = "[[uplink]]\nname = \"isp1\"\ninterface = \"ppp0\"\n[[uplink]]\nname = \"isp2\"\n\
                     interface = \"ppp1\"\n[[tunnel]]\nname = \"vpn\"\ninterface = \"tun0\"\n";

fn gaps(policies: &[&str]) -> Vec<Gap> {
    told(policies).into_iter().map(|uncovered| uncovered.gap).collect()
}

fn told(policies: &[&str]) -> Vec<Uncovered> {
    told_with("", policies)
}

/// With more settings.
fn told_with(settings: &str, policies: &[&str]) -> Vec<Uncovered> {
    let policies = policies.iter().enumerate().map(|(n, text)| format!("[[policy]]\nname = \"p{n}\"\n{text}\n"));
    let text = format!("[settings]\n{settings}\n{LINKS}{}", policies.collect::<String>());
    uncovered(&crate::config::parse(&text, Path::new("f")).unwrap(), Addresses::Guessed)
}

const KILL: &str = "via = \"vpn\"\notherwise = \"unreachable\"";

#[test]
fn each_gap_is_told_where_there_is_one() {
    use Gap::*;
    for (selector, expected) in [
        ("uid = 4242", &[Users, Marks, Interfaces, Main][..]),
        ("from = \"192.168.1.5\"", &[Ipv6, Marks, Main]),
        ("to = \"192.0.2.0/24\"", &[Ipv6, Marks, Interfaces, Main]),
        ("to = \"2001:db8::/32\"", &[Ipv4, Marks, Interfaces, Main]),
        ("to = [\"192.0.2.0/24\", \"2001:db8::/32\"]", &[Marks, Interfaces, Main]),
        ("iif = \"eth1\"", &[Marks, Main]),
        ("iif = [\"lo\", \"eth1\"]", &[Marks, Interfaces, Main]),
    ] {
        assert_eq!(gaps(&[&format!("{selector}\n{KILL}")]), expected, "{selector}");
    }
    let uplinks = "uid = 1\nvia = [\"isp1\", \"isp2\"]\notherwise = \"unreachable\"";
    assert_eq!(gaps(&["uid = 1\nvia = \"vpn\"", uplinks]), [], "no kill switch, and one that changes nothing");
}

#[test]
fn a_policy_above_is_told_of_where_it_takes_part_of_the_traffic_elsewhere() {
    let is_told = |above: &str, selector: &str| gaps(&[above, &format!("{selector}\n{KILL}")]).contains(&Gap::Above);
    for above in ["proto = \"tcp\"\ndport = 25", "fwmark = 0x100", "uid = \"4000-5000\"\nto = \"10.0.0.0/8\""] {
        assert!(is_told(&format!("{above}\nvia = [\"vpn\", \"isp1\"]"), "uid = 4242"), "{above}");
        assert!(!is_told(&format!("{above}\nvia = \"vpn\""), "uid = 4242"), "{above}");
    }
    for (above, selector) in [
        ("uid = 1", "uid = 4242"),
        ("iif = \"eth1\"", "uid = 4242"),
        ("proto = \"udp\"", "proto = \"tcp\"\ndport = 25"),
        ("from = \"192.168.1.0/24\"", "from = \"192.168.2.0/24\""),
        ("fwmark = \"0x100/0x300\"", "fwmark = \"0x200/0x200\""),
        ("from = [\"10.0.0.0/8\", \"fd00::/8\"]\nto = \"192.0.2.0/24\"", "from = \"fd00::/8\""),
        ("to = \"2001:db8::/32\"", "to = \"192.0.2.1\""),
    ] {
        assert!(!is_told(&format!("{above}\nvia = \"isp1\""), selector), "{above}, {selector}");
    }
}

#[test]
fn fragments_are_told_of_where_nothing_of_ours_puts_them_together() {
    let is_told = |firewall: &str, selector: &str| {
        let told = told_with(&format!("firewall = \"{firewall}\""), &[&format!("{selector}\n{KILL}")]);
        told.iter().any(|uncovered| uncovered.gap == Gap::Fragments)
    };
    let (sport, dport) = ("proto = \"udp\"\nsport = 5060", "proto = \"udp\"\ndport = 5060");
    for selector in [sport, dport, &format!("iif = \"eth1\"\n{dport}"), &format!("uid = 0\n{dport}")] {
        assert!(is_told("none", selector) && !is_told("iptables", selector), "{selector}");
    }
    for selector in ["iif = \"eth1\"", &format!("iif = \"lo\"\n{dport}"), &format!("uid = 7\n{dport}")] {
        assert!(!is_told("none", selector), "{selector}");
    }
}

#[test]
fn sources_are_told_of_where_they_may_be_a_lines_address() {
    for (selector, expected) in [
        ("from = \"198.51.100.10\"", true),
        ("from = [\"192.168.1.5\", \"198.51.100.0/24\"]", true),
        ("from = \"192.168.1.5\"", false),
        ("from = \"198.51.100.10\"\niif = \"eth1\"", false),
        ("uid = 7", false),
    ] {
        assert_eq!(gaps(&[&format!("{selector}\n{KILL}")]).contains(&Gap::Sources), expected, "{selector}");
    }
}

#[test]
fn thousands_of_kill_switches_are_one_line() {
    let policies: Vec<_> = (0..3000).map(|n| format!("uid = {}\n{KILL}", n + 1)).collect();
    let told = told(&policies.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(told.len(), 4);
    assert!(told.iter().all(|t| t.what.starts_with("policies \"p0\", \"p1\", \"p2\" and 2997 more: ")), "{told:?}");
}

#[test]
fn connections_of_before_are_flushed_in_the_families_that_a_kill_switch_is_about() {
    for (selector, families) in [("to = \"192.0.2.1\"", "4"), ("to = \"2001:db8::1\"", "6"), ("uid = 1", "46")] {
        let told = told(&[&format!("{selector}\n{KILL}")]);
        let marks = told.iter().find(|uncovered| uncovered.gap == Gap::Marks).unwrap();
        for family in ["4", "6"] {
            let command = format!("conntrack -D -f ipv{family} --mark 0x1/0x7");
            assert_eq!(marks.fix.contains(&command), families.contains(family), "{selector}: {}", marks.fix);
        }
    }
}
