//! What doctor says of `[check]`, and that it is quiet where all is well.

use std::fs;

use super::Watcher;
use crate::support::host::Host;
use crate::support::internet::*;
use crate::support::*;

const CHECK: &str = "\n[check]\ntargets = [\"tcp:192.0.2.1:443\", \"tcp:192.0.2.2:443\"]\n";

#[test]
fn an_mh_watch_that_does_not_run_is_trouble() {
    let host = Host::new(ARTICLE);
    assert_eq!(host.findings(), []);
    host.server.configure(&format!("{ARTICLE}{CHECK}"));
    host.server.apply();
    host.finds("trouble", "mh-watch does not run, and the configuration has [check]");
    let watcher = Watcher::settled(&host.server);
    assert_eq!(host.findings(), []);
    watcher.stop();
    host.finds("trouble", "mh-watch does not run");
}

#[test]
fn a_range_without_root_s_group_forbids_echoes() {
    // A new namespace allows nobody.
    let host = Host::new(&format!("{ARTICLE}\n[check]\n"));
    let _watcher = Watcher::settled(&host.server);
    host.finds("trouble", "net.ipv4.ping_group_range is 1 0: mh-watch may not ask by ICMP echo");
    for (range, is_allowed) in [("100 200", false), ("0 0", true), ("0 2147483647", true)] {
        sysctl("ipv4/ping_group_range", range);
        assert_eq!(host.findings().is_empty(), is_allowed, "{range}");
    }
    // Nobody is asked so.
    sysctl("ipv4/ping_group_range", "1 0");
    host.server.configure(&format!("{ARTICLE}{CHECK}"));
    host.server.apply();
    assert_eq!(host.findings(), []);
}

#[test]
fn pppd_is_to_ask_its_peer_each_second() {
    let host = Host::new(&format!("{ARTICLE}{CHECK}"));
    let _watcher = Watcher::settled(&host.server);
    let path = "etc/ppp/peers/dsl";
    let peer = |text: &str| host.write(path, &format!("ipparam isp1\n{text}"));
    for (text, part) in [
        ("", "/etc/ppp/peers/dsl (isp1) has no lcp-echo-interval and lcp-echo-failure"),
        ("lcp-echo-interval 5\nlcp-echo-failure 0\n", "/etc/ppp/peers/dsl (isp1) has no lcp-echo-interval"),
        ("lcp-echo-interval 30 lcp-echo-failure 4", "/etc/ppp/peers/dsl (isp1): pppd notices after 120 s"),
    ] {
        peer(text);
        host.finds("note", part);
        let report: serde_json::Value = serde_json::from_slice(&host.doctor(&["--json"]).stdout).unwrap();
        let mend = report["findings"][0]["mend"].as_str().unwrap();
        let mend = mend.replace("/etc/", &format!("{}/", host.at("etc").display()));
        ok(std::process::Command::new("sh").args(["-c", &mend]));
        assert_eq!(host.findings(), [], "{text}");
    }
    // As the general options have it, and as the files of this package have it.
    host.write("etc/ppp/options", "nodefaultroute\nlcp-echo-interval 1\nlcp-echo-failure 5\n");
    peer("");
    assert_eq!(host.findings(), []);
    host.write("etc/ppp/options", "nodefaultroute\n");
    host.write(path, &fs::read_to_string("etc-ppp/peers/isp1").unwrap());
    assert_eq!(host.findings(), []);
    // Somebody else's, and that of who has not asked for [check].
    host.write(path, "ipparam someone\n");
    assert_eq!(host.findings(), []);
    peer("");
    host.server.configure(ARTICLE);
    host.server.apply();
    assert_eq!(host.findings(), []);
}

#[test]
fn a_metered_line_has_a_better_one_before_it() {
    let metered = ARTICLE.replace("name      = \"isp2\"\n", "name      = \"isp2\"\nmetered = true\n");
    let host = Host::new(&metered);
    host.finds("note", "isp2 is metered, and no uplink has a better tier");
    host.server.configure(&metered.replace("metered = true", "metered = true\ntier = 2"));
    host.server.apply();
    assert_eq!(host.findings(), []);
}
