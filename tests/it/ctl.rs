//! mhctl's commands against the kernel.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::support::ctl::*;
use crate::support::filter::{iptables, nft};
use crate::support::*;
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// The command in another user namespace, whose capabilities do not count in our network namespace.
fn unprivileged(server: &Server, command: &Command) -> Command {
    let mut other = Command::new("unshare");
    other.arg("--user").args(server.for_others(command)).env_clear();
    other
}

#[test]
fn status_tells_what_the_kernel_holds_and_needs_no_privileges() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    server.up(ISP2);
    let status = json(&server, "status --json");
    assert_eq!(status["kernel"]["as_wanted"], true);
    assert_eq!(status["links"][0]["state"], "up");
    assert_eq!(status["links"][0]["local"], ISP1.local);
    assert_eq!(status["links"][0]["gateway"], ISP1.remote);
    assert_eq!(status["links"][2]["state"], "down");
    assert_eq!(status["default_routes"][0]["legs"][0]["link"], "isp1");
    assert_eq!(status["default_routes"][0]["legs"][0]["percent"], 80.0);
    assert_eq!(status["policies"][2]["link"], "isp2");

    let text = String::from_utf8(ok(&mut unprivileged(&server, &ctl(&server, "status"))).stdout).unwrap();
    assert!(text.contains("isp1 80 %, isp2 20 %") && text.contains("in sync"), "{text}");
    assert!(!text.contains('\x1b'), "colour where there is no terminal: {text:?}");
}

#[test]
fn without_privileges_a_change_is_an_error_that_says_its_cause_once() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    ip("rule del priority 101");
    for command in [ctl(&server, "apply"), server.hook(UP, ISP1)] {
        let output = unprivileged(&server, &command).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(error.matches("Operation not permitted").count(), 1, "{error}");
        assert_eq!(error.contains("; run it as root"), error.starts_with("mhctl"), "{error}");
    }
}

#[test]
fn counters_are_the_kernels() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    let counted = || {
        let status = json(&server, "status --json");
        let link = &status["links"][0];
        let count = |key: &str| link[key].as_u64().unwrap();
        assert!(count("sent_packets") > 0 && count("sent_packets") <= count("sent_bytes"), "{status}");
        (count("received_bytes"), count("sent_bytes"))
    };
    let kernel = |which: &str| {
        // ip(8)'s: /sys shows the namespace that it was mounted in.
        let shown: Value = serde_json::from_str(&ip("-s -j link show dev ppp0")).unwrap();
        shown[0]["stats64"][which]["bytes"].as_u64().unwrap()
    };
    let socket = std::net::UdpSocket::bind("198.51.100.10:0").unwrap();
    for _ in 0..100 {
        socket.send_to(&[0; 1000], "198.51.100.1:9").unwrap();
    }
    let before = (kernel("rx"), kernel("tx"));
    let given = counted();
    let after = (kernel("rx"), kernel("tx"));
    assert!(before.0 <= given.0 && given.0 <= after.0, "{before:?} {given:?} {after:?}");
    assert!(before.1 <= given.1 && given.1 <= after.1, "{before:?} {given:?} {after:?}");
}

#[test]
fn what_somebody_else_took_away_is_seen_and_mended() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    ip("rule del priority 101");
    let status = json(&server, "status --json");
    assert_eq!(status["kernel"]["as_wanted"], false);
    let command = "ip rule add priority 101 fwmark 0x1/0x1 lookup 1 protocol 77";
    assert_eq!(status["kernel"]["changes"][0], command);
    let pending = format!("1 change is pending: `{mhctl} plan` shows, `{mhctl} apply` makes", mhctl = server.mhctl());
    assert!(said(&server, "status").contains(&pending));
    assert_eq!(json(&server, "plan --json")["changes"][0]["command"], command);
    let applied = json(&server, "apply --json");
    assert_eq!(applied["changes"][0]["command"], command);
    assert_eq!(applied["links_up"], serde_json::json!(["isp1"]));
    assert_eq!(json(&server, "plan --json")["changes"], serde_json::json!([]));
    assert_eq!(json(&server, "apply --json")["changes"], serde_json::json!([]));
    // A timer may apply every minute: the log is told what was mended, and nothing else.
    let logged = || String::from_utf8(ctl(&server, "apply -v").output().unwrap().stderr).unwrap();
    assert_eq!(logged(), "");
    ip("rule del priority 101");
    let mended = logged();
    assert!(mended.contains(&format!("made: {command}; links up: isp1; 1 change in ")), "{mended}");
}

#[test]
fn a_watch_shows_a_change_at_once_and_ends_at_a_signal() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    let mut child = ctl(&server, "status --watch --json").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(next()["links"][1]["state"], "down");
    server.up(ISP2);
    let up = (0..20).map(|_| next()).find(|status| status["links"][1]["state"] == "up").unwrap();
    assert_eq!(up["default_routes"][0]["legs"][1]["link"], "isp2");
    assert!(up["links"][0]["received_bytes_per_second"].is_number());
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_watch_leaves_the_terminal_as_it_was() {
    for (colour, variables, signal) in
        [(true, vec![], Signal::SIGINT), (false, vec![("NO_COLOR", "1")], Signal::SIGQUIT)]
    {
        let server = Server::new(ARTICLE);
        server.up(ISP1);
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let mut command = ctl(&server, "status --watch");
        let end = |fd: &OwnedFd| Stdio::from(fd.try_clone().unwrap());
        command.env("TERM", "xterm").envs(variables).stdout(end(&pty.slave)).stderr(end(&pty.slave));
        let mut child = command.spawn().unwrap();
        drop(command);
        let reader = thread::spawn({
            let mut master = std::fs::File::from(pty.master);
            move || {
                let mut all = Vec::new();
                let mut some = [0; 4096];
                // EIO: the last who had the other end open has gone.
                while let Ok(n @ 1..) = master.read(&mut some) {
                    all.extend_from_slice(&some[..n]);
                }
                String::from_utf8(all).unwrap()
            }
        });
        thread::sleep(Duration::from_millis(1500));
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        assert!(child.wait().unwrap().success());
        drop(pty.slave);
        let all = reader.join().unwrap();
        assert!(all.starts_with("\x1b[?1049h\x1b[?25l"), "{all:?}");
        let (page, after) = all.split_once("\x1b[?25h\x1b[?1049l").unwrap();
        assert!(page.matches("\x1b[H").count() >= 2, "it is drawn again: {all:?}");
        assert!(after.contains("isp1") && !after.contains("\x1b[H"), "the last look stays: {after:?}");
        assert_eq!(page.contains("\x1b[32m"), colour, "{all:?}");
    }
}

#[test]
fn check_needs_nothing_but_the_file() {
    let server = Server::new(ARTICLE);
    assert!(said(&server, "check").contains("no errors, no warnings"));
    let numbers = &json(&server, "check --json")["numbers"];
    assert_eq!(numbers["links"][1]["mark_rule"], 102);
    let bad = server.config().with_file_name("bad.toml");
    std::fs::write(&bad, "[[uplink]]\nname = 'a'\ninterface = 'lo'\n").unwrap();
    let output = ctl(&server, "check").arg(&bad).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("bad.toml:3:13: error: interface: "));
    let (code, _) = refused(&server, "check /nonexistent.toml");
    assert_eq!(code, Some(1));
    assert_eq!(refused(&server, "check --unknown").0, Some(2));
}

#[test]
fn a_configuration_is_read_from_whatever_is_no_trap() {
    let server = Server::new(ARTICLE);
    assert_eq!(refused(&server, "check /dev/zero").0, Some(1));
    assert!(said_by(ctl(&server, "check /dev/zero")).contains("it is longer than 1 MiB"));
    let fifo = server.config().with_file_name("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Nobody writes: it has an end, which timeout(1) would otherwise make.
    let mut timeout = Command::new("timeout");
    timeout.args(["20", CTL, "check"]).arg(&fifo);
    assert_eq!(timeout.output().unwrap().status.code(), Some(1));
    let slowly = "{ sleep 0.2; head -c 100 \"$1\"; sleep 0.3; tail -c +101 \"$1\"; }";
    for script in [
        format!("{slowly} | \"$0\" check /dev/stdin"),
        format!("\"$0\" check <({slowly})"),
        format!("{slowly} >\"$2\" & \"$0\" check \"$2\""),
        "\"$0\" check /dev/stdin <\"$1\"".to_owned(),
    ] {
        let mut bash = Command::new("timeout");
        bash.args(["20", "bash", "-c", &script, CTL]).arg(server.config()).arg(&fifo).stdin(Stdio::null());
        assert!(said_by(bash).contains("no errors, no warnings"), "{script}");
    }
}

/// What a command says, however it ends.
fn said_by(mut command: Command) -> String {
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

#[test]
fn numbers_of_check_are_those_that_the_kernel_gets() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    server.up(ISP2);
    let numbers = &json(&server, "check --json")["numbers"];
    let rules = shown("rule show");
    for (line, link) in [(&ISP1, &numbers["links"][0]), (&ISP2, &numbers["links"][1])] {
        let of_mark = format!(
            "{}:\tfrom all fwmark {:#x}/{:#x} lookup {} proto 77",
            link["mark_rule"],
            link["mark"].as_u64().unwrap(),
            link["mark"].as_u64().unwrap(),
            link["table"]
        );
        let of_address = format!("{}:\tfrom {} lookup {} proto 77", link["address_rule"], line.local, link["table"]);
        assert!(rules.contains(&of_mark) && rules.contains(&of_address), "{link} {rules:#?}");
        let nexthop = format!("id {} via {} dev {}", link["nexthop"], line.remote, line.device);
        assert!(shown("nexthop show").iter().any(|shown| shown.starts_with(&nexthop)), "{nexthop}");
    }
    for policy in numbers["policies"].as_array().unwrap() {
        for rule in [&policy["first_rule"], &policy["last_rule"]] {
            assert!(rules.iter().any(|shown| shown.starts_with(&format!("{rule}:"))), "{policy} {rules:#?}");
        }
    }
}

#[test]
fn a_link_comes_and_goes_by_its_name() {
    let server = Server::new(&ARTICLE.replace("name      = \"isp2\"", "name = \"isp2\"\nipparam = \"second\""));
    ISP1.create();
    ISP2.create();
    // The address is the interface's, the gateway is given.
    said(&server, "link up isp2 --interface ppp1 --gateway 203.0.113.1");
    assert_eq!(default_route(), "default nhid 7100 via 203.0.113.1 dev ppp1 proto 77");
    assert!(shown("rule show").contains(&"192:\tfrom 203.0.113.10 lookup 2 proto 77".to_owned()));
    // On the configured interface.
    said(&server, "link up isp1 --gateway 198.51.100.1 --local 198.51.100.10");
    assert!(default_route().starts_with(BOTH), "{}", default_route());
    said(&server, "link down isp2");
    assert_eq!(default_route(), "default nhid 7100 via 198.51.100.1 dev ppp0 proto 77");

    // A tunnel leads nothing by default, and has its table.
    ip("link add name tun0 type veth peer name tun0-far");
    ip("link set tun0 up");
    ip("link set tun0-far up");
    ip("addr add 10.8.0.2 peer 10.8.0.1 dev tun0");
    said(&server, "link up vpn --interface tun0");
    assert_eq!(shown("route show table 3"), ["default dev tun0 proto 77 scope 253"]);
    assert_eq!(default_route(), "default nhid 7100 via 198.51.100.1 dev ppp0 proto 77");
    said(&server, "link down vpn");
    assert_eq!(shown("route show table 3"), [""; 0]);

    // What was recorded stays.
    let before = held();
    for local in ["", "--local 198.51.100.10"] {
        let (code, error) = refused(&server, &format!("link up isp1 {local} --gateway 198.51.100.10"));
        assert_eq!(code, Some(2), "{error}");
        assert!(error.contains("198.51.100.10 is our own address on ppp0: --gateway wants the router's"), "{error}");
    }
    said(&server, "apply");
    assert_eq!(held(), before);

    let (code, error) = refused(&server, "link up isp3 --interface ppp0");
    assert_eq!(code, Some(1));
    assert!(error.contains("unknown link \"isp3\": write one of isp1, isp2, vpn"), "{error}");
    let (code, error) = refused(&server, "link up isp1 --interface ppp7");
    assert_eq!(code, Some(1));
    assert!(error.contains("ppp7 does not exist"), "{error}");
    assert_eq!(refused(&server, "link up isp1 --local nonsense").0, Some(2));
}

#[test]
fn a_static_link_is_taken_down_by_its_interface_only() {
    let server = Server::new("[[uplink]]\nname = 'cable'\ninterface = 'ppp0'\ngateway = '198.51.100.1'\n");
    ISP1.create();
    ok(&mut ctl(&server, "apply"));
    for told in [false, true] {
        if told {
            said(&server, "link up cable --gateway 198.51.100.1");
        }
        said(&server, "link down cable --dry-run");
        let (code, error) = refused(&server, "link down cable");
        assert_eq!(code, Some(1), "told to be up: {told}");
        assert!(error.contains("`ip link set dev ppp0 down`"), "{error}");
    }
    ip("link set ppp0 down");
    said(&server, "link down cable");
    assert_eq!(json(&server, "status --json")["links"][0]["state"], "down");
}

/// Runs mhctl with a syslog of the test's own at /dev/log; what it is sent.
fn logged(server: &Server, args: &str) -> Vec<String> {
    let dir = tempfile::TempDir::new().unwrap();
    let socket = std::os::unix::net::UnixDatagram::bind(dir.path().join("socket")).unwrap();
    socket.set_nonblocking(true).unwrap();
    let script = "cd \"$1\" && shift && mkdir dev && touch dev/log dev/null && mount --bind socket dev/log && \
                  mount --bind /dev/null dev/null && mount --rbind dev /dev && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(dir.path());
    let asked = ctl(server, args);
    command.arg(asked.get_program()).args(asked.get_args()).stdin(Stdio::null());
    ok(&mut command);
    let mut datagram = [0; 4096];
    std::iter::from_fn(|| socket.recv(&mut datagram).ok().map(|n| String::from_utf8(datagram[..n].to_vec()).unwrap()))
        .collect()
}

#[test]
fn an_apply_logs_what_it_mended_and_is_silent_when_there_is_nothing_to_do() {
    let server = Server::new(ARTICLE);
    server.up(ISP1);
    assert_eq!(logged(&server, "apply"), [""; 0]);
    ip("rule del priority 101");
    let log = logged(&server, "apply");
    // <29>: facility daemon, severity notice, which the unit's LogLevelMax= lets through.
    assert!(log.len() == 1 && log[0].starts_with("<29>mhctl["), "{log:?}");
    assert!(
        log[0].contains("made: ip rule add priority 101 fwmark 0x1/0x1 lookup 1 protocol 77; links up: isp1;"),
        "{log:?}"
    );
    nft("flush chain inet multihome output");
    let log = logged(&server, "apply");
    assert!(log.len() == 1 && log[0].contains("made: table inet multihome in nftables; "), "{log:?}");
    server.configure(&with_settings(ARTICLE, "firewall = \"iptables\""));
    server.apply();
    iptables("-t mangle -F MULTIHOME-OUTPUT");
    let log = logged(&server, "apply");
    assert!(log.len() == 1 && log[0].contains("made: managed chains in iptables' table mangle; "), "{log:?}");
    ip("rule flush");
    let log = logged(&server, "apply");
    assert!(
        log.len() == 1 && log[0].contains("lookup 2 protocol 77, ") && log[0].contains(" more; links up"),
        "{log:?}"
    );
    assert_eq!(logged(&server, "apply"), [""; 0]);
}
