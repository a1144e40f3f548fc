//! Events of pppd's ip-up, ip-down, ipv6-up and ipv6-down, from six arguments and the environment.

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Addresses, Env, Error, Event, EventKind, arg_or_var, host, resolvers, session, var};
use crate::model::names::{Family, InvalidValue};

/// What pppd passes. Any but the first may be empty. What is not used, and a name that names no link, may be any bytes.
// IFNAME is text here and checked by `event`: clap would copy an invalid value to the log unescaped.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Args {
    /// Interface, such as ppp0
    pub ifname: String,
    /// Terminal or network card that the line runs over (not used)
    pub tty: OsString,
    /// Speed of the terminal (not used)
    pub speed: OsString,
    /// Our address
    pub local: String,
    /// The peer's address
    pub remote: String,
    /// pppd's ipparam: which link it is
    pub ipparam: Option<OsString>,
}

/// The event of `args` and `env`: a link came up (`up`) or went down.
pub fn event(args: &Args, up: bool, env: Env) -> Result<Event, Error> {
    let interface = args.ifname.parse()?;
    let addresses = addresses(args, env)?;
    // Debian's ip-up exports pppd's arguments as PPP_*; LINKNAME is pppd's own.
    let ipparam = args.ipparam.as_deref().map(OsStr::to_string_lossy);
    let ipparam = arg_or_var(ipparam.as_deref(), env, "PPP_IPPARAM");
    Ok(Event {
        kind: if up { EventKind::Up(addresses) } else { EventKind::Down(addresses.family) },
        interface,
        names: ipparam.into_iter().chain(var(env, "LINKNAME")).collect(),
        session: session(env, "PPPD_PID"),
    })
}

fn addresses(args: &Args, env: Env) -> Result<Addresses, Error> {
    const LOCAL: &str = "local address";
    const REMOTE: &str = "remote address";
    // The environment has what is known of both families at that time: the arguments tell which of them it is about.
    let is_ipv6 = args.local.contains(':') || args.remote.contains(':');
    let (local, remote) = if is_ipv6 { ("LLLOCAL", "LLREMOTE") } else { ("IPLOCAL", "IPREMOTE") };
    let local = address(LOCAL, arg_or_var(Some(&args.local), env, local))?;
    let remote = address(REMOTE, arg_or_var(Some(&args.remote), env, remote))?;
    // A missing address has the family of the other one; IPv4 if both are missing.
    let (local, remote) =
        (local.unwrap_or_else(|| unspecified_like(remote)), remote.unwrap_or_else(|| unspecified_like(local)));
    let family = Family::of(local);
    if Family::of(remote) != family {
        return Err(Error::MixedFamilies { local, remote });
    }
    // pppd passes 0.0.0.0 with noremoteip. It also does at an ip-down that it delayed until an ip-up had ended, if a new
    // negotiation has reset the addresses meanwhile.
    let (local, gateway) = (host(LOCAL, local)?, host(REMOTE, remote)?);
    Ok(Addresses { local, gateway, resolvers: resolvers::of_pppd(env, family), ..Addresses::none(family) })
}

fn address(what: &'static str, value: Option<String>) -> Result<Option<IpAddr>, InvalidValue> {
    let Some(value) = value else { return Ok(None) };
    let expected = "write an IPv4 address such as 192.0.2.1 or an IPv6 address such as fe80::1";
    value.parse().map(Some).map_err(|_| InvalidValue::new(what, &value, expected))
}

fn unspecified_like(other: Option<IpAddr>) -> IpAddr {
    match other {
        Some(IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    }
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
        Cli::try_parse_from([&["mh-ip-up"], argv].concat()).unwrap().args
    }

    const PPP0: [&str; 5] = ["ppp0", "/dev/ttyS0", "115200", "198.51.100.2", "198.51.100.1"];

    #[test]
    fn five_and_six_arguments_are_pppds() {
        let five = args(&PPP0);
        assert_eq!((five.ifname.as_str(), five.remote.as_str(), five.ipparam), ("ppp0", "198.51.100.1", None));
        let six = args(&["ppp0", "eth1", "0", "", "", ""]);
        assert_eq!((six.tty.to_str(), six.local.as_str(), six.ipparam), (Some("eth1"), "", Some("".into())));
        for (argv, why) in [
            (&["mh-ip-up"][..], "<IFNAME>"),
            (&["mh-ip-up", "ppp0", "tty", "0", "198.51.100.2"], "<REMOTE>"),
            (&["mh-ip-up", "ppp0", "tty", "0", "198.51.100.2", "198.51.100.1", "isp1", "more"], "'more'"),
            (&["mh-ip-up", "--fast", "ppp0", "tty", "0", "", "", ""], "'--fast'"),
            (&["mh-ip-up", "ppp0", "tty", "0", "", "", "", "--fast"], "'--fast'"),
        ] {
            let error = Cli::try_parse_from(argv).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{argv:?}");
            assert!(error.to_string().contains(why), "{argv:?}: {error}");
        }
    }

    #[test]
    fn the_addresses_of_a_link_that_came_up() {
        let iplocal = [("IPLOCAL", "198.51.100.2"), ("IPREMOTE", "198.51.100.1")];
        // As pppd has it when both are up.
        let both = [iplocal[0], iplocal[1], ("LLLOCAL", "fe80::2"), ("LLREMOTE", "fe80::1")];
        for (local, remote, vars, expected) in [
            ("203.0.113.2", "203.0.113.1", &[][..], v4("203.0.113.2", "203.0.113.1")),
            ("203.0.113.2", "203.0.113.1", &iplocal, v4("203.0.113.2", "203.0.113.1")),
            ("", "", &[], v4("", "")),
            ("", "", &[("IPLOCAL", ""), ("IPREMOTE", "")], v4("", "")),
            ("", "", &iplocal, v4("198.51.100.2", "198.51.100.1")),
            ("203.0.113.2", "", &iplocal, v4("203.0.113.2", "198.51.100.1")),
            ("", "203.0.113.1", &iplocal, v4("198.51.100.2", "203.0.113.1")),
            ("", "203.0.113.1", &[], v4("", "203.0.113.1")),
            ("203.0.113.2", "", &[], v4("203.0.113.2", "")),
            // The device itself; the environment does not overrule it.
            ("203.0.113.2", "0.0.0.0", &iplocal, v4("203.0.113.2", "")),
            ("fe80::2", "fe80::1", &[], v6("fe80::2", "fe80::1")),
            ("fe80::2", "fe80::1", &iplocal, v6("fe80::2", "fe80::1")),
            ("fe80::2", "fe80::1", &both, v6("fe80::2", "fe80::1")),
            ("203.0.113.2", "203.0.113.1", &both, v4("203.0.113.2", "203.0.113.1")),
            ("fe80::2", "", &both, v6("fe80::2", "fe80::1")),
            ("fe80::2", "", &iplocal, v6("fe80::2", "")),
            ("::", "fe80::1", &both, v6("", "fe80::1")),
            ("", "", &both, v4("198.51.100.2", "198.51.100.1")),
            ("fe80::2", "", &[], v6("fe80::2", "")),
            ("", "fe80::1", &[], v6("", "fe80::1")),
        ] {
            let args = args(&["ppp0", "tty", "0", local, remote]);
            let event = event(&args, true, &env_of(vars)).unwrap();
            assert_eq!(event.kind, EventKind::Up(expected), "{local:?} {remote:?} {vars:?}");
        }
    }

    #[test]
    fn the_addresses_of_a_link_that_went_down_tell_the_family() {
        for (local, remote, expected) in [
            ("203.0.113.2", "203.0.113.1", Family::V4),
            ("", "", Family::V4),
            ("0.0.0.0", "0.0.0.0", Family::V4),
            ("fe80::2", "fe80::1", Family::V6),
            ("", "fe80::1", Family::V6),
            ("::", "::", Family::V6),
        ] {
            let event = event(&args(&["ppp0", "tty", "0", local, remote]), false, &env_of(&[])).unwrap();
            assert_eq!(event.kind, EventKind::Down(expected), "{local:?} {remote:?}");
        }
    }

    #[test]
    fn names_come_from_ipparam_and_then_linkname() {
        for (ipparam, vars, expected) in [
            (None, &[][..], &[][..]),
            (Some(""), &[], &[]),
            (Some("isp1"), &[], &["isp1"]),
            (Some("isp1"), &[("LINKNAME", "line")], &["isp1", "line"]),
            (Some("isp1"), &[("PPP_IPPARAM", "isp2")], &["isp1"]),
            (Some(""), &[("PPP_IPPARAM", "isp2"), ("LINKNAME", "line")], &["isp2", "line"]),
            (None, &[("PPP_IPPARAM", "isp2")], &["isp2"]),
            (None, &[("PPP_IPPARAM", ""), ("LINKNAME", "")], &[]),
            (None, &[("LINKNAME", "line")], &["line"]),
            // pppd does not set this variable.
            (None, &[("IPPARAM", "isp1")], &[]),
            // Names are only compared, so anything may be in them.
            (Some(";rm -rf /\n"), &[], &[";rm -rf /\n"]),
        ] {
            let args = Args { ipparam: ipparam.map(OsString::from), ..args(&PPP0) };
            assert_eq!(event(&args, true, &env_of(vars)).unwrap().names, expected, "{ipparam:?} {vars:?}");
        }
    }

    #[test]
    fn the_session_is_pppds_process() {
        for (vars, expected) in
            [(&[][..], None), (&[("PPPD_PID", "4711")], Some(4711)), (&[("PPPD_PID", "-4711")], None)]
        {
            assert_eq!(event(&args(&PPP0), true, &env_of(vars)).unwrap().session, expected, "{vars:?}");
        }
    }

    #[test]
    fn what_cannot_be_is_one_clear_line() {
        let long = "x".repeat(100_000);
        for (ifname, local, remote, why) in [
            ("", "", "", "interface name \"\" is not valid: write 1 to 15"),
            (long.as_str(), "", "", "interface name \"xxx"),
            ("ppp0;rm -rf /", "", "", "interface name \"ppp0;rm -rf /\""),
            ("../ppp0", "", "", "interface name \"../ppp0\""),
            ("ppp0\n", "", "", "interface name \"ppp0\\n\""),
            ("ppp0", "host.example", "", "local address \"host.example\" is not valid: write an IPv4 address"),
            ("ppp0", "192.0.2.1\n", "", "local address \"192.0.2.1\\n\""),
            ("ppp0", "192.0.2.1", ";rm", "remote address \";rm\""),
            ("ppp0", "", long.as_str(), "remote address \"xxx"),
            ("ppp0", "", "192.0.2.1/24", "remote address \"192.0.2.1/24\""),
            ("ppp0", "fe80::1%ppp0", "", "local address \"fe80::1%ppp0\""),
            ("ppp0", "127.0.0.1", "", "local address \"127.0.0.1\" is not valid: no host"),
            ("ppp0", "", "224.0.0.1", "remote address \"224.0.0.1\" is not valid: no host"),
            ("ppp0", "", "255.255.255.255", "remote address \"255.255.255.255\" is not valid: no host"),
            ("ppp0", "::1", "fe80::1", "local address \"::1\" is not valid: no host"),
            ("ppp0", "fe80::2", "ff02::1", "remote address \"ff02::1\" is not valid: no host"),
            (
                "ppp0",
                "192.0.2.1",
                "fe80::1",
                "local address 192.0.2.1 and remote address fe80::1 do not belong together",
            ),
            ("ppp0", "fe80::1", "0.0.0.0", "local address fe80::1 and remote address 0.0.0.0 do not belong together"),
        ] {
            for up in [true, false] {
                let error = event(&args(&[ifname, "tty", "0", local, remote]), up, &env_of(&[])).unwrap_err();
                assert_loggable(&error);
                assert!(error.to_string().starts_with(why), "{error}");
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(
            argv in proptest::array::uniform6("ppp0|192\\.0\\.2\\.1|fe80::1|0.0.0.0||\\PC*|(?s).*"),
            vars in proptest::array::uniform9(proptest::option::of("[0-9]{1,12}|192\\.0\\.2\\.1|fe80::1||(?s).*")),
            up: bool,
        ) {
            let [ifname, tty, speed, local, remote, ipparam] = argv;
            let (tty, speed, ipparam) = (tty.into(), speed.into(), Some(ipparam.into()));
            let args = Args { ifname, tty, speed, local, remote, ipparam };
            let names =
                ["IPLOCAL", "IPREMOTE", "LLLOCAL", "LLREMOTE", "PPP_IPPARAM", "LINKNAME", "PPPD_PID", "DNS1", "DNS2"];
            let env = |name: &str| names.iter().position(|n| *n == name).and_then(|i| vars[i].clone());
            match event(&args, up, &env) {
                Ok(event) => prop_assert_eq!(event.interface.as_str(), args.ifname),
                Err(error) => assert_loggable(&error),
            }
        }

        #[test]
        fn no_command_line_makes_it_panic(argv in proptest::collection::vec("(?s).*", 0..9)) {
            if let Ok(cli) = Cli::try_parse_from(std::iter::once("mh-ip-up".to_owned()).chain(argv)) {
                let _ = event(&cli.args, true, &|_| None);
            }
        }
    }
}
