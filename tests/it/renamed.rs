//! A link that is renamed in the configuration while it is up is the same line still.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::support::ctl::*;
use crate::support::*;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

/// The article's first link under another name; pppd goes on to call it by the old one.
fn renamed() -> String {
    with_settings(&ARTICLE.replace("\"isp1\"", "\"wan1\""), "settle-timeout = \"0s\"")
}

/// What is in the state directory.
fn files(server: &Server) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(server.state())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| !name.ends_with("lock"))
        .collect();
    names.sort();
    names
}

/// What a command says with `-v`.
fn told(command: &mut Command) -> String {
    String::from_utf8(ok(command.option("-v")).stderr).unwrap()
}

/// Only the packet filter has the name, in that of a chain.
fn assert_no_route_moves(server: &Server) {
    let plan = said(server, "plan");
    assert!(plan.contains(":MULTIHOME-wan1 ") && !plan.lines().any(|line| line.starts_with("ip ")), "{plan}");
}

const ADOPTED: &str = "wan1 goes on with the record of isp1, which is no link any more: it is up on ppp0\n";

#[test]
fn it_keeps_its_routes_and_goes_down_by_its_new_name() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    let before = (held(), fs::read_to_string(server.state().join("isp1.toml")).unwrap());
    let prober = Prober::start();
    server.configure(&renamed());

    // Who only looks writes nothing.
    assert_no_route_moves(&server);
    assert_eq!(json(&server, "status --json")["links"][0]["state"], "up");
    ok(server.hook(UP, ISP1).option("--dry-run"));
    assert_eq!(files(&server), ["isp1.toml"]);

    let line = told(&mut ctl(&server, "apply"));
    assert!(line.contains(ADOPTED), "{line}");
    assert_eq!(files(&server), ["wan1.toml"]);
    assert_eq!((held(), fs::read_to_string(server.state().join("wan1.toml")).unwrap()), before);
    let line = told(&mut ctl(&server, "apply"));
    assert!(!line.contains("goes on"), "{line}");
    assert_eq!(prober.stop().unreachable, 0);

    // The late word of another session is as late as ever, that of its own is not.
    ok(&mut server.hook(DOWN, Line { pid: 7, ..ISP1 }));
    assert_eq!(held(), before.0);
    ok(&mut server.hook(DOWN, ISP1));
    ok(&mut ctl(&server, "apply"));
    assert_eq!(defaults("main"), [""; 0]);
    assert_eq!(files(&server), [""; 0]);
}

#[test]
fn an_event_of_any_link_finds_it() {
    for (name, line) in [("another's up", ISP2), ("its own up", ISP1)] {
        apart(move || {
            let server = Server::new(ARTICLE);
            server.up(ISP1);
            server.configure(&renamed());
            if line.device == ISP2.device {
                line.create();
            }
            let prober = Prober::start();
            let said = told(&mut server.hook(UP, line));
            assert!(said.contains(ADOPTED), "{name}: {said}");
            assert_eq!(prober.stop().unreachable, 0, "{name}");
            assert!(!files(&server).contains(&"isp1.toml".to_owned()), "{name}");
            assert_eq!(defaults("1"), ["default via 198.51.100.1 dev ppp0 table 1 proto 77"], "{name}");
        });
    }
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    server.configure(&renamed());
    ok(&mut server.hook(DOWN, ISP1));
    ok(&mut ctl(&server, "apply"));
    assert_eq!((defaults("main"), files(&server)), (vec![], vec![]));
}

#[test]
fn it_is_found_by_its_ipparam_where_its_interface_has_another_name() {
    let server = Server::new(ARTICLE);
    let elsewhere = Line { device: "ppp7", ..ISP1 };
    server.up(elsewhere);
    let up = held();
    server.configure(&renamed());
    assert!(said(&server, "plan").contains("ip route del table 254 default "));
    server.configure(&renamed().replace("ipparam   = \"wan1\"", "ipparam = \"isp1\""));
    ok(&mut ctl(&server, "apply"));
    assert_eq!((held(), files(&server)), (up, vec!["wan1.toml".to_owned()]));
    ok(&mut server.hook(DOWN, elsewhere));
    assert_eq!((defaults("main"), files(&server)), (vec![], vec![]));
}

#[test]
fn nothing_that_is_left_under_an_old_name_brings_it_back() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    let record = server.state().join("isp1.toml");
    let text = fs::read_to_string(&record).unwrap();
    server.configure(&renamed());
    // Renamed twice; the newest word is the last one.
    let older = text.replace("since = ", "since = 1\n#").replace("198.51.100.1\"", "198.51.100.99\"");
    assert_ne!(text, older);
    for name in ["a", "z"] {
        fs::write(server.state().join(format!("{name}.toml")), &older).unwrap();
    }
    assert_no_route_moves(&server);
    ok(&mut ctl(&server, "apply"));
    assert_eq!(files(&server), ["wan1.toml"]);
    assert_eq!(defaults("1"), ["default via 198.51.100.1 dev ppp0 table 1 proto 77"]);
    // Killed between the two names.
    fs::hard_link(server.state().join("wan1.toml"), &record).unwrap();
    ok(&mut server.hook(DOWN, ISP1));
    ok(&mut ctl(&server, "apply"));
    assert_eq!((defaults("main"), files(&server)), (vec![], vec![]));
}

#[test]
fn a_flush_forgets_what_it_had_under_its_old_name() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    server.configure(&renamed());
    ok(&mut ctl(&server, "flush"));
    assert_eq!((ours(), files(&server)), (vec![], vec![]));
}

#[test]
fn a_record_is_nobodys_whose_interface_is_or_who_needs_none() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    let record = fs::read_to_string(server.state().join("isp1.toml")).unwrap();
    // Its interface is no link's.
    server.configure("[[uplink]]\nname = 'wan1'\ninterface = 'ppp7'\n");
    ok(&mut ctl(&server, "apply"));
    assert_eq!((defaults("main"), files(&server)), (vec![], vec!["isp1.toml".to_owned()]));
    // A static line is up while its interface is: no session that is over takes it down.
    fs::write(server.state().join("isp1.toml"), record.replace("index = ", "index = 9")).unwrap();
    server.configure("[[uplink]]\nname = 'wan1'\ninterface = 'ppp0'\ngateway = '198.51.100.1'\n");
    ok(&mut ctl(&server, "apply"));
    assert_eq!(defaults("main"), ["default nhid 7100 via 198.51.100.1 dev ppp0 proto 77"]);
    assert_eq!(files(&server), ["isp1.toml"]);
    // What the link has itself stays, whatever it is.
    fs::write(server.state().join("isp1.toml"), record).unwrap();
    fs::write(server.state().join("wan1.toml"), "nonsense").unwrap();
    server.configure("[[uplink]]\nname = 'wan1'\ninterface = 'ppp0'\n");
    ok(&mut ctl(&server, "apply"));
    assert_eq!((defaults("main"), files(&server)), (vec![], vec!["isp1.toml".to_owned(), "wan1.toml".to_owned()]));
    assert_eq!(fs::read_to_string(server.state().join("wan1.toml")).unwrap(), "nonsense");
}

#[test]
fn what_else_lies_in_the_directory_is_left_alone() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    let state = server.state();
    let text = fs::read(state.join("isp1.toml")).unwrap();
    server.configure(&renamed());
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("record"), &text).unwrap();
    fs::remove_file(state.join("isp1.toml")).unwrap();
    // Names that no link can have, and names that one can have but that are no records.
    let names = [&b"Isp9.toml"[..], b".isp9.toml", b"main.toml", b"isp9.toml.bak", b"isp9", b"\xff.toml", b"a b.toml"];
    for name in names {
        fs::write(state.join(OsStr::from_bytes(name)), &text).unwrap();
    }
    symlink(outside.path().join("record"), state.join("link.toml")).unwrap();
    mkfifo(&state.join("pipe.toml"), Mode::S_IRWXU).unwrap();
    fs::create_dir(state.join("dir.toml")).unwrap();
    fs::write(state.join("text.toml"), "interface = \"../x\"\n").unwrap();
    let before = files(&server);
    assert_eq!(before.len(), names.len() + 4);
    ok(&mut ctl(&server, "apply"));
    assert_eq!((defaults("main"), files(&server)), (vec![], before));
}
