//! The resolvers that callers tell of are in the records, and nothing that they say of them costs a link its routes.

use std::fs;

use crate::support::ctl::*;
use crate::support::six::*;
use crate::support::*;

/// The line of a record about resolvers.
fn recorded(server: &Server, name: &str) -> Option<String> {
    let record = fs::read_to_string(server.state().join(name)).unwrap();
    record.lines().find(|line| line.starts_with("resolvers")).map(str::to_owned)
}

const TWO: &str = r#"resolvers = ["192.0.2.53", "192.0.2.54"]"#;

#[test]
fn hooks_record_the_resolvers_of_pppd_and_openvpn() {
    let server = Server::new(ARTICLE);
    ISP1.create();
    ok(server.hook(UP, ISP1).env("DNS1", "192.0.2.53").env("DNS2", "192.0.2.54").env("USEPEERDNS", "1"));
    assert_eq!(recorded(&server, "ppp0.ipv4"), Some(TWO.to_owned()));
    // What is no resolver costs nothing else.
    for word in ["127.0.0.1", "", "x;reboot\n", "fe80::1"] {
        ok(server.hook(UP, ISP1).env("DNS1", word));
        assert_eq!(recorded(&server, "ppp0.ipv4"), None, "{word:?}");
        assert_eq!(defaults("main"), ["default nhid 7100 via 198.51.100.1 dev ppp0 proto 77"]);
    }
    VPN0.create();
    ip("addr add fd00:8::1000/64 dev tun0 nodad");
    let mut hook = server.openvpn(VPN0, "up");
    hook.env("ifconfig_ipv6_local", "fd00:8::1000");
    for (n, option) in
        ["DOMAIN example", "DNS 192.0.2.53", "DNS fd00:8::53", "DNS --config=/x", "DNS 192.0.2.54"].iter().enumerate()
    {
        hook.env(format!("foreign_option_{}", n + 1), format!("dhcp-option {option}"));
    }
    ok(hook.option("--strict"));
    assert_eq!(recorded(&server, "tun0.ipv4"), Some(TWO.to_owned()));
    assert_eq!(recorded(&server, "tun0.ipv6"), Some("resolvers = [\"fd00:8::53\"]".to_owned()));
}

#[test]
fn mhctl_link_takes_resolvers_of_both_families_and_passes_over_what_is_none() {
    let server = Server::new(ARTICLE);
    ISP1.create();
    SIX1.create();
    let dns = "--dns 192.0.2.53 --dns=x --dns=--config=/x --dns 2001:db8::53 --dns 192.0.2.54 --dns=127.0.0.53 --dns=";
    let up = format!("link up isp1 --local 198.51.100.10 --gateway 198.51.100.1 --local6 2001:db8:1::10 {dns} -v");
    let told = String::from_utf8(ok(&mut ctl(&server, &up)).stderr).unwrap();
    for word in ["x", "--config=/x", "127.0.0.53", ""] {
        let warning =
            format!("WARN resolver {word:?} is not valid: no host beyond a line can have it; it is passed over");
        assert!(told.contains(&warning), "{told}");
    }
    assert_eq!(recorded(&server, "ppp0.ipv4"), Some(TWO.to_owned()));
    let six = Some("resolvers = [\"2001:db8::53\"]".to_owned());
    assert_eq!(recorded(&server, "ppp0.ipv6"), six);
    // Resolvers alone tell of no family; with --ipv6 what was said of them before stays.
    said(&server, "link up isp1 --ipv6 --gateway6 fe80::1 --dns 192.0.2.1");
    assert_eq!((recorded(&server, "ppp0.ipv4"), recorded(&server, "ppp0.ipv6")), (Some(TWO.to_owned()), six));
    said(&server, "link up isp1 --ipv6 --dns 2001:db8::54");
    assert_eq!(recorded(&server, "ppp0.ipv6"), Some("resolvers = [\"2001:db8::54\"]".to_owned()));
    said(&server, "link up isp1 --local 198.51.100.10 --gateway 198.51.100.1");
    assert_eq!(recorded(&server, "ppp0.ipv4"), None);
    // A flood.
    let many: Vec<_> = (1..=200).map(|n| format!("--dns=192.0.2.{n}")).collect();
    said(&server, &format!("link up isp1 --local 198.51.100.10 --gateway 198.51.100.1 {}", many.join(" ")));
    let first: Vec<_> = (1..=8).map(|n| format!("\"192.0.2.{n}\"")).collect();
    assert_eq!(recorded(&server, "ppp0.ipv4"), Some(format!("resolvers = [{}]", first.join(", "))));
}
