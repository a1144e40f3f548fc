//! A link that is renamed in the configuration while it is up is the same line still; so is one whose interface is.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

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

/// Only the packet filter has the name, in that of a chain.
fn assert_no_route_moves(server: &Server) {
    let plan = said(server, "plan");
    assert!(
        plan.contains("add chain inet multihome from-wan1\n") && !plan.lines().any(|line| line.starts_with("ip ")),
        "{plan}"
    );
}

#[test]
fn it_keeps_its_routes_and_goes_down_by_its_new_name() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    let before = (held(), fs::read_to_string(server.state().join("ppp0.ipv4")).unwrap());
    let prober = Prober::start();
    server.configure(&renamed());

    assert_no_route_moves(&server);
    assert_eq!(json(&server, "status --json")["links"][0]["state"], "up");
    ok(server.hook(UP, ISP1).option("--dry-run"));
    ok(&mut ctl(&server, "apply"));
    assert_eq!((held(), fs::read_to_string(server.state().join("ppp0.ipv4")).unwrap()), before);
    assert_eq!(prober.stop().unreachable, 0);

    // The stale word of another session is as stale as ever, that of its own is not.
    ok(&mut server.hook(DOWN, Line { pid: 7, ..ISP1 }));
    assert_eq!(held(), before.0);
    ok(&mut server.hook(DOWN, ISP1));
    ok(&mut ctl(&server, "apply"));
    assert_eq!((defaults("main"), files(&server)), (vec![], vec![]));
}

#[test]
fn it_goes_down_by_hand_by_its_new_name() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    server.configure(&renamed());
    ok(&mut ctl(&server, "link down wan1"));
    assert_eq!((defaults("main"), files(&server)), (vec![], vec![]));
}

#[test]
fn an_event_of_any_link_leaves_it_up() {
    for (name, line) in [("another's up", ISP2), ("its own up", ISP1)] {
        apart(move || {
            let server = Server::new(ARTICLE);
            server.up(ISP1);
            server.configure(&renamed());
            if line.device == ISP2.device {
                line.create();
            }
            let prober = Prober::start();
            ok(&mut server.hook(UP, line));
            assert_eq!(prober.stop().unreachable, 0, "{name}");
            assert_eq!(defaults("1"), ["default via 198.51.100.1 dev ppp0 table 1 proto 77"], "{name}");
        });
    }
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
    assert_eq!(held(), up);
    ok(&mut server.hook(DOWN, elsewhere));
    assert_eq!((defaults("main"), files(&server)), (vec![], vec![]));
}

#[test]
fn a_flush_forgets_it() {
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
    let path = server.state().join("ppp0.ipv4");
    let record = fs::read_to_string(&path).unwrap();
    // Its interface is no link's.
    server.configure("[[uplink]]\nname = 'wan1'\ninterface = 'ppp7'\n");
    ok(&mut ctl(&server, "apply"));
    assert_eq!((defaults("main"), files(&server)), (vec![], vec!["ppp0.ipv4".to_owned()]));
    // A static line is up while its interface is: no session that is over takes it down.
    fs::write(&path, record.replace("index = ", "index = 9")).unwrap();
    server.configure("[[uplink]]\nname = 'wan1'\ninterface = 'ppp0'\ngateway = '198.51.100.1'\n");
    ok(&mut ctl(&server, "apply"));
    assert_eq!(defaults("main"), ["default nhid 7100 via 198.51.100.1 dev ppp0 proto 77"]);
}

#[test]
fn what_else_lies_in_the_directory_is_left_alone() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    let state = server.state();
    let text = fs::read(state.join("ppp0.ipv4")).unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("record"), &text).unwrap();
    fs::remove_file(state.join("ppp0.ipv4")).unwrap();
    // Names that no interface can have, or that are of no file of ours; and records of another interface or family.
    let names = [&b"a b.ipv4"[..], b".ipv4", b"ppp0.ipv4.bak", b"ppp0.ipv5", b"\xff.ipv4", b"ppp9.ipv4", b"ppp0.ipv6"];
    for name in names {
        fs::write(state.join(OsStr::from_bytes(name)), &text).unwrap();
    }
    symlink(outside.path().join("record"), state.join("ppp0.ipv4")).unwrap();
    mkfifo(&state.join("pipe.ipv4"), Mode::S_IRWXU).unwrap();
    fs::create_dir(state.join("dir.ipv4")).unwrap();
    fs::write(state.join("text.ipv4"), "interface = \"../x\"\n").unwrap();
    fs::write(state.join("isp1.toml"), "interface = \"../x\"\n").unwrap();
    let before = files(&server);
    assert_eq!(before.len(), names.len() + 5);
    ok(&mut ctl(&server, "apply"));
    assert_eq!((defaults("main"), files(&server)), (vec![], before));
}

/// As by `ip link set ppp0 name dsl`, or by a rule of udev that comes late.
#[test]
fn an_interface_that_is_renamed_is_the_same_line_still() {
    let server = Server::new(&with_settings(ARTICLE, "settle-timeout = \"0s\""));
    server.up(ISP1);
    server.up(ISP2);
    let renamed = || {
        for args in ["link set ppp0 down", "link set ppp0 name dsl", "link set dsl up"] {
            ip(args);
        }
    };
    renamed();
    ok(&mut ctl(&server, "apply"));
    let both = "default nhid 7100 proto 77 nexthop via 198.51.100.1 dev dsl weight 8 nexthop via 203.0.113.1 dev ppp1 weight 2";
    assert_eq!(defaults("main"), [both]);
    assert_eq!(defaults("1"), ["default via 198.51.100.1 dev dsl table 1 proto 77"]);
    let status = json(&server, "status --json");
    let isp1 = &status["links"][0];
    assert_eq!((&isp1["state"], &isp1["interface"]), (&"up".into(), &"dsl".into()));
    assert_eq!((&isp1["share_percent"], isp1["sent_bytes"].is_u64()), (&80.0.into(), true));
    assert_eq!(status["default_routes"][0]["legs"][0]["link"], "isp1");
    fs::write("/proc/sys/net/ipv4/conf/dsl/rp_filter", "1").unwrap();
    let doctor = ctl(&server, "doctor").output().unwrap();
    let doctor = String::from_utf8_lossy(&doctor.stdout);
    assert!(doctor.contains("the reverse path filter of dsl is strict"), "{doctor}");
    ok(&mut ctl(&server, "apply"));
    // Its pppd goes on to call it as before.
    ok(&mut server.hook(DOWN, ISP1));
    assert_eq!(defaults("1"), [""; 0]);
    assert_eq!(files(&server), ["ppp1.ipv4"]);
    // By hand it is called as it is called now.
    renamed_back();
    server.up(ISP1);
    renamed();
    ok(&mut ctl(&server, "link down isp1 --interface dsl"));
    assert_eq!(files(&server), ["ppp1.ipv4"]);
}

fn renamed_back() {
    for args in ["link set dsl down", "link set dsl name ppp0", "link set ppp0 up"] {
        ip(args);
    }
}

/// As udev does at boot with two network cards. Then only one of them gets a new lease, and its script says so.
#[test]
fn of_two_records_of_one_interface_the_newest_counts() {
    let server = Server::new(ARTICLE);
    for line in [ISP1, ISP2] {
        line.create();
        ok(&mut ctl(&server, &format!("link up --interface {} --gateway {}", line.device, line.remote)));
    }
    for args in ["ppp0 down", "ppp1 down", "ppp0 name x", "ppp1 name ppp0", "x name ppp1", "ppp0 up", "ppp1 up"] {
        ip(&format!("link set {args}"));
    }
    ok(&mut ctl(&server, "link up --interface ppp0 --gateway 203.0.113.1"));
    assert_eq!(defaults("main"), ["default nhid 7100 via 203.0.113.1 dev ppp0 proto 77"]);
    assert_eq!(said(&server, "plan"), "# nothing to change\n");
    ok(&mut ctl(&server, "link up --interface ppp1 --gateway 198.51.100.1"));
    let both = "default nhid 7100 proto 77 nexthop via 203.0.113.1 dev ppp0 weight 8 nexthop via 198.51.100.1 dev ppp1 weight 2";
    assert_eq!(defaults("main"), [both]);
}

/// The configuration was rearranged, or another line's caller has the wrong interface.
#[test]
fn a_static_link_keeps_its_interface() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    server.up(ISP2);
    let both = (defaults("main"), defaults("2"));
    let fixed = "name      = \"wan\"\ninterface = \"ppp1\"\ngateway = \"203.0.113.1\"\nipparam = \"wan\"";
    let isp2 = "name      = \"isp2\"\ninterface = \"ppp1\"";
    let moved = "[[tunnel]]\nname = \"isp2\"\ninterface = \"ppp9\"\n\n";
    server.configure(&ARTICLE.replace(isp2, fixed).replacen("[[policy]]", &format!("{moved}[[policy]]"), 1));
    ok(&mut ctl(&server, "apply"));
    assert_eq!((defaults("main"), defaults("2")), both);
    for (name, index) in [("isp1", 0), ("wan", 1)] {
        let link = &json(&server, "status --json")["links"][index];
        assert_eq!((&link["name"], &link["state"]), (&name.into(), &"up".into()));
    }
    let wrong = ok(server.hook(UP, Line { device: "ppp1", ..ISP1 }).option("-v"));
    let told = String::from_utf8_lossy(&wrong.stderr);
    assert!(told.contains("WARN ppp1 is wan's, which is up while its interface is,"), "{told}");
    assert!(!told.contains("isp1 moves from"), "{told}");
    assert_eq!((defaults("main"), defaults("2")), both);
    assert_eq!(said(&server, "plan"), "# nothing to change\n");
}
