//! Gateways that do not answer ARP: the kernel passes them over where it can, and `why` and `status` say so.

use crate::support::ctl::{json, said};
use crate::support::*;

const CONFIG: &str = "[[uplink]]\nname = 'isp1'\ninterface = 'eth1'\ngateway = '192.0.2.1'\nweight = 8\n\
                      [[uplink]]\nname = 'isp2'\ninterface = 'eth2'\ngateway = '203.0.113.1'\nweight = 2\n\
                      [[policy]]\nname = 'mail'\nto = '198.18.0.1'\nvia = ['isp1']\n";

fn server(config: &str) -> Server {
    let server = Server::new(config);
    for (device, address, gateway) in [("eth1", "192.0.2.9/24", "192.0.2.1"), ("eth2", "203.0.113.9/24", "203.0.113.1")]
    {
        ip(&format!("link add {device} type veth peer name {device}-far"));
        ip(&format!("link set {device}-far up"));
        ip(&format!("link set {device} up"));
        ip(&format!("addr add {address} dev {device}"));
        ip(&format!("neigh replace {gateway} lladdr 02:00:00:00:00:01 nud permanent dev {device}"));
    }
    server.apply();
    server
}

/// As after some packets to a router that is switched off.
fn falls_silent(device: &str, gateway: &str) {
    ip(&format!("neigh replace {gateway} lladdr 02:00:00:00:00:01 nud failed dev {device}"));
}

/// The devices that the kernel chooses for many connections.
fn chosen(server: &Server) -> Vec<String> {
    let mut chosen: Vec<_> = (1..60)
        .map(|n| json(server, &format!("why 8.8.8.{n} --json"))["kernel"]["interface"].as_str().unwrap().to_owned())
        .collect();
    chosen.sort();
    chosen.dedup();
    chosen
}

#[test]
fn a_member_whose_gateway_is_silent_is_passed_over_and_why_says_so() {
    let server = server(CONFIG);
    assert_eq!(chosen(&server), ["eth1", "eth2"]);
    falls_silent("eth1", "192.0.2.1");
    assert_eq!(chosen(&server), ["eth2"], "the kernel");
    let told = said(&server, "why 8.8.8.8");
    for part in [
        "              0 %  isp1 (eth1) via 192.0.2.1\n",
        "            100 %  isp2 (eth2) via 203.0.113.1\n",
        "But         gateway 192.0.2.1 does not answer ARP:\n            the kernel passes isp1 over\n",
        "The kernel  says the same, and picks isp2 (eth2)",
    ] {
        assert!(told.contains(part), "{part}{told}");
    }
    let report = json(&server, "why 8.8.8.8 --json");
    assert_eq!(report["silent_gateways"][0]["gateway"], "192.0.2.1");
    assert_eq!(report["silent_passed_over"], true);
    // A policy's table has no other.
    let told = said(&server, "why 198.18.0.1");
    assert!(told.contains("does not answer ARP:\n            nothing gets through by isp1\n"), "{told}");

    let status = json(&server, "status --json");
    assert_eq!(status["links"][0]["share_percent"], 0.0);
    assert_eq!((&status["links"][0]["weight"], &status["links"][1]["share_percent"]), (&8.into(), &100.0.into()));
    assert!(said(&server, "status").contains("  isp1: its gateway 192.0.2.1 does not answer ARP"));
    assert!(said(&server, "status").contains("\nDefault route  isp2\n"), "{}", said(&server, "status"));
    // None is left to take over: the kernel takes the first.
    falls_silent("eth2", "203.0.113.1");
    assert_eq!(chosen(&server), ["eth1"], "the kernel");
    let told = said(&server, "why 8.8.8.8");
    assert!(told.contains("100 %  isp1") && told.contains("nothing gets through by isp2"), "{told}");
}

#[test]
fn a_multipath_route_goes_on_into_a_silent_gateway_unless_it_is_told_not_to() {
    let server = server(&with_settings(CONFIG, "nexthops = \"multipath\""));
    falls_silent("eth1", "192.0.2.1");
    assert_eq!(chosen(&server), ["eth1", "eth2"]);
    let told = said(&server, "why 8.8.8.8");
    assert!(told.contains(" 80 %  isp1") && told.contains("nothing gets through by isp1"), "{told}");
    std::fs::write("/proc/sys/net/ipv4/fib_multipath_use_neigh", "1").unwrap();
    assert_eq!(chosen(&server), ["eth2"]);
    let told = said(&server, "why 8.8.8.8");
    assert!(told.contains("  0 %  isp1") && told.contains("the kernel passes isp1 over"), "{told}");
}

#[test]
fn of_two_defaults_of_one_metric_the_kernel_takes_the_one_that_answers() {
    let server = server(CONFIG);
    ip("route del default");
    ip("route add default via 192.0.2.1 dev eth1");
    ip("route append default via 203.0.113.1 dev eth2");
    falls_silent("eth1", "192.0.2.1");
    // It tries the others in turn, by its own counting.
    for _ in 0..4 {
        let told = said(&server, "why 8.8.8.8");
        assert!(told.contains("gateway 192.0.2.1 does not answer ARP"), "{told}");
        if told.contains("The kernel  therefore takes the next: it leaves by eth2 via 203.0.113.1") {
            assert!(told.contains("the kernel passes isp1 over"), "{told}");
            return;
        }
    }
    panic!("the kernel has not taken the other: {}", said(&server, "why 8.8.8.8"));
}
