//! Prefixes: of lines that are down, and of lines that get another.

use std::fs;
use std::process::Command;

use crate::support::ctl::*;
use crate::support::six::*;
use crate::support::strace::{CALLS, calls};
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

/// The number of a rule that refuses is that of a link's place.
#[test]
fn what_comes_from_the_prefix_of_a_live_link_is_never_refused() {
    let two = CONFIG.replace("interface", "nat6 = \"none\"\ninterface");
    let server = with_lan(&two);
    SIX2.lose(&server);
    let refused = "192:\tfrom 2001:db8:2::/64 unreachable proto 77";
    assert!(held6().contains(&refused.to_owned()), "{:#?}", held6());
    let (first, second) = two.split_at(two.rfind("[[uplink]]").unwrap());
    server.configure(&format!("{second}\n{first}"));
    server.apply();
    let of_isp1 = held6().into_iter().filter(|line| line.contains("from 2001:db8:1::/64")).collect::<Vec<_>>();
    assert_eq!(of_isp1, ["192:\tfrom 2001:db8:1::/64 lookup 2 proto 77"]);
    // What the other link had is its own now.
    server.configure(&two);
    server.apply();
    SIX1.lose(&server);
    assert!(held6().contains(&"191:\tfrom 2001:db8:1::/64 unreachable proto 77".to_owned()), "{:#?}", held6());
    ip("-6 addr add 2001:db8:1::20/64 dev ppp1 nodad");
    SIX2.up(&server);
    let refusing = held6().into_iter().filter(|line| line.contains("from 2001:db8:1::/64 unreachable")).count();
    assert_eq!(refusing, 0, "{:#?}", held6());
}

/// The prefixes that lead to the only uplink.
fn sources() -> Vec<String> {
    let own = held6().into_iter().filter(|line| line.starts_with("191:"));
    own.map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect()
}

#[test]
fn what_an_administrator_refuses_is_no_delegation() {
    let server = Server::new("[[uplink]]\nname = \"isp1\"\ninterface = \"ppp0\"\n");
    server.up(ISP1);
    SIX1.up(&server);
    let own = "2001:db8:1::/64";
    ip("-6 route add unreachable 2001:db8:100::/56");
    server.apply();
    assert_eq!(sources(), [own, "2001:db8:100::/56"]);
    for route in ["unreachable 2000::/3", "unreachable fc00::/7", "blackhole 2a00:1::/32", "prohibit 2a00:2::/32"] {
        ip(&format!("-6 route add {route}"));
    }
    server.apply();
    assert_eq!(sources(), [own, "2001:db8:100::/56"]);
    for n in 0..64 {
        ip(&format!("-6 route add unreachable 2a00:{n:x}00::/32"));
    }
    server.apply();
    assert_eq!(sources(), [own]);
}

/// The kernel takes no more than 64 KiB of a set's elements at once.
#[test]
fn an_uplink_may_have_thousands_of_prefixes() {
    let server = Server::new(&CONFIG.replace("prefixes = [\"2001:db8:100::/48\"]\n", ""));
    server.up(ISP1);
    SIX1.create();
    let batch = server.config().with_file_name("addresses");
    let add = |n: u32| format!("addr add 2001:db8:100:{:x}::1/64 dev ppp0 nodad\n", 2 * n);
    fs::write(&batch, (0..1500).map(add).collect::<String>()).unwrap();
    ok(Command::new("ip").args(["-6", "-batch"]).arg(&batch));
    SIX1.up(&server);
    assert_eq!(sources().len(), 1501);
    assert!(said(&server, "plan").contains("nothing to change"));
}

/// Whoever is on the Ethernet of a line can advertise any prefix there.
#[test]
fn a_prefix_that_a_stranger_advertises_on_one_line_stays_the_others() {
    let server = with_lan(CONFIG);
    said(&server, "link up isp2 --ipv6 --prefix 2001:db8:200::/48");
    ip("-6 addr add 2001:db8:200:5::66/64 dev ppp0 nodad");
    ip("-6 addr add 2001:db8:100:5::66/64 dev ppp1 nodad");
    server.apply();
    let sources = || {
        let mut held: Vec<_> = held6().into_iter().filter(|line| line.contains("\tfrom 2001:db8:")).collect();
        held.sort();
        held
    };
    let strangers = "192:\tfrom 2001:db8:100:5::66 lookup 2 proto 77";
    let expected = [
        "191:\tfrom 2001:db8:100::/48 lookup 1 proto 77",
        "191:\tfrom 2001:db8:1::/64 lookup 1 proto 77",
        "191:\tfrom 2001:db8:200:5::66 lookup 1 proto 77",
        strangers,
        "192:\tfrom 2001:db8:200::/48 lookup 2 proto 77",
        "192:\tfrom 2001:db8:2::/64 lookup 2 proto 77",
    ];
    assert_eq!(sources(), expected);
    // Nor does it become the other's while that is down.
    SIX1.lose(&server);
    assert_eq!(sources().into_iter().filter(|line| line.contains(":100:")).collect::<Vec<_>>(), [strangers]);
}

/// What nobody has written down is somebody else's doing, and would stay so.
#[test]
fn what_a_killed_hook_has_deprecated_is_preferred_again_when_its_line_is_back() {
    let server = with_lan(&format!("{CONFIG}[settings]\nsettle-timeout = \"0s\"\n"));
    let flush = || ip("-6 addr flush dev ppp0");
    flush();
    let calls = calls(&SIX1.hook(&server, DOWN), CALLS, &server.state().with_file_name("calls"));
    let change = calls.iter().position(|call| call.text.contains("RTM_NEWADDR")).unwrap();
    SIX1.up(&server);
    assert_eq!(deprecated(), [ADMINISTRATORS]);
    for call in &calls[change + 1..(change + 4).min(calls.len())] {
        flush();
        call.killed(&SIX1.hook(&server, DOWN)).output().unwrap();
        assert_eq!(deprecated(), [ADMINISTRATORS, "2001:db8:100:1::1/64"], "{call:?}");
        SIX1.up(&server);
        assert_eq!(deprecated(), [ADMINISTRATORS], "{call:?}");
    }
}

/// Hooks that deprecate nothing write nothing about it.
#[test]
fn nothing_is_written_where_nothing_is_deprecated() {
    let server = with_lan(&CONFIG.replace("prefixes = [\"2001:db8:100::/48\"]\n", ""));
    SIX2.lose(&server);
    SIX2.up(&server);
    assert!(!server.state().join("deprecated").exists());
}
