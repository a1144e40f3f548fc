//! What mhctl says of links with IPv6.

use serde_json::{Value, json};

use crate::support::six::*;
use crate::support::*;

const CONFIG: &str = r#"
[[uplink]]
name = "isp1"
interface = "ppp0"
weight = 8
prefixes = ["2001:db8:100::/48"]

[[uplink]]
name = "isp2"
interface = "ppp1"
weight = 2

[[policy]]
name = "mail"
proto = "tcp"
dport = 25
via = ["isp2"]

[[policy]]
name = "pages"
to = ["2001:db8:ff::/48"]
via = ["isp2", "isp1"]
"#;

fn asked(server: &Server, args: &str) -> Value {
    serde_json::from_slice(&ok(server.bare(CTL).args(args.split(' '))).stdout).unwrap()
}

#[test]
fn status_tells_of_both_families_and_its_older_keys_are_of_ipv4() {
    let server = Server::new(CONFIG);
    server.up(ISP1);
    server.up(ISP2);
    let before = asked(&server, "status --json");
    assert_eq!((&before["links"][0]["ipv6"], &before["default_routes_ipv6"]), (&Value::Null, &json!([])));
    let shown = String::from_utf8(ok(server.bare(CTL).arg("status")).stdout).unwrap();
    assert!(!shown.contains("IPv6") && !shown.contains("IPV6"), "{shown}");

    SIX1.up(&server);
    let status = asked(&server, "status --json");
    assert_eq!(status["kernel"]["as_wanted"], true);
    let ipv6 = &status["links"][0]["ipv6"];
    assert_eq!((&ipv6["state"], &ipv6["local"]), (&json!("up"), &json!("2001:db8:1::10")));
    assert_eq!((&ipv6["gateway"], &ipv6["share_percent"]), (&json!("fe80::1"), &json!(100.0)));
    assert_eq!(ipv6["prefixes"], json!(["2001:db8:1::/64", "2001:db8:100::/48"]));
    assert!(ipv6["age"].as_u64().is_some_and(|age| age < 60), "{ipv6}");
    assert_eq!(status["links"][1]["ipv6"], Value::Null);
    assert_eq!(status["links"][0]["share_percent"], 80.0);
    for key in ["state", "local", "gateway", "share_percent"] {
        assert_eq!(status["links"][0][key], before["links"][0][key], "{key}");
    }
    assert_eq!(status["default_routes"], before["default_routes"]);
    assert_eq!(
        status["default_routes_ipv6"][0]["legs"],
        json!([{"link": "isp1", "interface": "ppp0", "percent": 100.0}])
    );
    let led = |at: usize| (status["policies"][at]["link"].clone(), status["policies"][at]["link_ipv6"].clone());
    assert_eq!(led(0), (json!("isp2"), Value::Null));
    assert_eq!(led(1), (json!("isp1"), Value::Null));

    let shown = String::from_utf8(ok(server.bare(CTL).arg("status")).stdout).unwrap();
    assert!(shown.contains("\nisp1  up    ppp0    2001:db8:1::10  fe80::1  "), "{shown}");
    assert!(shown.contains("\n  isp1: prefixes 2001:db8:1::/64, 2001:db8:100::/48\n"), "{shown}");
    assert!(shown.contains("\nIPv6 default   isp1\n"), "{shown}");
    assert!(shown.contains("mail   by isp2; IPv6 by the default route, without isp2\n"), "{shown}");
    assert!(shown.contains("pages  by isp1, without isp2\n"), "{shown}");
}

#[test]
fn a_link_with_ipv6_only_is_told_of() {
    let server = Server::new(CONFIG);
    ISP1.create();
    ip("addr flush dev ppp0");
    SIX1.up(&server);
    let status = asked(&server, "status --json");
    assert_eq!(status["links"][0]["state"], "down");
    assert_eq!(status["links"][0]["reason"], "ppp0 has IPv6 only");
    assert_eq!(status["links"][0]["ipv6"]["state"], "up");
    let applied = asked(&server, "apply --json");
    assert_eq!((&applied["links_up"], &applied["links_up_ipv6"]), (&json!([]), &json!(["isp1"])));
    let told = String::from_utf8(ok(server.bare(CTL).arg("apply")).stdout).unwrap();
    assert_eq!(told, "");
}

#[test]
fn status_tells_of_an_uplink_that_has_lost_its_ipv6() {
    let refusing = CONFIG.replace("interface", "nat6 = \"none\"\ninterface");
    let server = Server::new(&refusing);
    for (line, six) in [(ISP1, SIX1), (ISP2, SIX2)] {
        server.up(line);
        six.up(&server);
    }
    let status = || String::from_utf8(ok(server.bare(CTL).arg("status")).stdout).unwrap();
    assert!(!status().contains("refused") && !status().contains("no IPv6"), "{}", status());
    SIX1.lose(&server);
    let shown = status();
    assert!(shown.contains("\nisp1  down  ppp0 "), "{shown}");
    let refused = "  isp1: what comes from 2001:db8:1::/64, 2001:db8:100::/48 is refused meanwhile (nat6 = \"none\")\n";
    assert!(shown.contains(refused), "{shown}");
    let ipv6 = &asked(&server, "status --json")["links"][0]["ipv6"];
    assert_eq!(ipv6["refused"], json!(["2001:db8:1::/64", "2001:db8:100::/48"]));
    // Where its packets go on by the other line, nothing of it is left in the kernel.
    server.configure(CONFIG);
    server.apply();
    let shown = status();
    assert!(shown.contains("\n  isp1: no IPv6 now\n") && !shown.contains("refused"), "{shown}");
    server.configure(&CONFIG.replacen("interface", "ipv6 = \"off\"\ninterface", 1));
    assert!(!status().contains("no IPv6 now"), "{}", status());
}
