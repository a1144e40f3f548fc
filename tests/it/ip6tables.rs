//! Our chains in ip6tables: what is loaded when, by which variant, what is left alone, and machines without it. Their
//! packets are those of six, which `make test-filters` runs with both variants.

use std::process::Command;

use crate::support::alternatives::{alternatives, use_legacy, variant};
use crate::support::ctl::*;
use crate::support::files::install_script;
use crate::support::filter::{ip6tables, iptables, managed, table};
use crate::support::internet::Namespace;
use crate::support::six::*;
use crate::support::strace::programs;
use crate::support::*;

const LINKS: &str = "[[uplink]]\nname = \"isp1\"\ninterface = \"ppp0\"\nprefixes = [\"2001:db8:100::/48\"]\n\
                     [[uplink]]\nname = \"isp2\"\ninterface = \"ppp1\"\nnat6 = \"all\"\n\
                     [settings]\nsettle-timeout = \"0s\"\nfirewall = \"iptables\"\n";

/// Both lines in IPv4 and the first in IPv6.
fn scene() -> Server {
    let server = Server::new(LINKS);
    server.up(ISP1);
    server.up(ISP2);
    SIX1.up(&server);
    server
}

/// Lines of ours that a program of ip6tables prints.
fn saved(program: &str) -> Vec<String> {
    let text = String::from_utf8(ok(&mut Command::new(program)).stdout).unwrap();
    text.lines().filter(|line| line.contains("MULTIHOME")).map(str::to_owned).collect()
}

fn ours() -> Vec<String> {
    saved("ip6tables-save")
}

/// A rule without its fingerprint, which stands where iptables(8) has put it.
fn unsigned(rule: &str) -> String {
    match rule.split_once("-m comment --comment \"") {
        Some((before, rest)) => before.to_owned() + rest.split_once("\" ").unwrap().1,
        None => rule.to_owned(),
    }
}

/// The same with the addresses in front, as iptables(8) shows them.
fn as_shown(rule: &str) -> String {
    let words: Vec<_> = rule.split(' ').collect();
    let Some(at) = words.iter().position(|word| ["-s", "-d", "-p"].contains(word)) else { return rule.to_owned() };
    let moved = &words[at..at + 2];
    [&words[..2], moved, &words[2..at], &words[at + 2..]].concat().join(" ")
}

#[test]
fn the_chains_of_two_lines() {
    let server = Server::new(LINKS);
    server.up(ISP1);
    server.up(ISP2);
    SIX1.create();
    let plan = String::from_utf8(ok(SIX1.hook(&server, UP).option("--dry-run")).stdout).unwrap();
    SIX1.up(&server);
    let lines: Vec<_> =
        ours().iter().map(|line| unsigned(line)).filter(|line| line.starts_with("-A MULTIHOME")).collect();
    let (_, plan) = plan.split_once("ip6tables-restore").unwrap();
    let mut rendered: Vec<_> =
        plan.lines().filter(|line| line.starts_with("-A MULTIHOME")).map(|line| as_shown(&unsigned(line))).collect();
    let mut listed = lines.clone();
    rendered.sort();
    listed.sort();
    assert_eq!(listed, rendered);
    let expected = [
        "-A MULTIHOME-ARRIVED -d ff00::/8 -j RETURN",
        "-A MULTIHOME-ARRIVED -d fe80::/10 -j RETURN",
        "-A MULTIHOME-ARRIVED -s fe80::/10 -j RETURN",
        "-A MULTIHOME-ARRIVED -s 2001:db8:1::/64 -m devgroup --src-group 0x1b58 -j RETURN",
        "-A MULTIHOME-ARRIVED -m devgroup --src-group 0x1b58 -j CONNMARK --set-xmark 0x1/0x3",
        "-A MULTIHOME-ARRIVED -m devgroup --src-group 0x1b59 -j CONNMARK --set-xmark 0x2/0x3",
        "-A MULTIHOME-FORWARD -m connmark ! --mark 0x0/0x3 -j RETURN",
        "-A MULTIHOME-FORWARD -m conntrack --ctdir REPLY -j RETURN",
        "-A MULTIHOME-FORWARD -d 2001:db8:1::/64 -m devgroup --dst-group 0x1b58 -g MULTIHOME-ARRIVED",
        "-A MULTIHOME-FORWARD -m devgroup --src-group 0x1b58 -m conntrack --ctstate DNAT -g MULTIHOME-ARRIVED",
        "-A MULTIHOME-FORWARD -m devgroup --src-group 0x1b59 -m conntrack --ctstate DNAT -g MULTIHOME-ARRIVED",
        "-A MULTIHOME-FORWARD -m devgroup --dst-group 0x1b58 -j RETURN",
        "-A MULTIHOME-FORWARD -m devgroup --dst-group 0x1b59 -j RETURN",
        "-A MULTIHOME-FORWARD -g MULTIHOME-ARRIVED",
        "-A MULTIHOME-INPUT -m connmark ! --mark 0x0/0x3 -j RETURN",
        "-A MULTIHOME-INPUT -m conntrack --ctdir REPLY -j RETURN",
        "-A MULTIHOME-INPUT -g MULTIHOME-ARRIVED",
        "-A MULTIHOME-OUTPUT -m connmark --mark 0x0/0x3 -j RETURN",
        "-A MULTIHOME-OUTPUT -p ipv6-icmp -m conntrack --ctstate RELATED -j RETURN",
        "-A MULTIHOME-OUTPUT -g MULTIHOME-RESTORE",
        "-A MULTIHOME-POSTROUTING -m connmark ! --mark 0x0/0x3 -j RETURN",
        "-A MULTIHOME-POSTROUTING -m conntrack --ctdir REPLY -j RETURN",
        "-A MULTIHOME-POSTROUTING -d ff00::/8 -j RETURN",
        "-A MULTIHOME-POSTROUTING -d fe80::/10 -j RETURN",
        "-A MULTIHOME-POSTROUTING -d 2001:db8:1::/64 -m devgroup --dst-group 0x1b58 -j RETURN",
        "-A MULTIHOME-POSTROUTING -m devgroup --dst-group 0x1b58 -j CONNMARK --set-xmark 0x1/0x3",
        "-A MULTIHOME-POSTROUTING -m devgroup --dst-group 0x1b59 -j CONNMARK --set-xmark 0x2/0x3",
        "-A MULTIHOME-PREROUTING -m connmark --mark 0x0/0x3 -j RETURN",
        "-A MULTIHOME-PREROUTING -m devgroup --src-group 0x1b58 -g MULTIHOME-isp1",
        "-A MULTIHOME-PREROUTING -m devgroup --src-group 0x1b59 -g MULTIHOME-isp2",
        "-A MULTIHOME-PREROUTING -g MULTIHOME-RESTORE",
        "-A MULTIHOME-RESTORE -d 2001:db8:1::10/128 -m connmark --mark 0x1/0x3 -j CONNMARK --restore-mark --nfmask 0x3 --ctmask 0x3",
        "-A MULTIHOME-RESTORE -d 2001:db8:1::/64 -m connmark --mark 0x1/0x3 -j RETURN",
        "-A MULTIHOME-RESTORE -j CONNMARK --restore-mark --nfmask 0x3 --ctmask 0x3",
        "-A MULTIHOME-isp1 -p ipv6-icmp -m conntrack --ctstate RELATED -m connmark --mark 0x1/0x3 -j RETURN",
        "-A MULTIHOME-isp1 -s 2001:db8:1::/64 -g MULTIHOME-RESTORE",
        "-A MULTIHOME-isp1 -m connmark --mark 0x1/0x3 -j RETURN",
        "-A MULTIHOME-isp1 -m conntrack ! --ctstate DNAT -j RETURN",
        "-A MULTIHOME-isp1 -g MULTIHOME-RESTORE",
        "-A MULTIHOME-isp2 -m connmark --mark 0x2/0x3 -j RETURN",
        "-A MULTIHOME-isp2 -m conntrack ! --ctstate DNAT -j RETURN",
        "-A MULTIHOME-isp2 -g MULTIHOME-RESTORE",
        "-A MULTIHOME-POSTROUTING -d ff00::/8 -j RETURN",
        "-A MULTIHOME-POSTROUTING -d fe80::/10 -j RETURN",
        "-A MULTIHOME-POSTROUTING -s fe80::/10 -j RETURN",
        "-A MULTIHOME-POSTROUTING -m devgroup --dst-group 0x1b58 -g MULTIHOME-isp1",
        "-A MULTIHOME-POSTROUTING -m devgroup --dst-group 0x1b59 -j MASQUERADE",
        "-A MULTIHOME-isp1 -s 2001:db8:1::/64 -j RETURN",
        "-A MULTIHOME-isp1 -s 2001:db8:100::/48 -j RETURN",
        "-A MULTIHOME-isp1 -j MASQUERADE",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn an_event_that_changes_nothing_in_them_runs_no_program() {
    let server = scene();
    assert_eq!(programs(&server, &SIX1.hook(&server, UP)), [""; 0]);
    // Only the tables of IPv6 change with its lines.
    SIX2.create();
    let with_second = programs(&server, &SIX2.hook(&server, UP));
    assert!(
        !with_second.is_empty() && with_second.iter().all(|p| p.ends_with("/ip6tables-restore")),
        "{with_second:?}"
    );
    assert!(said(&server, "plan").contains("nothing to change"));
}

/// With legacy iptables each event looks by a program: two runs for IPv4, one more where there is IPv6.
#[test]
fn an_ipv4_only_machine_runs_no_program_of_ipv6() {
    use_legacy();
    let server = Server::new(LINKS);
    ISP1.create();
    let runs = |command: &Command| {
        let all = programs(&server, command);
        let v6 = all.iter().filter(|program| program.contains("ip6tables")).count();
        [all.len() - v6, v6]
    };
    let first = runs(&server.hook(UP, ISP1));
    assert!(first[0] > 2 && first[1] == 0, "{first:?}");
    assert_eq!(runs(&server.hook(UP, ISP1)), [2, 0]);
    // Somebody else's tables are no reason.
    ip6tables("-t mangle -A FORWARD -j ACCEPT");
    assert_eq!(runs(&server.hook(UP, ISP1)), [2, 0]);
    SIX1.up(&server);
    assert_eq!(runs(&SIX1.hook(&server, UP)), [2, 1]);
    assert!(said(&server, "plan").contains("nothing to change"));
}

/// What has to be true with either variant.
fn rules_come_back_and_go() {
    let server = scene();
    let whole = ours();
    ip6tables("-t mangle -I FORWARD -p tcp -j ACCEPT");
    for harm in [
        "-t mangle -F",
        "-t mangle -D MULTIHOME-POSTROUTING 2",
        "-t mangle -D PREROUTING -j MULTIHOME-PREROUTING",
        "-t mangle -I OUTPUT -j MULTIHOME-OUTPUT",
        "-t nat -F",
        "-t nat -F MULTIHOME-isp1",
        "-t nat -R MULTIHOME-isp1 1 -j RETURN",
    ] {
        ip6tables(harm);
        ok(&mut SIX1.hook(&server, UP));
        assert_eq!(ours(), whole, "{harm}");
        assert!(said(&server, "plan").contains("nothing to change"), "{harm}");
    }
    // They stay while no line has IPv6, and somebody's are left alone.
    ip6tables("-t mangle -A FORWARD -p udp -j ACCEPT");
    SIX1.lose(&server);
    assert!(ours().len() > 40, "{:#?}", ours());
    assert!(said(&server, "plan").contains("nothing to change"));
    ok(&mut ctl(&server, "flush"));
    assert_eq!(ours(), [""; 0]);
    assert!(ip6tables("-t mangle -S FORWARD").contains("-A FORWARD -p udp -j ACCEPT"));
    assert!(said(&server, "flush --dry-run").contains("nothing to take away"));
}

#[test]
fn rules_come_back_and_go_with_the_nft_variant() {
    rules_come_back_and_go();
}

#[test]
fn rules_come_back_and_go_with_the_legacy_variant() {
    use_legacy();
    rules_come_back_and_go();
}

/// Configured as off, IPv6 is nobody's.
#[test]
fn they_go_where_no_link_has_ipv6_any_more_by_the_configuration() {
    let server = scene();
    server.configure(&LINKS.replace("[[uplink]]\n", "[[uplink]]\nipv6 = \"off\"\n").replace("nat6 = \"all\"\n", ""));
    server.apply();
    assert_eq!(ours(), [""; 0]);
    assert!(said(&server, "plan").contains("nothing to change"));
}

/// Rules of ours about IPv6 in our table of nftables, and lines of them in each variant of ip6tables.
fn places() -> [bool; 3] {
    [!table().is_empty(), !saved("ip6tables-nft-save").is_empty(), !saved("ip6tables-legacy-save").is_empty()]
}

/// From one packet filter to the other, with whichever variant, and by a flush to none.
fn goes_to_nftables_and_back(iptables: [bool; 3]) {
    let server = scene();
    assert_eq!(places(), iptables);
    for _ in 0..2 {
        server.configure(&LINKS.replace("\"iptables\"", "\"nftables\""));
        ok(&mut SIX1.hook(&server, UP));
        assert_eq!(places(), [true, false, false]);
        assert!(said(&server, "plan").contains("nothing to change"));
        server.configure(LINKS);
        ok(&mut SIX1.hook(&server, UP));
        assert_eq!(places(), iptables);
        assert!(said(&server, "plan").contains("nothing to change"));
    }
    ok(&mut ctl(&server, "flush"));
    assert_eq!((places(), managed()), ([false; 3], vec![]));
}

#[test]
fn never_both_hold_them_with_the_nft_variant() {
    goes_to_nftables_and_back([false, true, false]);
}

#[test]
fn never_both_hold_them_with_the_legacy_variant() {
    use_legacy();
    goes_to_nftables_and_back([false, false, true]);
}

#[test]
fn what_another_variant_has_left_goes() {
    let server = Server::new(LINKS);
    for line in [ISP1, ISP2] {
        line.create();
    }
    SIX1.create();
    let event = || {
        ok(&mut server.hook(UP, ISP1));
        ok(&mut SIX1.hook(&server, UP));
    };
    let with_legacy = |work: &(dyn Fn() + Sync)| {
        Namespace::here().run(|| {
            use_legacy();
            work();
        });
    };
    with_legacy(&event);
    assert_eq!(places(), [false, false, true]);
    let doctor = String::from_utf8(ctl(&server, "doctor").output().unwrap().stdout).unwrap();
    assert_eq!(doctor.matches("managed chains are in legacy iptables too").count(), 1, "{doctor}");
    event();
    assert_eq!(places(), [false, true, false]);
    with_legacy(&event);
    assert_eq!(places(), [false, false, true]);
    // A flush sees them from the other side.
    ok(&mut ctl(&server, "flush"));
    assert_eq!(places(), [false; 3]);
}

/// The event of a line in IPv6 on a machine whose ip6tables-restore is this, if it has one; what it says, twice.
fn told_of_with(script: Option<&str>) -> [String; 2] {
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken");
    if let Some(script) = script {
        install_script(&format!("#!/bin/sh\n{script}\n"), &broken);
    }
    alternatives(|name| if name == "ip6tables-restore" { broken.clone() } else { variant("nft", name) });
    let server = Server::new(LINKS);
    server.up(ISP1);
    let whole = managed();
    assert!(whole.iter().any(|rule| rule.contains("--src-group")), "{whole:#?}");
    SIX1.create();
    let told = [(); 2].map(|()| {
        let output = ok(SIX1.hook(&server, UP).option("-v"));
        assert_eq!(managed(), whole);
        assert_eq!(defaults6()[0], "default via fe80::1 dev ppp0 proto 77 metric 512");
        String::from_utf8(output.stderr).unwrap()
    });
    iptables("-t mangle -F");
    server.apply();
    assert_eq!(managed(), whole);
    told
}

#[test]
fn without_ip6tables_that_is_told_of_once_and_ipv4_goes_on() {
    let [first, second] = told_of_with(None);
    assert_eq!(first.matches("no IPv6 connection is sticky").count(), 1, "{first}");
    assert!(first.contains("ip6tables-restore is in none of"), "{first}");
    assert!(!second.contains("sticky"), "{second}");
}

#[test]
fn a_kernel_without_tables_of_ip6tables_is_told_of_once_and_ipv4_goes_on() {
    let says = "/bin/cat >/dev/null\necho \"can't initialize ip6tables table\" >&2\nexit 3";
    let [first, second] = told_of_with(Some(says));
    assert_eq!(first.matches("no IPv6 connection is sticky").count(), 1, "{first}");
    assert!(first.contains("can't initialize ip6tables table"), "{first}");
    assert!(!second.contains("sticky"), "{second}");
}
