//! `mhctl doctor` over scratch trees and namespaces: each thing that bites is found, and a system
//! that is right is left in peace.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::support::host::Host;
use crate::support::*;

#[test]
fn a_system_that_is_right_is_left_in_peace() {
    let host = Host::new(ARTICLE);
    assert_eq!(host.findings(), []);
    let output = host.doctor(&[]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "no problem found\n");
}

#[test]
fn hooks_that_do_not_run_are_found_and_the_command_mends_it() {
    let host = Host::new(ARTICLE);
    let hook = host.at("etc/ppp/ip-up.d/0multihome");
    fs::remove_file(&hook).unwrap();
    host.finds("trouble", "pppd does not run mh-ip-up");
    // The same name that run-parts passes over.
    symlink("/usr/sbin/mh-ip-up", host.at("etc/ppp/ip-up.d/multihome.sh")).unwrap();
    host.finds("trouble", "multihome.sh has a name that is passed over");
    fs::rename(host.at("etc/ppp/ip-up.d/multihome.sh"), &hook).unwrap();
    assert_eq!(host.findings(), []);

    for (event, program) in [("ipv6-up", "mh-ip-up"), ("ipv6-down", "mh-ip-down")] {
        let hook = host.at(&format!("etc/ppp/{event}.d/0multihome"));
        fs::remove_file(&hook).unwrap();
        host.finds("note", &format!("pppd does not run {program} for IPv6: nothing in /etc/ppp/{event}.d"));
        symlink(format!("/usr/sbin/{program}"), &hook).unwrap();
    }
    fs::set_permissions(host.at("usr/sbin/mh-ip-up"), fs::Permissions::from_mode(0o644)).unwrap();
    host.finds("trouble", "/usr/sbin/mh-ip-up is not executable");
    fs::set_permissions(host.at("usr/sbin/mh-ip-up"), fs::Permissions::from_mode(0o775)).unwrap();
    host.finds("trouble", "can be changed by others than root");
    host.executable("usr/sbin/mh-ip-up");

    host.write("etc/ppp/ip-down.local", "#!/bin/sh\n");
    assert_eq!(host.findings(), [], "it is not executable");
    host.executable("etc/ppp/ip-down.local");
    host.finds("trouble", "/etc/ppp/ip-down.local is executable");
}

#[test]
fn a_script_that_pppd_does_not_run_is_no_hook() {
    let host = Host::new(ARTICLE);
    let hook = "etc/ppp/ip-up.d/0multihome";
    fs::remove_file(host.at(hook)).unwrap();
    host.write(hook, "#!/bin/sh\nexec /usr/sbin/mh-ip-up \"$@\"\n");
    host.finds("trouble", "/etc/ppp/ip-up.d/0multihome is not executable");
    host.executable(hook);
    assert_eq!(host.findings(), []);
    host.write(hook, "#!/bin/sh\n# /usr/sbin/mh-ip-up \"$@\"\n");
    host.finds("trouble", "pppd does not run mh-ip-up: nothing in /etc/ppp/ip-up.d leads to it");
    host.write(hook, "#!/bin/sh\nexec /opt/none/mh-ip-up \"$@\"\n");
    host.finds("trouble", "0multihome leads to /opt/none/mh-ip-up, which does not exist");
    // Another one that does is enough.
    symlink("/usr/sbin/mh-ip-up", host.at("etc/ppp/ip-up.d/1mine")).unwrap();
    assert_eq!(host.findings(), []);
}

#[test]
fn hooks_are_looked_for_where_this_pppd_looks() {
    let host = Host::new(ARTICLE);
    let said = |distribution: &str| {
        host.write("etc/os-release", &format!("ID={distribution}\n"));
        host.findings().into_iter().map(|(_, what)| what).collect::<Vec<_>>()
    };
    // What the setup of a Debian has made is in directories that neither knows.
    for (distribution, suffix) in [("fedora", ".local"), ("suse", ".local"), ("alpine", "")] {
        let all = said(distribution);
        assert_eq!(all.len(), 4, "{all:?}");
        let first = format!("pppd does not run mh-ip-up: /etc/ppp/ip-up{suffix} does not lead to it");
        assert_eq!(all[0], first);
    }
    for event in ["ip-up", "ip-down", "ipv6-up", "ipv6-down"] {
        let program = if event.ends_with("up") { "mh-ip-up" } else { "mh-ip-down" };
        host.write(&format!("etc/ppp/{event}.d/0multihome.sh"), &format!("/usr/sbin/{program} \"$@\"\n"));
    }
    assert_eq!(said("gentoo"), [""; 0], "it is sourced");
    fs::remove_file(host.at("usr/sbin/mh-ip-up")).unwrap();
    assert!(said("gentoo")[0].contains("ip-up.d/0multihome.sh leads to /usr/sbin/mh-ip-up, which does not exist"));
}

#[test]
fn default_routes_of_pppd_are_found() {
    let host = Host::new(ARTICLE);
    host.write("etc/ppp/options", "lock\n");
    for (text, weight) in [
        ("ipparam isp1\ndefaultroute\n", "trouble"),
        ("linkname isp2\ndefaultroute replacedefaultroute\n", "trouble"),
        ("unit 1\ndefaultroute # yes\n", "trouble"),
        ("ipparam elsewhere\ndefaultroute\n", "note"),
    ] {
        host.write("etc/ppp/peers/dsl", text);
        host.finds(weight, "defaultroute");
    }
    host.write("etc/ppp/peers/dsl", "ipparam isp1\nnodefaultroute\n#defaultroute\n");
    assert_eq!(host.findings(), []);
    // What Debian's packages install to be filled in is nobody's line.
    for (name, text) in [
        ("provider", "connect \"/usr/sbin/chat -f /etc/chatscripts/pap -T ********\"\ndefaultroute\n"),
        ("dsl-provider", "# MUST CHANGE: Uncomment\n#\n#user myusername@myprovider.net\ndefaultroute\n"),
    ] {
        host.write(&format!("etc/ppp/peers/{name}"), text);
        assert_eq!(host.findings(), [], "{name}");
        let init = ok(host.server.bare(CTL).args(["init", "--root"]).arg(host.root.path()));
        assert!(!String::from_utf8(init.stdout).unwrap().contains("provider"), "{name}");
    }
    host.write("etc/ppp/options", "defaultroute\n");
    host.finds("trouble", "for every peer");
    // That of one peer, or of one terminal, is not.
    fs::rename(host.at("etc/ppp/options"), host.at("etc/ppp/options.ttyS0")).unwrap();
    host.finds("note", "options.ttyS0 has `defaultroute`; should it be a link");
}

#[test]
fn the_command_that_mends_pppds_options_does() {
    let host = Host::new(ARTICLE);
    host.write("etc/ppp/peers/dsl", "ipparam isp1\n  defaultroute\nreplacedefaultroute\nnodefaultroute-not\n");
    let output = host.doctor(&["--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mend = report["findings"][0]["mend"].as_str().unwrap();
    let mend = mend.replace("/etc/ppp", host.at("etc/ppp").to_str().unwrap());
    ok(std::process::Command::new("sh").args(["-c", &mend]));
    assert_eq!(
        fs::read_to_string(host.at("etc/ppp/peers/dsl")).unwrap(),
        "ipparam isp1\n  nodefaultroute\nnodefaultroute\nnodefaultroute-not\n"
    );
    assert_eq!(host.findings(), []);
}

#[test]
fn other_managers_of_routes_are_found() {
    let host = Host::new(ARTICLE);
    host.write("etc/systemd/network/eth0.network", "[Match]\nName=eth0\n");
    host.finds("trouble", "ManageForeignRoutingPolicyRules and ManageForeignRoutes and ManageForeignNextHops on");
    host.write("etc/systemd/networkd.conf", "[Network]\nManageForeignRoutingPolicyRules=no\n");
    host.finds("trouble", "systemd-networkd has ManageForeignRoutes and ManageForeignNextHops on");
    host.write("usr/lib/systemd/networkd.conf.d/10.conf", "[Network]\nManageForeignRoutes=false\n");
    host.finds("trouble", "systemd-networkd has ManageForeignNextHops on");
    host.write("run/systemd/networkd.conf.d/20.conf", "[Network]\nManageForeignNextHops=0\n");
    assert_eq!(host.findings(), []);

    let profile = "etc/NetworkManager/system-connections/wired.nmconnection";
    host.write(profile, "[connection]\nid=Wired 1\ninterface-name=ppp0\n[ipv4]\nmethod=auto\nroute-metric=0\n");
    host.finds("trouble", "connection \"Wired 1\" makes a default route of metric 0 on ppp0");
    host.write(profile, "[connection]\nid=Wired 1\ninterface-name=ppp0\n[ipv4]\nmethod=auto\nnever-default=true\n");
    assert_eq!(host.findings(), []);
    host.write(profile, "[connection]\nid=Lan\ninterface-name=eth7\n[ipv4]\nmethod=auto\n");
    assert_eq!(host.findings(), [], "no link of ours");
}

#[test]
fn what_others_have_put_into_the_kernel_is_found() {
    let host = Host::new(ARTICLE);
    for (add, weight, part) in [
        (
            "not fwmark 0xca6c lookup 51820 priority 32764",
            "trouble",
            "(as of wg-quick) compares bits of multihome's marks",
        ),
        ("fwmark 0x2/0xff lookup 77 priority 5000", "trouble", "compares bits of multihome's marks (0x7)"),
        ("from 10.0.0.0/8 lookup 2 priority 5000", "trouble", "uses the table of isp2"),
        ("from 10.0.0.0/8 lookup 77 priority 150", "note", "stands among multihome's rules (100 to 206)"),
    ] {
        ip(&format!("rule add {add}"));
        host.finds(weight, part);
        ip(&format!("rule del {add}"));
    }
    // Tailscale's own bits are its own, and so is what comes after us.
    ip("rule add fwmark 0x80000/0xff0000 lookup main priority 5210");
    assert_eq!(host.findings(), []);

    fs::write("/proc/sys/net/ipv4/conf/ppp0/rp_filter", "1").unwrap();
    host.finds("trouble", "reverse path filter of ppp0 is strict");
    fs::write("/proc/sys/net/ipv4/conf/ppp0/rp_filter", "2").unwrap();

    ISP2.unregister();
    host.server.apply();
    host.finds("note", "record of isp2 is stale");
}

#[test]
fn a_foreign_default_and_nexthop_are_found() {
    let host = Host::new(ARTICLE);
    ip("link add other type veth peer name other-far");
    ip("link set other-far up");
    ip("link set other up");
    ip("route append default dev other");
    host.finds("trouble", "a foreign default route stands at metric 0");
    host.mends();
    for kind in ["unreachable", "blackhole", "prohibit"] {
        ip(&format!("route append {kind} default"));
        host.finds("trouble", &format!("stands at metric 0 of table 254: {kind}"));
        host.mends();
    }
    host.server.configure(&format!("{ARTICLE}[settings]\nnexthop-id = 9000\n"));
    ip("nexthop add id 9001 dev other protocol 186");
    let all = host.findings();
    assert!(
        all.iter().any(|(w, what)| w == "trouble" && what.contains("nexthop id 9001 belongs to protocol 186")),
        "{all:?}"
    );
}

#[test]
fn forwarding_that_is_off_or_untranslated_is_found() {
    let lan = format!("{ARTICLE}\n[[policy]]\nname = \"guests\"\niif = \"lan\"\nvia = [\"isp2\"]\n");
    let host = Host::new(&lan);
    fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
    host.finds("trouble", "policy \"guests\" is about forwarded traffic, and nothing is forwarded");
    host.server.configure(ARTICLE);
    host.finds("trouble", "1 change is pending: ip rule del priority 207 iif lan lookup 2 protocol 77");
    host.server.apply();
    assert_eq!(host.findings(), []);
    ip("addr del 192.168.2.30/32 dev lo");
    host.finds("trouble", "policy \"one machine of the LAN\" is about forwarded traffic, and nothing is forwarded");
    host.server.configure(&lan);
    host.server.apply();
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    let whats: Vec<_> = host.findings().into_iter().map(|(weight, what)| format!("{weight}: {what}")).collect();
    assert_eq!(
        whats,
        [
            "note: nothing translates addresses that leave by isp1 (ppp0)",
            "note: nothing translates addresses that leave by isp2 (ppp1)"
        ]
    );
    let others = iptables::new(false).unwrap();
    others.append("nat", "POSTROUTING", "-o ppp+ -j MASQUERADE").unwrap();
    assert_eq!(host.findings(), []);
    others.append("mangle", "OUTPUT", "-j MARK --set-mark 1").unwrap();
    host.finds("trouble", "iptables: -A OUTPUT -j MARK --set-xmark 0x1/0xffffffff");
    // Where iptables holds ours, they are to be the last.
    others.delete("mangle", "OUTPUT", "-j MARK --set-mark 1").unwrap();
    host.server.configure(&with_settings(&lan, "firewall = \"iptables\""));
    host.server.apply();
    others.append("mangle", "OUTPUT", "-j MARK --set-mark 1").unwrap();
    let all = host.findings();
    assert!(all[0].1.starts_with("1 change is pending: managed chains in iptables' table mangle"), "{all:?}");
    host.server.apply();
    host.finds("trouble", "iptables: -A OUTPUT -j MARK --set-xmark 0x1/0xffffffff");
}

#[test]
fn names_and_numbers_that_are_taken_are_found() {
    let host = Host::new(ARTICLE);
    host.write("etc/iproute2/rt_tables", "255\tlocal\n254\tmain\n1\tinr.ruhep\n");
    host.finds("note", "says that table 1 is inr.ruhep; isp1 has 1");
    host.write("etc/iproute2/rt_tables", "#1\tinr.ruhep\n0x2 isp2\n200 isp1\n");
    host.finds("note", "says that table 200 is isp1; isp1 has 1");
    fs::remove_file(host.at("etc/iproute2/rt_tables")).unwrap();
    host.server.configure(&format!("{ARTICLE}\n[settings]\nprotocol = 186\n"));
    let all = host.findings();
    assert!(all.iter().any(|(weight, what)| weight == "trouble" && what == "protocol 186 is bgp's"), "{all:?}");
}

#[test]
fn a_missing_or_wrong_configuration_is_the_first_finding() {
    let host = Host::new(ARTICLE);
    host.server.configure("[[uplink]]\nname = \"UP\"\n");
    host.finds("trouble", "name: \"UP\" is not valid");
}

#[test]
fn rules_of_nft_are_read_as_well() {
    let lan = format!("{ARTICLE}\n[[policy]]\nname = \"guests\"\niif = \"lan\"\nvia = [\"isp2\"]\n");
    let host = Host::new(&lan);
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    assert_eq!(host.findings().len(), 2, "neither line is translated");
    nft::add_rule("nat", "oifname \"ppp*\" masquerade");
    assert_eq!(host.findings(), []);
    nft::delete_table();
    nft::add_rule("nat", "oifname \"ppp0\" masquerade");
    host.finds("note", "nothing translates addresses that leave by isp2");
    nft::delete_table();
    ip("link add lan type veth peer name lan-far");
    ip("addr add 192.168.7.1/24 dev lan");
    nft::add_rule("nat", "oifname \"ppp1\" ip saddr 192.168.0.0/16 snat ip to 203.0.113.10");
    host.finds("note", "nothing translates addresses that leave by isp1");
    nft::delete_table();
    nft::add_rule("nat", "oifname != \"ppp0\" masquerade");
    host.finds("note", "nothing translates addresses that leave by isp1");
    nft::delete_table();
    nft::add_rule("nat", "ip daddr 192.168.0.0/16 masquerade");
    assert_eq!(host.findings().len(), 2, "it is about that destination only");
    nft::delete_table();
    nft::add_rule("nat", "ip saddr 192.168.0.0/16 masquerade");
    assert_eq!(host.findings(), []);
    ip("addr del 192.168.7.1/24 dev lan");
    assert_eq!(host.findings().len(), 2, "no such source is here");
    nft::delete_table();
    fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
    host.server.configure(ARTICLE);
    host.server.apply();

    let bits = "of chain c in table inet t";
    for rule in [
        "meta mark set 0x1",
        "meta mark set mark and 0xfffffff8 or 0x2",
        "mark and 0xff == 0x2 counter",
        "ct mark set meta mark",
    ] {
        nft::add_rule("filter", rule);
        host.finds("trouble", bits);
        nft::delete_table();
    }
    for rule in [
        "meta mark set mark and 0xff00ffff or 0x40000",
        "mark and 0xff0000 == 0x40000 accept",
        "ct mark set ct mark or 0x10000",
        "tcp dport 80 counter accept",
    ] {
        nft::add_rule("filter", rule);
        assert_eq!(host.findings(), [], "{rule}");
        nft::delete_table();
    }
}

#[test]
fn what_only_root_may_see_is_said_not_to_have_been_looked_at() {
    let host = Host::new(ARTICLE);
    let mut command = std::process::Command::new("unshare");
    command.arg("--user").args(host.server.for_others(&host.server.bare(CTL))).args(["doctor", "--root"]);
    let output = command.arg(host.root.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("the packet filter was not looked at: only root may"), "{text}");
}
