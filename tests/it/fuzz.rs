//! Rubbish from everywhere: configurations that somebody has edited by hand, arguments and environments of any caller,
//! records that are no records. Nothing panics, nothing hangs, and what is wrong is said on one line.
//!
//! `make test` tries 256 cases of each, `make stress` many more.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use clap::Parser;
use multihome::config::{self, Policy};
use multihome::ctl::check::advice;
use multihome::event::{openvpn, pppd};
use multihome::hook::{IpDown, IpUp, VpnUp};
use multihome::reconcile::desired::{DefaultRouteMode, Desired};
use multihome::reconcile::link_state::Live;
use multihome::state::clock::Moment;
use multihome::state::records::Store;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

const ARTICLE: &str = include_str!("../../src/config/tests/article.toml");

/// Every key with a value that is allowed.
const FULL: &str = include_str!("../../src/config/tests/every-key.toml");

/// Cases of each property: many in `make stress`, which says so by `PROPTEST_CASES`.
fn cases() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

/// A word that is right somewhere, and most often wrong here.
fn word() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &[
        "0",
        "-1",
        "1",
        "256",
        "257",
        "65535",
        "65536",
        "4294967295",
        "4294967296",
        "9223372036854775807",
        "99999999999999999999",
        "1e9",
        "nan",
        "0x7fffffff",
        "true",
        "\"\"",
        "\"main\"",
        "\"ppp0\"",
        "\"isp1\"",
        "\"dsl\"",
        "\"0.0.0.0\"",
        "\"255.255.255.255/0\"",
        "\"::1\"",
        "\"10.0.0.1/33\"",
        "\"1-0\"",
        "\"0-65535\"",
        "\"1s\"",
        "\"-1s\"",
        "\"584942417355years\"",
        "\"default\"",
        "\"objects\"",
        "[]",
        "[[]]",
        "[1, \"1\"]",
        "{}",
        "{a = 1}",
        "[[policy]]",
        "[settings]",
        "[uplink]",
        "[[tunnel]]",
        "name = ",
        "via = ",
        "=",
        "\"\"\"",
        "'",
        "#",
        "\u{0}",
        "\u{feff}",
        "\u{202e}",
        "\r",
        "1979-05-27T07:32:00Z",
        "\"\\u0000\"",
        "\"\\u001b[2J\"",
    ];
    prop_oneof![4 => select(WORDS).prop_map(str::to_owned), 1 => ".{0,40}", 1 => "[\\[{(]{1,3000}", 1 => "9{1,400}"]
}

/// What somebody does to a file.
#[derive(Debug, Clone)]
enum Edit {
    DeleteLine(Index),
    CopyLine(Index, Index),
    Value(Index, String),
    Insert(Index, String),
    Cut(Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        at().prop_map(Edit::DeleteLine),
        (at(), at()).prop_map(|(from, to)| Edit::CopyLine(from, to)),
        (at(), word()).prop_map(|(line, value)| Edit::Value(line, value)),
        (at(), word()).prop_map(|(at, text)| Edit::Insert(at, text)),
        at().prop_map(Edit::Cut),
    ]
}

fn edited(text: &str, edits: &[Edit]) -> String {
    let mut text = text.to_owned();
    for edit in edits {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        if lines.is_empty() {
            break;
        }
        let count = lines.len();
        match edit {
            Edit::DeleteLine(at) => drop(lines.remove(at.index(count))),
            Edit::CopyLine(from, to) => lines.insert(to.index(count), lines[from.index(count)].clone()),
            Edit::Value(at, value) => {
                let line = &mut lines[at.index(count)];
                if let Some((key, _)) = line.split_once('=') {
                    *line = format!("{key}= {value}");
                }
            }
            Edit::Insert(at, new) => {
                let line = &mut lines[at.index(count)];
                let mut middle = at.index(line.len() + 1);
                while !line.is_char_boundary(middle) {
                    middle -= 1;
                }
                line.insert_str(middle, new);
            }
            Edit::Cut(at) => lines.truncate(at.index(count)),
        }
        text = lines.join("\n");
    }
    text
}

/// One line, not a flood, and nothing that a terminal would obey.
fn assert_loggable(text: &str) {
    assert!(!text.is_empty() && text.len() < 3000 && !text.chars().any(char::is_control), "{text:?}");
}

/// What a caller may pass: words that mean something, mixed with bytes that mean nothing.
fn argument() -> impl Strategy<Value = OsString> {
    const WORDS: &[&str] = &[
        "ppp0",
        "tun0",
        "",
        "/dev/pts/7",
        "115200",
        "198.51.100.10",
        "198.51.100.1",
        "0.0.0.0",
        "255.255.255.0",
        "fe80::1",
        "::",
        "127.0.0.1",
        "isp1",
        "init",
        "restart",
        "1500",
        "0",
        "--",
        "-v",
        "--dry-run",
        "--strict",
        "--config",
        "--state-dir",
        "--version",
        "-",
        "--config=",
        "--what",
    ];
    prop_oneof![
        6 => select(WORDS).prop_map(OsString::from),
        1 => vec(1..=255_u8, 0..40).prop_map(OsString::from_vec),
        1 => ".{0,40}".prop_map(OsString::from),
        1 => (1000..70_000_usize).prop_map(|length| OsString::from("x".repeat(length))),
    ]
}

/// Variables by which callers say something.
const VARIABLES: [&str; 19] = [
    "PPPD_PID",
    "LINKNAME",
    "PPP_IPPARAM",
    "PPP_LOCAL",
    "PPP_REMOTE",
    "script_type",
    "script_context",
    "dev",
    "dev_type",
    "ifconfig_local",
    "ifconfig_remote",
    "ifconfig_netmask",
    "ifconfig_ipv6_local",
    "ifconfig_ipv6_remote",
    "route_ipv6_gateway_1",
    "LLLOCAL",
    "LLREMOTE",
    "route_vpn_gateway",
    "daemon_pid",
];

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_configuration_is_taken_or_refused_on_one_line(
        base in select(vec![ARTICLE, FULL]),
        edits in vec(edit(), 0..6),
    ) {
        let text = edited(base, &edits);
        match config::parse(&text, Path::new("/etc/multihome.toml")) {
            Err(error) => assert_loggable(&error.to_string()),
            Ok(config) => {
                for make in [DefaultRouteMode::Objects, DefaultRouteMode::Multipath] {
                    // Those of marks and sources, and for main one more before guards, in each family.
                    let own = 2 * (2 * config.links.len() + 2);
                    let policies: usize = config.policies.iter().map(Policy::rule_count).sum();
                    // A rule that refuses has at least one other before it, and a guard.
                    prop_assert!(Desired::new(&config, &Live::default(), make).rules.len() <= own + 4 * policies);
                }
                advice::advice(&config);
            }
        }
        config::places(&text);
    }

    #[test]
    fn any_arguments_and_environment_are_taken_or_refused_on_one_line(
        arguments in vec(argument(), 0..10),
        values in vec(argument(), VARIABLES.len()),
    ) {
        // What is no text says nothing, as with std::env::var().
        let env = |name: &str| {
            let at = VARIABLES.iter().position(|variable| *variable == name)?;
            values[at].clone().into_string().ok()
        };
        let arguments = || std::iter::once(OsString::from("hook")).chain(arguments.iter().cloned());
        let mut events = Vec::new();
        if let Ok(cli) = IpUp::try_parse_from(arguments()) {
            events.push(pppd::event(&cli.args, true, &env));
        }
        if let Ok(cli) = IpDown::try_parse_from(arguments()) {
            events.push(pppd::event(&cli.args, false, &env));
        }
        if let Ok(cli) = VpnUp::try_parse_from(arguments()) {
            match openvpn::events(&cli.args, &env) {
                Ok((told, left_out)) => {
                    events.extend(told.into_iter().map(Ok));
                    events.extend(left_out.map(Err));
                }
                Err(error) => events.push(Err(error)),
            }
        }
        for event in events {
            match event {
                Err(error) => assert_loggable(&error.to_string()),
                Ok(event) => prop_assert!(event.interface.as_str().len() < 16 && !event.interface.as_str().contains('/')),
            }
        }
    }

    #[test]
    fn any_record_is_read_or_refused_on_one_line(
        edits in vec(edit(), 0..5),
        rubbish in proptest::option::of(vec(any::<u8>(), 0..3000)),
    ) {
        let boot = Moment::now().boot;
        let entry = |interface: &str, name: &str| format!(
            "interface = \"{interface}\"\nindex = 7\nnames = [\"{name}\"]\nsession = 4711\nsince = 1700000000\n\
             since-boot = 1\nboot = \"{boot}\"\nlink = \"{name}\"\n[v4]\nlocal = \"198.51.100.10\"\n\
             gateway = \"198.51.100.1\"\n"
        );
        // As version 0.1 wrote them.
        let old = "interface = \"tun0\"\nindex = 8\nsession = 4711\nsince = 1700000000\n\n[v4]\nlocal = \"10.8.0.2\"\n\
                   gateway = \"10.8.0.1\"\n\n[v6]\nlocal = \"fe80::1\"\nremote = \"fe80::2\"\n";
        let hold = "pid = 1\nstarted = 5\nuntil = 18446744073709551615\n";
        let config = config::parse(ARTICLE, Path::new("x")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        let write = |name: &str, base: &str| {
            let text = rubbish.clone().unwrap_or_else(|| edited(base, &edits).into_bytes());
            fs::write(dir.path().join(name), text).unwrap();
        };
        write("ppp0.ipv4", &entry("ppp0", "isp1"));
        write("isp1.hold", hold);
        write("office.toml", old);
        fs::write(dir.path().join("ppp1.ipv4"), entry("ppp1", "isp2").replace("index = 7", "index = 4242")).unwrap();
        let (records, errors) = store.load(&config);
        for error in &errors {
            assert_loggable(&error.to_string());
        }
        // One that is right is read whatever stands beside it.
        prop_assert!(records.keys().any(|name| name.as_str() == "isp2"));
        prop_assert!(errors.len() <= 3);
        // To write the old one anew changes nothing for who reads.
        store.convert_old(&store.records().0).unwrap();
        prop_assert_eq!(store.load(&config).0, records);
    }
}
