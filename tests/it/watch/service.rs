//! What systemd is told and asks for, and the unit.

use std::collections::BTreeSet;
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::filter::{flush_marks, managed};
use crate::support::strace::under;
use crate::support::*;
use crate::units::allowed_calls;

use super::{WATCH, Watcher, both_up, time};

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/mh-watch.service");

#[test]
fn systemd_hears_that_it_is_ready_alive_and_ending() {
    let server = both_up();
    let mut watcher = Watcher::start_with(&server, |command| {
        command.env("WATCHDOG_USEC", "400000");
    });
    let status = watcher.told_that("STATUS=");
    assert_eq!(status, "STATUS=links up: isp1 isp2");
    watcher.told_that("WATCHDOG=1");
    watcher.told_that("WATCHDOG=1");
    ISP2.lose_carrier();
    watcher.told_that("STATUS=links up: isp1");
    watcher.send(Signal::SIGINT);
    watcher.told_that("STOPPING=1");
    assert!(watcher.child.wait().unwrap().success());
}

#[test]
fn a_socket_without_a_file_and_another_process_s_watchdog() {
    let server = both_up();
    let name = format!("mh-watch-test-{}", std::process::id());
    let told = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    told.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let mut command = server.bare(WATCH);
    command.env("NOTIFY_SOCKET", format!("@{name}")).env("WATCHDOG_USEC", "1000").env("WATCHDOG_PID", "1");
    let mut child = start(&mut command);
    let mut said = Vec::new();
    for _ in 0..2 {
        let mut buffer = [0; 1024];
        let length = told.recv(&mut buffer).unwrap();
        said.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    assert_eq!(said, ["READY=1", "STATUS=links up: isp1 isp2"]);
    send(Signal::SIGTERM, &child);
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_configuration_is_read_again_and_a_broken_one_is_not_used() {
    let server = both_up();
    let watcher = Watcher::settled(&server);
    server.configure(&ARTICLE.replace("weight    = 2", "weight    = 3"));
    watcher.send(Signal::SIGHUP);
    assert!(watcher.told_that("RELOADING=1").contains("\nMONOTONIC_USEC="));
    watcher.told_that("READY=1");
    time("the new weight", || defaults("main")[0].contains("weight 3"));
    let before = held();
    server.configure("[[uplink]]\nname = 'isp1'\n");
    watcher.send(Signal::SIGHUP);
    until("it is said", || watcher.said().contains("going on with the configuration of before"));
    ip("rule del priority 101");
    time("repaired", || held() == before);
    // Once when it was seen, perhaps, and once when it was asked for.
    assert!(watcher.said().matches("going on with").count() <= 2);
    // Whatever a hook does with a newer one is not undone.
    server.configure(ARTICLE);
    server.apply();
    assert!(defaults("main")[0].contains("weight 2"));
    ip("rule del priority 101");
    time("repaired by the newer one", || held().len() == before.len());
    assert!(defaults("main")[0].contains("weight 2"));
    let said = watcher.stop();
    assert!(!said.contains("fight"), "{said}");
}

#[test]
fn without_a_configuration_it_does_not_begin() {
    let server = Server::new("");
    let said = fails(1, &mut server.bare(WATCH));
    assert!(said.lines().count() == 1 && said.contains("there is no link"), "{said}");
    fails(2, server.bare(WATCH).arg("--no-such-option"));
}

#[test]
fn the_unit_is_confined() {
    let said = ok(Command::new("systemd-analyze").args(["security", "--offline=true", UNIT])).stdout;
    let said = String::from_utf8(said).unwrap();
    let (_, level) = said.split_once("Overall exposure level for mh-watch.service: ").expect(&said);
    let level: f32 = level.split_whitespace().next().unwrap().parse().unwrap();
    assert!(level < 2.0, "{said}");
    let unit = fs::read_to_string(UNIT).unwrap();
    assert!(unit.contains("\nCapabilityBoundingSet=CAP_NET_ADMIN\n") && unit.contains("\nNoNewPrivileges=yes\n"));
}

/// What needs most of the kernel: everything is away, and comes back; a program is told.
fn disturb(server: &Server, pid: &str) {
    let (before, rules) = (held(), managed());
    flush_marks();
    ip("rule flush protocol 77");
    fs::write("/proc/sys/net/ipv4/conf/ppp0/rp_filter", "1").unwrap();
    time("repaired", || held() == before && managed() == rules);
    until("the sysctl, too", || fs::read_to_string("/proc/sys/net/ipv4/conf/ppp0/rp_filter").unwrap() == "2\n");
    ISP2.lose_carrier();
    until("it is told", || server.config().with_file_name("told").exists());
    ok(Command::new("kill").args(["-HUP", pid]));
    ISP2.regain_carrier();
    time("as before", || held() == before && managed() == rules);
}

/// Whose events go to a program.
fn telling() -> Server {
    let server = both_up();
    let told = server.config().with_file_name("told");
    let command = format!("event-command = ['/usr/bin/touch', {:?}]\nfirewall = \"nftables\"", told.to_str().unwrap());
    server.configure(&with_settings(ARTICLE, &command));
    server.apply();
    server
}

#[test]
fn the_unit_allows_each_call_that_it_makes() {
    let allowed = allowed_calls(UNIT);
    let server = telling();
    let out = server.config().with_file_name("calls");
    let traced = under(&server.bare(WATCH), &format!("-f -o {}", out.display()));
    let mut watcher = Watcher::start_with(&server, |command| {
        let environment: Vec<_> =
            command.get_envs().map(|(name, value)| (name.to_owned(), value.unwrap().to_owned())).collect();
        let mut traced = traced;
        traced.envs(environment).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
        *command = traced;
    });
    watcher.told_that("STATUS=links up");
    disturb(&server, &watcher.child.id().to_string());
    watcher.send(Signal::SIGTERM);
    assert!(watcher.child.wait().unwrap().success());
    let name = |line: &str| line.split_whitespace().nth(1)?.split_once('(').map(|(call, _)| call.to_owned());
    let text = fs::read_to_string(&out).unwrap();
    let made: BTreeSet<_> = text.lines().filter_map(name).collect();
    assert!(made.contains("sendto") && made.contains("epoll_wait"), "{made:?}");
    assert_eq!(made.difference(&allowed).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn cap_net_admin_is_enough() {
    let server = telling();
    let watcher = Watcher::start_with(&server, |command| {
        let mut confined = Command::new("setpriv");
        confined.args(["--bounding-set=-all,+net_admin", "--no-new-privs"]);
        confined.arg(command.get_program()).args(command.get_args());
        confined.env_clear().current_dir("/").stdout(std::process::Stdio::piped());
        confined.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        confined.stderr(fs::File::options().append(true).open(server.config().with_file_name("watch.log")).unwrap());
        *command = confined;
    });
    watcher.told_that("STATUS=links up");
    disturb(&server, &watcher.child.id().to_string());
    let said = watcher.stop();
    assert!(!said.contains("ERROR"), "{said}");
}
