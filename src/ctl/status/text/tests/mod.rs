//! What `status` shows, word for word.

use std::path::Path;

use self::scene::{CONFIG, NOW, Server};
use super::super::facts::{HealthFacts, LedIpv6};
use super::*;
use crate::config;
use crate::ctl::detours::{self, Detour};
use crate::model::names::{Family, IfName, TableId};
use crate::model::observed::InterfaceState;
use crate::model::routing::{Action, FoundNextHop, FoundRoute, FoundRule, FoundTarget, RouteKind, Rule, Selector};
use crate::state::drain::{Drain, Level};

mod scene;

/// A drill's, for 25 s more.
fn held(force: bool) -> Drain {
    Drain { pid: 4711, until: 90 * 86400 + 25, force, v4: Some(Level::Held), v6: Some(Level::Held) }
}

#[test]
fn all_is_well() {
    let server = Server::new();
    assert_eq!(server.wide(120), include_str!("well-120.txt"));
    assert_eq!(server.wide(80), include_str!("well-80.txt"));
    assert!(server.facts().kernel.as_wanted);
}

#[test]
fn links_with_ipv6_have_a_table_of_their_own() {
    let mut server = Server::new();
    server.add_ipv6();
    assert_eq!(server.wide(120), include_str!("ipv6.txt"));
    // IPv6 of fibre ends, and its policies go another way in that family.
    let fibre = server.records.get_mut(&"fibre".parse().unwrap()).unwrap();
    fibre.v6 = None;
    server.apply();
    let shown = server.wide(120);
    assert!(!shown.contains("2001:db8:1::"), "{shown}");
    assert!(shown.contains("\nIPv6 default   cable\n"), "{shown}");
    assert!(said_of(&server, "mail").starts_with("by fibre; IPv6 by the default route, "));
    assert_eq!(server.facts().policies[0].ipv6, Some(LedIpv6 { link_ipv6: None, elsewhere_ipv6: None }));
}

#[test]
fn a_link_with_ipv6_only_is_down_and_why_is_said() {
    let mut server = Server::new();
    server.add_ipv6();
    server.records.get_mut(&"fibre".parse().unwrap()).unwrap().v4 = None;
    server.apply();
    let shown = server.wide(120);
    assert!(shown.contains("\n  fibre: ppp0 has IPv6 only\n"), "{shown}");
    assert!(shown.contains("\nfibre  up    ppp0"), "{shown}");
    server.observed.interfaces.get_mut(&"ppp0".parse().unwrap()).unwrap().addresses6.clear();
    server.apply();
    let shown = server.wide(120);
    assert!(shown.contains("\n  fibre: IPv6 only has been reported, on ppp0\n"), "{shown}");
    assert!(shown.contains("\n  fibre, IPv6: ppp0 has lost its IPv6 addresses\n"), "{shown}");
}

#[test]
fn each_trouble_has_its_words() {
    let mut server = Server::new();
    let name = |name: &str| name.parse().unwrap();
    // fibre is drained, cable has lost its carrier, lte's interface is another one, office is not up.
    server.records.drained.insert(name("fibre"), held(true));
    server.observed.interfaces.get_mut(&"eth1".parse().unwrap()).unwrap().state = InterfaceState::NoCarrier;
    server.observed.interfaces.get_mut(&"wwan0".parse().unwrap()).unwrap().device.index = 33;
    server.records.remove(&name("office"));
    assert_eq!(server.wide(80), include_str!("trouble-due.txt"));
    server.apply();
    assert_eq!(server.wide(80), include_str!("trouble.txt"));
}

/// What is said of the policy of that name.
fn said_of(server: &Server, policy: &str) -> String {
    let shown = server.wide(80);
    let line = shown.lines().find_map(|line| Some(line.split_once(policy)?.1.trim().to_owned()));
    line.unwrap_or_else(|| panic!("{policy} in {shown}"))
}

#[test]
fn a_policy_whose_rules_somebody_has_deleted_holds_nothing() {
    for up in [true, false] {
        let mut server = Server::new();
        if !up {
            for link in ["office", "fibre"] {
                server.records.remove(&link.parse().unwrap());
            }
            server.apply();
        }
        let priorities: Vec<_> = server.config.policy_priorities().collect();
        let [mail, _, work] = &priorities[..] else { panic!() };
        assert_eq!(said_of(&server, "work"), if up { "by office" } else { "refused: office is not up" });
        for (rule, policy, missing, words) in [
            (work.end - 1, 2, (3, 1), "does not hold: 1 of its 3 rules missing"),
            (work.start, 2, (3, 2), "does not hold: 2 of its 3 rules missing"),
            (mail.start, 0, (1, 1), "not in the kernel: by the default route"),
        ] {
            server.observed.rules.retain(|found| found.rule.priority != rule);
            let facts = &server.facts().policies[policy];
            assert_eq!(said_of(&server, &facts.name), words);
            assert_eq!((facts.link.as_ref(), facts.rules, facts.rules_missing), (None, missing.0, missing.1));
        }
    }
}

/// A kill switch of a user: in IPv6, and of what is bound to an address.
#[test]
fn a_kill_switch_without_one_of_its_rules_does_not_hold() {
    let local = Rule {
        priority: 0,
        family: Family::V6,
        selector: Selector::default(),
        action: Action::Lookup { table: TableId::observed(255), suppress_prefixlength: None },
    };
    let mut server = Server::new();
    server.config = config::parse(&CONFIG.replace("to = \"10.0.0.0/8\"", "uid = 4242"), Path::new("f")).unwrap();
    let apply = |server: &mut Server| {
        server.apply();
        server.observed.rules.push(FoundRule { rule: local.clone(), protocol: 2, more: None });
    };
    apply(&mut server);
    assert_eq!(said_of(&server, "work"), "by office");
    let is_ipv6 = |rule: &Rule| rule.family == Family::V6 && rule.action == Action::Unreachable;
    let is_guard = |rule: &Rule| matches!(rule.action, Action::Goto(_));
    for is_gone in [is_ipv6, is_guard] {
        server.observed.rules.retain(|found| !is_gone(&found.rule));
        assert_eq!(said_of(&server, "work"), "does not hold: 1 of its 4 rules missing");
        assert!(!server.facts().kernel.as_wanted);
        apply(&mut server);
    }
    // A kernel without IPv6 needs none of it.
    server.observed.rules.retain(|found| found.rule.family == Family::V4);
    assert_eq!(said_of(&server, "work"), "by office");
    assert_eq!(server.facts().policies[2].rules, 3);
}

#[test]
fn a_drain_that_would_leave_no_uplink_counts_for_nothing() {
    let mut server = Server::new();
    let name = |name: &str| name.parse::<crate::model::names::LinkName>().unwrap();
    let states = |server: &Server| server.facts().links.iter().map(|link| link.state).collect::<Vec<_>>();
    let drain = held(false);
    for link in ["fibre", "lte", "office"] {
        server.records.drained.insert(name(link), drain);
    }
    // cable carries.
    assert_eq!(states(&server), [Status::Held, Status::Up, Status::Held, Status::Held]);
    server.observed.interfaces.get_mut(&"eth1".parse().unwrap()).unwrap().state = InterfaceState::NoCarrier;
    assert_eq!(states(&server), [Status::Up, Status::NoCarrier, Status::Up, Status::Held]);
    server.apply();
    assert!(server.facts().kernel.as_wanted);
    // A forced one counts, and is no uplink that another drain could rely on.
    server.records.drained.insert(name("fibre"), held(true));
    assert_eq!(states(&server), [Status::Held, Status::NoCarrier, Status::Up, Status::Held]);
}

#[test]
fn a_share_is_what_the_link_carries_now() {
    let mut server = Server::new();
    let shares = |server: &Server| server.facts().links.iter().map(|l| l.share_percent).collect::<Vec<_>>();
    let rounded = |server: &Server| shares(server).into_iter().map(|share| share.map(f64::round)).collect::<Vec<_>>();
    assert_eq!(rounded(&server), [Some(67.0), Some(33.0), Some(0.0), None]);
    let weights = server.facts().links.iter().map(|l| l.weight).collect::<Vec<_>>();
    assert_eq!(weights, [Some(2), Some(1), Some(1), None]);
    // A group passes over a member whose gateway is silent; if all are, it takes the first.
    server.silent.insert((Family::V4, "eth1".parse().unwrap()));
    assert_eq!(rounded(&server), [Some(100.0), Some(0.0), Some(0.0), None]);
    assert!(server.wide(120).contains("\n  cable: its gateway 203.0.113.1 does not answer ARP; "));
    assert!(server.wide(120).contains("\nDefault route  fibre\n"), "{}", server.wide(120));
    server.silent.insert((Family::V4, "ppp0".parse().unwrap()));
    assert_eq!(rounded(&server), [Some(100.0), Some(0.0), Some(0.0), None]);
    server.silent.clear();
    // Alone in its tier.
    server.observed.interfaces.get_mut(&"eth1".parse().unwrap()).unwrap().state = InterfaceState::Down;
    server.apply();
    assert_eq!(shares(&server), [Some(100.0), None, Some(0.0), None]);
    server.records.remove(&"fibre".parse().unwrap());
    server.apply();
    assert_eq!(shares(&server), [None, None, Some(100.0), None]);
}

#[test]
fn traffic_that_others_take_is_a_problem() {
    let mut server = Server::new();
    server.ways.detours.push(Detour {
        what: "rule 50: lookup 52, as of tailscale, takes traffic to the Internet: by tailscale0".to_owned(),
        fix: "tailscale set --exit-node=".to_owned(),
        policies: vec![None],
        is_trouble: true,
    });
    let shown = server.wide(80);
    let end = "\nProblem        rule 50: lookup 52, as of tailscale, takes traffic to the\n               \
               Internet: by tailscale0; tailscale set --exit-node=\n";
    assert!(shown.ends_with(end) && !shown.contains("in sync"), "{shown}");
    assert!(!server.facts().kernel.as_wanted);
}

/// What the kernel says goes before what is there.
#[test]
fn a_policy_goes_where_the_kernel_sends_a_packet_of_it() {
    let mut server = Server::new();
    for (what, is_mains) in [("by lte: main has a route to 10.1.2.3", true), ("by lte, not by office", false)] {
        let elsewhere = detours::Elsewhere { what: what.to_owned(), is_mains, ..detours::Elsewhere::default() };
        server.ways.elsewhere.insert((2, Family::V4), elsewhere);
        assert_eq!(said_of(&server, "work"), what);
        assert_eq!(server.facts().policies[2].link, None);
        assert!(server.facts().kernel.as_wanted);
    }
}

#[test]
fn a_policy_does_not_lead_by_another_interface_in_its_links_table() {
    let mut server = Server::new();
    server.records.remove(&"office".parse().unwrap());
    server.apply();
    let table = server.config.link(&"office".parse().unwrap()).unwrap().table;
    let hop = |index| vec![FoundNextHop::new(index, None)];
    for (kind, hops) in [(RouteKind::Unicast, hop(1)), (RouteKind::Unreachable, vec![])] {
        let target = FoundTarget::Other { kind, text: String::new(), hops };
        server.observed.routes.push(FoundRoute { family: Family::V4, table, metric: 5, protocol: 3, target });
        assert_eq!(said_of(&server, "work"), "refused: office is not up");
    }
}

#[test]
fn a_foreign_default_is_shown_with_what_to_do() {
    let mut server = Server::new();
    let target = FoundTarget::Other {
        kind: RouteKind::Unicast,
        text: "via 192.168.1.1 dev eth9".to_owned(),
        hops: vec![FoundNextHop::new(9, "192.168.1.1".parse().ok())],
    };
    server.observed.routes.retain(|route| route.table != TableId::MAIN || route.metric >= 4_000_000);
    let foreign = FoundRoute { family: Family::V4, table: TableId::MAIN, metric: 0, protocol: 16, target };
    server.observed.routes.push(foreign);
    assert_eq!(server.wide(80), include_str!("foreign.txt"));
}

#[test]
fn while_watching_rates_take_the_place_of_totals() {
    let server = Server::new();
    let mut facts = server.facts();
    for link in &mut facts.links {
        link.received_bytes_per_second = Some(1_234_567.0);
        link.sent_bytes_per_second = Some(0.0);
    }
    let shown = text(&facts, Screen { width: Some(80), ..Screen::PLAIN });
    let heading = shown.lines().next().unwrap();
    assert!(heading.ends_with("SHARE       IN NOW  OUT NOW"), "{heading:?}");
    assert!(shown.lines().nth(1).unwrap().ends_with("9.88 Mbit/s  0 bit/s"), "{shown}");
}

#[test]
fn numbers_have_three_digits_and_a_unit() {
    for (n, expected) in [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9_994, "9.99 kB"),
        (9_996, "10.0 kB"),
        (99_960, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (1_234_567_890, "1.23 GB"),
        (u64::MAX, "18447 PB"),
    ] {
        assert_eq!(bytes(n), expected, "{n}");
    }
}

#[test]
fn a_time_has_its_two_largest_units() {
    for (seconds, expected) in [
        (0, "0s ago"),
        (59, "59s ago"),
        (60, "1m ago"),
        (3599, "59m ago"),
        (3600, "1h 0m ago"),
        (86399, "23h 59m ago"),
        (86400, "1d 0h ago"),
        (40 * 86400, "40d ago"),
    ] {
        assert_eq!(ago(seconds), expected);
    }
}

#[test]
fn a_clock_that_was_set_tells_no_age() {
    let mut server = Server::new();
    let age = |server: &Server| server.facts().links[0].age;
    assert_eq!(age(&server), Some(2 * 86400 + 4 * 3600 + 60));
    // Said to be up before 1970 was over, or later than now: the clock has jumped since.
    for since in [100, NOW + 100] {
        server.records.get_mut(&"fibre".parse().unwrap()).unwrap().since = since;
        assert_eq!(age(&server), None);
    }
}

#[test]
fn what_mh_watch_knows_is_beside_the_links_that_it_looks_at() {
    let mut server = Server::new();
    server.watched(&[("fibre", "good", 2, 12_345, 0), ("cable", "good", 2, 410, 3), ("lte", "good", 0, 87_000, 1)]);
    assert_eq!(server.wide(120), include_str!("watched-120.txt"));
    assert_eq!(server.wide(80), include_str!("watched-80.txt"));
    server.watched(&[
        ("fibre", "suspected", 1, 12_345, 2),
        ("cable", "unknown", 1, u64::MAX, 101),
        ("nobody", "dead", 1, 1, 1),
    ]);
    let shown = server.wide(200);
    assert!(shown.contains("\n  fibre: mh-watch suspects it: nothing is answered there, for 1s now\n"), "{shown}");
    assert!(shown.contains("\n  cable: mh-watch cannot tell whether it lives: no target of [check] has"), "{shown}");
    let facts = server.facts();
    assert_eq!((facts.links[1].health.rtt_ms, facts.links[1].health.loss_percent), (None, None));
    assert!(facts.mh_watch_runs);
    // Whatever it knows of a link that is down was so once.
    server.observed.interfaces.remove(&"ppp0".parse::<IfName>().unwrap());
    assert_eq!(server.facts().links[0].health, HealthFacts::default());
}

#[test]
fn a_link_that_mh_watch_has_drained_says_for_how_long_it_has_been_silent() {
    let mut server = Server::new();
    let drain = Drain { v4: Some(Level::Drained), v6: None, ..held(false) };
    server.records.drained.insert("fibre".parse().unwrap(), drain);
    server.apply();
    let told = "\n  fibre: drained by mh-watch (process 4711): nothing is answered there";
    assert!(server.wide(200).contains(&format!("{told}\n")));
    server.watched(&[("fibre", "dead", 1, 12_345, 50)]);
    let shown = server.wide(200);
    assert!(shown.contains(&format!("{told}, for 1s now\n")), "{shown}");
    assert!(shown.contains("  12 ms  50 %"), "{shown}");
}

#[test]
fn an_mh_watch_that_is_wanted_and_does_not_run_is_told_of() {
    let mut server = Server::new();
    assert!(server.facts().warnings.is_empty());
    server.config = config::parse(&format!("{CONFIG}[check]\n"), Path::new("f")).unwrap();
    server.apply();
    let line = "Warning        mh-watch does not run: systemctl enable --now mh-watch\n";
    assert!(server.wide(80).ends_with(line), "{}", server.wide(80));
    server.watched(&[]);
    assert!(!server.wide(80).contains("mh-watch"));
}
