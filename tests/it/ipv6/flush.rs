//! `mhctl flush` with IPv6.

use crate::support::ctl::*;
use crate::support::six::*;
use crate::support::*;

const KILL_SWITCH: &str = r#"
[[policy]]
name = "six"
to = "2001:db8:ff::/48"
via = ["isp2"]
otherwise = "unreachable"
"#;

fn server(config: &str) -> Server {
    let server = Server::new(config);
    for (line, six) in [(ISP1, SIX1), (ISP2, SIX2)] {
        server.up(line);
        six.up(&server);
    }
    server
}

#[test]
fn what_is_ours_goes_in_both_families_and_one_default_of_each_stays() {
    let server = server(&format!("{ARTICLE}{KILL_SWITCH}"));
    let dry = said(&server, "flush --dry-run");
    assert!(
        dry.contains("\nip -6 route append table 254 default metric 512 protocol 4 nexthop via fe80::1 dev ppp0"),
        "{dry}"
    );
    let sampler = Prober::start6();
    let told = String::from_utf8(ok(&mut ctl(&server, "flush -v")).stderr).unwrap();
    let seen = sampler.stop();
    assert!(seen.unreachable == 0 && seen.asked > 10, "{seen:?}");
    let opened = "\"company tunnel goes out by isp1\"";
    assert!(!told.contains(opened), "{told}");
    assert!(told.contains("policy \"six\" is refused no longer: its traffic goes by isp1\n"), "{told}");
    assert_eq!(defaults6(), ["default via fe80::1 dev ppp0 proto 4 metric 512"]);
    assert_eq!(default_route(), "default via 198.51.100.1 dev ppp0 proto 4");
    assert!(held6().iter().all(|line| !line.contains(" proto 77")), "{:#?}", held6());
    assert_eq!(said(&server, "flush --dry-run"), "# nothing to take away\n");

    // An event takes the plain default's place, and nobody is cut off meanwhile.
    let sampler = Prober::start6();
    server.up(ISP1);
    SIX1.up(&server);
    let seen = sampler.stop();
    assert_eq!(seen.unreachable, 0, "{seen:?}");
    assert!(defaults6()[0].starts_with("default via fe80::1 dev ppp0 proto 77 metric 512"), "{:#?}", defaults6());
}

#[test]
fn the_default_of_a_routers_advertisement_is_enough() {
    let server = server(ARTICLE);
    ip("-6 route add default via fe80::2 dev ppp1 proto ra metric 1024");
    ok(&mut ctl(&server, "flush"));
    assert_eq!(defaults6(), ["default via fe80::2 dev ppp1 proto 9 metric 1024"]);
    assert_eq!(said(&server, "flush --dry-run"), "# nothing to take away\n");
}

#[test]
fn what_remains_of_ipv6_goes_where_no_link_has_it_any_more() {
    let server = server(ARTICLE);
    let off = ARTICLE
        .replace("weight    = 8", "weight    = 8\nipv6 = \"off\"")
        .replace("weight    = 2", "weight    = 2\nipv6 = \"off\"");
    server.configure(&off.replace("[[tunnel]]", "[[tunnel]]\nipv6 = \"off\""));
    // As a flush leaves it that somebody kills: without rules nothing leads to the tables of links.
    ip("-6 rule flush");
    ip("-6 rule add priority 32766 lookup main");
    assert!(held6().iter().any(|line| line.contains(" table 1 ")), "{:#?}", held6());
    ok(&mut ctl(&server, "flush"));
    assert!(held6().iter().all(|line| !line.contains(" proto 77")), "{:#?}", held6());
    assert_eq!(defaults6(), ["default via fe80::1 dev ppp0 proto 4 metric 512"]);
}
