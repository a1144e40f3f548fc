//! What `mhctl doctor` finds of IPv6.

use std::fs;

use serde_json::Value;

use crate::support::ctl::*;
use crate::support::six::*;
use crate::support::*;

const CONFIG: &str = r#"
[settings]
firewall = "none"

[[uplink]]
name = "isp1"
interface = "ppp0"

[[uplink]]
name = "cable"
interface = "eth1"
gateway = "192.0.2.1"
"#;

fn sysctl6(key: &str, value: &str) {
    fs::write(format!("/proc/sys/net/ipv6/{key}"), value).unwrap();
}

/// Both links are up with IPv4; there is a LAN.
fn server(config: &str) -> Server {
    let server = Server::new(config);
    for (device, address) in [("eth1", "192.0.2.10/24"), ("lan", "192.168.2.1/24")] {
        ip(&format!("link add {device} type veth peer name {device}-far"));
        ip(&format!("link set {device}-far up"));
        ip(&format!("link set {device} up"));
        ip(&format!("addr add {address} dev {device}"));
    }
    ip("-6 addr add fe80::c/64 dev eth1 nodad");
    server.up(ISP1);
    server.apply();
    server
}

/// Each finding that has these words: weight, and how it is fixed.
fn found(server: &Server, words: &str) -> Vec<(String, String)> {
    let output = ctl(server, "doctor --json --root /nowhere").output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let all = report["findings"].as_array().unwrap().iter();
    all.filter(|finding| text(finding, "what").contains(words))
        .map(|finding| (text(finding, "weight"), text(finding, "mend")))
        .collect()
}

#[test]
fn a_line_whose_routers_advertisements_a_router_ignores_is_told_of() {
    let ignores = "eth1 of cable ignores its router's advertisements";
    let server = server(CONFIG);
    assert_eq!(found(&server, ignores), []);
    sysctl6("conf/all/forwarding", "1");
    let told = found(&server, ignores);
    assert_eq!(told[0].0, "note");
    assert!(told[0].1.starts_with("echo 2 > /proc/sys/net/ipv6/conf/eth1/accept_ra, "), "{told:?}");
    // Its default route is there, whoever made it.
    ip("-6 route add default via fe80::99 dev eth1 proto ra metric 1024");
    assert_eq!(found(&server, ignores), []);
    ip("-6 route del default via fe80::99 dev eth1 proto ra metric 1024");
    sysctl6("conf/eth1/accept_ra", "2");
    assert_eq!(found(&server, ignores), []);
}

#[test]
fn a_lan_with_a_prefix_of_no_link_is_told_of() {
    let server = server(CONFIG);
    ip("-6 addr add 2001:db8:5:1::1/64 dev lan nodad");
    ip("-6 addr add fd00:5::1/64 dev lan nodad");
    let words = "2001:db8:5:1::/64 of lan is a prefix of no link";
    SIX1.up(&server);
    assert_eq!(found(&server, words), [], "it is no router");
    sysctl6("conf/all/forwarding", "1");
    let told = found(&server, words);
    assert_eq!(told[0].0, "trouble");
    assert!(told[0].1.ends_with(" link up LINK --prefix=2001:db8:5:1::/64"), "{told:?}");
    assert_eq!(found(&server, "fd00:5::"), []);
    server.configure(&CONFIG.replace("interface = \"ppp0\"", "interface = \"ppp0\"\nprefixes = \"2001:db8:5::/48\""));
    assert_eq!(found(&server, words), []);
}

#[test]
fn a_lan_of_a_line_that_is_down_is_not_told_of_and_what_is_said_of_others_is_so() {
    let server = server(&CONFIG.replace("interface", "nat6 = \"none\"\ninterface"));
    sysctl6("conf/all/forwarding", "1");
    SIX1.up(&server);
    said(&server, "link up isp1 --ipv6 --prefix 2001:db8:5::/48");
    said(&server, "link up cable --interface eth1 --gateway6 fe80::d --prefix 2001:db8:6::/48");
    ip("-6 addr add 2001:db8:5:1::1/64 dev lan nodad");
    SIX1.lose(&server);
    assert_eq!(found(&server, "is a prefix of no link"), []);
    ip("-6 addr add 2001:db8:7:1::1/64 dev lan nodad");
    let told = found(&server, "2001:db8:7:1::/64 of lan is a prefix of no link");
    assert!(told[0].1.ends_with(" link up LINK --prefix=2001:db8:7:1::/64"), "{told:?}");
    let shown = ctl(&server, "doctor --root /nowhere").output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains(" leaves by any line, untranslated, and providers drop"), "{shown}");
}

#[test]
fn a_prefix_of_two_lines_is_told_of() {
    let server = server(CONFIG);
    SIX1.up(&server);
    said(&server, "link up cable --interface eth1 --gateway6 fe80::d --prefix 2001:db8:5::/56");
    assert_eq!(found(&server, "overlap"), []);
    for prefix in ["2001:db8:5::/56", "2001:db8:5::/48", "2001:db8:5:80::/60"] {
        said(&server, &format!("link up isp1 --ipv6 --prefix {prefix}"));
        let told = found(&server, &format!("{prefix} of isp1 and 2001:db8:5::/56 of cable overlap"));
        assert_eq!(told.len(), 1, "{prefix}");
        assert!(told[0].0 == "trouble" && told[0].1.ends_with(" link down cable --prefixes"), "{told:?}");
        let status = said(&server, "status");
        let line = format!("Warning        {prefix} of isp1 and 2001:db8:5::/56 of cable overlap: what comes from");
        assert!(status.contains(&line), "{status}");
    }
    said(&server, "link down isp1 --prefixes");
    assert_eq!(found(&server, "overlap"), []);
}

/// As of a provider that delegates a prefix, and gives the line itself no address.
#[test]
fn one_of_several_lines_without_an_address_of_its_provider_is_told_of() {
    let config = CONFIG.replace("interface = \"ppp0\"", "interface = \"ppp0\"\nprefixes = \"2001:db8:5::/48\"");
    let server = server(&config.replace("gateway =", "gateway6 = \"fe80::1\"\ngateway ="));
    ip("-6 addr add 2001:db8:c::10/64 dev eth1 nodad");
    let words = "ppp0 of isp1 has no global IPv6 address";
    SIX1.up(&server);
    assert_eq!(found(&server, words), []);
    ip(&format!("-6 addr del {} dev ppp0", SIX1.global));
    ip("-6 addr add fd00:5::1/64 dev ppp0 nodad");
    let told = found(&server, words);
    assert_eq!(
        told,
        [(
            "trouble".to_owned(),
            "ip -6 addr add 2001:db8:5:ffff::ffff/128 dev ppp0, at each start of the line".to_owned()
        )]
    );
    ip("-6 addr add 2001:db8:5:ffff::ffff/128 dev ppp0");
    assert_eq!(found(&server, words), []);
    // Alone it would take an address of the LAN, which its provider knows.
    ip("-6 addr del 2001:db8:5:ffff::ffff/128 dev ppp0");
    server.configure(&config);
    assert_eq!(found(&server, words), []);
}

#[test]
fn ipv6_that_is_disabled_where_it_is_wanted_is_told_of() {
    let server = server(CONFIG);
    sysctl6("conf/eth1/disable_ipv6", "1");
    let words = "IPv6 is disabled on eth1 of cable";
    assert_eq!(found(&server, words), []);
    server.configure(&CONFIG.replace("gateway =", "gateway6 = \"fe80::1\"\ngateway ="));
    let told = found(&server, words);
    assert!(told[0].1.starts_with("echo 0 > /proc/sys/net/ipv6/conf/eth1/disable_ipv6"), "{told:?}");
}

#[test]
fn policies_about_forwarded_ipv6_need_a_router() {
    let policy = "[[policy]]\nname = \"lan\"\niif = \"lan\"\nvia = [\"isp1\"]\n";
    let server = server(&format!("{CONFIG}{policy}"));
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    let words = "policy \"lan\" is about forwarded IPv6 traffic, and nothing is forwarded";
    assert_eq!(found(&server, words), [], "no link has IPv6");
    SIX1.up(&server);
    assert!(found(&server, words)[0].1.starts_with("sysctl -w net.ipv6.conf.all.forwarding=1; "));
    sysctl6("conf/all/forwarding", "1");
    assert_eq!(found(&server, "is about forwarded"), []);
}

#[test]
fn a_default_of_somebody_else_at_one_of_our_metrics_is_told_of_with_the_command_of_its_family() {
    let server = server(CONFIG);
    ip("-6 addr add fe80::d/64 dev lan nodad");
    ip("-6 route add default via fe80::77 dev lan metric 512 proto static");
    SIX1.create();
    fails(1, &mut SIX1.hook(&server, UP));
    let told = found(&server, "a foreign default route stands at metric 512");
    let delete = "ip -6 route del table 254 default metric 512 protocol 4 via fe80::77 dev lan";
    assert_eq!(told, [("trouble".to_owned(), delete.to_owned())]);
}

#[test]
fn a_policy_by_an_address_beside_temporary_ones_is_told_of() {
    let policy = "[[policy]]\nname = \"own\"\nfrom = \"2001:db8:1::10\"\nvia = [\"isp1\"]\n";
    let server = server(&format!("{CONFIG}{policy}"));
    SIX1.up(&server);
    let words = "ppp0 has temporary addresses (use_tempaddr), and policy \"own\" names its own";
    sysctl6("conf/ppp0/use_tempaddr", "0");
    assert_eq!(found(&server, words), []);
    sysctl6("conf/ppp0/use_tempaddr", "2");
    assert_eq!(found(&server, words).len(), 1);
}

#[test]
fn the_hash_policy_is_that_of_ipv6_too_once_a_link_has_it() {
    let server = server(&CONFIG.replace("firewall = \"none\"", "firewall = \"none\"\nhash-policy = 1"));
    let value = |family: &str| fs::read_to_string(format!("/proc/sys/net/{family}/fib_multipath_hash_policy")).unwrap();
    assert_eq!((value("ipv4").trim(), value("ipv6").trim()), ("1", "0"));
    SIX1.up(&server);
    assert_eq!(value("ipv6").trim(), "1");
    sysctl6("fib_multipath_hash_policy", "0");
    assert!(said(&server, "plan").contains("sysctl -w net.ipv6.fib_multipath_hash_policy=1\n"));
}
