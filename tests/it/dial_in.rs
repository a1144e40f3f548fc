//! Clients that dial in, and callers that call themselves like another: whose an event is.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::support::*;
use tempfile::TempDir;

/// Both lines as they are after isp1 has reconnected, and found ppp0 taken.
const RECONNECTED: Line = Line { device: "ppp2", ..ISP1 };

/// What an L2TP server's pppd tells of its client: the client's address is the ipparam.
const CLIENT: Line =
    Line { device: "ppp0", local: "192.0.2.1", remote: "203.0.113.77", link: "203.0.113.77", pid: 4242 };

/// The kernel and the records.
type State = (Vec<String>, Vec<(String, String)>);

fn state(server: &Server) -> State {
    let entries = fs::read_dir(server.state()).unwrap().map(|entry| entry.unwrap().path());
    let mut records: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "ipv4" || extension == "ipv6"))
        .map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap()))
        .collect();
    records.sort();
    (held(), records)
}

/// A hook for a line whose pppd has no linkname; what it says with `-v`.
fn told(server: &Server, program: &str, line: Line) -> String {
    let mut hook = server.hook(program, line);
    String::from_utf8(ok(hook.env_remove("LINKNAME").option("-v")).stderr).unwrap()
}

#[test]
fn a_client_that_dials_in_is_no_link_whatever_interface_it_gets() {
    let server = Server::new(ARTICLE);
    server.up(RECONNECTED);
    server.up(ISP2);
    CLIENT.create();
    let before = state(&server);
    assert!(before.0.iter().any(|line| line.contains("dev ppp2 weight 8")), "{before:?}");
    let by_linkname = |program: &str| {
        let mut hook = server.hook(program, Line { link: "", ..CLIENT });
        hook.env("LINKNAME", CLIENT.link).option("-v");
        hook
    };
    for program in [UP, DOWN] {
        let said = told(&server, program, CLIENT);
        // Once a session: it may be isp1's, misspelt.
        let weight = if program == UP { "WARN" } else { "DEBUG" };
        assert!(
            said.trim_start().starts_with(&format!("{weight} ppp0, called \"203.0.113.77\", is no link of ")),
            "{said}"
        );
        let hint = "ppp0 is the interface of isp1: if this is isp1, write ipparam isp1 in its peer's file";
        assert_eq!(said.contains(hint), program == UP, "{said}");
        assert_eq!(state(&server), before, "{program}");
        ok(&mut by_linkname(program));
        assert_eq!(state(&server), before, "{program}");
        // Nor by IPv6.
        let said = told(&server, program, Line { local: "fe80::2", remote: "fe80::1", ..CLIENT });
        assert!(said.starts_with("DEBUG "), "{said}");
        assert_eq!(state(&server), before, "{program}");
    }
    // He hangs up before his ip-down runs, as pppd does.
    CLIENT.hang_up();
    CLIENT.unregister();
    let before = state(&server);
    told(&server, DOWN, CLIENT);
    assert_eq!(state(&server), before);
}

/// isp1's pppd was killed; its record is there yet, on the interface that the client gets.
#[test]
fn a_client_on_the_interface_of_a_stale_record_changes_nothing() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    server.up(ISP2);
    ISP1.unregister();
    server.apply();
    CLIENT.create();
    let before = state(&server);
    assert_eq!(before.1.len(), 2);
    for program in [UP, DOWN] {
        told(&server, program, CLIENT);
        assert_eq!(state(&server), before, "{program}");
    }
}

/// Nobody knows then that he is none; and what is recorded does not make him one.
#[test]
fn a_client_that_dials_in_while_the_configuration_is_broken_is_no_link_afterwards() {
    let server = Server::new("nonsense");
    CLIENT.create();
    fails(1, &mut server.hook(UP, CLIENT));
    server.configure(ARTICLE);
    server.apply();
    assert_eq!(defaults("main"), [""; 0]);
    // Another client that has hung up on that interface was not recorded.
    told(&server, DOWN, Line { pid: 4243, ..CLIENT });
    assert_eq!(state(&server).1.len(), 1);
    told(&server, DOWN, CLIENT);
    assert_eq!(state(&server).1, []);
}

/// It calls itself what is the second name of a link that is up there.
#[test]
fn a_client_that_hangs_up_takes_away_no_record_of_a_link() {
    let server = Server::new(ARTICLE);
    ISP1.create();
    ok(server.hook(UP, ISP1).env("LINKNAME", "203.0.113.77"));
    let before = state(&server);
    let mut hook = server.hook(DOWN, CLIENT);
    ok(hook.env_remove("PPPD_PID").env_remove("LINKNAME"));
    assert_eq!(state(&server), before);
}

#[test]
fn a_known_linkname_makes_up_for_an_ipparam_that_is_none() {
    let server = Server::new(ARTICLE);
    let line = Line { link: "203.0.113.77", ..ISP1 };
    line.create();
    let mut hook = server.hook(UP, line);
    ok(hook.env("LINKNAME", "isp1"));
    assert_eq!(defaults("main"), ["default nhid 7100 via 198.51.100.1 dev ppp0 proto 77"]);
}

#[test]
fn the_newest_of_two_lines_of_one_name_counts_and_the_log_says_so() {
    let server = Server::new(ARTICLE);
    server.up(RECONNECTED);
    let second = Line { device: "ppp5", pid: 2002, ..ISP1 };
    second.create();
    let said = told(&server, UP, second);
    let warned =
        "WARN isp1 moves from ppp2, which is still up (process 1001), to ppp5 (process 2002): the newest event counts;";
    assert!(said.contains(warned), "{said}");
    assert_eq!(defaults("main"), ["default nhid 7100 via 198.51.100.1 dev ppp5 proto 77"]);
    // The first one's down event is stale.
    let before = state(&server);
    let said = told(&server, DOWN, RECONNECTED);
    assert!(said.contains("stale down event: isp1 went down on ppp2, and is up on ppp5 since"), "{said}");
    assert_eq!(state(&server).0, before.0);
}

/// As mgetty's pppd for a modem that somebody calls: it says no name.
#[test]
fn an_event_without_a_name_takes_no_place_of_a_link_that_is_up_by_its_name() {
    let server = Server::new(ARTICLE);
    server.up(RECONNECTED);
    let caller = Line { device: "ppp0", link: "", pid: 3003, ..CLIENT };
    caller.create();
    let before = state(&server);
    let said = told(&server, UP, caller);
    let warned =
        "WARN the caller of ppp0 says no name, and isp1 is up on ppp2 by its name (process 1001): nothing is done;";
    assert!(said.contains(warned), "{said}");
    assert_eq!(state(&server), before);
    told(&server, DOWN, caller);
    assert_eq!(state(&server), before);
    // A pppd that was killed left its name.
    RECONNECTED.unregister();
    let said = told(&server, UP, caller);
    assert!(!said.contains("WARN"), "{said}");
    assert_eq!(defaults("main"), ["default nhid 7100 via 203.0.113.77 dev ppp0 proto 77"]);
}

#[test]
fn a_reconnect_is_no_news() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    let warns = |line: Line| told(&server, UP, line).contains("WARN");
    assert!(!warns(ISP1), "the same again");
    ISP1.unregister();
    RECONNECTED.create();
    assert!(!warns(RECONNECTED), "the old device is gone");
    // As of a modem whose device stays.
    RECONNECTED.hang_up();
    ISP1.create();
    assert!(!warns(ISP1), "the old device is down");
}

#[test]
fn a_link_that_loses_its_device_to_another_is_named() {
    let server = Server::new(ARTICLE);
    let elsewhere = Line { device: "ppp0", ..ISP2 };
    server.up(elsewhere);
    let said = told(&server, UP, ISP1);
    assert!(said.contains("WARN ppp0 was isp2's (process 1002), and is isp1's now (process 1001): "), "{said}");
    // A new device of that name was nobody's before.
    ISP1.unregister();
    elsewhere.create();
    assert!(!told(&server, UP, elsewhere).contains("WARN"));
}

#[test]
fn doctor_names_a_peer_whose_events_are_nobodys() {
    let server = Server::new(ARTICLE);
    let root = TempDir::new().unwrap();
    let peers = root.path().join("etc/ppp/peers");
    fs::create_dir_all(&peers).unwrap();
    let found = |peer: &str| {
        fs::write(peers.join("dsl"), peer).unwrap();
        let output = server.bare(CTL).args(["doctor", "--json", "--root"]).arg(root.path()).output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let all = report["findings"].as_array().unwrap().clone();
        all.into_iter().find(|finding| finding["what"].as_str().unwrap().contains("is no link's"))
    };
    for peer in ["ipparam provider\nunit 0\n", "linkname \"provider\"\nifname ppp0\n"] {
        let finding = found(peer).unwrap();
        assert_eq!(finding["weight"], "note");
        let what = "/etc/ppp/peers/dsl has the interface of isp1 (ppp0), and its name \"provider\" is no link's";
        assert_eq!(finding["what"], what);
        let mend = "write ipparam \"isp1\" in it, or give isp1 in multihome.toml that `ipparam`";
        assert_eq!(finding["mend"], mend);
    }
    for peer in
        ["unit 0\n", "ipparam provider\nunit 7\n", "ipparam provider\nlinkname isp1\nunit 0\n", "ipparam isp1\n"]
    {
        assert_eq!(found(peer), None, "{peer}");
    }
}

/// The last line of pppd's script on Debian, which runs every hook with all six arguments.
#[test]
fn a_configuration_that_a_user_names_by_ipparam_is_not_read() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    server.up(ISP2);
    let dir = server.config().parent().unwrap().to_owned();
    let (evil, made) = (dir.join("evil.toml"), dir.join("made"));
    fs::write(&evil, ARTICLE.replace("8 ", "1 ").replace("[25, 465, 587]", "1")).unwrap();
    let before = state(&server);
    let options = [
        format!("--config={}", evil.display()),
        format!("--state-dir={}", made.display()),
        "--dry-run".to_owned(),
        "--help".to_owned(),
        "-v".to_owned(),
        "--".to_owned(),
    ];
    for name in ["ip-up.d", "ip-down.d"] {
        fs::create_dir(dir.join(name)).unwrap();
        let program = if name == "ip-up.d" { UP } else { DOWN };
        symlink(program, dir.join(name).join("0multihome")).unwrap();
    }
    for option in &options {
        for name in ["ip-up.d", "ip-down.d"] {
            let mut hooks = run_parts(&server, &dir.join(name), Line { pid: 5555, ..ISP1 }, option);
            let output = ok(&mut hooks);
            assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{option}: {output:?}");
            assert_eq!(state(&server), before, "{option}");
            assert!(!made.exists(), "{option}");
        }
    }
    // The word is nobody's; with a linkname that is known, the event counts, by the real configuration.
    server.lose(ISP1);
    assert_ne!(state(&server).0, before.0);
    ISP1.create();
    for option in &options {
        ok(run_parts(&server, &dir.join("ip-up.d"), ISP1, option).env("LINKNAME", "isp1"));
        assert_eq!(state(&server).0, before.0, "{option}");
        assert!(!made.exists(), "{option}");
    }
}

/// run-parts(8) as Debian's /etc/ppp/ip-up calls it, where /etc/multihome.toml and /run/multihome are the server's.
fn run_parts(server: &Server, hooks: &Path, line: Line, ipparam: &str) -> Command {
    let script = "mount -t tmpfs tmpfs /etc && cp \"$1\" /etc/multihome.toml && mount -t tmpfs tmpfs /run && \
                  mkdir /run/multihome && mount --bind \"$2\" /run/multihome && shift 2 && exec run-parts \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(server.config()).arg(server.state()).arg(hooks);
    for word in [line.device, "/dev/pts/7", "115200", line.local, line.remote, ipparam] {
        command.arg(format!("--arg={word}"));
    }
    command.env("PPPD_PID", line.pid.to_string()).env("PPP_IPPARAM", ipparam).env_remove("LINKNAME");
    command
}
