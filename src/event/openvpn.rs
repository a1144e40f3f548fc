//! Events of OpenVPN's up, down and route-pre-down scripts, from the environment above all.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Addresses, Env, Error, Event, EventKind, Family, arg_or_var, host, session, var};
use crate::model::names::{HostAddr, InvalidValue};

/// The arguments that OpenVPN adds to the administrator's. Any may be empty, and by hand the later ones may be missing.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Args {
    /// Interface, such as tun0; otherwise the environment's `dev`
    pub dev: Option<String>,
    /// MTU of the interface (not used)
    pub tun_mtu: Option<OsString>,
    /// MTU of the line (not used)
    pub link_mtu: Option<OsString>,
    /// Our address; otherwise `ifconfig_local`
    pub local: Option<String>,
    /// Peer's address, or the netmask; `ifconfig_remote` goes before it
    pub remote: Option<String>,
    /// init or restart (not used)
    pub context: Option<OsString>,
}

/// The event of `args` and `env`. Without OpenVPN's variables, as by hand, it is an up event.
pub fn event(args: &Args, env: Env) -> Result<Event, Error> {
    let up = match var(env, "script_type").as_deref() {
        None if is_down_root(args, env) => false,
        None | Some("up") => true,
        // Both run without privileges after `user nobody`; the device still exists at route-pre-down.
        Some("down" | "route-pre-down") => false,
        Some(other) => {
            return Err(
                InvalidValue::new("script_type", other, "call it as OpenVPN's up, down or route-pre-down").into()
            );
        }
    };
    let dev = arg_or_var(args.dev.as_deref(), env, "dev").unwrap_or_default();
    let local = arg_or_var(args.local.as_deref(), env, "ifconfig_local");
    // IPv6 counts only if the tunnel has no IPv4, at down as at up.
    let local6 = if local.is_none() { var(env, "ifconfig_ipv6_local") } else { None };
    let kind = match (up, local6) {
        (true, None) => EventKind::Up(Addresses {
            local: address4("local address", local)?,
            gateway: gateway(args, env, &dev)?,
            ..Addresses::none(Family::V4)
        }),
        (true, Some(local)) => EventKind::Up(Addresses {
            local: address6("local address", &local)?,
            gateway: address6("remote address", var(env, "ifconfig_ipv6_remote").as_deref().unwrap_or("::"))?,
            ..Addresses::none(Family::V6)
        }),
        (false, None) => EventKind::Down(Family::V4),
        (false, Some(_)) => EventKind::Down(Family::V6),
    };
    // OpenVPN has no name for a link.
    Ok(Event { kind, interface: dev.parse()?, names: vec![], session: session(env, "daemon_pid") })
}

/// openvpn-plugin-down-root runs its command with the environment of *up*, but without `script_type`, and without the
/// six arguments of a script.
fn is_down_root(args: &Args, env: Env) -> bool {
    args.context.is_none() && var(env, "script_context").is_some()
}

/// The gateway: a router on the Ethernet behind a tap, the peer behind a tun.
fn gateway(args: &Args, env: Env, dev: &str) -> Result<Option<HostAddr>, InvalidValue> {
    let tap = var(env, "dev_type").map_or_else(|| dev.starts_with("tap"), |dev_type| dev_type == "tap");
    if tap {
        return address4("route_vpn_gateway", var(env, "route_vpn_gateway"));
    }
    // The fifth argument is the peer in the topologies p2p and net30, and the netmask in subnet; the environment says
    // which.
    let remote = if var(env, "ifconfig_netmask").is_some() {
        var(env, "ifconfig_remote")
    } else {
        var(env, "ifconfig_remote").or_else(|| args.remote.clone())
    };
    address4("remote address", remote.filter(|remote| !is_netmask(remote)))
}

fn is_netmask(text: &str) -> bool {
    text.parse::<Ipv4Addr>().is_ok_and(|mask| mask.to_bits().leading_ones() + mask.to_bits().trailing_zeros() == 32)
}

fn address4(what: &'static str, text: Option<String>) -> Result<Option<HostAddr>, InvalidValue> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let expected = "write an IPv4 address such as 192.0.2.1";
    let addr: Ipv4Addr = text.parse().map_err(|_| InvalidValue::new(what, &text, expected))?;
    host(what, IpAddr::V4(addr))
}

fn address6(what: &'static str, text: &str) -> Result<Option<HostAddr>, InvalidValue> {
    let expected = "write an IPv6 address such as 2001:db8::1";
    let addr: Ipv6Addr = text.parse().map_err(|_| InvalidValue::new(what, text, expected))?;
    host(what, IpAddr::V6(addr))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use proptest::prelude::*;

    use super::super::tests::{assert_loggable, env_of, v4, v6};
    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn args(argv: &[&str]) -> Args {
        Cli::try_parse_from([&["mh-vpn-up"], argv].concat()).unwrap().args
    }

    const NET30: [&str; 6] = ["tun0", "1500", "0", "10.8.0.6", "10.8.0.5", "init"];
    const SUBNET: [&str; 6] = ["tun0", "1500", "0", "10.8.0.6", "255.255.255.0", "init"];
    const EMPTY: [&str; 6] = ["tun0", "1500", "0", "", "", "init"];

    #[test]
    fn none_to_six_arguments_are_openvpns() {
        for n in 0..=NET30.len() {
            let args = args(&NET30[..n]);
            let Args { dev, tun_mtu, link_mtu, local, remote, context } = args;
            let unused = [tun_mtu, link_mtu, context].map(|value| value.map(|value| value.into_string().unwrap()));
            let [tun_mtu, link_mtu, context] = unused;
            for (i, value) in [dev, tun_mtu, link_mtu, local, remote, context].into_iter().enumerate() {
                assert_eq!(value.as_deref(), NET30[..n].get(i).copied());
            }
        }
        assert_eq!(args(&EMPTY).local.as_deref(), Some(""));
        for (argv, why) in [
            (&["mh-vpn-up", "tun0", "1500", "0", "", "", "init", "more"][..], "'more'"),
            (&["mh-vpn-up", "--fast", "tun0", "1500", "0", "", "", "init"], "'--fast'"),
        ] {
            let error = Cli::try_parse_from(argv).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{argv:?}");
            assert!(error.to_string().contains(why), "{argv:?}: {error}");
        }
    }

    #[test]
    fn the_script_type_says_up_or_down() {
        const UP6: [(&str, &str); 2] = [("ifconfig_ipv6_local", "2001:db8::2"), ("script_type", "up")];
        const DOWN6: [(&str, &str); 2] = [("ifconfig_ipv6_local", "2001:db8::2"), ("script_type", "down")];
        const PLUGIN: [(&str, &str); 3] = [("dev", "tun0"), ("script_context", "init"), ("ifconfig_local", "10.8.0.6")];
        let up = EventKind::Up(v4("10.8.0.6", "10.8.0.5"));
        for (argv, vars, expected) in [
            (&NET30[..], &[][..], up.clone()),
            (&NET30, &[("script_type", "")], up.clone()),
            (&NET30, &[("script_type", "up")], up.clone()),
            (&NET30, &[("script_type", "up"), ("script_context", "restart")], up.clone()),
            (&NET30, &[("script_type", "down")], EventKind::Down(Family::V4)),
            (&NET30, &[("script_type", "route-pre-down")], EventKind::Down(Family::V4)),
            (&["tun0"], &[("script_type", "route-pre-down")], EventKind::Down(Family::V4)),
            // What is gone has no addresses that could be wrong.
            (&["tun0", "", "", "garbage", "garbage"], &[("script_type", "down")], EventKind::Down(Family::V4)),
            (&NET30, &DOWN6, EventKind::Down(Family::V4)),
            (&NET30, &UP6, up.clone()),
            (&EMPTY, &DOWN6, EventKind::Down(Family::V6)),
            (&EMPTY, &UP6, EventKind::Up(v6("2001:db8::2", "::"))),
            // openvpn-plugin-down-root, as it is and with the interface written out.
            (&[], &PLUGIN, EventKind::Down(Family::V4)),
            (&["tun0"], &PLUGIN, EventKind::Down(Family::V4)),
            (&NET30, &PLUGIN, up.clone()),
        ] {
            assert_eq!(event(&args(argv), &env_of(vars)).unwrap().kind, expected, "{argv:?} {vars:?}");
        }
        let restart = ["tun0", "1500", "0", "10.8.0.6", "10.8.0.5", "restart"];
        assert_eq!(event(&args(&restart), &env_of(&[])).unwrap().kind, up);
    }

    #[test]
    fn the_gateway_follows_the_topology() {
        let p2p = [("dev_type", "tun"), ("ifconfig_local", "10.8.0.6"), ("ifconfig_remote", "10.8.0.5")];
        let subnet = [("dev_type", "tun"), ("ifconfig_local", "10.8.0.6"), ("ifconfig_netmask", "255.255.255.0")];
        let gateway = ("route_vpn_gateway", "10.8.0.1");
        let tap = [("dev_type", "tap"), ("ifconfig_netmask", "255.255.255.0"), gateway];
        let tap0 = ["tap0", "1500", "0", "10.8.0.6", "255.255.255.0", "init"];
        for (argv, vars, expected) in [
            // p2p and net30: the peer.
            (&NET30[..], &p2p[..], v4("10.8.0.6", "10.8.0.5")),
            (&EMPTY, &p2p, v4("10.8.0.6", "10.8.0.5")),
            (&["tun0"], &p2p, v4("10.8.0.6", "10.8.0.5")),
            (&NET30, &[], v4("10.8.0.6", "10.8.0.5")),
            (&NET30, &[gateway], v4("10.8.0.6", "10.8.0.5")),
            (&NET30, &[("ifconfig_remote", "10.8.0.9")], v4("10.8.0.6", "10.8.0.9")),
            // subnet: the device.
            (&SUBNET, &subnet, v4("10.8.0.6", "")),
            (&EMPTY, &subnet, v4("10.8.0.6", "")),
            (&NET30, &subnet, v4("10.8.0.6", "")),
            (&SUBNET, &[], v4("10.8.0.6", "")),
            (&SUBNET, &[gateway], v4("10.8.0.6", "")),
            (&["tun0", "", "", "10.8.0.6", "255.255.255.252"], &[], v4("10.8.0.6", "")),
            // tap: the router on its Ethernet, where there is one.
            (&tap0, &tap, v4("10.8.0.6", "10.8.0.1")),
            (&tap0, &[gateway], v4("10.8.0.6", "10.8.0.1")),
            (&tap0, &tap[..2], v4("10.8.0.6", "")),
            (&["office", "", "", "", ""], &tap, v4("", "10.8.0.1")),
            (&["tap0", "", "", "", ""], &[], v4("", "")),
            // The device's type goes before what its name looks like.
            (&["tap0", "", "", "10.8.0.6", "10.8.0.5"], &[("dev_type", "tun"), gateway], v4("10.8.0.6", "10.8.0.5")),
            // No addresses yet.
            (&EMPTY, &[], v4("", "")),
            (&["tun0"], &[], v4("", "")),
            (&["tun0", "1500", "0", "0.0.0.0", "0.0.0.0"], &[], v4("", "")),
        ] {
            let event = event(&args(argv), &env_of(vars)).unwrap();
            assert_eq!(event.kind, EventKind::Up(expected), "{argv:?} {vars:?}");
        }
    }

    #[test]
    fn ipv6_counts_where_there_is_no_ipv4() {
        let both = [("ifconfig_ipv6_local", "2001:db8::2"), ("ifconfig_ipv6_remote", "2001:db8::1")];
        for (argv, vars, expected) in [
            (&EMPTY[..], &both[..], v6("2001:db8::2", "2001:db8::1")),
            (&["tun0"], &both, v6("2001:db8::2", "2001:db8::1")),
            (&EMPTY, &both[..1], v6("2001:db8::2", "::")),
            (&EMPTY, &both[1..], v4("", "")),
            (&NET30, &both, v4("10.8.0.6", "10.8.0.5")),
            (&EMPTY, &[both[0], ("ifconfig_local", "10.8.0.6")], v4("10.8.0.6", "")),
        ] {
            let event = event(&args(argv), &env_of(vars)).unwrap();
            assert_eq!(event.kind, EventKind::Up(expected), "{argv:?} {vars:?}");
        }
    }

    #[test]
    fn interface_and_session_come_from_arguments_and_environment() {
        for (argv, vars, interface, session) in [
            (&["tun0"][..], &[("dev", "tun1"), ("daemon_pid", "4711")][..], "tun0", Some(4711)),
            (&[""], &[("dev", "tun1"), ("daemon_pid", "-1")], "tun1", None),
            (&[], &[("dev", "tun1"), ("daemon_pid", "x;rm")], "tun1", None),
            (&["tun0"], &[], "tun0", None),
        ] {
            let event = event(&args(argv), &env_of(vars)).unwrap();
            assert_eq!((event.interface.as_str(), event.session), (interface, session), "{argv:?} {vars:?}");
            assert!(event.names.is_empty());
        }
    }

    #[test]
    fn what_cannot_be_is_one_clear_line() {
        let long = "x".repeat(100_000);
        let tap = ["tap0"];
        let local = |local| ["tun0", "", "", local, ""];
        let remote = |remote| ["tun0", "", "", "", remote];
        for (argv, vars, why) in [
            (&[][..], &[][..], "interface name \"\" is not valid: write 1 to 15"),
            (&[long.as_str()], &[], "interface name \"xxx"),
            (&["tun0;rm -rf /"], &[], "interface name \"tun0;rm -rf /\""),
            (&[], &[("dev", "tun0\n")], "interface name \"tun0\\n\""),
            (&local("host.example"), &[], "local address \"host.example\" is not valid: write an IPv4"),
            (&local("127.0.0.1"), &[], "local address \"127.0.0.1\" is not valid: no host"),
            (&local(""), &[("ifconfig_local", "10.8.0.6\n")], "local address \"10.8.0.6\\n\""),
            (&remote(";rm"), &[], "remote address \";rm\""),
            (&remote("224.0.0.1"), &[], "remote address \"224.0.0.1\" is not valid: no host"),
            (&remote("255.0.255.0"), &[], "remote address \"255.0.255.0\" is not valid: no host"),
            (&remote(""), &[("ifconfig_remote", long.as_str())], "remote address \"xxx"),
            (&tap, &[("route_vpn_gateway", "dhcp")], "route_vpn_gateway \"dhcp\""),
            (
                &local(""),
                &[("ifconfig_ipv6_local", "10.8.0.6")],
                "local address \"10.8.0.6\" is not valid: write an IPv6",
            ),
            (&local(""), &[("ifconfig_ipv6_local", "::1")], "local address \"::1\" is not valid: no host"),
            (
                &local(""),
                &[("ifconfig_ipv6_local", "2001:db8::2"), ("ifconfig_ipv6_remote", "ff02::1")],
                "remote address \"ff02::1\" is not valid: no host",
            ),
        ] {
            let error = event(&args(argv), &env_of(vars)).unwrap_err();
            assert_loggable(&error);
            assert!(error.to_string().starts_with(why), "{error}");
        }
        for script_type in ["route-up", "ipchange", "tls-verify", "client-connect", "UP", "up ", "up\n", &long] {
            let error = event(&args(&NET30), &env_of(&[("script_type", script_type)])).unwrap_err();
            assert_loggable(&error);
            assert!(error.to_string().ends_with("OpenVPN's up, down or route-pre-down"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(
            argv in proptest::array::uniform4(proptest::option::of("t[au][np]0|10\\.8\\.0\\.1|255.255.255.0||(?s).*")),
            script_type in proptest::option::of("up|down|route-pre-down|(?s).*"),
            vars in proptest::array::uniform9(proptest::option::of("t[au][np]0?|10\\.8\\.0\\.1|fe80::1|[0-9]{1,12}||(?s).*")),
        ) {
            let [dev, local, remote, other] = argv;
            let unused = other.map(OsString::from);
            let args = Args { dev, local, remote, tun_mtu: unused.clone(), link_mtu: unused.clone(), context: unused };
            let names = [
                "dev",
                "dev_type",
                "ifconfig_local",
                "ifconfig_remote",
                "ifconfig_netmask",
                "ifconfig_ipv6_local",
                "ifconfig_ipv6_remote",
                "route_vpn_gateway",
                "daemon_pid",
            ];
            let env = |name: &str| match name {
                "script_type" => script_type.clone(),
                _ => names.iter().position(|n| *n == name).and_then(|i| vars[i].clone()),
            };
            if let Err(error) = event(&args, &env) {
                assert_loggable(&error);
            }
        }

        #[test]
        fn no_command_line_makes_it_panic(argv in proptest::collection::vec("(?s).*", 0..9)) {
            if let Ok(cli) = Cli::try_parse_from(std::iter::once("mh-vpn-up".to_owned()).chain(argv)) {
                let _ = event(&cli.args, &|_| None);
            }
        }
    }
}
