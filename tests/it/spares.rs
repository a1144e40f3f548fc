//! Spares, and what others delete: what carries then, and what the next event puts back.

use std::process::Command;

use crate::support::*;

fn in_mode(mode: &str) -> String {
    with_settings(ARTICLE, &format!("nexthops = {mode:?}"))
}

#[test]
fn a_program_that_deletes_the_default_by_a_device_leaves_a_default() {
    for mode in ["objects", "multipath"] {
        apart(move || {
            let server = Server::new(&in_mode(mode));
            server.up(ISP1);
            server.up(ISP2);
            let both = held();
            for device in [ISP1.device, ISP2.device] {
                let prober = Prober::start();
                // As udhcpc's script does, until there is none.
                let mut deleted = 0;
                while Command::new("ip")
                    .args(["route", "del", "default", "dev", device])
                    .output()
                    .unwrap()
                    .status
                    .success()
                {
                    deleted += 1;
                }
                assert!((1..=2).contains(&deleted), "{mode}, {device}: {deleted}");
                server.apply();
                assert_eq!(prober.stop().unreachable, 0, "{mode}, {device}");
                assert_eq!(held(), both, "{mode}, {device}");
            }
        });
    }
}

#[test]
fn a_program_that_deletes_nexthop_objects_leaves_a_default() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    server.up(ISP2);
    let both = held();
    let prober = Prober::start();
    ip("nexthop flush proto 77");
    server.apply();
    assert_eq!(prober.stop().unreachable, 0);
    assert_eq!(held(), both);
}

#[test]
fn spares_are_in_the_order_of_tiers_and_keep_their_metrics() {
    let tiers = "[[uplink]]\nname = \"lte\"\ninterface = \"ppp0\"\nipparam = \"isp1\"\ntier = 2\n\
                 [[uplink]]\nname = \"isp2\"\ninterface = \"ppp1\"\n[settings]\nspare-metric = 4000010\n";
    let server = Server::new(tiers);
    server.up(ISP1);
    let lte = "default via 198.51.100.1 dev ppp0 proto 77 metric 4000011";
    assert_eq!(spares(), [lte]);
    server.up(ISP2);
    assert_eq!(spares(), ["default via 203.0.113.1 dev ppp1 proto 77 metric 4000010", lte]);
    server.lose(ISP2);
    assert_eq!(spares(), [lte]);
    ok(server.bare(CTL).arg("flush"));
    assert_eq!(spares(), [""; 0]);
}

#[test]
fn status_names_a_spare_only_where_it_carries() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    server.up(ISP2);
    let status = || String::from_utf8(ok(server.bare(CTL).arg("status")).stdout).unwrap();
    let text = status();
    assert!(text.contains("Default route  isp1 80 %, isp2 20 %\nPolicies"), "{text}");
    assert!(text.contains("in sync"), "{text}");
    let doctor = server.bare(CTL).arg("doctor").output().unwrap();
    assert!(!String::from_utf8(doctor.stdout).unwrap().contains("4000"), "spares are no finding");
    ip("nexthop flush proto 77");
    let text = status();
    assert!(text.contains("Default route  isp1 (a spare)\nPolicies"), "{text}");
    let plan = String::from_utf8(ok(server.bare(CTL).arg("plan")).stdout).unwrap();
    assert!(!plan.contains("metric 4000"), "{plan}");
}

#[test]
fn somebody_elses_default_where_a_spare_belongs_stays_and_is_told_of() {
    let server = Server::new(ARTICLE);
    ip("link add eth9 type veth peer name far9");
    ip("link set far9 up");
    ip("link set eth9 up");
    ip("addr add 192.168.9.2/24 dev eth9");
    ip("route add default via 192.168.9.1 dev eth9 metric 4000000");
    ISP1.create();
    let said = fails(1, server.hook(UP, ISP1).option("-v"));
    assert!(
        said.contains("metric 4000000 of table 254, where a spare belongs") && said.contains("`spare-metric`"),
        "{said}"
    );
    assert_eq!(defaults("main").len(), 2, "{:?}", held());
    server.configure(&with_settings(ARTICLE, "spare-metric = 4000100"));
    server.apply();
    assert_eq!(spares(), ["default via 198.51.100.1 dev ppp0 proto 77 metric 4000100"]);
}

#[test]
fn rules_that_somebody_has_flushed_are_back_with_the_one_for_main() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    server.up(ISP2);
    let both = held();
    ip("rule flush");
    assert!(!has_default());
    let status = ok(server.bare(CTL).args(["status", "--json"])).stdout;
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    assert_eq!(status["kernel"]["as_wanted"], false);
    let plan = String::from_utf8(ok(server.bare(CTL).arg("plan")).stdout).unwrap();
    assert!(plan.ends_with("ip rule add priority 32766 lookup 254 protocol 2\nip rule add priority 32767 lookup 253 protocol 2\nip route flush cache\n"), "{plan}");
    server.apply();
    assert!(has_default());
    assert_eq!(held(), both);
    // The kernel's own, hence nobody's to delete.
    assert!(ip("-d rule").contains("32766:\tfrom all lookup main proto kernel"), "{}", ip("-d rule"));
    ok(server.bare(CTL).arg("flush"));
    assert!(has_default() && ip("rule").contains("lookup main"));
}

#[test]
fn who_does_without_a_rule_for_main_is_left_alone() {
    for rule in
        ["from all lookup 100 priority 30000", "from all unreachable priority 32766", "from all lookup main priority 5"]
    {
        let server = Server::new(ARTICLE);
        server.up(ISP1);
        ip("rule flush");
        ip(&format!("rule add {rule}"));
        server.apply();
        assert!(!shown("rule").iter().any(|line| line.starts_with("32766:") && line.contains("lookup")), "{rule}");
    }
    // What takes only some of it, or nothing but what is better than a default, is no such rule.
    for rule in [
        "not fwmark 0x1 lookup 100 priority 30000",
        "from all lookup main suppress_prefixlength 0 priority 5",
        "from 10.0.0.0/8 lookup 100 priority 5",
    ] {
        let server = Server::new(ARTICLE);
        server.up(ISP1);
        ip("rule flush");
        ip(&format!("rule add {rule}"));
        server.apply();
        assert!(shown("rule").contains(&"32766:\tfrom all lookup 254".to_owned()), "{rule}: {:?}", shown("rule"));
    }
}
