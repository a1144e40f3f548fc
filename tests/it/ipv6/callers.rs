//! What callers tell of IPv6: beside IPv4 or alone, and never at its cost.

use std::fs;
use std::process::Command;

use crate::support::ctl::*;
use crate::support::six::*;
use crate::support::*;

/// The record of a family of ppp0, if there is one.
fn record(server: &Server, family: &str) -> Option<String> {
    fs::read_to_string(server.state().join(format!("ppp0.{family}"))).ok()
}

/// Which families of ppp0 are recorded as up.
fn recorded(server: &Server) -> (bool, bool) {
    (record(server, "ipv4").is_some(), record(server, "ipv6").is_some())
}

/// The lines that a command writes, and what it has made.
fn log_of(command: &mut Command) -> Vec<String> {
    let said = String::from_utf8(ok(command.arg("-v")).stderr).unwrap();
    said.lines().filter(|line| line.contains("; links up: ")).map(str::to_owned).collect()
}

const BOTH_FAMILIES: &str = "link up isp1 --local 198.51.100.10 --gateway 198.51.100.1 --local6 2001:db8:1::10 \
                             --gateway6 fe80::1 --prefix 2001:db8:100::/56 --prefix=2001:db8:200::/56";
const VIA6: &str = "default via fe80::1 dev ppp0 proto 77 metric 512";

#[test]
fn a_call_tells_of_both_families_and_makes_one_pass() {
    let server = Server::new(ARTICLE);
    ISP1.create();
    SIX1.create();
    let log = log_of(&mut ctl(&server, BOTH_FAMILIES));
    let line = "isp1 up on ppp0, 198.51.100.10 via 198.51.100.1; isp1 up with IPv6 on ppp0, 2001:db8:1::10 via fe80::1, \
                2001:db8:100::/56, 2001:db8:200::/56; links up: isp1, with IPv6: isp1; ";
    assert!(log.len() == 1 && log[0].contains(line), "{log:?}");
    assert_eq!(defaults("main"), ["default nhid 7100 via 198.51.100.1 dev ppp0 proto 77"]);
    assert!(defaults6().contains(&VIA6.to_owned()), "{:?}", defaults6());
    for prefix in ["2001:db8:1::/64", "2001:db8:100::/56", "2001:db8:200::/56"] {
        let rule = format!("191:\tfrom {prefix} lookup 1 proto 77");
        assert!(held6().contains(&rule), "{rule}: {:#?}", held6());
    }
    assert!(said(&server, "plan").contains("nothing to change"));

    let log = log_of(&mut ctl(&server, "link down isp1"));
    let line = "isp1 down on ppp0; isp1 has no IPv6 any more on ppp0; links up: none; ";
    assert!(log.len() == 1 && log[0].contains(line), "{log:?}");
    assert_eq!(recorded(&server), (false, false));
    assert!(defaults("main").is_empty() && !defaults6().iter().any(|line| line.contains("proto 77")));
}

#[test]
fn a_call_about_one_family_leaves_the_other_as_it_is() {
    let server = Server::new(ARTICLE);
    ISP1.create();
    SIX1.create();
    said(&server, BOTH_FAMILIES);
    let (four, six) = (record(&server, "ipv4"), record(&server, "ipv6"));
    for words in ["--gateway6 fe80::9", "--local6 2001:db8:1::10 --gateway6=fe80::9", "--prefix 2001:db8:300::/56"] {
        said(&server, &format!("link up isp1 {words}"));
        assert_eq!(record(&server, "ipv4"), four, "{words}");
        assert_ne!(record(&server, "ipv6"), six, "{words}");
    }
    let six = record(&server, "ipv6");
    for words in ["--gateway 198.51.100.1", "--local 198.51.100.10", "--interface ppp0 --local=198.51.100.10"] {
        said(&server, &format!("link up isp1 {words}"));
        assert_eq!(record(&server, "ipv6"), six, "{words}");
    }
    // By the interface, as from a DHCP client's script.
    for (down, left) in [("--ipv6", (true, false)), ("--ipv4", (false, true)), ("--ipv4 --ipv6", (false, false))] {
        said(&server, BOTH_FAMILIES);
        said(&server, &format!("link down --interface ppp0 {down}"));
        assert_eq!(recorded(&server), left, "{down}");
        assert_eq!((defaults("main").is_empty(), defaults6().is_empty()), (!left.0, !left.1), "{down}");
    }
    // What has no record is not worth a word where something has.
    said(&server, "link up isp1 --gateway 198.51.100.1");
    let log = log_of(&mut ctl(&server, "link down isp1"));
    assert!(log.len() == 1 && !log[0].contains("IPv6"), "{log:?}");
    let log = log_of(&mut ctl(&server, "link down isp1"));
    assert!(log[0].contains("isp1 was not recorded as up with IPv4 on ppp0: nothing to take down; "), "{log:?}");
    let log = log_of(&mut ctl(&server, "link down isp1 --ipv6"));
    assert!(log[0].contains("isp1 was not recorded as up with IPv6 on ppp0: nothing to take down; "), "{log:?}");
}

#[test]
fn a_word_of_the_other_family_is_a_mistake_and_changes_nothing() {
    let server = Server::new(ARTICLE);
    ISP1.create();
    SIX1.create();
    said(&server, BOTH_FAMILIES);
    let before = [held(), held6()];
    let many: Vec<_> = (0..65).map(|n| format!("--prefix 2001:db8:{n:x}00::/56")).collect();
    let many = many.join(" ");
    for (words, why) in [
        ("--local6 192.0.2.1", "'--local6 <ADDRESS>': address \"192.0.2.1\" is not valid: write an IPv6 address"),
        ("--gateway6 192.0.2.1", "'--gateway6 <ADDRESS>': address \"192.0.2.1\" is not valid: write an IPv6 address"),
        ("--local fe80::1", "'--local <ADDRESS>': address \"fe80::1\" is not valid: write an IPv4 address"),
        ("--gateway fe80::1", "'--gateway <ADDRESS>': address \"fe80::1\" is not valid: write an IPv4 address"),
        ("--local6 ::", "no host on a line can have it"),
        ("--gateway6 ff02::1", "no host on a line can have it"),
        ("--gateway6 fe80::1%ppp0", "'--gateway6 <ADDRESS>'"),
        ("--prefix ::/0", "'--prefix <PREFIX>': prefix \"::/0\" is not valid: no provider routes it to one customer"),
        ("--prefix 2000::/3", "no provider routes it"),
        ("--prefix fe80::/64", "no provider routes it"),
        ("--prefix ff00::/16", "no provider routes it"),
        ("--prefix 2001:db8::1", "write an IPv6 prefix such as"),
        ("--prefix 192.0.2.0/24", "write an IPv6 prefix such as"),
        ("--prefix=--config=/x", "write an IPv6 prefix such as"),
        (&many, "65 prefixes are more than any provider delegates"),
        // Our own, given or found.
        (
            "--local6 2001:db8:9::1 --gateway6 2001:db8:9::1",
            "2001:db8:9::1 is our own address on ppp0: --gateway6 wants",
        ),
        ("--gateway6 fe80::a", "fe80::a is our own address on ppp0: --gateway6 wants the router's"),
        ("--gateway 198.51.100.10 --gateway6 fe80::1", "198.51.100.10 is our own address on ppp0: --gateway wants"),
    ] {
        let (code, error) = refused(&server, &format!("link up isp1 {words}"));
        assert_eq!((code, error.lines().count()), (Some(2), 1), "{words}: {error}");
        assert!(error.contains(why) && error.len() < 400, "{words}: {error}");
    }
    said(&server, "apply");
    assert_eq!([held(), held6()], before);
    let doubtful = ctl(&server, "link up isp1 --local6 2001:db8:7::7 -v").output().unwrap();
    let doubt = String::from_utf8(doubtful.stderr).unwrap();
    assert!(doubt.contains("2001:db8:7::7 is no address of ppp0: packets from there cannot be answered"), "{doubt}");
    // Bits behind a prefix are no mistake of a server's that would be worth its loss.
    said(&server, "link up isp1 --prefix 2001:db8:400::1/56");
    assert!(record(&server, "ipv6").unwrap().contains("prefixes = [\"2001:db8:400::/56\"]"));
}

#[test]
fn without_a_word_a_tunnel_has_the_families_of_its_interface_and_an_ethernet_ipv4() {
    let server = Server::new(ARTICLE);
    for (addresses, expected) in [
        (&["10.8.0.2/32"][..], (true, false)),
        (&["10.8.0.2/32", "fd00:8::2/64"], (true, true)),
        (&["2001:db8:8::2/64"], (false, true)),
        (&["10.8.0.2/32", "fe80::8/64"], (true, false)),
        (&[], (true, false)),
    ] {
        ip("link add tun0 type veth peer name far");
        ip("link set far up");
        ip("link set tun0 arp off addrgenmode none up");
        for address in addresses {
            ip(&format!("addr replace {address} dev tun0"));
        }
        said(&server, "link up vpn");
        let is_recorded = |family: &str| server.state().join(format!("tun0.{family}")).exists();
        assert_eq!((is_recorded("ipv4"), is_recorded("ipv6")), expected, "{addresses:?}");
        said(&server, "link down vpn");
        assert!(!is_recorded("ipv4") && !is_recorded("ipv6"));
        ip("link del tun0");
    }
    // Its router only a word tells.
    ISP1.create();
    SIX1.create();
    said(&server, "link up isp1");
    assert_eq!(recorded(&server), (true, false));
}

#[test]
fn a_broken_configuration_loses_neither_family() {
    let server = Server::new("nonsense");
    ISP1.create();
    SIX1.create();
    let words = BOTH_FAMILIES.replace("isp1", "--interface ppp0");
    let (code, error) = refused(&server, &words);
    assert_eq!(code, Some(1));
    assert!(error.contains("ppp0 is recorded as up with IPv4 and IPv6, and no more is done"), "{error}");
    server.configure(ARTICLE);
    server.apply();
    assert!(!defaults("main").is_empty() && defaults6().contains(&VIA6.to_owned()));
    server.configure("nonsense");
    let (_, error) = refused(&server, "link down --interface ppp0 --ipv6");
    assert!(error.contains("ppp0 is recorded as down with IPv6, and no more is done"), "{error}");
    assert_eq!(recorded(&server), (true, false));
    let (_, error) = refused(&server, "link down --interface ppp0");
    assert!(error.contains("ppp0 is recorded as down with IPv4 and IPv6, and no more is done"), "{error}");
    assert_eq!(recorded(&server), (false, false));
}

#[test]
fn a_link_with_a_connection_for_each_family_goes_down_with_both() {
    let server = Server::new(ARTICLE);
    for line in [ISP1, ISP2] {
        line.create();
    }
    SIX2.create();
    said(&server, "link up isp1 --interface ppp0 --gateway 198.51.100.1");
    said(&server, "link up isp1 --interface ppp1 --gateway6 fe80::2");
    assert!(defaults6().iter().any(|line| line.contains("via fe80::2 dev ppp1 proto 77")), "{:?}", defaults6());
    said(&server, "link down isp1");
    assert!(defaults("main").is_empty() && defaults6().is_empty(), "{:?}", defaults6());
}

#[test]
fn what_is_said_at_different_times_comes_together() {
    let server = Server::new(ARTICLE);
    ISP1.create();
    SIX1.create();
    let record = || record(&server, "ipv6").unwrap().split_once("[v6]\n").unwrap().1.to_owned();
    let up = |words: &str| said(&server, &format!("link up --interface=ppp0 --ipv6 {words}"));
    up("--gateway6=fe80::1");
    up("--local6=2001:db8:1::10");
    up("--prefix=2001:db8:100::/56 --prefix=2001:db8:200::/56");
    let (head, two) =
        ("local = \"2001:db8:1::10\"\ngateway = \"fe80::1\"\n", "[\"2001:db8:100::/56\", \"2001:db8:200::/56\"]");
    assert_eq!(record(), format!("{head}prefixes = {two}\n"));
    // A word that was said before takes the place of what it said, and no other.
    up("--prefix=2001:db8:300::/56");
    assert_eq!(record(), format!("{head}prefixes = [\"2001:db8:300::/56\"]\n"));
    assert!(held6().iter().any(|line| line.contains("from 2001:db8:300::/56 lookup 1")), "{:#?}", held6());
    assert!(!held6().iter().any(|line| line.contains("2001:db8:100::")), "{:#?}", held6());
    assert_eq!(recorded(&server), (false, true));

    // The same again is nothing for the log, and repairs what is missing.
    assert!(log_of(&mut ctl(&server, "link up --interface=ppp0 --ipv6 --gateway6=fe80::1")).is_empty());
    ip("-6 rule del priority 101");
    let log = log_of(&mut ctl(&server, "link up --interface=ppp0 --ipv6 --gateway6=fe80::1"));
    assert!(log.len() == 1 && log[0].contains("made: ip -6 rule add priority 101 "), "{log:?}");

    said(&server, "link down --interface=ppp0 --prefixes");
    assert_eq!(record(), head);
    assert!(!held6().iter().any(|line| line.contains("2001:db8:300::")), "{:#?}", held6());
    assert!(defaults6().contains(&VIA6.to_owned()), "{:?}", defaults6());
    // Without a prefix, or without a record, there is nothing to do.
    assert!(log_of(&mut ctl(&server, "link down --interface=ppp0 --prefixes")).is_empty());
    said(&server, "link down --interface=ppp0");
    assert!(log_of(&mut ctl(&server, "link down --interface=ppp0 --prefixes")).is_empty());
    assert_eq!(recorded(&server), (false, false));
    assert_eq!(refused(&server, "link down isp1 --prefixes --ipv4").0, Some(2));

    // What was said of an interface that is gone is not said of the next one of its name.
    up("--prefix=2001:db8:100::/56");
    ISP1.unregister();
    ISP1.create();
    SIX1.create();
    up("--gateway6=fe80::1");
    assert_eq!(record(), "gateway = \"fe80::1\"\n");
}

#[test]
fn a_broken_configuration_keeps_a_line_whose_prefix_ends() {
    let server = Server::new(ARTICLE);
    ISP1.create();
    SIX1.create();
    said(&server, BOTH_FAMILIES);
    server.configure("nonsense");
    let (_, error) = refused(&server, "link down --interface ppp0 --prefixes");
    assert!(error.contains("ppp0 is recorded as up with IPv6, and no more is done"), "{error}");
    assert!(recorded(&server) == (true, true) && !record(&server, "ipv6").unwrap().contains("prefixes"));
}
