//! What events make of the records: a stale *down* never takes away what a newer session has brought.

use multihome::config::{self, Config};
use multihome::event::{Addresses, Event, EventKind, Family};
use multihome::state::clock::Moment;
use multihome::state::records::{Effect, Records};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::support::*;
use fs2::FileExt;
use proptest::prelude::*;

/// What happens to one link.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Another pppd, on a new device that may bear the name of an older one.
    Dial { unit: u8 },
    /// The newest session has an address.
    Up(Family),
    /// A session has lost it; told perhaps long after.
    Down(prop::sample::Index, Family),
}

/// A pppd and its device.
#[derive(Debug, Clone, PartialEq)]
struct Session {
    pid: u32,
    interface: String,
    index: u32,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
    let step = prop_oneof![
        (0..2_u8).prop_map(|unit| Step::Dial { unit }),
        family.clone().prop_map(Step::Up),
        (any::<prop::sample::Index>(), family).prop_map(|(which, family)| Step::Down(which, family)),
    ];
    proptest::collection::vec(step, 1..20)
}

fn addresses(family: Family) -> Addresses {
    let (local, gateway) = match family {
        Family::V4 => ("198.51.100.10", "198.51.100.1"),
        Family::V6 => ("fe80::1", "fe80::2"),
    };
    Addresses { local: local.parse().ok(), gateway: gateway.parse().ok(), ..Addresses::none(family) }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_link_is_where_the_newest_of_its_sessions_that_are_up_is(steps in steps()) {
        let config = config();
        let mut sessions = vec![Session { pid: 1000, interface: "ppp0".to_owned(), index: 10 }];
        let mut records = Records::default();
        // Which session has said last that an interface is up, by interface and family; the newest last.
        let mut up: Vec<(usize, Family)> = Vec::new();
        for (step, since_boot) in steps.into_iter().zip(1..) {
            let newest = sessions.len() - 1;
            let (who, kind) = match step {
                Step::Dial { unit } => {
                    let n = u32::try_from(newest).unwrap() + 1;
                    sessions.push(Session { pid: 1000 + n, interface: format!("ppp{unit}"), index: 10 + n });
                    continue;
                }
                Step::Up(family) => {
                    let interface = &sessions[newest].interface;
                    up.retain(|(who, other)| *other != family || sessions[*who].interface != *interface);
                    up.push((newest, family));
                    (newest, EventKind::Up(addresses(family)))
                }
                Step::Down(which, family) => {
                    let who = which.index(sessions.len());
                    up.retain(|other| *other != (who, family));
                    (who, EventKind::Down(family))
                }
            };
            let Session { pid, interface, index } = sessions[who].clone();
            let names = vec!["isp1".to_owned()];
            let event = Event { kind: kind.clone(), interface: interface.parse().unwrap(), names, session: Some(pid) };
            let now = Moment { unix: 0, since_boot, boot: String::new() };
            let effect = records.effect(&event, Some(index), Some(&config), now);
            prop_assert_eq!(matches!(effect, Effect::Put(_)), matches!(kind, EventKind::Up(_)));
            records.carry_out(&effect);
            let records = records.by_link(&config);
            let record = records.values().next();
            prop_assert_eq!(record.is_some(), !up.is_empty(), "{:?}", event);
            let v4 = up.iter().rev().find(|(_, family)| *family == Family::V4);
            let v6 = up.iter().rev().find(|(_, family)| *family == Family::V6);
            if let (Some(record), Some((who, _))) = (record, v4.or(v6)) {
                let Session { pid, index, .. } = &sessions[*who];
                prop_assert_eq!((record.session, record.index), (Some(*pid), *index));
                prop_assert_eq!(record.v4.is_some(), v4.is_some());
            }
        }
    }
}

fn config() -> Config {
    config::parse("[[uplink]]\nname = 'isp1'\ninterface = 'ppp0'\n", Path::new("f")).unwrap()
}

/// The records that version 0.1 wrote of both lines.
fn old_records(server: &Server) {
    for (link, line) in [("isp1", ISP1), ("isp2", ISP2)] {
        let path = server.state().join(format!("{}.ipv4", line.device));
        let text = fs::read_to_string(&path).unwrap();
        let kept = |line: &&str| {
            !["names", "since-boot", "boot", "link"].iter().any(|key| line.starts_with(&format!("{key} =")))
        };
        let old: Vec<_> = text.lines().filter(kept).collect();
        fs::write(server.state().join(format!("{link}.toml")), old.join("\n") + "\n").unwrap();
        fs::remove_file(path).unwrap();
    }
}

fn files(server: &Server) -> Vec<String> {
    let names = fs::read_dir(server.state()).unwrap().map(|record| record.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| !name.ends_with("lock")).collect();
    names.sort();
    names
}

#[test]
fn an_upgrade_while_lines_are_up_keeps_them_up() {
    let upgraded = || {
        let server = Server::new(&with_settings(ARTICLE, "settle-timeout = \"0s\""));
        server.up(ISP1);
        server.up(ISP2);
        old_records(&server);
        server
    };
    apart(move || {
        // Who only looks converts nothing.
        let server = upgraded();
        let (both, prober) = (held(), Prober::start());
        ok(server.with_args(CTL, &["plan"]).option("-v"));
        assert_eq!(files(&server), ["isp1.toml", "isp2.toml"]);
        server.apply();
        assert_eq!((held(), files(&server)), (both.clone(), vec!["ppp0.ipv4".to_owned(), "ppp1.ipv4".to_owned()]));
        assert_eq!(prober.stop().unreachable, 0);
        // Another session's end is stale, its own is not.
        ok(&mut server.hook(DOWN, Line { pid: 7, ..ISP1 }));
        assert_eq!(held(), both);
        ok(&mut server.hook(DOWN, ISP1));
        assert_eq!(files(&server), ["ppp1.ipv4"]);
        assert_eq!(defaults("main"), ["default nhid 7100 via 203.0.113.1 dev ppp1 proto 77"]);
    });
    apart(move || {
        // The first that happens is the end of a line.
        let server = upgraded();
        ok(&mut server.hook(DOWN, ISP1));
        assert_eq!(files(&server), ["ppp1.ipv4"]);
        assert_eq!(defaults("main"), ["default nhid 7100 via 203.0.113.1 dev ppp1 proto 77"]);
        // Killed between the two files: what is over does not come back.
        fs::write(server.state().join("isp2.toml"), fs::read(server.state().join("ppp1.ipv4")).unwrap()).unwrap();
        ok(&mut server.hook(DOWN, ISP2));
        assert_eq!((files(&server), defaults("main")), (vec![], vec![]));
    });
}

#[test]
fn a_record_of_an_older_version_is_converted_once() {
    let server = Server::new(&with_settings(ARTICLE, "settle-timeout = \"0s\""));
    server.up(ISP1);
    server.up(ISP2);
    old_records(&server);
    server.apply();
    let file = || fs::metadata(server.state().join("ppp0.ipv4")).unwrap().ino();
    let before = file();
    ok(&mut server.hook(UP, ISP2));
    assert_eq!(file(), before);
    // A link that ends while another process is about to convert its record stays down.
    old_records(&server);
    let lock = fs::File::open(server.state().join("records.lock")).unwrap();
    lock.lock_exclusive().unwrap();
    let apply = start(server.bare(CTL).arg("apply"));
    until("apply waits for the lock", || {
        let opened = fs::read_dir(format!("/proc/{}/fd", apply.id())).unwrap().map(|entry| entry.unwrap().path());
        let mut opened = opened.filter_map(|path| fs::read_link(path).ok());
        opened.any(|path| path == server.state().join("records.lock"))
    });
    fs::remove_file(server.state().join("isp1.toml")).unwrap();
    drop(lock);
    finish(apply);
    assert_eq!(files(&server), ["ppp1.ipv4"]);
    assert_eq!(defaults("main"), ["default nhid 7100 via 203.0.113.1 dev ppp1 proto 77"]);
}

#[test]
fn what_was_said_before_the_system_booted_does_not_count() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    let path = server.state().join("ppp0.ipv4");
    let text = fs::read_to_string(&path).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(text.contains(boot.trim()), "{text}");
    fs::write(&path, text.replace(boot.trim(), "0fb9b4b8-0000-4000-8000-000000000000")).unwrap();
    server.apply();
    assert_eq!(defaults("main"), [""; 0]);
    ok(&mut server.hook(UP, ISP1));
    assert_eq!(defaults("main"), ["default nhid 7100 via 198.51.100.1 dev ppp0 proto 77"]);
}

#[test]
fn of_two_lines_of_one_name_the_other_takes_over_when_the_newest_ends() {
    let server = Server::new(&with_settings(ARTICLE, "settle-timeout = \"0s\""));
    server.up(ISP1);
    let second = Line { device: "ppp5", pid: 2002, ..ISP1 };
    server.up(second);
    let defaults_by = |device: &str| vec![format!("default nhid 7100 via 198.51.100.1 dev {device} proto 77")];
    assert_eq!(defaults("main"), defaults_by("ppp5"));
    let said = ok(server.hook(DOWN, second).option("-v")).stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("isp1 down on ppp5, and up on ppp0 by another session; links up: isp1; "), "{said}");
    assert_eq!(defaults("main"), defaults_by("ppp0"));
    ok(&mut server.hook(DOWN, ISP1));
    assert_eq!((defaults("main"), files(&server)), (vec![], vec![]));
}
