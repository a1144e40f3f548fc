//! What a hook warns of although all is as configured.

use crate::support::alternatives::use_legacy;
use crate::support::filter::iptables;
use crate::support::internet::sysctl;
use crate::support::*;

const LINKS: &str = "[[uplink]]\nname = \"isp1\"\ninterface = \"ppp0\"\n\
                     [[uplink]]\nname = \"isp2\"\ninterface = \"ppp1\"\n";

#[test]
fn a_private_network_whose_source_nobody_rewrites_is_warned_of_and_no_other() {
    warned_of(true);
}

/// An event reads the rules of `nf_tables`, and not these. Apply does.
#[test]
fn a_private_network_whose_source_legacy_iptables_rewrites_is_not_warned_of() {
    use_legacy();
    warned_of(false);
}

fn warned_of(is_read: bool) {
    let server = Server::new(LINKS);
    let warned = |line: Line| {
        let output = ok(server.hook(UP, line).option("-v"));
        String::from_utf8(output.stderr).unwrap().contains("192.168.2.0/24 is private")
    };
    ISP1.create();
    assert!(!warned(ISP1), "there is no LAN");
    ip("link add eth2 type veth peer name eth2-far");
    ip("addr add 192.168.2.1/24 dev eth2");
    let renew = || {
        ip("rule del priority 190");
        warned(ISP1)
    };
    assert!(!renew(), "nothing is forwarded");
    sysctl("ipv4/ip_forward", "1");
    assert!(renew());
    assert!(!warned(ISP1), "nothing has happened: not again");
    iptables("-t nat -A POSTROUTING -s 192.168.2.0/24 -j SNAT --to-source 198.51.100.10");
    assert!(!renew(), "the administrator rewrites it");
    iptables("-t nat -F POSTROUTING");
    assert_eq!(renew(), is_read);
    ip("rule del priority 190");
    let applied = ok(server.bare(CTL).args(["apply", "-v"])).stderr;
    assert!(String::from_utf8(applied).unwrap().contains("192.168.2.0/24 is private"));
    server.configure(&LINKS.replace("ppp0\"", "ppp0\"\nmasquerade = true"));
    assert!(!renew(), "we rewrite it");
}

#[test]
fn an_ethernet_without_a_gateway_is_warned_of_and_what_needs_none_is_not() {
    let server = Server::new(LINKS);
    ISP1.create();
    ISP2.create();
    // As of a tun, a ppp or a WireGuard device.
    ip("link set ppp1 arp off");
    let said = |args: &[&str]| String::from_utf8(ok(server.with_args(UP, args).option("-v")).stderr).unwrap();
    let warned = "isp1 has no gateway, and ppp0 is an Ethernet";
    let text = said(&["ppp0", "", "", "198.51.100.10", ""]);
    assert!(text.contains(warned), "{text}");
    assert!(!said(&["ppp0", "", "", "198.51.100.10", ""]).contains(warned), "nothing has happened: not again");
    assert!(!said(&["ppp0", "", "", "198.51.100.10", "198.51.100.1"]).contains("has no gateway"));
    let text = said(&["ppp1", "", "", "203.0.113.10", ""]);
    assert!(text.contains("isp2 up on ppp1, 203.0.113.10") && !text.contains("has no gateway"), "{text}");
}
