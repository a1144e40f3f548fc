//! `mhctl init`: what it makes of a system, and that it never writes over a file.

use std::fs;
use std::process::Command;

use crate::support::*;
use tempfile::TempDir;

/// A system with these files.
fn system(files: &[(&str, &str)]) -> TempDir {
    let root = TempDir::new().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

/// For the real default path, under the root.
fn init(root: &TempDir) -> Command {
    let mut init = Command::new(CTL);
    init.env_clear().args(["init", "--root"]).arg(root.path());
    init
}

#[test]
fn a_peer_is_told_the_name_that_its_link_has_got() {
    let _server = Server::new("");
    let root = system(&[
        ("etc/ppp/peers/main", "plugin rp-pppoe.so eth1\nunit 0\n"),
        ("etc/ppp/peers/Main", "plugin rp-pppoe.so eth2\nunit 1\n"),
        ("etc/ppp/peers/main2", "plugin rp-pppoe.so eth3\nunit 2\n"),
    ]);
    let text = String::from_utf8(ok(&mut init(&root)).stdout).unwrap();
    for (peer, name) in [("Main", "main2"), ("main", "main3"), ("main2", "main22")] {
        let told = format!("# Add to /etc/ppp/peers/{peer}: ipparam {name}\n[[uplink]]\nname      = \"{name}\"\n");
        assert!(text.contains(&told), "{told}{text}");
    }
}

#[test]
fn what_the_system_has_becomes_a_configuration() {
    let _server = Server::new("");
    let root = system(&[
        ("etc/ppp/peers/provider", "connect \"/usr/sbin/chat -v -f /etc/chatscripts/pap -T ********\"\n"),
        ("etc/ppp/peers/isp1", "plugin rp-pppoe.so eth1\nunit 3\nipparam telekom\n"),
        ("etc/ppp/peers/isp2", "plugin rp-pppoe.so eth2\ndefaultroute\n"),
        ("etc/openvpn/client/office.conf", "client\ndev tun\nremote 203.0.113.99 1130\n"),
        ("etc/openvpn/server/road.conf", "server 10.8.0.0 255.255.255.0\ndev tun7\n"),
    ]);
    ip("link add lte0 type veth peer name lte0-far");
    ip("link set lte0-far up");
    ip("link set lte0 up");
    ip("addr add 192.0.2.10/24 dev lte0");
    ip("route add default via 192.0.2.1 dev lte0 metric 700");

    let text = String::from_utf8(ok(&mut init(&root)).stdout).unwrap();
    let links: Vec<_> = text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).collect();
    assert_eq!(
        links,
        [
            "[[uplink]]",
            "name      = \"isp1\"",
            "interface = \"ppp3\"",
            "ipparam   = \"telekom\"",
            "[[uplink]]",
            "name      = \"isp2\"",
            "interface = \"ppp0\"",
            "[[uplink]]",
            "name      = \"lte0\"",
            "interface = \"lte0\"",
            "gateway   = \"192.0.2.1\"",
            "[[tunnel]]",
            "name      = \"office\"",
            "interface = \"tun0\"",
        ]
    );
    assert!(text.contains("# Add to /etc/ppp/peers/isp2: ipparam isp2\n# Write nodefaultroute in"), "{text}");
    assert!(text.contains("# Write in /etc/openvpn/client/office.conf which device: dev tun0\n"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");

    let file = root.path().join("etc/multihome.toml");
    let dry = ok(init(&root).args(["--write", "--dry-run"]));
    assert_eq!(String::from_utf8(dry.stdout).unwrap(), text);
    assert!(!file.exists(), "a dry run touches nothing");
    let mut init = init(&root);
    ok(init.arg("--write"));
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    fs::write(&file, "mine").unwrap();
    let again = init.output().unwrap();
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8(again.stderr).unwrap().contains("is there already, and stays as it is"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

#[test]
fn a_line_that_pppd_or_openvpn_has_is_offered_once() {
    let _server = Server::new("");
    let root = system(&[
        ("etc/ppp/peers/dsl", "plugin rp-pppoe.so eth1\nifname wan0\n"),
        ("etc/openvpn/client/office.conf", "client\ndev tun0\nremote 203.0.113.99 1130\n"),
    ]);
    for (metric, device) in [(10, "wan0"), (20, "tun0"), (30, "eth7")] {
        ip(&format!("link add {device} type veth peer name {device}-far"));
        ip(&format!("link set {device} up"));
        ip(&format!("route add default dev {device} metric {metric}"));
    }
    let text = String::from_utf8(ok(&mut init(&root)).stdout).unwrap();
    let links: Vec<_> = text.lines().filter(|l| l.starts_with(['n', 'i', '['])).collect();
    assert_eq!(
        links,
        [
            "[[uplink]]",
            "name      = \"dsl\"",
            "interface = \"wan0\"",
            "[[uplink]]",
            "name      = \"eth7\"",
            "interface = \"eth7\"",
            "[[tunnel]]",
            "name      = \"office\"",
            "interface = \"tun0\"",
        ]
    );
}

#[test]
fn default_routes_of_several_metrics_are_tiers_and_those_of_one_metric_share_one() {
    let _server = Server::new("");
    for (metric, device) in [(600, "wlan0"), (100, "eth0"), (100, "eth1"), (50, "tun0"), (7000, "lte0")] {
        ip(&format!("link add {device} type veth peer name {device}-far"));
        ip(&format!("link set {device} up"));
        ip(&format!("route append default dev {device} metric {metric}"));
    }
    let root = system(&[]);
    let text = String::from_utf8(ok(&mut init(&root)).stdout).unwrap();
    let tiers = |lines: &str| {
        let words: Vec<_> = lines.lines().filter(|l| l.starts_with(['n', 't', '[']) && !l.starts_with("[[p")).collect();
        words.into_iter().map(|l| l.split(" #").next().unwrap().trim_end().to_owned()).collect::<Vec<_>>().join("|")
    };
    let link = |name: &str, tier: Option<u32>| {
        let tier = tier.map(|tier| format!("|tier      = {tier}")).unwrap_or_default();
        format!("[[uplink]]|name      = \"{name}\"{tier}")
    };
    let expected = [link("eth0", None), link("eth1", None), link("wlan0", Some(2)), link("lte0", Some(3))];
    assert_eq!(tiers(&text), expected.join("|") + "|[[tunnel]]|name      = \"tun0\"", "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}
