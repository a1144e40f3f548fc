//! Lines that are up and carry nothing: what `mh-watch` makes of them, and what `status` says of it, with packets that
//! travel.

use std::fs::OpenOptions;
use std::time::{Duration, Instant};

use fs2::FileExt;
use nix::sys::signal::Signal;

use super::Watcher;
use crate::support::ctl::*;
use crate::support::internet::*;
use crate::support::*;

pub(super) const CHECK: &str = "
[check]
targets = [\"100.64.0.1\", \"tcp:100.64.0.2:7\", \"100.64.0.3\"]
interval = \"200ms\"
down-after = \"1s\"
cut-after = \"3s\"
up-after = \"1s\"
";

/// Hosts that are no targets.
const HOSTS: std::ops::RangeInclusive<u8> = 10..=40;

pub(super) struct Scene {
    pub(super) internet: Internet,
    pub(super) server: Server,
}

impl Scene {
    pub(super) fn new(config: &str) -> Self {
        let server = Server::new(config);
        let internet = Internet::new();
        // As systemd has it; a new namespace allows nobody to ask by ICMP echo without CAP_NET_RAW.
        sysctl("ipv4/ping_group_range", "0 2147483647");
        for line in [ISP1, ISP2] {
            internet.connect(line);
            ok(&mut server.hook(UP, line));
        }
        Self { internet, server }
    }

    /// Line 1 or 2 carries nothing any more, or does again; its provider still answers for itself.
    pub(super) fn carries(&self, line: usize, on: bool) {
        self.internet.providers[line - 1].sysctl("ipv4/ip_forward", if on { "1" } else { "0" });
    }

    pub(super) fn state(&self, link: usize) -> String {
        self.status(link)["state"].as_str().unwrap().to_owned()
    }

    fn status(&self, link: usize) -> serde_json::Value {
        json(&self.server, "status --json")["links"][link - 1].take()
    }

    /// Waits until mh-watch has heard all targets by both lines: nothing is judged before.
    pub(super) fn is_known(&self) {
        until("all is known", || {
            let Ok(text) = std::fs::read_to_string(self.server.state().join("health")) else { return false };
            let health: serde_json::Value = serde_json::from_str(&text).unwrap();
            let uplinks = health["uplinks"].as_array().unwrap().clone();
            uplinks.iter().filter(|uplink| uplink["family"] == 4 && uplink["state"] == "good").count() == 2
        });
    }
}

pub(super) fn two_lines() -> String {
    format!("{ARTICLE}{CHECK}")
}

/// Who the world sees us as, over many destinations.
pub(super) fn seen() -> Vec<String> {
    let asked = HOSTS.filter_map(|host| ask_udp((&format!("100.64.1.{host}"), ECHO)));
    let mut seen: Vec<_> = asked.map(|address| address.to_string()).collect();
    seen.sort();
    seen.dedup();
    seen
}

#[test]
fn a_dead_line_is_drained_then_cut_and_used_again_when_it_answers() {
    let scene = Scene::new(&two_lines());
    let watcher = Watcher::settled(&scene.server);
    scene.is_known();
    let (mut sticky, from) = connect_tcp(("100.64.2.1", ECHO)).unwrap();
    let number = if from.to_string() == ISP1.local { 1 } else { 2 };
    let other = [ISP2, ISP1][number - 1].local.to_owned();

    scene.carries(number, false);
    let died = Instant::now();
    let event = watcher.event("drained");
    let link = format!("isp{number}");
    assert_eq!((event["link"].as_str(), event["family"].as_str()), (Some(&link[..]), Some("IPv4")));
    let reason = event["reason"].as_str().unwrap();
    assert!(reason.starts_with("nothing has come by it for ") && reason.contains(" of 3 targets"), "{reason}");
    assert_eq!(scene.state(number), "drained");
    assert_eq!(seen(), std::slice::from_ref(&other), "new connections go by the other line");
    // It lives after all: its connection has not been touched.
    if died.elapsed() < Duration::from_secs(3) {
        scene.carries(number, true);
        assert!(talks(&mut sticky));
        assert_eq!(watcher.event("back")["link"], link);
        assert_eq!(seen().len(), 2);
        scene.carries(number, false);
        watcher.event("drained");
    }
    let cut = watcher.event("cut");
    assert_eq!((cut["link"].as_str(), scene.state(number)), (Some(&link[..]), "cut".to_owned()));
    assert_eq!(seen(), [other]);
    // A probe still finds its way, and nothing else does.
    scene.carries(number, true);
    let back = watcher.event("back");
    assert!(back["reason"].as_str().unwrap().starts_with("it answers again"), "{back}");
    assert_eq!((scene.state(number), seen().len()), ("up".to_owned(), 2));
    watcher.stop();
}

#[test]
fn neither_the_last_line_nor_all_of_them_are_left() {
    let scene = Scene::new(&two_lines());
    let watcher = Watcher::settled(&scene.server);
    scene.is_known();
    let before = ours();
    for line in [1, 2] {
        scene.carries(line, false);
    }
    until("it is said", || watcher.said().contains("nothing is answered by any of 2 uplinks"));
    // What was drained on the way is back.
    until("both are used", || [1, 2].iter().all(|line| scene.state(*line) == "up"));
    assert_eq!(ours(), before);
    for line in [1, 2] {
        scene.carries(line, true);
    }
    until("it is over", || watcher.said().contains("an uplink answers again"));
    // One is gone by its caller's word: the other stays whatever becomes of it.
    scene.server.lose(ISP2);
    scene.carries(1, false);
    let said = |watcher: &Watcher| watcher.said().matches("nothing is answered by any of 1 uplinks").count();
    until("it is said of one", || said(&watcher) == 1);
    assert_eq!(scene.state(1), "up");
    watcher.stop();
}

#[test]
fn whatever_ends_mh_watch_ends_its_drains_and_a_restart_knows_what_was() {
    let scene = Scene::new(&two_lines());
    let watcher = Watcher::settled(&scene.server);
    scene.is_known();
    let whole = ours();
    scene.carries(1, false);
    watcher.event("cut");
    watcher.stop();
    assert_eq!((scene.state(1), ours()), ("up".to_owned(), whole.clone()));

    // Within a minute it is known that the line was dead, so that nobody tries it.
    let watcher = Watcher::start(&scene.server);
    watcher.event("drained");
    assert_eq!(scene.state(1), "drained");
    watcher.send(Signal::SIGKILL);
    drop(watcher);
    // Any event uses the link again.
    scene.server.apply();
    assert_eq!((scene.state(1), ours()), ("up".to_owned(), whole));
}

#[test]
fn a_drain_that_cannot_be_written_keeps_nothing_else_from_being_done() {
    let scene = Scene::new(&two_lines());
    let watcher = Watcher::settled(&scene.server);
    scene.is_known();
    // As a full disk does.
    let lock = scene.server.state().join("isp1.hold.lock");
    std::fs::create_dir(&lock).unwrap();
    scene.carries(1, false);
    until("it is said", || watcher.said().contains("isp1.hold.lock"));
    ip("nexthop del id 7002");
    watcher.event("repair");
    std::fs::remove_dir(&lock).unwrap();
    watcher.event("cut");
    assert_eq!(scene.state(1), "cut");
    watcher.stop();
}

#[test]
fn a_pass_that_drains_when_it_is_to_end_leaves_no_drain_behind() {
    let scene = Scene::new(&two_lines());
    let watcher = Watcher::settled(&scene.server);
    scene.is_known();
    let whole = ours();
    let lock = OpenOptions::new().write(true).open(scene.server.state().join("lock")).unwrap();
    lock.lock_exclusive().unwrap();
    scene.carries(1, false);
    until("it waits for the lock", || scene.server.state().join("isp1.hold").exists());
    watcher.send(Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(200));
    FileExt::unlock(&lock).unwrap();
    watcher.stop();
    assert_eq!((scene.state(1), ours()), ("up".to_owned(), whole));
}

#[test]
fn a_drain_that_is_not_of_mh_watch_has_not_its_reason() {
    let scene = Scene::new(&two_lines());
    let watcher = Watcher::settled(&scene.server);
    scene.is_known();
    scene.carries(1, false);
    watcher.event("drained");
    // The only one that is left is used, whatever it is.
    scene.server.lose(ISP2);
    let back = watcher.event("back");
    assert!(!back["reason"].as_str().unwrap().contains("nothing has come"), "{back}");
    watcher.stop();
}

#[test]
fn a_probe_leaves_by_its_line_and_no_policy_leads_it_elsewhere() {
    let policy = "
[[policy]]
name = \"all by isp2, or not at all\"
to = \"100.64.0.0/16\"
via = \"isp2\"
otherwise = \"unreachable\"
";
    let scene = Scene::new(&format!("{}{policy}", two_lines()));
    let watcher = Watcher::settled(&scene.server);
    scene.is_known();
    scene.carries(2, false);
    assert_eq!(watcher.event("drained")["link"], "isp2");
    // The kill switch holds, and the probes go on.
    assert_eq!(seen(), [""; 0]);
    watcher.event("cut");
    scene.carries(2, true);
    assert_eq!(watcher.event("back")["link"], "isp2");
    assert_eq!(seen(), [ISP2.local]);
    watcher.stop();
}

#[test]
fn connections_leave_a_metered_line_when_a_better_tier_is_back() {
    let config = two_lines().replace("name      = \"isp2\"\n", "name      = \"isp2\"\ntier = 2\nmetered = true\n");
    let scene = Scene::new(&config);
    let watcher = Watcher::settled(&scene.server);
    scene.server.lose(ISP1);
    assert_eq!(watcher.event("failover")["carrying"][0], "isp2");
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    assert_eq!(ask_again(&socket, ("100.64.3.1", ECHO)).unwrap().to_string(), ISP2.local);
    scene.internet.connect(ISP1);
    ok(&mut scene.server.hook(UP, ISP1));
    assert_eq!(watcher.event("failback")["carrying"][0], "isp1");
    until("it has left", || {
        ask_again(&socket, ("100.64.3.1", ECHO)).is_some_and(|seen| seen.to_string() == ISP1.local)
    });
    watcher.stop();
}

#[test]
fn status_says_what_is_known_while_mh_watch_runs() {
    let scene = Scene::new(&two_lines());
    let unknown = |link: usize| {
        let link = scene.status(link);
        ["health", "health_for", "rtt_ms", "loss_percent"].iter().all(|key| link[key].is_null())
    };
    let warning = "mh-watch does not run: systemctl enable --now mh-watch";
    assert!(unknown(1) && json(&scene.server, "status --json")["warnings"][0] == warning);
    let watcher = Watcher::settled(&scene.server);
    scene.is_known();
    let whole = json(&scene.server, "status --json");
    assert!(whole["mh_watch_runs"] == true && whole["warnings"].as_array().unwrap().is_empty(), "{whole}");
    for link in [1, 2] {
        let link = scene.status(link);
        assert!(link["health"] == "good" && link["health_for"].as_u64().is_some(), "{link}");
        assert!(link["rtt_ms"].as_f64().is_some_and(|rtt| rtt > 0.0 && rtt < 60e3), "{link}");
        assert!(link["loss_percent"].as_f64().is_some_and(|loss| (0.0..=100.0).contains(&loss)), "{link}");
    }
    let text = said(&scene.server, "status");
    let heading: Vec<_> = text.lines().next().unwrap().split_whitespace().collect();
    assert!(heading.contains(&"RTT") && heading.contains(&"LOSS"), "{text}");
    scene.carries(2, false);
    watcher.event("drained");
    let link = scene.status(2);
    let reason = link["reason"].as_str().unwrap();
    assert!(link["health"] == "dead" && reason.contains("nothing is answered there, for "), "{link}");
    // A drain of mh-watch ends with it, so what a flush would do can be said; no drill is going on.
    let flush = said(&scene.server, "flush --dry-run");
    assert!(flush.starts_with("# mh-watch runs, ") && flush.contains("\nip rule del "), "{flush}");
    scene.server.lose(ISP1);
    watcher.event("down");
    assert!(unknown(1), "what is down is not probed");
    watcher.send(Signal::SIGKILL);
    drop(watcher);
    assert!(unknown(1) && unknown(2));
    assert_eq!(json(&scene.server, "status --json")["warnings"][0], warning);
    // Whatever the file holds.
    for text in ["", "{}", "[[[[", "\u{0}"] {
        std::fs::write(scene.server.state().join("health"), text).unwrap();
        assert!(unknown(1));
    }
}
