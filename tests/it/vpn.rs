//! mh-vpn-up as OpenVPN runs it: up, down and route-pre-down in every topology, with privileges and without.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use crate::support::six::{defaults6, held6};
use crate::support::*;

const RULE3: &str = "100:\tfrom all fwmark 0x4/0x4 lookup 3 proto 77";

/// What `mh-vpn-up` gets in topology subnet: the netmask instead of the peer.
fn subnet(server: &Server, script_type: &str) -> Command {
    let mut command = server.bare(VPN);
    command.args([VPN0.device, "1500", "0", VPN0.local, "255.255.255.0", "init"]);
    command.env("script_type", script_type).env("dev", VPN0.device).env("dev_type", "tun");
    command.env("ifconfig_local", VPN0.local).env("ifconfig_netmask", "255.255.255.0");
    command.env("route_vpn_gateway", "10.8.0.1").env("daemon_pid", "1003");
    command
}

#[test]
fn a_tunnel_comes_and_goes_in_every_topology() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    let without = held();
    let via_peer = "default via 10.8.0.5 dev tun0 table 3 proto 77";
    let by_device = "default dev tun0 table 3 proto 77 scope 253";
    for (topology, wanted) in [("p2p", via_peer), ("net30", via_peer), ("subnet", by_device)] {
        let hook = |script_type: &str| {
            let mut hook =
                if topology == "subnet" { subnet(&server, script_type) } else { server.openvpn(VPN0, script_type) };
            if topology == "net30" {
                // OpenVPN tells of the /30 beside the peer.
                hook.env("ifconfig_broadcast", "10.8.0.7").env("route_net_gateway", ISP1.remote);
            }
            hook
        };
        for down in ["down", "route-pre-down"] {
            VPN0.create();
            ok(hook("up").option("--strict"));
            assert_eq!(defaults("3"), [wanted]);
            // The tunnel is no part of the default route.
            assert_eq!(defaults("main"), ["default nhid 7100 via 198.51.100.1 dev ppp0 proto 77"]);
            assert!(held().contains(&RULE3.to_owned()));
            if down == "down" {
                VPN0.unregister();
                ok(hook(down).option("--strict"));
            } else {
                // The device is there, and stays for a while.
                ok(hook(down).option("--strict"));
                assert_eq!(defaults("3"), [""; 0]);
                VPN0.unregister();
                ok(hook("down").option("--strict"));
            }
            assert!(!server.state().join("tun0.ipv4").exists());
            assert_eq!(held(), without, "{topology}, {down}");
        }
    }
}

#[test]
fn both_families_of_a_tunnel_come_and_go_and_a_wrong_ipv6_word_costs_no_ipv4() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    let without = held();
    VPN0.create();
    ip("addr add fd00:8::1000/64 dev tun0 nodad");
    let hook = |script_type: &str, local6: &str| {
        let mut hook = subnet(&server, script_type);
        hook.env("ifconfig_ipv6_local", local6).env("ifconfig_ipv6_netbits", "64");
        hook.env("ifconfig_ipv6_remote", "fd00:8::1").option("--strict");
        hook
    };
    let by_device = "default dev tun0 table 3 proto 77 scope 253";
    for down in ["down", "route-pre-down"] {
        ok(&mut hook("up", "fd00:8::1000"));
        assert_eq!(defaults("3"), [by_device]);
        let six = held6();
        assert!(six.iter().any(|line| line.starts_with("default dev tun0 table 3 proto 77")), "{six:#?}");
        // No part of the default route.
        assert!(!defaults6().iter().any(|line| line.contains("tun0")), "{:?}", defaults6());
        ok(&mut hook(down, ""));
        assert!(defaults("3").is_empty() && !held6().iter().any(|line| line.contains("tun0")));
        let record = |family: &str| server.state().join(format!("tun0.{family}")).exists();
        assert!(!record("ipv4") && !record("ipv6"), "{down}");
    }
    for wrong in ["::1", "ff02::1", "10.8.0.7", "x;reboot\n", "--config=/x"] {
        let output = ok(hook("up", wrong).option("-v"));
        let said = String::from_utf8(output.stderr).unwrap();
        let left_out: Vec<_> = said.lines().filter(|line| line.contains("; the tunnel's IPv6 is left out")).collect();
        assert!(left_out.len() == 1 && left_out[0].contains("IPv6 address \""), "{wrong:?}: {said}");
        assert_eq!(defaults("3"), [by_device]);
        ok(&mut hook("down", wrong));
    }
    VPN0.unregister();
    assert_eq!(held(), without);
}

#[test]
fn the_administrators_own_arguments_go_before_openvpns() {
    let server = Server::new("");
    let config = server.config().with_file_name("other.toml");
    fs::write(&config, ARTICLE).unwrap();
    VPN0.create();
    let mut hook = Command::new(VPN);
    hook.arg("--strict").arg("--config").arg(&config).arg("--state-dir").arg(server.state());
    hook.args(["tun0", "1500", "0", "10.8.0.6", "10.8.0.5", "init"]).env_clear().env("script_type", "up");
    ok(&mut hook);
    assert_eq!(defaults("3"), ["default via 10.8.0.5 dev tun0 table 3 proto 77"]);
}

#[test]
fn a_restart_that_keeps_the_device_changes_nothing() {
    let server = Server::new(ARTICLE);
    VPN0.create();
    ok(&mut server.openvpn(VPN0, "up"));
    let up = held();
    // With persist-tun and up-restart: down and up of the same process, the device stays.
    ok(server.openvpn(VPN0, "down").env("script_context", "restart"));
    ok(server.openvpn(VPN0, "up").env("script_context", "restart"));
    assert_eq!(held(), up);
}

#[test]
fn the_end_of_an_old_openvpn_does_not_hurt_the_new_one() {
    let server = Server::new(ARTICLE);
    VPN0.create();
    ok(&mut server.openvpn(VPN0, "up"));
    VPN0.unregister();
    VPN0.create();
    ok(&mut server.openvpn(Line { pid: 2003, ..VPN0 }, "up"));
    let up = held();
    ok(&mut server.openvpn(VPN0, "down"));
    assert_eq!(held(), up);
}

#[test]
fn only_strict_fails() {
    let server = Server::new(ARTICLE);
    // No such device.
    for script_type in ["up", "route-up"] {
        let lenient = fails(0, &mut server.openvpn(VPN0, script_type));
        let status = if script_type == "up" { 1 } else { 2 };
        let strict = fails(status, server.openvpn(VPN0, script_type).option("--strict"));
        assert_eq!(lenient, strict);
        assert_eq!(lenient.lines().count(), 1, "{lenient}");
    }
    server.configure("[[tunnel]]\n");
    fails(0, &mut server.openvpn(VPN0, "up"));
    fails(1, server.openvpn(VPN0, "up").option("--strict"));
}

/// Runs a hook as OpenVPN does after `user nobody`.
fn as_nobody(server: &Server, hook: &Command) -> Output {
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    nobody.args(server.for_others(hook));
    nobody.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
    nobody.envs(hook.get_envs().filter_map(|(name, value)| Some((name, value?))));
    nobody.output().expect("setpriv(1) is installed")
}

#[test]
fn without_privileges_down_is_done_when_the_device_is_gone() {
    let server = Server::new(ARTICLE);
    fs::set_permissions(server.config().parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    server.up(ISP1);
    let without = held();
    VPN0.create();
    ok(&mut server.openvpn(VPN0, "up"));
    VPN0.unregister();
    for options in ["-v", "-v --strict"] {
        let output = as_nobody(&server, server.openvpn(VPN0, "down").option(options));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{said}");
        let clear = "vpn is down: tun0 is gone, and without privileges there is nothing left to do";
        assert!(said.contains(clear) && said.lines().count() == 1, "{said}");
    }
    assert_eq!(held(), without);
    // The record has stayed behind; nobody is misled by it, not even by a new device of that name.
    assert!(server.state().join("tun0.ipv4").exists());
    VPN0.create();
    ok(&mut server.hook(UP, ISP1));
    assert_eq!(defaults("3"), [""; 0]);
    ok(&mut server.openvpn(VPN0, "up"));
    assert_eq!(defaults("3").len(), 1);
}

#[test]
fn without_privileges_nothing_else_works_and_the_error_says_so() {
    let server = Server::new(ARTICLE);
    fs::set_permissions(server.config().parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    VPN0.create();
    ok(&mut server.openvpn(VPN0, "up"));
    for script_type in ["up", "down"] {
        let output = as_nobody(&server, server.openvpn(VPN0, script_type).option("--strict"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("Permission denied") && said.lines().count() == 1, "{said}");
    }
}
