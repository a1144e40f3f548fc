//! Events of OpenVPN's up, down and route-pre-down scripts, from the environment above all.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Addresses, Env, Error, Event, EventKind, Family, arg_or_var, host, resolvers, session, var};
use crate::model::names::{HostAddr, IfName, InvalidValue};

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

/// The events of `args` and `env`, one for each family that the tunnel has. Without OpenVPN's variables, as by hand, they
/// are up events. The second value is why the tunnel's IPv6 is left out: a word about it that is invalid does not cost
/// the IPv4.
///
/// # Errors
/// A word about IPv4 is invalid, or one about a tunnel that has only IPv6.
pub fn events(args: &Args, env: Env) -> Result<(Vec<Event>, Option<Error>), Error> {
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
    let (interface, session) = (dev.parse()?, session(env, "daemon_pid"));
    // OpenVPN has no name for a link.
    let about = |kind| Event { kind, interface: IfName::clone(&interface), names: vec![], session };
    if !up {
        return Ok((Family::BOTH.map(EventKind::Down).map(about).into(), None));
    }
    let is_tap = var(env, "dev_type").map_or_else(|| dev.starts_with("tap"), |dev_type| dev_type == "tap");
    let v4 = Addresses {
        local: address4("local address", arg_or_var(args.local.as_deref(), env, "ifconfig_local"))?,
        gateway: gateway(args, env, is_tap)?,
        resolvers: resolvers::of_openvpn(env, Family::V4),
        ..Addresses::none(Family::V4)
    };
    let has_v4 = v4.local.is_some() || v4.gateway.is_some();
    let (said, left_out) = match var(env, "ifconfig_ipv6_local").map(|local| addresses6(&local, env, is_tap)) {
        None => (vec![v4], None),
        Some(Ok(v6)) if has_v4 => (vec![v4, v6], None),
        Some(Ok(v6)) => (vec![v6], None),
        Some(Err(error)) if has_v4 => (vec![v4], Some(error.into())),
        Some(Err(error)) => return Err(error.into()),
    };
    Ok((said.into_iter().map(EventKind::Up).map(about).collect(), left_out))
}

/// The tunnel's IPv6. A tun device leads to one peer, and needs no gateway: OpenVPN's own routes by it have none either.
/// A tap needs the router on its Ethernet, which OpenVPN takes from `ifconfig-ipv6` unless a route has one of its own.
fn addresses6(local: &str, env: Env, is_tap: bool) -> Result<Addresses, InvalidValue> {
    let local = address6("IPv6 address", local)?;
    let gateway = match (is_tap, var(env, "ifconfig_ipv6_remote"), var(env, "route_ipv6_gateway_1")) {
        (true, Some(remote), _) => address6("ifconfig_ipv6_remote", &remote)?,
        (true, None, Some(gateway)) => address6("route_ipv6_gateway_1", &gateway)?,
        _ => None,
    };
    Ok(Addresses { local, gateway, resolvers: resolvers::of_openvpn(env, Family::V6), ..Addresses::none(Family::V6) })
}

/// openvpn-plugin-down-root runs its command with the environment of *up*, but without `script_type`, and without the
/// six arguments of a script.
fn is_down_root(args: &Args, env: Env) -> bool {
    args.context.is_none() && var(env, "script_context").is_some()
}

/// The gateway: a router on the Ethernet behind a tap, the peer behind a tun.
fn gateway(args: &Args, env: Env, is_tap: bool) -> Result<Option<HostAddr>, InvalidValue> {
    if is_tap {
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

    /// The kinds of the events, of which none is left out.
    fn kinds(argv: &[&str], vars: &[(&str, &str)]) -> Vec<EventKind> {
        let (events, left_out) = events(&args(argv), &env_of(vars)).unwrap();
        assert_eq!(left_out, None, "{argv:?} {vars:?}");
        events.into_iter().map(|event| event.kind).collect()
    }

    fn ups(expected: &[Addresses]) -> Vec<EventKind> {
        expected.iter().cloned().map(EventKind::Up).collect()
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
        const DOWN6: [(&str, &str); 2] = [("ifconfig_ipv6_local", "garbage"), ("script_type", "down")];
        const PLUGIN: [(&str, &str); 3] = [("dev", "tun0"), ("script_context", "init"), ("ifconfig_local", "10.8.0.6")];
        let up = ups(&[v4("10.8.0.6", "10.8.0.5")]);
        let both = ups(&[v4("10.8.0.6", "10.8.0.5"), v6("2001:db8::2", "")]);
        // Whatever it had: the environment of down need not say what that of up has said.
        let down = Family::BOTH.map(EventKind::Down).to_vec();
        for (argv, vars, expected) in [
            (&NET30[..], &[][..], &up),
            (&NET30, &[("script_type", "")], &up),
            (&NET30, &[("script_type", "up")], &up),
            (&NET30, &[("script_type", "up"), ("script_context", "restart")], &up),
            (&NET30, &[("script_type", "down")], &down),
            (&NET30, &[("script_type", "route-pre-down")], &down),
            (&["tun0"], &[("script_type", "route-pre-down")], &down),
            // What is gone has no addresses that could be wrong.
            (&["tun0", "", "", "garbage", "garbage"], &[("script_type", "down")], &down),
            (&NET30, &DOWN6, &down),
            (&NET30, &UP6, &both),
            (&EMPTY, &DOWN6, &down),
            (&EMPTY, &UP6, &ups(&[v6("2001:db8::2", "")])),
            // openvpn-plugin-down-root, as it is and with the interface written out.
            (&[], &PLUGIN, &down),
            (&["tun0"], &PLUGIN, &down),
            (&NET30, &PLUGIN, &up),
        ] {
            assert_eq!(kinds(argv, vars), *expected, "{argv:?} {vars:?}");
        }
        let restart = ["tun0", "1500", "0", "10.8.0.6", "10.8.0.5", "restart"];
        assert_eq!(kinds(&restart, &[]), up);
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
            assert_eq!(kinds(argv, vars), ups(&[expected]), "{argv:?} {vars:?}");
        }
    }

    #[test]
    fn a_tunnel_has_both_families_or_one() {
        let local = ("ifconfig_ipv6_local", "2001:db8::2");
        let remote = ("ifconfig_ipv6_remote", "2001:db8::1");
        let route = ("route_ipv6_gateway_1", "2001:db8::9");
        let tap0 = ["tap0", "1500", "0", "10.8.0.6", "255.255.255.0", "init"];
        let no_v4 = ["tap0", "1500", "0", "", "", "init"];
        let (four, six) = (v4("10.8.0.6", "10.8.0.5"), v6("2001:db8::2", ""));
        for (argv, vars, expected) in [
            (&NET30[..], &[local, remote, route][..], &[four.clone(), six.clone()][..]),
            (&NET30, &[remote, route], &[four]),
            (&EMPTY, &[local, remote], std::slice::from_ref(&six)),
            (&["tun0"], &[local], std::slice::from_ref(&six)),
            (&EMPTY, &[remote], &[v4("", "")]),
            (&EMPTY, &[local, ("ifconfig_local", "10.8.0.6")], &[v4("10.8.0.6", ""), six.clone()]),
            // Behind a tap, the router on its Ethernet.
            (&tap0, &[local, remote, route], &[v4("10.8.0.6", ""), v6("2001:db8::2", "2001:db8::1")]),
            (&tap0, &[local, route], &[v4("10.8.0.6", ""), v6("2001:db8::2", "2001:db8::9")]),
            (&tap0, &[local], &[v4("10.8.0.6", ""), six.clone()]),
            (&no_v4, &[local, remote], &[v6("2001:db8::2", "2001:db8::1")]),
            // Its IPv4 address comes by DHCP.
            (&no_v4, &[local, ("route_vpn_gateway", "10.8.0.1")], &[v4("", "10.8.0.1"), six.clone()]),
        ] {
            assert_eq!(kinds(argv, vars), ups(expected), "{argv:?} {vars:?}");
        }
    }

    #[test]
    fn a_wrong_word_about_ipv6_does_not_cost_the_ipv4() {
        let tap0 = ["tap0", "1500", "0", "10.8.0.6", "255.255.255.0", "init"];
        let local = ("ifconfig_ipv6_local", "2001:db8::2");
        for (argv, vars, why) in [
            (&NET30[..], &[("ifconfig_ipv6_local", "x;rm -rf /\n")][..], "IPv6 address \"x;rm -rf /\\n\""),
            (&NET30, &[("ifconfig_ipv6_local", "::1")], "IPv6 address \"::1\" is not valid: no host"),
            (&NET30, &[("ifconfig_ipv6_local", "10.8.0.7")], "IPv6 address \"10.8.0.7\" is not valid: write an IPv6"),
            (
                &tap0,
                &[local, ("ifconfig_ipv6_remote", "ff02::1")],
                "ifconfig_ipv6_remote \"ff02::1\" is not valid: no host",
            ),
            (&tap0, &[local, ("route_ipv6_gateway_1", "vpn")], "route_ipv6_gateway_1 \"vpn\""),
        ] {
            let (events, left_out) = events(&args(argv), &env_of(vars)).unwrap();
            assert_eq!((events.len(), events[0].kind.family()), (1, Family::V4), "{vars:?}");
            let error = left_out.unwrap();
            assert_loggable(&error);
            assert!(error.to_string().starts_with(why), "{error}");
        }
        // Of a tun nobody asks for a gateway.
        let vars = [local, ("ifconfig_ipv6_remote", "x"), ("route_ipv6_gateway_1", "x")];
        assert_eq!(kinds(&NET30, &vars), ups(&[v4("10.8.0.6", "10.8.0.5"), v6("2001:db8::2", "")]));
    }

    #[test]
    fn interface_and_session_come_from_arguments_and_environment() {
        for (argv, vars, interface, session) in [
            (&["tun0"][..], &[("dev", "tun1"), ("daemon_pid", "4711")][..], "tun0", Some(4711)),
            (&[""], &[("dev", "tun1"), ("daemon_pid", "-1")], "tun1", None),
            (&[], &[("dev", "tun1"), ("daemon_pid", "x;rm")], "tun1", None),
            (&["tun0"], &[], "tun0", None),
        ] {
            let event = events(&args(argv), &env_of(vars)).unwrap().0.remove(0);
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
                "IPv6 address \"10.8.0.6\" is not valid: write an IPv6",
            ),
            (&local(""), &[("ifconfig_ipv6_local", "::1")], "IPv6 address \"::1\" is not valid: no host"),
        ] {
            let error = events(&args(argv), &env_of(vars)).unwrap_err();
            assert_loggable(&error);
            assert!(error.to_string().starts_with(why), "{error}");
        }
        for script_type in ["route-up", "ipchange", "tls-verify", "client-connect", "UP", "up ", "up\n", &long] {
            let error = events(&args(&NET30), &env_of(&[("script_type", script_type)])).unwrap_err();
            assert_loggable(&error);
            assert!(error.to_string().ends_with("OpenVPN's up, down or route-pre-down"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(
            argv in proptest::array::uniform4(proptest::option::of("t[au][np]0|10\\.8\\.0\\.1|255.255.255.0||(?s).*")),
            script_type in proptest::option::of("up|down|route-pre-down|(?s).*"),
            vars in proptest::array::uniform10(proptest::option::of("t[au][np]0?|10\\.8\\.0\\.1|fe80::1|[0-9]{1,12}||(?s).*")),
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
                "route_ipv6_gateway_1",
                "route_vpn_gateway",
                "daemon_pid",
            ];
            let env = |name: &str| match name {
                "script_type" => script_type.clone(),
                _ => names.iter().position(|n| *n == name).and_then(|i| vars[i].clone()),
            };
            match events(&args, &env) {
                Ok((events, left_out)) => {
                    prop_assert!((1..=2).contains(&events.len()));
                    left_out.iter().for_each(assert_loggable);
                }
                Err(error) => assert_loggable(&error),
            }
        }

        #[test]
        fn no_command_line_makes_it_panic(argv in proptest::collection::vec("(?s).*", 0..9)) {
            if let Ok(cli) = Cli::try_parse_from(std::iter::once("mh-vpn-up".to_owned()).chain(argv)) {
                let _ = events(&cli.args, &|_| None);
            }
        }
    }
}
