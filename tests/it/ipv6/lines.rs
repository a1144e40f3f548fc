//! Lines that come and go, each family on its own and in any order.

use std::fs;

use crate::support::six::*;
use crate::support::*;

/// Something that a caller tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Four1,
    Four2,
    Six1,
    Six2,
}

const ALL: [Said; 4] = [Said::Four1, Said::Four2, Said::Six1, Said::Six2];

fn up(server: &Server, said: Said) {
    match said {
        Said::Four1 => drop(ok(&mut server.hook(UP, ISP1))),
        Said::Four2 => drop(ok(&mut server.hook(UP, ISP2))),
        Said::Six1 => drop(ok(&mut SIX1.hook(server, UP))),
        Said::Six2 => drop(ok(&mut SIX2.hook(server, UP))),
    }
}

/// Each order of four.
fn orders() -> Vec<[Said; 4]> {
    let mut orders = Vec::new();
    for a in ALL {
        for b in ALL {
            for c in ALL {
                let Some(d) = ALL.into_iter().find(|d| ![a, b, c].contains(d)) else { continue };
                if a != b && a != c && b != c {
                    orders.push([a, b, c, d]);
                }
            }
        }
    }
    orders
}

fn all_held() -> Vec<String> {
    // Each nexthop object of IPv4 comes with the line, and the kernel shows routes of one metric in that order.
    let mut all = [held(), held6()].concat();
    all.sort();
    all
}

#[test]
fn in_whatever_order_they_come_the_kernel_holds_the_same() {
    let mut first = None;
    assert_eq!(orders().len(), 24);
    for order in orders() {
        let held = apart(move || {
            let server = Server::new(ARTICLE);
            for (line, six) in [(ISP1, SIX1), (ISP2, SIX2)] {
                line.create();
                six.create();
            }
            for said in order {
                up(&server, said);
            }
            all_held()
        });
        // Next hops of one route in the order of their coming.
        let held: Vec<_> = held.into_iter().map(|line| sorted_hops(&line)).collect();
        assert_eq!(*first.get_or_insert_with(|| held.clone()), held, "{order:?}");
    }
}

/// The line with its next hops sorted.
fn sorted_hops(line: &str) -> String {
    let mut parts: Vec<_> = line.split(" nexthop ").collect();
    parts[1..].sort_unstable();
    parts.join(" nexthop ")
}

#[test]
fn ipv6_goes_alone_and_its_line_stays() {
    let server = Server::new(ARTICLE);
    for (line, six) in [(ISP1, SIX1), (ISP2, SIX2)] {
        server.up(line);
        six.up(&server);
    }
    let four = held();
    SIX1.lose(&server);
    assert_eq!(held(), four);
    let left =
        ["default via fe80::2 dev ppp1 proto 77 metric 512", "default via fe80::2 dev ppp1 proto 77 metric 4000001"];
    assert_eq!(defaults6(), left);
    let table = |n| ip(&format!("-6 route show table {n}"));
    assert!(!held6().iter().any(|line| line.contains(" table 1 ") || line.starts_with("191:")), "{}", table(1));
}

#[test]
fn the_end_of_a_device_takes_its_next_hops_only_and_the_hooks_clean_up() {
    let server = Server::new(ARTICLE);
    for (line, six) in [(ISP1, SIX1), (ISP2, SIX2)] {
        server.up(line);
        six.up(&server);
    }
    ISP1.unregister();
    // The kernel's own doing, before any hook.
    assert!(defaults6()[0].starts_with("default via fe80::2 dev ppp1 proto 77 metric 512"), "{:#?}", defaults6());
    finish(start(&mut SIX1.hook(&server, DOWN)));
    finish(server.down(ISP1));
    let plan = ok(server.bare(CTL).arg("plan"));
    assert_eq!(String::from_utf8_lossy(&plan.stdout), "# nothing to change\n");
    server.up(ISP1);
    SIX1.up(&server);
    assert!(defaults6()[0].contains("weight 8"), "{:#?}", defaults6());
}

#[test]
fn a_weight_that_changes_changes_its_next_hop() {
    let server = Server::new(ARTICLE);
    for (line, six) in [(ISP1, SIX1), (ISP2, SIX2)] {
        server.up(line);
        six.up(&server);
    }
    server.configure(&ARTICLE.replace("weight    = 2", "weight    = 5"));
    server.apply();
    assert!(defaults6()[0].contains("nexthop via fe80::2 dev ppp1 weight 5"), "{:#?}", defaults6());
    assert!(defaults6()[0].contains("nexthop via fe80::1 dev ppp0 weight 8"), "{:#?}", defaults6());
}

/// pppd was killed and told nobody; the next one's IPV6CP is faster than its IPCP.
#[test]
fn ipv6_up_comes_before_ip_up_although_the_last_session_never_went_down() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    SIX1.up(&server);
    ISP1.unregister();
    ISP1.create();
    let again = Six { line: Line { pid: 4001, ..ISP1 }, ..SIX1 };
    again.up(&server);
    assert_eq!(
        defaults6(),
        ["default via fe80::1 dev ppp0 proto 77 metric 512", "default via fe80::1 dev ppp0 proto 77 metric 4000000"]
    );
    assert_eq!(defaults("main"), Vec::<String>::new());
    ok(&mut server.hook(UP, again.line));
    assert_eq!(defaults("main").len(), 1);
}

#[test]
fn one_line_may_have_ipv6_only_and_the_other_ipv4_only() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    ISP2.create();
    SIX2.up(&server);
    assert_eq!(
        defaults6(),
        ["default via fe80::2 dev ppp1 proto 77 metric 512", "default via fe80::2 dev ppp1 proto 77 metric 4000001"]
    );
    assert_eq!(defaults("main"), ["default nhid 7100 via 198.51.100.1 dev ppp0 proto 77"]);
}

/// Lines come and go, one of the two always being there, and so does each family.
#[test]
fn there_is_always_a_way_in_ipv6_while_one_line_is_up() {
    let server = Server::new(ARTICLE);
    for (line, six) in [(ISP1, SIX1), (ISP2, SIX2)] {
        server.up(line);
        six.up(&server);
    }
    let prober = Prober::start6();
    for _ in 0..5 {
        for (line, six) in [(ISP1, SIX1), (ISP2, SIX2)] {
            six.lose(&server);
            server.lose(line);
            server.up(line);
            six.up(&server);
            // The device goes first, and its hooks come late.
            line.unregister();
            finish(start(&mut six.hook(&server, DOWN)));
            finish(server.down(line));
            line.create();
            six.up(&server);
            ok(&mut server.hook(UP, line));
        }
        server.configure(&ARTICLE.replace("weight    = 2", "weight    = 7\ntier = 2"));
        server.apply();
        server.configure(ARTICLE);
        server.apply();
    }
    let samples = prober.stop();
    assert!(samples.asked > 100, "{samples:?}");
    assert_eq!(samples.unreachable, 0, "{samples:?}");
}

/// Nobody tells of IPv6 on an Ethernet with router advertisements; the kernel knows.
#[test]
fn a_line_whose_router_advertises_itself_has_ipv6_while_it_has_ipv4() {
    let server = Server::new(ARTICLE);
    ISP1.create();
    SIX1.create();
    ip("-6 route add default via fe80::1 dev ppp0 proto ra metric 1024");
    ok(&mut server.hook(UP, ISP1));
    assert_eq!(defaults6()[0], "default via fe80::1 dev ppp0 proto 77 metric 512");
    assert!(held6().contains(&"191:\tfrom 2001:db8:1::/64 lookup 1 proto 77".to_owned()), "{:#?}", held6());
    // The router says that it is none any more.
    ip("-6 route del default via fe80::1 dev ppp0 proto ra metric 1024");
    server.apply();
    assert_eq!(defaults6(), Vec::<String>::new());
}

#[test]
fn a_static_link_needs_no_caller() {
    let config = ARTICLE.replace("weight    = 2", "weight    = 2\ngateway6 = \"fe80::2\"");
    let server = Server::new(&config);
    ISP2.create();
    SIX2.create();
    server.apply();
    assert_eq!(defaults6()[0], "default via fe80::2 dev ppp1 proto 77 metric 512");
    assert_eq!(defaults("main"), Vec::<String>::new());
}

#[test]
fn a_record_of_before_ipv6_was_routed_is_read() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    SIX1.up(&server);
    let file = server.state().join("ppp0.ipv6");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("gateway = \"fe80::1\""), "{text}");
    fs::write(&file, text.replace("gateway = ", "remote = ")).unwrap();
    let plan = ok(server.bare(CTL).arg("plan"));
    assert_eq!(String::from_utf8_lossy(&plan.stdout), "# nothing to change\n");
}
