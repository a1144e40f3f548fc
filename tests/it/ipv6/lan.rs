//! Prefixes: of lines that are down, and of lines that get another.

use crate::support::six::*;
use crate::support::*;

const CONFIG: &str = r#"
[[uplink]]
name = "isp1"
interface = "ppp0"
prefixes = ["2001:db8:100::/48"]

[[uplink]]
name = "isp2"
interface = "ppp1"
"#;

fn with_lan(config: &str) -> Server {
    let server = Server::new(config);
    ip("link add lan0 type veth peer name lan0-far");
    ip("link set lan0 up");
    ip("-6 addr add 2001:db8:100:1::1/64 dev lan0 nodad");
    ip("-6 addr add 2001:db8:100:2::1/64 dev lan0 nodad preferred_lft 0");
    ip("-6 addr add fd00::1/64 dev lan0 nodad");
    server.up(ISP1);
    SIX1.up(&server);
    server.up(ISP2);
    SIX2.up(&server);
    server
}

/// The deprecated addresses of the LAN.
fn deprecated() -> Vec<String> {
    let shown = shown("-6 -o addr show dev lan0 deprecated");
    shown.iter().filter_map(|line| Some(line.split_whitespace().nth(3)?.to_owned())).collect()
}

const ADMINISTRATORS: &str = "2001:db8:100:2::1/64";

#[test]
fn addresses_of_a_dead_prefix_are_deprecated_until_its_line_is_back() {
    let server = with_lan(CONFIG);
    assert_eq!(deprecated(), [ADMINISTRATORS]);
    SIX1.lose(&server);
    assert_eq!(deprecated(), [ADMINISTRATORS, "2001:db8:100:1::1/64"]);
    server.apply();
    SIX1.up(&server);
    assert_eq!(deprecated(), [ADMINISTRATORS]);
    let shown = ip("-6 addr show dev lan0 to 2001:db8:100:1::1");
    assert!(shown.contains("valid_lft forever preferred_lft forever"), "{shown}");
}

#[test]
fn what_ends_by_itself_is_preferred_no_longer_than_it_is_valid() {
    let server = with_lan(CONFIG);
    ip("-6 addr change 2001:db8:100:1::1/64 dev lan0 valid_lft 5000 preferred_lft 3000");
    SIX1.lose(&server);
    assert!(deprecated().contains(&"2001:db8:100:1::1/64".to_owned()));
    SIX1.up(&server);
    let shown = ip("-6 addr show dev lan0 to 2001:db8:100:1::1");
    assert!(!shown.contains("forever"), "{shown}");
    assert_eq!(deprecated(), [ADMINISTRATORS]);
}

/// As a DHCPv6 client does at each renewal of any line.
#[test]
fn what_somebody_makes_preferred_while_its_line_is_down_is_deprecated_again() {
    // Only the interface has the prefix: with its rule nothing in the kernel tells any more whose it was.
    let server = with_lan(&CONFIG.replace("prefixes = [\"2001:db8:100::/48\"]\n", ""));
    ip("-6 addr add 2001:db8:1::77/128 dev lan0 nodad");
    let own = "2001:db8:1::77/128".to_owned();
    let renew = || ip("-6 addr change 2001:db8:1::77/128 dev lan0 valid_lft 600 preferred_lft 500");
    SIX1.lose(&server);
    assert!(deprecated().contains(&own), "{:?}", deprecated());
    for _ in 0..2 {
        renew();
        server.apply();
        assert!(deprecated().contains(&own), "{:?}", deprecated());
    }
    // What it has made preferred before the line is back is its own again: we take back what we have done, no more.
    renew();
    SIX1.up(&server);
    ip("-6 addr change 2001:db8:1::77/128 dev lan0 valid_lft 600 preferred_lft 0");
    server.apply();
    assert!(deprecated().contains(&own), "{:?}", deprecated());
}

/// Of a prefix that only the interface has, the kernel's own rules tell when it is gone.
#[test]
fn a_prefix_that_changes_takes_its_rules_and_its_addresses_along() {
    let server = with_lan(CONFIG);
    ip("-6 addr add 2001:db8:2::77/128 dev lan0 nodad");
    ip("-6 addr del 2001:db8:2::10/64 dev ppp1");
    ip("-6 addr add 2001:db8:22::10/64 dev ppp1 nodad");
    server.apply();
    let rules: Vec<_> = held6().into_iter().filter(|line| line.starts_with("192:")).collect();
    assert_eq!(rules, ["192:\tfrom 2001:db8:22::/64 lookup 2 proto 77"]);
    assert!(deprecated().contains(&"2001:db8:2::77/128".to_owned()), "{:?}", deprecated());
}

#[test]
fn without_translation_what_comes_from_a_dead_prefix_is_refused() {
    let server = with_lan(&CONFIG.replace("ppp0\"", "ppp0\"\nnat6 = \"none\""));
    let of_isp1 = || held6().into_iter().filter(|line| line.starts_with("191:")).collect::<Vec<_>>();
    let leading = ["191:\tfrom 2001:db8:1::/64 lookup 1 proto 77", "191:\tfrom 2001:db8:100::/48 lookup 1 proto 77"];
    assert_eq!(of_isp1(), leading);
    ISP1.hang_up();
    SIX1.lose(&server);
    let refusing =
        ["191:\tfrom 2001:db8:100::/48 unreachable proto 77", "191:\tfrom 2001:db8:1::/64 unreachable proto 77"];
    let mut held = of_isp1();
    held.sort();
    assert_eq!(held, refusing);
    // It stays so whatever else happens.
    server.apply();
    SIX2.lose(&server);
    let mut held = of_isp1();
    held.sort();
    assert_eq!(held, refusing);
    ip("link set ppp0 up");
    SIX1.up(&server);
    assert_eq!(of_isp1(), leading);
}
