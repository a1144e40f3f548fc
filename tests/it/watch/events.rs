//! What it notices without a hook, and what it tells.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;

use super::{Watcher, both_up, time};

#[test]
fn a_carrier_and_addresses_need_no_hook() {
    let server = both_up();
    let before = held();
    let watcher = Watcher::settled(&server);
    ISP2.lose_carrier();
    let down = watcher.event("down");
    assert_eq!((&down["link"], &down["family"], &down["version"]), (&"isp2".into(), &"IPv4".into(), &1.into()));
    assert!(down["reason"].as_str().unwrap().contains("carrier"), "{down}");
    ISP2.regain_carrier();
    assert_eq!(watcher.event("up")["link"], "isp2");
    time("the group is whole again", || held() == before);
    // As a DHCP client does it, whom nobody has told of us.
    ip("addr del 203.0.113.10 dev ppp1 peer 203.0.113.1");
    assert_eq!(watcher.event("down")["link"], "isp2");
    ip("addr add 203.0.113.77 peer 203.0.113.1 dev ppp1");
    time("its source rule", || held().iter().any(|line| line.contains("from 203.0.113.77 lookup 2")));
    server.lose(ISP1);
    assert_eq!(watcher.event("down")["link"], "isp1");
    watcher.stop();
}

#[test]
fn a_static_link_whose_interface_appears_is_used() {
    let server = Server::new("[[uplink]]\nname = 'cable'\ninterface = 'wan0'\ngateway = '192.0.2.1'\n");
    let watcher = Watcher::settled(&server);
    ip("link add wan0 type veth peer name far");
    ip("link set far up");
    ip("link set wan0 up");
    thread::sleep(Duration::from_millis(200));
    assert_eq!(defaults("main"), [""; 0]);
    ip("addr add 192.0.2.10/24 dev wan0");
    assert_eq!(watcher.event("up")["link"], "cable");
    assert_eq!((defaults("main").len(), defaults("1").len()), (1, 1));
    ip("link del wan0");
    assert_eq!(watcher.event("down")["interface"], "wan0");
    watcher.stop();
}

#[test]
fn traffic_that_goes_to_another_tier_is_told() {
    let server = Server::new(&ARTICLE.replacen("weight    = 2", "tier = 2", 1));
    server.up(ISP1);
    server.up(ISP2);
    let watcher = Watcher::settled(&server);
    ISP1.lose_carrier();
    let over = watcher.event("failover");
    assert_eq!((&over["carrying"][0], &over["family"]), (&"isp2".into(), &"IPv4".into()));
    ISP1.regain_carrier();
    assert_eq!(watcher.event("failback")["carrying"][0], "isp1");
    assert!(watcher.stop().contains("INFO failover (IPv4): traffic goes by tier 2 instead of tier 1; now: isp2"));
}

#[test]
fn a_repair_is_told_with_who_has_done_it() {
    let server = both_up();
    let watcher = Watcher::settled(&server);
    ip("route replace default via 203.0.113.1 dev ppp1 proto 186");
    let repair = watcher.event("repair");
    assert!(repair["by"].as_str().unwrap().contains("protocol 186 (bgp)"), "{repair}");
    assert!(repair["changes"][0].as_str().unwrap().starts_with("ip route replace"), "{repair}");
    if firewall() == "auto" {
        ok(Command::new("nft").args(["delete", "table", "inet", "multihome"]));
        let repair = watcher.event("repair");
        assert!(repair["by"].as_str().unwrap().starts_with("nft (pid "), "{repair}");
    }
    // Its own changes lead to no further ones.
    thread::sleep(Duration::from_millis(300));
    assert_eq!(watcher.kinds(), [""; 0]);
    watcher.stop();
}

#[test]
fn against_a_program_that_always_undoes_it_gives_in_for_a_while() {
    let server = both_up();
    // An address that is no longer tentative is noticed, too, and a pass for that would repair all.
    fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
    let before = held();
    let watcher = Watcher::settled(&server);
    let mut fight = None;
    until("it gives in", || {
        ip("route replace default via 203.0.113.1 dev ppp1 proto bird");
        fight = watcher.events.try_iter().find(|event| event["kind"] == "fight");
        fight.is_some()
    });
    let fight = fight.unwrap();
    assert!(fight["by"].as_str().unwrap().contains("protocol 12 (bird)"), "{fight}");
    assert_eq!(fight["pause"], 5);
    // The look for what was noticed before that.
    thread::sleep(Duration::from_millis(500));
    // For five seconds nothing happens about it.
    ip("route replace default via 203.0.113.1 dev ppp1 proto bird");
    let paused = held();
    assert_ne!(paused, before);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(held(), paused, "{}", watcher.said());
    let cpu = watcher.cpu();
    for _ in 0..100 {
        ip("route replace default via 203.0.113.1 dev ppp1 proto bird");
    }
    assert!(watcher.cpu() - cpu < 1.0);
    // Then it tries again, and the other has gone.
    time("repaired after the pause", || held() == before);
    let said = watcher.stop();
    assert_eq!(said.matches("fight: the IPv4 default routes of table main had to be").count(), 1, "{said}");
}

/// A program that is told of events.
fn teller(server: &Server, script: &str) -> PathBuf {
    let path = server.config().with_file_name("tell");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn with_command(server: &Server, path: &Path, arguments: &str) {
    let command = format!("event-command = [{:?}{arguments}]", path.to_str().unwrap());
    server.configure(&with_settings(ARTICLE, &command));
}

#[test]
fn the_event_command_gets_json_its_arguments_as_they_are_and_nothing_else() {
    let server = both_up();
    let out = server.config().with_file_name("out");
    let path = teller(
        &server,
        "#!/bin/sh\nexec >>\"$1\"\nshift\ncat\nfor word; do echo \"word $word\"; done\nenv | sort\necho 'a\tloud one' >&2\n",
    );
    with_command(&server, &path, &format!(", {:?}, '$(id); rm -rf *', 'zwei Wörter'", out.to_str().unwrap()));
    let watcher = Watcher::start_with(&server, |command| {
        command.env("SECRET", "x");
    });
    watcher.told_that("STATUS=links up");
    ISP2.lose_carrier();
    watcher.event("down");
    until("it is told", || fs::read_to_string(&out).is_ok_and(|text| text.contains("PATH=")));
    let text = fs::read_to_string(&out).unwrap();
    let event: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((&event["kind"], &event["link"]), (&"down".into(), &"isp2".into()));
    assert!(text.contains("\nword $(id); rm -rf *\nword zwei Wörter\n"), "{text}");
    assert!(!text.contains("SECRET") && !text.contains("NOTIFY_SOCKET"), "{text}");
    until("what it says is logged", || watcher.said().contains("tell: a?loud one"));
    watcher.stop();
}

#[test]
fn the_event_command_never_runs_twice_at_once_and_is_killed_after_ten_seconds() {
    let server = both_up();
    let out = server.config().with_file_name("out");
    let path = teller(&server, "#!/bin/sh\ncat >>\"$1\"\necho begun >>\"$1\"\nsleep 1234 &\nwait\n");
    with_command(&server, &path, &format!(", {:?}", out.to_str().unwrap()));
    let watcher = Watcher::settled(&server);
    ISP2.lose_carrier();
    until("the first", || fs::read_to_string(&out).is_ok_and(|text| text.contains("begun")));
    let start = Instant::now();
    ISP2.regain_carrier();
    // Nobody waits for it meanwhile.
    watcher.event("up");
    ip("rule del priority 101");
    time("a repair meanwhile", || ip("rule show priority 101").contains("0x1"));
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert_eq!(fs::read_to_string(&out).unwrap().matches("begun").count(), 1);
    until("the next", || fs::read_to_string(&out).unwrap().matches("begun").count() == 2);
    assert!(start.elapsed() > Duration::from_secs(7));
    let said = watcher.said();
    assert!(said.contains("is killed: it has taken more than 10 s"), "{said}");
    // With all that it had started.
    let own = server.config().parent().unwrap().to_str().unwrap().to_owned();
    let ps = ok(Command::new("pgrep").args(["-f", &format!("{own}/tell")])).stdout;
    assert_eq!(String::from_utf8(ps).unwrap().lines().count(), 1);
    watcher.stop();
}
