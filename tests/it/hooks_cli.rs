//! The hooks as their callers find them: arguments, exit statuses, what is printed, and an environment that has
//! nothing in it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use crate::support::*;

/// Nothing of ours is in the kernel, and the state directory has not been made.
#[track_caller]
pub fn assert_untouched(server: &Server) {
    assert_eq!(ours(), [""; 0]);
    assert!(!server.state().exists());
}

#[test]
fn an_interface_that_is_no_link_is_none_of_our_business() {
    let server = Server::new(ARTICLE);
    ISP1.create();
    let before = held();
    let other = Line { device: "ppp7", link: "provider", ..ISP1 };
    for program in [UP, DOWN] {
        let output = ok(server.hook(program, other).env_remove("LINKNAME"));
        assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
        let output = ok(server.hook(program, other).env_remove("LINKNAME").option("-v"));
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("ppp7, called \"provider\", is no link of "),
            "{output:?}"
        );
    }
    ok(server.openvpn(Line { device: "tun7", ..VPN0 }, "up").option("--strict"));
    assert_eq!(held(), before);
    assert_untouched(&server);
}

#[test]
fn wrong_arguments_are_one_line_and_status_2_and_touch_nothing() {
    let server = Server::new(ARTICLE);
    ISP1.create();
    let cases: &[(&[&str], &str)] = &[
        (&[], "<IFNAME>"),
        (&["ppp0"], "<REMOTE>"),
        (&["ppp0", "", "", "198.51.100.10"], "<REMOTE>"),
        (&["ppp0", "", "", "198.51.100.10", "198.51.100.1", "isp1", "more"], "more"),
        (&["ppp0", "", "", "198.51.100.10", "198.51.100.1", "isp1", "--help"], "--help"),
        (&["--fast", "ppp0", "", "", "198.51.100.10", "198.51.100.1"], "--fast"),
        (&["ppp0", "", "", "--state-dir", "198.51.100.1"], "write an IPv4 address"),
        (&["", "", "", "198.51.100.10", "198.51.100.1"], "interface name"),
        (&["ppp0/../x", "", "", "198.51.100.10", "198.51.100.1"], "interface name"),
        (&["ppp0 ppp1 ppp2 ppp3", "", "", "198.51.100.10", "198.51.100.1"], "interface name"),
        (&["ppp0\n<3>root: hacked", "", "", "198.51.100.10", "198.51.100.1"], "interface name"),
        (&["ppp0", "", "", "provider.example", "198.51.100.1"], "write an IPv4 address"),
        (&["ppp0", "", "", "198.51.100.10", "198.51.100.1;reboot"], "write an IPv4 address"),
        (&["ppp0", "", "", "198.51.100.10", "198.51.100.1\nx"], "write an IPv4 address"),
        (&["ppp0", "", "", "198.51.100.10", "127.0.0.1"], "no host on a line"),
        (&["ppp0", "", "", "198.51.100.10", "fe80::1"], "same family"),
        (&["ppp0", "", "", "fe80::2", "ff02::1"], "no host on a line"),
    ];
    let one_line = |said: &str, why: &str| {
        assert_eq!((said.lines().count(), said.ends_with('\n')), (1, true), "{said:?}");
        assert!(said.contains(why) && said.len() < 400, "{said:?} does not say {why:?}");
    };
    for (args, why) in cases {
        for program in [UP, DOWN] {
            one_line(&fails(2, &mut server.with_args(program, args)), why);
        }
    }
    for (args, why) in [
        (&["tun0", "1500", "0", "10.8.0.6", "10.8.0.5", "init", "more"][..], "more"),
        (&["tun0", "1500", "0", "10.8.0.x", "10.8.0.5", "init"], "local address"),
        (&["--fast", "tun0"], "--fast"),
        (&["tun0", "1500", "0", "--config=/x", "10.8.0.5", "init"], "local address"),
        (&[], "interface name"),
    ] {
        one_line(&fails(2, server.with_args(VPN, &["--strict"]).args(args)), why);
        // OpenVPN would end itself.
        one_line(&fails(0, &mut server.with_args(VPN, args)), why);
    }
    // What OpenVPN says is no option of ours.
    fails(0, &mut server.with_args(VPN, &["tun0", "--strict", "--strict", "10.8.0.x", "10.8.0.5", "init"]));
    for args in [&["aply"][..], &["apply", "--fast"]] {
        one_line(&fails(2, &mut server.with_args(CTL, args)), args[args.len() - 1]);
    }
    assert_untouched(&server);
}

#[test]
fn help_and_version_are_answers() {
    let server = Server::new(ARTICLE);
    for program in [UP, DOWN, VPN, CTL] {
        let name = program.rsplit('/').next().unwrap();
        let version = ok(Command::new(program).arg("--version").env_clear()).stdout;
        assert_eq!(String::from_utf8_lossy(&version), format!("{name} {}\n", env!("CARGO_PKG_VERSION")));
        let help = ok(Command::new(program).arg("--help").env_clear()).stdout;
        for option in ["--config", "--state-dir", "--dry-run", "--verbose"] {
            assert!(String::from_utf8_lossy(&help).contains(option), "{name}");
        }
    }
    assert_untouched(&server);
}

#[test]
fn a_broken_configuration_is_one_line_with_file_and_line_and_status_1() {
    let server = Server::new(ARTICLE);
    ISP1.create();
    let broken = |server: &Server, place: &str| {
        let mut strict = server.openvpn(VPN0, "up");
        strict.option("--strict");
        for mut hook in [server.hook(UP, ISP1), server.hook(DOWN, ISP1), strict] {
            let said = fails(1, &mut hook);
            assert_eq!(said.lines().count(), 1, "{said}");
            assert!(said.contains(place), "{said}");
        }
        let said = fails(0, &mut server.openvpn(VPN0, "up"));
        assert!(said.contains(place), "{said}");
    };
    server.configure("[[uplink]]\nname = \"isp1\"\ninterface = \"ppp0\"\nwait = 8\n");
    broken(&server, "multihome.toml:4: ");
    server.configure("[[uplink]]\nname = \"isp1\"\ninterface = \"ppp0\"\n[[policy]]\nname = \"x\"\nto = \"host.example\"\nvia = [\"isp1\"]\n");
    broken(&server, "multihome.toml:6: to: ");
    fs::remove_file(server.config()).unwrap();
    broken(&server, "no configuration at ");
    // What was said is written down, and no more.
    assert_eq!(ours(), [""; 0]);
}

#[test]
fn a_broken_configuration_loses_no_event() {
    let mended = with_settings(ARTICLE, "settle-timeout = \"0s\"");
    let server = Server::new("nonsense");
    ISP1.create();
    let six = Line { local: "fe80::2", remote: "fe80::1", ..ISP1 };
    for (program, line, recorded) in [
        (UP, ISP1, "ppp0 is recorded as up,"),
        (UP, six, "ppp0 is recorded as up with IPv6,"),
        (DOWN, six, "ppp0 is recorded as down with IPv6,"),
        (DOWN, ISP1, "ppp0 is recorded as down,"),
        (UP, ISP1, "ppp0 is recorded as up,"),
    ] {
        // A dry run records nothing.
        let said = fails(1, server.hook(program, line).option("--dry-run"));
        assert!(said.contains("multihome.toml:1: ") && !said.contains("recorded"), "{said}");
        let said = fails(1, &mut server.hook(program, line));
        assert_eq!(said.lines().count(), 1, "{said}");
        let rest = format!("; {recorded} and no more is done: once that is fixed, run `mhctl apply`");
        assert!(said.contains("multihome.toml:1: ") && said.trim_end().ends_with(&rest), "{said}");
    }
    server.configure(&mended);
    server.apply();
    assert_eq!(defaults("main"), ["default nhid 7100 via 198.51.100.1 dev ppp0 proto 77"]);

    server.configure("nonsense");
    fails(1, &mut server.hook(DOWN, ISP1));
    assert!(!server.state().join("ppp0.ipv4").exists());
    server.configure(&mended);
    server.apply();
    assert_eq!(defaults("main"), [""; 0]);

    // As a DHCP client's script says it.
    server.configure("nonsense");
    let link = |words: &str| server.with_args(CTL, &words.split(' ').collect::<Vec<_>>());
    let said = fails(1, &mut link("link up --interface=ppp0 --gateway=198.51.100.1"));
    assert!(said.contains("ppp0 is recorded as up,"), "{said}");
    let said = fails(1, &mut link("link up isp1"));
    assert!(
        said.contains("; nothing was recorded: once that is fixed, say it again, or name the --interface"),
        "{said}"
    );
    server.configure(&mended);
    server.apply();
    assert_eq!(defaults("1"), ["default via 198.51.100.1 dev ppp0 table 1 proto 77"]);
}

#[test]
fn an_interface_that_does_not_exist_cannot_come_up() {
    let server = Server::new(ARTICLE);
    let said = fails(1, &mut server.hook(UP, ISP1));
    assert!(said.contains("interface ppp0 does not exist: isp1 stays down"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(!server.state().join("ppp0.ipv4").exists());
    assert_eq!(defaults("main"), [""; 0]);
}

#[test]
fn hooks_work_with_nothing_around_them() {
    let server = Server::new(ARTICLE);
    ISP1.create();
    ok(&mut server.hook(UP, ISP1));
    let wanted = ours();
    // Root's own umask 077, no PATH, no ip(8) or iptables in sight.
    for stdio in ["<&- >&- 2>&-", "</dev/null >/dev/null 2>&1", "<&- >/dev/full 2>/dev/full"] {
        for path in [None, Some(""), Some("/nonexistent")] {
            ISP1.hang_up();
            ISP1.unregister();
            for program in [DOWN, UP] {
                if program == UP {
                    ISP1.create();
                }
                let mut hook = Command::new("/bin/sh");
                hook.args(["-c", &format!("umask 077; exec \"$0\" \"$@\" {stdio}"), program, "--config"]);
                hook.arg(server.config()).arg("--state-dir").arg(server.state());
                hook.args([ISP1.device, "/dev/pts/7", "115200", ISP1.local, ISP1.remote, ISP1.link]);
                hook.env_clear().current_dir("/").env("PPPD_PID", "1001");
                hook.envs(path.map(|path| ("PATH", path)));
                ok(&mut hook);
            }
            assert_eq!(ours(), wanted, "{stdio}, PATH {path:?}");
        }
    }
}

#[test]
fn ipv6_is_recorded_and_leaves_ipv4_alone() {
    let server = Server::new(ARTICLE);
    let six = Line { local: "fe80::2", remote: "fe80::1", ..ISP1 };
    let is_recorded = |family: &str| server.state().join(format!("ppp0.{family}")).exists();
    let recorded = || (is_recorded("ipv4"), is_recorded("ipv6"));
    // IPv6 first, as it may come.
    ISP1.create();
    ok(&mut server.hook(UP, six));
    assert_eq!(defaults("main"), [""; 0]);
    assert_eq!(recorded(), (false, true));
    ok(&mut server.hook(UP, ISP1));
    let up = held();
    assert_eq!(defaults("main").len(), 1);
    assert_eq!(recorded(), (true, true));
    ok(&mut server.hook(UP, six));
    assert_eq!(held(), up);

    // ipv6-down does not wait for the device, which stays.
    ok(&mut server.hook(DOWN, six));
    assert_eq!(held(), up);
    assert_eq!(recorded(), (true, false));

    ok(&mut server.hook(UP, six));
    server.configure(&with_settings(ARTICLE, "settle-timeout = \"0s\""));
    ok(&mut server.hook(DOWN, ISP1));
    assert_eq!(defaults("main"), [""; 0]);
    assert_eq!(recorded(), (false, true));
    ok(&mut server.hook(DOWN, six));
    assert_eq!(recorded(), (false, false));
}

#[test]
fn output_goes_to_stderr_too_when_asked_for() {
    let server = Server::new(ARTICLE);
    ISP1.create();
    let quiet = server.hook(UP, ISP1).stdout(Stdio::piped()).output().unwrap();
    assert!(quiet.stdout.is_empty() && quiet.stderr.is_empty(), "{quiet:?}");
    let verbose = ok(server.hook(UP, ISP1).option("-v"));
    let said = String::from_utf8_lossy(&verbose.stderr).into_owned();
    assert!(said.contains("isp1 up on ppp0, 198.51.100.10 via 198.51.100.1; links up: isp1; 0 changes in "), "{said}");
}

/// What a hook says of an event that changes nothing, in its one line.
fn said_of(hook: &mut Command) -> String {
    String::from_utf8(ok(hook.option("-v")).stderr).unwrap().lines().next().unwrap_or_default().to_owned()
}

#[test]
fn the_line_of_an_event_that_changes_nothing_says_why_it_does_not() {
    let cable = "[[uplink]]\nname = \"cable\"\ninterface = \"eth1\"\ngateway = \"192.0.2.1\"\n";
    let server = Server::new(&with_settings(&format!("{ARTICLE}{cable}"), "settle-timeout = \"0s\""));
    server.up(ISP1);
    let six = Line { local: "fe80::2", remote: "fe80::1", ..ISP1 };
    let said = said_of(&mut server.hook(DOWN, six));
    assert!(said.contains("isp1 was not recorded as up with IPv6 on ppp0: nothing to take down; "), "{said}");
    ok(&mut server.hook(UP, six));
    let said = said_of(&mut server.hook(DOWN, Line { pid: 7, ..six }));
    assert!(said.contains("stale down event: isp1 has no IPv6 on ppp0, and is up on ppp0 since; "), "{said}");
    let said = said_of(&mut server.hook(DOWN, six));
    assert!(said.contains("isp1 has no IPv6 any more on ppp0; "), "{said}");

    let said = said_of(&mut server.hook(DOWN, ISP2));
    assert!(said.contains("isp2 was not recorded as up with IPv4 on ppp1: nothing to take down; "), "{said}");
    ok(&mut server.hook(DOWN, ISP1));
    let said = said_of(&mut server.hook(DOWN, ISP1));
    assert!(said.contains("isp1 was not recorded as up with IPv4 on ppp0: nothing to take down; "), "{said}");
    let cable = Line { device: "eth1", local: "192.0.2.77", remote: "192.0.2.1", link: "cable", pid: 7 };
    cable.create();
    let said = said_of(&mut server.hook(DOWN, cable));
    let why =
        "cable was not recorded as up on eth1: with its gateway configured it is up while eth1 is; links up: cable";
    assert!(said.contains(why), "{said}");
}

#[test]
fn an_error_that_nobody_can_hear_is_an_error_like_any_other() {
    let server = Server::new(ARTICLE);
    for more in [&[][..], &["-v"]] {
        for program in [UP, DOWN, CTL] {
            let mut hook = server.with_args(program, more);
            hook.args(if program == CTL { &["plan"][..] } else { &["ppp0", "", "", ISP1.local, ISP1.remote] });
            hook.stderr(File::create("/dev/full").unwrap()).stdout(File::create("/dev/full").unwrap());
            server.configure("nonsense");
            assert_eq!(hook.status().unwrap().code(), Some(1), "{hook:?}");
            server.configure(ARTICLE);
            hook.args(["--what"; 4]).stderr(File::create("/dev/full").unwrap());
            assert_eq!(hook.status().unwrap().code(), Some(2), "{hook:?}");
        }
    }
}

#[test]
fn bytes_that_are_no_text_are_an_error_like_any_other() {
    let server = Server::new(ARTICLE);
    ISP1.create();
    let bytes = OsStr::from_bytes(b"pp\xff\xfe0");
    for (program, status) in [(UP, 2), (DOWN, 2), (VPN, 0), (CTL, 2)] {
        let said = fails(status, server.bare(program).args([bytes; 5]));
        assert_eq!(said.lines().count(), 1, "{said:?}");
        let mut hook = server.bare(program);
        hook.args(if program == VPN { &["--strict"][..] } else { &[] }).args([bytes; 9]).env("dev", bytes);
        assert_eq!(fails(2, &mut hook).lines().count(), 1);
    }
    // In the environment they say nothing.
    for name in ["PPPD_PID", "LINKNAME", "PPP_IPPARAM", "IPLOCAL", "IFNAME", "PEERNAME"] {
        ok(server.hook(UP, ISP1).env(name, bytes));
        let long = "x".repeat(100_000);
        ok(server.hook(UP, ISP1).env(name, long));
    }
    VPN0.create();
    ok(server
        .openvpn(VPN0, "up")
        .option("--strict")
        .env("trusted_ip", bytes)
        .env("daemon_pid", bytes)
        .env("dev", bytes));
}
