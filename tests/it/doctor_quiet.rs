//! What doctor once took for trouble and is none, and what it printed to mend things and did not: each with the real
//! program or its files.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use crate::support::host::Host;
use crate::support::*;

const DROP_IN: &str = "etc/systemd/networkd.conf.d/multihome.conf";

fn sh(command: &str) {
    ok(Command::new("sh").args(["-c", command]));
}

/// Has the real nft(8) load a ruleset in place of what there is.
fn nft(ruleset: &str) {
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), ruleset.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{ruleset}");
}

/// The command of the one finding, on the tree.
fn mend(host: &Host) -> String {
    let output = host.doctor(&["--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{findings:#?}");
    findings[0]["mend"].as_str().unwrap().to_owned()
}

/// Runs it with the tree in the place of /etc.
fn mend_tree(host: &Host) {
    let etc = format!("{}/", host.at("etc").display());
    sh(&mend(host).replace("/etc/", &etc).replace("systemctl restart systemd-networkd", "true"));
}

#[test]
fn a_rule_that_compares_all_bits_is_to_leave_ours_out_since_there_are_no_others() {
    let host = Host::new(ARTICLE);
    ip("rule add not fwmark 0x51820 lookup 52 priority 50");
    assert_eq!(mend(&host), "have that rule leave multihome's bits out: fwmark 0x51820/0xfffffff8");
    ip("rule del priority 50");
    ip("rule add fwmark 0x2/0xff lookup 77 priority 5000");
    assert_eq!(mend(&host), "give each link a `mark` outside of 0xff");
    ip("rule del priority 5000");
    ip("rule add fwmark 0x2 lookup 77 priority 5000");
    assert_eq!(mend(&host), "have that rule compare another mark, without multihome's bits: under the mask 0xfffffff8");
}

#[test]
fn networkd_is_read_as_systemd_does_and_its_mend_mends_for_good() {
    let host = Host::new(ARTICLE);
    let keys = ["ManageForeignRoutingPolicyRules", "ManageForeignRoutes", "ManageForeignNextHops"];
    let all = |value: &str| format!("[Network]\n{}", keys.map(|key| format!("{key}={value}\n")).concat());
    host.write("etc/systemd/network/eth0.network", "[Match]\nName=eth0\n");
    for dir in ["usr/lib", "usr/local/lib", "run", "etc"] {
        for file in ["networkd.conf", "networkd.conf.d/10.conf"] {
            let path = format!("{dir}/systemd/{file}");
            host.write(&path, &all("no"));
            assert_eq!(host.findings(), [], "{path}");
            fs::remove_file(host.at(&path)).unwrap();
        }
    }
    // Of files of one name the strongest only; /dev/null is an empty one.
    host.write("usr/lib/systemd/networkd.conf.d/10.conf", &all("no"));
    host.write("usr/local/lib/systemd/networkd.conf.d/10.conf", "");
    host.finds("trouble", "ManageForeignRoutingPolicyRules and ManageForeignRoutes and ManageForeignNextHops on");
    fs::remove_file(host.at("usr/local/lib/systemd/networkd.conf.d/10.conf")).unwrap();
    fs::create_dir_all(host.at("etc/systemd/networkd.conf.d")).unwrap();
    symlink("/dev/null", host.at("etc/systemd/networkd.conf.d/10.conf")).unwrap();
    host.finds("trouble", "ManageForeignRoutingPolicyRules and ManageForeignRoutes and ManageForeignNextHops on");
    fs::remove_file(host.at("etc/systemd/networkd.conf.d/10.conf")).unwrap();
    // The last that is a boolean counts.
    host.write("run/systemd/networkd.conf.d/20.conf", "[Network]\nManageForeignRoutes=perhaps\n");
    assert_eq!(host.findings(), []);
    fs::remove_dir_all(host.at("usr/lib/systemd")).unwrap();

    // Whatever is there already, one mend is enough.
    for there in ["", "[Network]\nManageForeignRoutes=no\n", "[Network]\nManageForeignNextHops=no\n"] {
        host.write(DROP_IN, there);
        mend_tree(&host);
        assert_eq!(fs::read_to_string(host.at(DROP_IN)).unwrap(), all("no"), "{there}");
        assert_eq!(host.findings(), []);
    }
    host.write("etc/systemd/networkd.conf.d/zz.conf", "[Network]\nManageForeignRoutes=yes\n");
    assert_eq!(mend(&host), "take ManageForeignRoutes= out of /etc/systemd/networkd.conf.d/zz.conf");
}

#[test]
fn networkmanager_as_the_readme_has_it_is_no_trouble() {
    let host = Host::new(ARTICLE);
    let profile = |ipv4: &str| {
        host.write(
            "etc/NetworkManager/system-connections/cable.nmconnection",
            &format!("[connection]\nid=$(reboot)\ntype=ethernet\ninterface-name=ppp0\n[ipv4]\n{ipv4}\n"),
        );
    };
    // A high metric stays behind ours, and never-default makes no default route.
    for ipv4 in [
        "method=auto",
        "method=manual\naddress1=198.51.100.10/24,198.51.100.1\nroute-metric=500",
        "method=auto\nroute-metric=-1",
        "method=auto\nroute-metric=0\nnever-default=true",
        "method=auto\nnever-default=1",
        "method=disabled",
        "method=shared",
        "method=link-local",
    ] {
        profile(ipv4);
        assert_eq!(host.findings(), [], "{ipv4}");
    }
    profile("method=auto\nroute-metric=0");
    host.finds("trouble", "NetworkManager's connection \"$(reboot)\" makes a default route of metric 0 on ppp0");
    assert_eq!(mend(&host), "nmcli connection modify id '$(reboot)' ipv4.never-default yes");
    // Before ours.
    profile("method=auto");
    host.server.configure(&with_settings(ARTICLE, "metric = 200"));
    host.server.apply();
    host.finds("trouble", "makes a default route of metric 100 on ppp0");
    host.write("etc/NetworkManager/conf.d/metric.conf", "[connection]\nipv4.route-metric=300\n");
    assert_eq!(host.findings(), []);
}

#[test]
fn what_networkmanager_leaves_alone_is_no_trouble() {
    let host = Host::new("[[uplink]]\nname = 'isp1'\ninterface = 'ppp0'\ngateway = '198.51.100.1'\n");
    host.server.apply();
    fs::create_dir_all(host.at("run/NetworkManager")).unwrap();
    host.finds("note", "NetworkManager runs, and does not leave ppp0 alone");
    for (path, text) in [
        (
            "etc/NetworkManager/NetworkManager.conf",
            "[keyfile]\nunmanaged-devices=mac:02:00:00:00:00:01;interface-name:ppp*\n",
        ),
        ("usr/lib/NetworkManager/conf.d/10.conf", "[keyfile]\nunmanaged-devices=interface-name:ppp0\n"),
        ("run/NetworkManager/conf.d/10.conf", "[keyfile]\nunmanaged-devices=*,except:interface-name:eth0\n"),
        ("etc/NetworkManager/conf.d/10.conf", "[device-ppp]\nmatch-device=interface-name:ppp0\nmanaged=0\n"),
    ] {
        host.write(path, text);
        assert_eq!(host.findings(), [], "{path}");
        fs::remove_file(host.at(path)).unwrap();
    }
    // A file of the same name hides another.
    host.write("usr/lib/NetworkManager/conf.d/10.conf", "[keyfile]\nunmanaged-devices=interface-name:ppp0\n");
    host.write("etc/NetworkManager/conf.d/10.conf", "");
    host.finds("note", "does not leave ppp0 alone");
    // Debian's default: what interfaces(5) configures is ifupdown's.
    host.write(
        "etc/NetworkManager/NetworkManager.conf",
        "[main]\nplugins=ifupdown,keyfile\n[ifupdown]\nmanaged=false\n",
    );
    host.finds("note", "does not leave ppp0 alone");
    host.write("etc/network/interfaces.d/ppp0", "iface ppp0 inet static\n  address 198.51.100.10/24\n");
    assert_eq!(host.findings(), []);
}

#[test]
fn a_strict_filter_of_a_link_that_is_down_is_no_trouble() {
    let host = Host::new(ARTICLE);
    ip("link add tun0 type veth peer name tun0-far");
    fs::write("/proc/sys/net/ipv4/conf/tun0/rp_filter", "1").unwrap();
    assert_eq!(host.findings(), []);
    fs::write("/proc/sys/net/ipv4/conf/ppp1/rp_filter", "1").unwrap();
    host.finds("trouble", "the reverse path filter of ppp1 is strict");
    host.server.lose(ISP2);
    ISP2.create();
    fs::write("/proc/sys/net/ipv4/conf/ppp1/rp_filter", "1").unwrap();
    assert_eq!(host.findings(), []);
}

/// Tried with pppd 2.4.9: `nodefaultroute` takes back what stands before it, and after it `defaultroute` is an error.
#[test]
fn options_of_pppd_are_read_as_pppd_does() {
    let host = Host::new(ARTICLE);
    let peer = |options: &str, text: &str| {
        host.write("etc/ppp/options", options);
        host.write("etc/ppp/peers/dsl", &format!("ipparam isp1\n{text}"));
    };
    for (options, text) in [
        ("lock\n", "defaultroute\nnodefaultroute\n"),
        ("lock\n", "defaultroute replacedefaultroute nodefaultroute\n"),
        ("lock\n", "replacedefaultroute\n"),
        ("lock\n", "connect \"/usr/sbin/dial defaultroute\"\n"),
        ("lock# defaultroute\n", "noauth # defaultroute\n"),
    ] {
        peer(options, text);
        assert_eq!(host.findings(), [], "{text}");
    }
    peer("nodefaultroute\n", "defaultroute\n");
    host.finds("trouble", "/etc/ppp/peers/dsl has `defaultroute` after `nodefaultroute`");
    peer("lock\n", "nodefaultroute defaultroute\n");
    host.finds("trouble", "/etc/ppp/peers/dsl has `defaultroute` after `nodefaultroute`");
    // The general options are about peers that do not say otherwise.
    peer("defaultroute\n", "persist\n");
    host.finds("trouble", "/etc/ppp/options has `defaultroute`, for every peer that does not say `nodefaultroute`");
    peer("defaultroute\n", "nodefaultroute\n");
    host.write("etc/ppp/peers/umts", "ipparam isp2\nnodefaultroute\n");
    host.finds("note", "/etc/ppp/options has `defaultroute`");
}

#[test]
fn the_mend_of_pppds_options_finds_them_wherever_they_stand() {
    let host = Host::new(ARTICLE);
    host.write("etc/ppp/options", "lock\n");
    for (before, after) in [
        ("ipparam isp1 defaultroute\n", "ipparam isp1 nodefaultroute\n"),
        (
            "ipparam isp1\nlock defaultroute persist # defaultroute\n",
            "ipparam isp1\nlock nodefaultroute persist # defaultroute\n",
        ),
        ("ipparam isp1\n\tdefaultroute\treplacedefaultroute\n", "ipparam isp1\n\tnodefaultroute\tnodefaultroute\n"),
        ("ipparam isp1 \"defaultroute\"\n", "ipparam isp1 \"nodefaultroute\"\n"),
        (
            "# defaultroute\nipparam isp1 defaultroute-metric 7 defaultroute\n",
            "# defaultroute\nipparam isp1 defaultroute-metric 7 nodefaultroute\n",
        ),
    ] {
        host.write("etc/ppp/peers/dsl it's", before);
        let path = host.at("etc/ppp/peers").display().to_string();
        sh(&mend(&host).replace("/etc/ppp/peers", &path));
        assert_eq!(fs::read_to_string(host.at("etc/ppp/peers/dsl it's")).unwrap(), after);
        assert_eq!(host.findings(), [], "{before}");
    }
}

#[test]
fn translation_by_nfts_own_tables_is_seen_whatever_they_are_called() {
    let host = Host::new(&with_settings(ARTICLE, "firewall = \"none\""));
    host.server.apply();
    ip("link add lan type veth peer name lan-far");
    ip("addr add 192.168.7.1/24 dev lan");
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    assert_eq!(host.findings().len(), 2, "nothing translates");
    for family in ["ip", "inet"] {
        for (table, chain) in [("nat", "postrouting"), ("nat", "POSTROUTING"), ("mine", "post")] {
            for rule in ["oifname \"ppp*\" masquerade", "oifname { \"ppp0\", \"ppp1\" } masquerade", "jump other"] {
                nft(&format!(
                    "flush ruleset\ntable {family} {table} {{\nchain other {{\nmasquerade\n}}\nchain {chain} {{\n\
                     type nat hook postrouting priority srcnat\n{rule}\n}}\n}}\n"
                ));
                assert_eq!(host.findings(), [], "{family} {table} {chain}: {rule}");
            }
        }
    }
    nft("flush ruleset\n");
    assert_eq!(host.findings().len(), 2);
}

#[test]
fn hooks_do_not_warn_of_a_lan_that_nft_translates() {
    let server = Server::new(ARTICLE);
    ip("link add lan type veth peer name lan-far");
    ip("link set lan up");
    ip("addr add 192.168.7.1/24 dev lan");
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    let warned = || {
        ISP1.create();
        let output = ok(server.hook(UP, ISP1).env("OPTIONS", "-v"));
        server.lose(ISP1);
        String::from_utf8(output.stderr).unwrap().contains("nothing rewrites their source")
    };
    assert!(warned(), "nothing translates");
    for family in ["ip", "inet"] {
        for chain in ["postrouting", "POSTROUTING"] {
            let table = format!(
                "table {family} nat {{\nchain {chain} {{\ntype nat hook postrouting priority srcnat\n\
                                 oifname {{ \"ppp0\", \"ppp1\" }} masquerade\n}}\n}}\n"
            );
            nft(&format!("table {family} nat\ndelete table {family} nat\n{table}"));
            assert!(!warned(), "{table}");
            nft(&format!("delete table {family} nat\n"));
        }
    }
}

#[test]
fn what_the_article_left_behind_is_told_to_be_deleted() {
    let host = Host::new(ARTICLE);
    for (add, weight, part) in [
        (
            "priority 100 fwmark 0x4/0x4 lookup 3",
            "note",
            "is left over from before: multihome has the same rule itself",
        ),
        (
            "priority 101 fwmark 0x1/0x1 lookup 1",
            "note",
            "is left over from before: multihome has the same rule itself",
        ),
        ("priority 5 fwmark 0x2/0x2 lookup 2", "trouble", "is left over from before: multihome has rules of its own"),
        ("priority 5 from 198.51.100.10 lookup 1", "trouble", "uses the table of isp1"),
    ] {
        let clean = held();
        ip(&format!("rule add {add}"));
        host.finds(weight, part);
        let mend = mend(&host);
        let command = mend.split_once("then ").map_or(mend.as_str(), |(_, command)| command);
        // Of twins the first goes, which may be ours.
        for _ in 0..2 {
            if held() != clean {
                sh(&command.replace("mhctl ", &format!("{CTL} ")));
            }
        }
        assert_eq!(held(), clean, "{add}: {mend}");
        assert_eq!(host.findings(), []);
    }
    for (rule, part) in [
        ("INPUT -i ppp0 -j CONNMARK --set-mark 0x1", "multihome marks connections itself"),
        ("INPUT -i eth+ -j CONNMARK --set-mark 0x8", "multihome marks connections itself"),
        ("OUTPUT -j CONNMARK --restore-mark", "multihome marks connections itself"),
        ("OUTPUT -m mark ! --mark 0x0 -j ACCEPT", "it keeps packets with a link's mark from multihome's chain"),
        ("OUTPUT -p tcp -m tcp --dport 25 -j MARK --set-mark 0x1", "it overwrites all other bits of the mark"),
        ("FORWARD -p tcp -m tcp --dport 25 -j MARK --set-mark 0x1", "the mark steers nothing"),
    ] {
        sh(&format!("iptables -t mangle -A {rule}"));
        host.server.apply();
        host.finds("trouble", "iptables: -A ");
        let said = String::from_utf8(host.doctor(&[]).stdout).unwrap();
        assert!(said.contains(part), "{said}");
        let mend = mend(&host);
        let command = mend.split_once("delete it: ").unwrap().1.split_once(", and where").unwrap().0;
        sh(command);
        assert_eq!(host.findings(), [], "{rule}");
    }
    // docs/configuration.md: a link's bit in OUTPUT and PREROUTING is the administrator's to set.
    sh("iptables -t mangle -A OUTPUT -p tcp --dport 25 -j MARK --set-xmark 0x1/0x7");
    host.server.apply();
    assert_eq!(host.findings(), []);
}

#[test]
fn ifupdowns_gateway_beside_ours_is_found() {
    let host = Host::new(ARTICLE);
    ip("link add eth9 type veth peer name far9");
    ip("link set far9 up");
    ip("link set eth9 up");
    ip("addr add 192.0.2.10/24 dev eth9");
    // As ifup(8) does.
    let ifup = |more: &str| {
        let args = format!("route add default via 192.0.2.1{more} dev eth9 onlink");
        Command::new("ip").args(args.split(' ')).output().unwrap()
    };
    assert!(String::from_utf8(ifup("").stderr).unwrap().contains("File exists"));
    let interfaces =
        "auto lo\niface lo inet loopback\n\nallow-hotplug eth9\niface eth9 inet static\n  address 192.0.2.10/24\n";
    host.write("etc/network/interfaces", "source /etc/network/interfaces.d/*\n");
    let file = "etc/network/interfaces.d/eth9";
    host.write(file, &format!("{interfaces}  gateway 192.0.2.1\n"));
    host.finds("trouble", "/etc/network/interfaces.d/eth9 has `gateway 192.0.2.1` for eth9");
    assert!(mend(&host).starts_with("write `metric 1000` below it"));
    host.write(file, &format!("{interfaces}  gateway 192.0.2.1\n  metric 1000\n"));
    assert_eq!(host.findings(), []);
    assert!(ifup(" metric 1000").status.success());
    ip("route del default metric 1000");
    host.write(file, &format!("{interfaces}#  gateway 192.0.2.1\niface eth9 inet6 static\n  gateway fe80::1\n"));
    assert_eq!(host.findings(), []);
    host.write("etc/network/interfaces", "iface ppp0 inet static\n  gateway 198.51.100.1\n");
    assert_eq!(
        mend(&host),
        "take the line `gateway 198.51.100.1` out of /etc/network/interfaces, and write gateway = \"198.51.100.1\" \
         for isp1 in multihome.toml"
    );
}

#[test]
fn what_status_calls_due_doctor_names() {
    let host = Host::new(ARTICLE);
    ip("rule del priority 101");
    host.finds("trouble", "1 change is pending: ip rule add priority 101 fwmark 0x1/0x1 lookup 1 protocol 77");
    ip("rule del priority 102");
    host.finds("trouble", "2 changes are pending: ip rule add priority 101 fwmark 0x1/0x1 lookup 1 protocol 77, ...");
    assert!(mend(&host).starts_with(&format!("{} apply", host.server.mhctl())));
    host.server.apply();
    assert_eq!(host.findings(), []);
}
