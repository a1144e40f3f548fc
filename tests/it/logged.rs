//! What goes to the log, and what does not: there is no terminal in any of these.

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Output, Stdio};

use crate::support::ctl::*;
use crate::support::*;
use tempfile::TempDir;

/// Runs a command with a syslog of the test's own at /dev/log; what the log is sent, and what the command says.
fn logged(asked: &Command) -> (Vec<String>, Output) {
    let dir = TempDir::new().unwrap();
    let socket = UnixDatagram::bind(dir.path().join("socket")).unwrap();
    socket.set_nonblocking(true).unwrap();
    let script = "cd \"$1\" && shift && mkdir dev && touch dev/log dev/null && mount --bind socket dev/log && \
                  mount --bind /dev/null dev/null && mount --rbind dev /dev && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(dir.path());
    command.arg(asked.get_program()).args(asked.get_args()).stdin(Stdio::null());
    let output = command.output().unwrap();
    let mut datagram = [0; 4096];
    let lines = std::iter::from_fn(|| {
        let n = socket.recv(&mut datagram).ok()?;
        Some(String::from_utf8(datagram[..n].to_vec()).unwrap())
    });
    (lines.collect(), output)
}

#[test]
fn a_slip_of_the_keyboard_goes_to_standard_error_alone() {
    let server = Server::new(ARTICLE);
    for (args, status, why) in [
        ("sttaus", 2, "sttaus"),
        ("apply --fast", 2, "--fast"),
        ("why nowhere", 2, "nowhere"),
        ("why 8.8.8.8 --from 8.8.4.4 --iif lo --uid 0", 2, "--uid"),
        ("why 8.8.8.8 --if-down isp9", 1, "isp9"),
        ("check /nonexistent.toml", 1, "/nonexistent.toml"),
        ("plan --config /nonexistent.toml", 1, "/nonexistent.toml"),
    ] {
        let (log, output) = logged(&ctl(&server, args));
        let said = String::from_utf8(output.stderr).unwrap();
        let told = said + &String::from_utf8(output.stdout).unwrap();
        assert_eq!((log, output.status.code()), (vec![], Some(status)), "{args}: {told}");
        assert!(told.contains(why), "{args}: {told}");
    }
}

#[test]
fn what_other_programs_call_tells_the_log_of_its_errors() {
    let server = Server::new(ARTICLE);
    ISP1.create();
    for (command, status) in [
        (server.with_args(UP, &["ppp0"]), 2),
        (server.with_args(UP, &["ppp0", "", "", "x", "y"]), 2),
        (server.with_args(VPN, &["tun0", "", "", "x"]), 0),
        (ctl(&server, "link up nowhere --interface=ppp0"), 1),
        (ctl(&server, "apply --config /nonexistent.toml"), 1),
    ] {
        let (log, output) = logged(&command);
        assert_eq!(output.status.code(), Some(status), "{command:?}");
        // <27>: facility daemon, severity error.
        assert!(log.len() == 1 && log[0].starts_with("<27>mh"), "{command:?}: {log:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap().lines().count(), 1, "{command:?}");
    }
}
