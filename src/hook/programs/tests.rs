//! What a caller says is never an option.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use clap::{CommandFactory, Parser};
use proptest::prelude::*;

use super::{IpDown, IpUp, VpnUp};
use crate::cli::{Call, Common};
use crate::event::{Error, Event, openvpn, pppd};

fn call<Cli: Parser>(args: &[OsString]) -> Call {
    Call::new(Cli::command, [&[OsString::from("hook")], args].concat())
}

fn words(text: &[&str]) -> Vec<OsString> {
    text.iter().map(OsString::from).collect()
}

fn is_default(common: &Common) -> bool {
    common.config == Path::new(crate::config::DEFAULT_PATH)
        && common.state_dir == Path::new(crate::state::records::DEFAULT_DIR)
        && !common.dry_run
        && !common.verbose
}

/// What `mh-ip-up` makes of its arguments with an empty environment.
fn event(args: &[OsString]) -> Result<Event, Error> {
    let cli: IpUp = call::<IpUp>(args).try_parse().unwrap();
    assert!(is_default(&cli.common), "{args:?}");
    pppd::event(&cli.args, true, &|_| None)
}

#[test]
fn options_stand_before_the_first_word() {
    for (argv, end) in [
        (&[][..], 1),
        (&["ppp0", "--dry-run"], 1),
        (&["-v", "--dry-run", "ppp0", "-v"], 3),
        (&["--config", "/x", "ppp0", "--strict"], 3),
        (&["--config=/x", "ppp0"], 2),
        (&["--config=/x", "--state-dir", "/y", "--strict"], 5),
        // clap takes no option for a value either.
        (&["--config", "--strict", "ppp0"], 3),
        (&["-", "--strict"], 1),
        (&["-v", "--", "--strict"], 2),
        (&["--config"], 2),
    ] {
        assert_eq!(call::<VpnUp>(&words(argv)).end, end, "{argv:?}");
    }
    let strict = |argv: &[&str]| call::<VpnUp>(&words(argv)).has("--strict");
    assert!(strict(&["--strict", "tun0"]) && !strict(&["tun0", "--strict"]) && !strict(&["--", "--strict"]));
    let cli: VpnUp = call::<VpnUp>(&words(&["--config", "/x", "-v", "--strict", "tun0"])).try_parse().unwrap();
    assert!(cli.strict && cli.common.verbose && cli.common.config == Path::new("/x"));
    assert_eq!(Call::new(VpnUp::command, Vec::new()).end, 0);
}

/// The only kind of option whose value `takes_value` does not see.
#[test]
fn no_short_option_takes_a_value() {
    for command in [IpUp::command(), IpDown::command(), VpnUp::command()] {
        for arg in command.get_arguments().filter(|arg| arg.get_short().is_some()) {
            assert!(!arg.get_action().takes_values(), "{arg:?}");
        }
    }
}

#[test]
fn an_ipparam_that_is_no_text_names_no_link_and_a_tty_may_be_anything() {
    let bytes = |text: &[u8]| OsString::from_vec(text.to_vec());
    let mut args = words(&["ppp0", "tty", "0", "198.51.100.10", "198.51.100.1", "isp1"]);
    (args[1], args[2], args[5]) = (bytes(b"\xff"), bytes(b"-\xfe"), bytes(b"isp1\xff"));
    assert_eq!(event(&args).unwrap().names, ["isp1\u{fffd}"]);
    args[3] = bytes(b"198.51.100.\xff");
    let error = call::<IpUp>(&args).try_parse::<IpUp>().unwrap_err();
    assert_eq!(error.kind(), clap::error::ErrorKind::InvalidUtf8);
}

/// Arguments that look like a hook's options, like another program's, and like anything.
fn hostile() -> impl Strategy<Value = OsString> {
    let known = prop::sample::select(vec![
        "--config=/home/x/evil.toml",
        "--config",
        "--conf=/x",
        "--c",
        "--state-dir=/x",
        "--state-dir",
        "--dry-run",
        "--dry-run=true",
        "--strict",
        "--help",
        "--version",
        "--verbose",
        "-v",
        "-vv",
        "-vh",
        "-h",
        "-V",
        "--",
        "-",
        "",
        "help",
        "@/etc/shadow",
    ]);
    prop_oneof![
        4 => known.prop_map(OsString::from),
        1 => "-{0,3}[a-z]{0,8}(=\\PC*)?".prop_map(OsString::from),
        1 => prop::collection::vec(1_u8.., 0..20).prop_map(OsString::from_vec),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_pppd_says_is_an_option(tty in hostile(), speed in hostile(), ipparam in hostile()) {
        let addresses = ["198.51.100.10", "198.51.100.1"].map(OsString::from);
        let args = ["ppp0".into(), tty, speed, addresses[0].clone(), addresses[1].clone(), ipparam.clone()];
        let event = event(&args).unwrap();
        prop_assert_eq!(event.interface.as_str(), "ppp0");
        let name = ipparam.to_string_lossy().into_owned();
        prop_assert_eq!(event.names, Vec::from_iter(Some(name).filter(|name| !name.is_empty())));
    }

    /// Of any other number, and in any place, it is a usage error, or an address that is none.
    #[test]
    fn nothing_in_any_place_is_an_option(said in prop::collection::vec(hostile(), 0..9)) {
        let args: Vec<_> = std::iter::once(OsString::from("ppp0")).chain(said).collect();
        let refused = |error: clap::Error| assert_eq!(error.exit_code(), 2, "{args:?}");
        call::<IpDown>(&args).try_parse().map_or_else(refused, |cli: IpDown| assert!(is_default(&cli.common)));
        call::<VpnUp>(&args).try_parse().map_or_else(refused, |cli: VpnUp| {
            assert!(is_default(&cli.common) && !cli.strict);
            let _ = openvpn::events(&cli.args, &|_| None);
        });
        prop_assert!(!call::<VpnUp>(&args).has("--strict"));
    }
}
