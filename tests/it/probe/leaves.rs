//! A probe leaves by its link, with its mark and its source, or not at all.

use multihome::watch::probe::Error;

use super::{LONG, PATIENCE, Say, Scene, serve_dns, serve_tcp};
use crate::support::filter::{feed, nft};
use crate::support::internet::sysctl;
use crate::support::{ip, until};

/// Counts what goes to the targets by each link, and what of that has the mark and the source of link 1.
fn count(source: &str, source6: &str) {
    feed(
        "nft",
        &["-f", "-"],
        &format!(
            "table inet count {{
                counter good {{ }}
                counter bad {{ }}
                chain out {{
                    type filter hook postrouting priority 0;
                    ip daddr 192.0.2.0/24 oifname a1 meta mark 2 ip saddr {source} counter name good return
                    ip6 daddr 2001:db8:f::/64 oifname a1 meta mark 2 ip6 saddr {source6} counter name good return
                    tcp flags & rst == rst return comment \"the kernel's answer to what comes for a closed socket\"
                    ip daddr 192.0.2.0/24 counter name bad
                    ip6 daddr 2001:db8:f::/64 counter name bad
                }}
            }}"
        ),
    );
}

/// Packets that were as they should be, and the others.
fn counted() -> [u64; 2] {
    ["good", "bad"].map(|name| {
        let listed = nft(&format!("list counter inet count {name}"));
        let mut words = listed.split_whitespace().skip_while(|word| *word != "packets").skip(1);
        words.next().unwrap().parse().unwrap()
    })
}

const TARGETS: [&str; 4] = ["192.0.2.1", "dns:192.0.2.53", "tcp:192.0.2.80:80", "tcp:192.0.2.80:81"];
const TARGETS6: [&str; 4] =
    ["[2001:db8:f::1]", "dns:[2001:db8:f::53]", "tcp:[2001:db8:f::80]:80", "tcp:[2001:db8:f::80]:81"];

#[test]
fn a_probe_leaves_by_its_link_with_its_mark_and_its_source() {
    let scene = Scene::new();
    for far in &scene.far {
        serve_dns(far, "192.0.2.53", "192.0.2.54", Say::Right);
        serve_dns(far, "2001:db8:f::53", "2001:db8:f::54", Say::Right);
        serve_tcp(far, "192.0.2.80", 80);
        serve_tcp(far, "2001:db8:f::80", 80);
    }
    // Not those that the kernel would choose.
    ip("addr add 10.0.1.3/24 dev a1");
    ip("addr add 2001:db8:1::3/64 dev a1 nodad preferred_lft 0");
    count("10.0.1.3", "2001:db8:1::3");
    for (source, targets) in [("10.0.1.3", TARGETS), ("2001:db8:1::3", TARGETS6)] {
        let mut prober = scene.prober(Scene::binding(1, Some(source)));
        let mut before = counted();
        for (probe, target) in (1..).zip(targets) {
            scene.asks(&mut prober, target, probe);
            let after = counted();
            assert!(after[0] > before[0] && after[1] == 0, "{target}: {after:?}");
            before = after;
        }
        // Nothing more comes: each question is answered once.
        assert_eq!(scene.answer(&mut prober, LONG), None);
    }
    // Without a source the kernel chooses one of the link.
    let mut prober = scene.prober(Scene::binding(1, None));
    nft("delete table inet count");
    count("10.0.1.2", "2001:db8:1::2");
    for (probe, target) in (1..).zip(TARGETS.iter().chain(&TARGETS6)) {
        scene.asks(&mut prober, target, probe);
    }
    assert_eq!(counted()[1], 0);
}

#[test]
fn answers_tell_which_of_several_questions_they_are_to() {
    let scene = Scene::new();
    let mut prober = scene.prober(Scene::binding(1, Some("10.0.1.2")));
    // The far end forgets the second.
    for (probe, drops) in [(7, false), (8, true), (9, false)] {
        if drops {
            scene.far[1].sysctl("ipv4/icmp_echo_ignore_all", "1");
        }
        scene.send(&mut prober, "192.0.2.1", probe).unwrap();
        scene.far[1].sysctl("ipv4/icmp_echo_ignore_all", "0");
    }
    let mut answered = [scene.answer(&mut prober, PATIENCE), scene.answer(&mut prober, PATIENCE)];
    answered.sort_unstable();
    assert_eq!(answered, [Some(7), Some(9)]);
    assert_eq!(scene.answer(&mut prober, LONG), None);
}

#[test]
fn a_link_without_a_way_is_not_asked_by_another() {
    let scene = Scene::new();
    count("10.0.1.2", "2001:db8:1::2");
    let mut prober = scene.prober(Scene::binding(1, Some("10.0.1.2")));
    let mut prober6 = scene.prober(Scene::binding(1, Some("2001:db8:1::2")));
    scene.asks(&mut prober, TARGETS[0], 1);
    scene.asks(&mut prober6, TARGETS6[0], 1);
    // Without a route the kernel asks for the target by ARP on the link itself, where nobody has it.
    scene.far[1].sysctl("ipv4/conf/b1/arp_ignore", "1");
    // Its table is empty, as when the link is down: the rule of the mark leads to main, whose default is the other's.
    ip("-4 route flush table 2");
    ip("-6 route flush table 2");
    for (target, target6) in TARGETS.iter().zip(TARGETS6) {
        scene.asks_in_vain(&mut prober, target, 2);
        scene.asks_in_vain(&mut prober6, target6, 2);
    }
    assert_eq!(counted()[1], 0);
    // The route is there, and leads nowhere.
    ip("-4 route add unreachable default table 2");
    ip("-6 route add unreachable default table 2");
    // In IPv4 the kernel does not believe that of a packet with a device.
    let error = scene.send(&mut prober6, TARGETS6[0], 3).unwrap_err().to_string();
    assert!(error.starts_with("cannot ask [2001:db8:f::1]: "), "{error}");
    for (target, target6) in TARGETS.iter().zip(TARGETS6) {
        scene.asks_in_vain(&mut prober, target, 3);
        scene.asks_in_vain(&mut prober6, target6, 3);
    }
    assert_eq!(counted()[1], 0);
    // It is back, and the same prober asks by it.
    ip("-4 route replace default via 10.0.1.1 dev a1 table 2");
    ip("-6 route del unreachable default table 2");
    ip("-6 route add default via 2001:db8:1::1 dev a1 table 2");
    scene.asks(&mut prober, TARGETS[0], 4);
    scene.asks(&mut prober6, TARGETS6[0], 4);
}

#[test]
fn an_interface_that_has_gone_or_was_made_anew_is_not_asked_by() {
    let scene = Scene::new();
    let binding = Scene::binding(1, None);
    let mut prober = scene.prober(binding.clone());
    scene.asks(&mut prober, "192.0.2.1", 1);
    ip("link del a1");
    let mut after = scene.prober(binding);
    let gone = scene.send(&mut after, "192.0.2.1", 2).unwrap_err();
    assert_eq!(gone.to_string(), "there is no interface a1 any more, or another one bears its name");
    ip("link add a1 type veth peer name c1");
    ip("link set a1 up");
    ip("-4 route add default dev a1 table 2");
    assert!(matches!(scene.send(&mut after, "192.0.2.1", 3), Err(Error::Gone(_))));
    // The socket of the old one sends nothing by the new one.
    assert!(scene.send(&mut prober, "192.0.2.1", 4).is_err());
    assert_eq!(scene.answer(&mut prober, LONG), None);
}

#[test]
fn a_group_that_may_not_ping_is_told_which_sysctl_says_so() {
    let scene = Scene::new();
    let mut prober = scene.prober(Scene::binding(1, None));
    // The kernel's default, of which root is no part either.
    sysctl("ipv4/ping_group_range", "1 0");
    for target in ["192.0.2.1", "[2001:db8:f::1]"] {
        let error = scene.send(&mut prober, target, 1).unwrap_err();
        assert!(
            matches!(error, Error::PingGroups) && error.to_string().contains("net.ipv4.ping_group_range"),
            "{error}"
        );
    }
    serve_dns(&scene.far[1], "192.0.2.53", "192.0.2.54", Say::Right);
    scene.asks(&mut prober, "dns:192.0.2.53", 2);
}

#[test]
fn a_target_is_one_connection_to_connection_tracking() {
    let scene = Scene::new();
    serve_dns(&scene.far[1], "192.0.2.53", "192.0.2.54", Say::Right);
    feed(
        "nft",
        &["-f", "-"],
        "table inet count {
            counter good { }
            counter bad { }
            chain out {
                type filter hook postrouting priority 0;
                ip daddr 192.0.2.0/24 ct state new counter name bad
                ip daddr 192.0.2.0/24 counter name good
            }
        }",
    );
    let mut prober = scene.prober(Scene::binding(1, None));
    for probe in 1..=5 {
        scene.asks(&mut prober, "192.0.2.1", probe);
        scene.asks(&mut prober, "dns:192.0.2.53", probe);
    }
    assert_eq!(counted(), [10, 2]);
}

#[test]
fn an_answer_after_a_second_may_be_to_a_repeated_question() {
    let scene = Scene::new();
    serve_tcp(&scene.far[1], "192.0.2.80", 80);
    let mut prober = scene.prober(Scene::binding(1, None));
    until("one is answered at once", || {
        scene.send(&mut prober, "tcp:192.0.2.80:80", 1).unwrap();
        scene.whole_answer(&mut prober, PATIENCE).is_some_and(|answer| !answer.is_ambiguous)
    });
    let drop = "table ip lost { chain first { type filter hook prerouting priority 0; tcp dport 80 drop; }; }";
    scene.far[1].run(|| feed("nft", &["-f", "-"], drop));
    scene.send(&mut prober, "tcp:192.0.2.80:80", 2).unwrap();
    assert_eq!(scene.answer(&mut prober, LONG), None);
    scene.far[1].run(|| nft("delete table ip lost"));
    let answer = scene.whole_answer(&mut prober, PATIENCE).unwrap();
    assert_eq!((answer.probe, answer.is_ambiguous), (2, true));
}
