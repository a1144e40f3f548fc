//! Real OpenVPN with `user nobody`: what its calls of mh-vpn-up may do then, and what sudo lets them.

use std::io::ErrorKind;

use nix::sys::signal::Signal;

use crate::openvpn::*;
use crate::support::openvpn::*;
use crate::support::openvpn_traffic::*;
use crate::support::*;

/// OpenVPN has lost root by itself: no plugin, no sudo.
#[test]
fn as_nobody_the_kernel_takes_the_routes_and_nothing_breaks() {
    let world = world();
    let without = held();
    let _server = world.openvpn_server("subnet", "10.8.0.0", PORT);
    for down in ["route-pre-down /bin/true\ndown /usr/sbin/mh-vpn-up", ""] {
        let client = world.client("company", &format!("user nobody\ngroup nogroup\n{down}"));
        client.says(DONE);
        assert_up(&world, &without, "10.8.0.2", BY_DEVICE);
        let log = client.stop();
        // `down` knows that all is done; route-pre-down, with the device still there, cannot do a thing.
        assert_eq!(log.contains("mh-vpn-up: "), down.is_empty(), "{log}");
        assert_eq!(log.contains("Permission denied"), down.is_empty(), "{log}");
        assert_down(&without);
        // The record that nobody could remove misleads nobody.
        assert!(world.record("vpn").is_some());
        world.server.apply();
        assert_down(&without);
    }
}

#[test]
fn as_nobody_other_addresses_are_too_much() {
    let world = world();
    let without = held();
    let server = world.openvpn_server("subnet", "10.8.0.0", PORT);
    let chatter = Chatter::start();
    let client = world.client("company", "user nobody\ngroup nogroup\npersist-tun\nroute-pre-down /bin/true");
    client.says(DONE);
    // The same addresses: nobody is called.
    client.signal(Signal::SIGUSR1);
    client.says(DONE);
    assert_up(&world, &without, "10.8.0.2", BY_DEVICE);
    server.stop();
    let _server = world.openvpn_server("subnet", "10.8.77.0", PORT);
    client.says(DONE);
    // `up` says what it could not do; and nothing of the tunnel goes anywhere.
    assert_eq!(client.log().matches("mh-vpn-up: ").count(), 1, "{}", client.log());
    assert!(client.log().contains("Permission denied"), "{}", client.log());
    let without_device: Vec<_> = held().into_iter().filter(|l| !l.contains("tun0")).collect();
    assert_eq!((defaults("3"), without_device), (vec![], without.clone()));
    assert_eq!(ask().unwrap_err().kind(), ErrorKind::NetworkUnreachable);
    client.stop();
    assert_down(&without);
    drop(chatter);
    assert_eq!(world.in_the_clear(), 0);
}

#[test]
fn as_nobody_with_a_child_that_is_root() {
    let world = world();
    let without = held();
    let server = world.openvpn_server("subnet", "10.8.0.0", PORT);
    for _ in 0..2 {
        let client = world.client("company", "config down-root.inc");
        client.says(DONE);
        assert_up(&world, &without, "10.8.0.2", BY_DEVICE);
        assert_quiet(&client.stop(), 1);
        assert_down(&without);
        assert_eq!(world.record("vpn"), None);
    }
    // A restart with the same addresses does not call it.
    let client = world.client("company", "config down-root.inc");
    client.says(DONE);
    client.signal(Signal::SIGUSR1);
    client.says(DONE);
    assert_up(&world, &without, "10.8.0.2", BY_DEVICE);
    // Other addresses are OpenVPN's end, as down-root.inc says; and ours is in order.
    server.stop();
    let _server = world.openvpn_server("subnet", "10.8.77.0", PORT);
    let (status, log) = client.ended();
    assert!(!status.success() && log.contains("up/down plugin call failed"), "{log}");
    assert_down(&without);
    let client = world.client("company", "config down-root.inc");
    client.says(DONE);
    assert_up(&world, &without, "10.8.77.2", BY_DEVICE);
}

#[test]
fn as_nobody_by_sudo() {
    let world = world();
    world.allow_sudo("nobody");
    let without = held();
    let server = world.openvpn_server("subnet", "10.8.0.0", PORT);
    let client = world.client("company", "config user-nobody.inc\nup-restart");
    client.says(DONE);
    assert_up(&world, &without, "10.8.0.2", BY_DEVICE);
    client.signal(Signal::SIGUSR1);
    client.says(DONE);
    assert_up(&world, &without, "10.8.0.2", BY_DEVICE);
    server.stop();
    let _server = world.openvpn_server("subnet", "10.8.77.0", PORT);
    client.says(DONE);
    assert_up(&world, &without, "10.8.77.2", BY_DEVICE);
    let log = client.stop();
    assert!(!log.contains("mh-vpn-up: ") && !log.contains("sudo: "), "{log}");
    assert_down(&without);
    assert_eq!(world.record("vpn"), None);
}

#[test]
fn sudo_lets_nobody_say_nothing_else() {
    let world = world();
    world.allow_sudo("nobody");
    let before = held();
    let as_nobody = || {
        let nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"];
        world.viewed(&[&nobody[..], &["sudo", "-n", "/usr/sbin/mh-vpn-up"]].concat())
    };
    for args in [
        &["--config", "/tmp/evil.toml", "tun0", "1500", "0", "10.8.0.2", "10.8.0.1", "init"][..],
        &["--state-dir=/etc", "tun0", "1500", "0", "10.8.0.2", "10.8.0.1", "init"],
        &["ppp0", "1500", "0", "198.51.100.10", "198.51.100.66", "init"],
        &["tun0", "1500", "0", "10.8.0.2", "10.8.0.1", "init", "--config=/tmp/evil.toml"],
        &["tun0\n--config", "1500", "0", "10.8.0.2", "10.8.0.1", "init"],
        &["tun0"],
        &[],
    ] {
        let said = fails(1, as_nobody().args(args));
        assert!(said.contains("password is required"), "{args:?}: {said}");
    }
    // What OpenVPN says is let through, and with its environment: here the words of another one.
    for args in [["tun0", "1500", "0", "10.8.0.2", "10.8.0.1", "init"], ["tun0", "1500", "0", "", "", "restart"]] {
        assert!(fails(0, as_nobody().args(args)).contains("tun0 does not exist"));
        let said = fails(0, as_nobody().args(args).env("script_type", "route-up").env("LD_PRELOAD", "/tmp/evil.so"));
        assert!(said.contains("script_type \"route-up\""), "{said}");
    }
    assert_eq!(held(), before);
}
