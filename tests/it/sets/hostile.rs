//! Policies by sets beside what does not go with them, sets with very many elements, and rules that differ by little.

use std::fmt::Write;
use std::fs;
use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use nix::unistd::{Uid, setfsuid};

use super::{LINKS, STREAMING, by, config, hosts, scene};
use crate::support::ctl::{ctl, refused, said};
use crate::support::internet::*;
use crate::support::*;

/// Runs it as a program of that user whose sockets are the user's.
fn as_user<T>(uid: u32, run: impl FnOnce() -> T) -> T {
    setfsuid(Uid::from_raw(uid));
    let done = run();
    setfsuid(Uid::from_raw(0));
    done
}

#[test]
fn owners_go_with_no_set_and_a_mark_of_nftables_does_instead() {
    let marked = "[[policy]]\nname = \"films\"\nto-set = \"streaming\"\nfwmark = \"0x100/0x100\"\nvia = \"isp2\"\n";
    let (server, internet) = scene(marked);
    let [host, other] = &hosts(4, &internet)[..2] else { panic!("too few hosts") };
    said(&server, &format!("set add streaming {host}"));
    let own = "add table inet own; add chain inet own o { type route hook output priority mangle; }; \
               add rule inet own o meta skuid 4242 meta mark set meta mark | 0x100";
    ok(Command::new("nft").arg(own));
    let asked = |to: &str| [ask_udp((to, ECHO)), ask_tcp((to, ECHO))];
    assert_eq!(as_user(4242, || asked(host)), [by(ISP2); 2]);
    assert_eq!(as_user(4242, || asked(other)), [by(ISP1); 2]);
    assert_eq!(as_user(4343, || asked(host)), [by(ISP1); 2]);

    // Of the policy itself, and of any other, which a set would let its packets escape.
    let killed = "[[policy]]\nname = \"torrents\"\nuid = 4242\nvia = \"vpn\"\notherwise = \"unreachable\"\n";
    for policies in [format!("{STREAMING}uid = 4242\n"), format!("{killed}{STREAMING}"), format!("{STREAMING}{killed}")]
    {
        server.configure(&config(&policies));
        for args in ["check", "apply"] {
            let (status, text) = refused(&server, args);
            let all = text + &String::from_utf8(ctl(&server, args).output().unwrap().stdout).unwrap();
            assert!(status == Some(1) && all.contains("uid: it does not hold beside sets"), "{status:?} {all}");
        }
    }
}

/// The kernel takes the wider for one that is there already, if it is asked to add no second one.
#[test]
fn a_policy_that_is_widened_holds_at_once_and_one_that_is_narrowed_as_well() {
    let policy = |narrow: &str| {
        format!(
            "[[policy]]\nname = \"never\"\nto-set = \"secret\"\n{narrow}via = \"vpn\"\notherwise = \"unreachable\"\n"
        )
    };
    let (server, internet) = scene(&policy(""));
    let host = "100.64.7.7";
    said(&server, &format!("set add secret {host}"));
    let from = |from: &str| internet.lan.run(|| ask_udp_from(&format!("{from}:0"), (host, ECHO)));
    for narrow in ["from = \"192.168.2.30\"\n", "to = \"100.64.8.0/24\"\n", "dscp = 46\n"] {
        for (policies, is_wide) in [(policy(narrow), false), (policy(""), true)] {
            server.configure(&config(&policies));
            server.apply();
            assert_eq!(said(&server, "plan"), "# nothing to change\n", "{policies}");
            assert_eq!(from("192.168.2.31").is_none(), is_wide, "{policies}");
        }
    }
}

#[test]
fn a_set_of_very_many_is_emptied_unread_and_read_in_large_parts() {
    let server = Server::new(&with_settings(&format!("{LINKS}{STREAMING}"), "firewall = \"nftables\""));
    server.apply();
    let mut commands = String::new();
    for net in 0..100 {
        let hosts: Vec<_> = (0..200).map(|host| format!("11.0.{net}.{host}")).collect();
        writeln!(commands, "add element inet multihome streaming4 {{ {} }}", hosts.join(", ")).unwrap();
    }
    let file = server.config().with_file_name("many.nft");
    fs::write(&file, commands).unwrap();
    ok(Command::new("nft").arg("-f").arg(&file));
    let parts = |args: &str| strace::calls(&ctl(&server, args), "recvfrom", &file).len();
    // 20,000 elements of two ends are 2 MB.
    let read = parts("set add streaming 192.0.2.1");
    assert!(read < 200, "{read}");
    let list = said(&server, "set list streaming");
    assert_eq!(list.lines().count(), 20_001);
    assert!(list.ends_with("192.0.2.1\n"), "{}", &list[list.len() - 100..]);
    for args in ["apply", "why 11.0.7.7", "set flush streaming"] {
        let read = parts(args);
        assert!(read < 200, "{args}: {read}");
    }
    assert_eq!(said(&server, "set list streaming"), "streaming  empty\n");
}

/// The commands of `mhctl plan`, one by one.
fn commands(plan: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut is_open = false;
    for line in plan.lines().filter(|line| !line.starts_with('#')) {
        match commands.last_mut().filter(|_| is_open) {
            Some(command) => command.extend([line, "\n"]),
            None => commands.push(format!("{line}\n")),
        }
        is_open = line.ends_with("<<'END'") || is_open && line != "END";
    }
    commands
}

/// Bits go by the order of the policies: rules of before and of now that compare the same one are there together.
#[test]
fn a_kill_switch_by_a_set_holds_at_every_step_while_its_bit_becomes_anothers() {
    let never = super::SECRET;
    let only_by_isp2 =
        "[[policy]]\nname = \"other\"\nto-set = \"other\"\nvia = \"isp2\"\notherwise = \"unreachable\"\n";
    let (server, internet) = scene(&format!("{STREAMING}{never}"));
    let host = "100.64.7.7";
    said(&server, &format!("set add secret {host}"));
    let is_answered = || {
        internet.lan.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
            socket.send_to(b"who", (host, ECHO)).is_ok() && socket.recv(&mut [0; 64]).is_ok()
        })
    };
    assert!(!is_answered());
    for policies in [
        format!("{never}{STREAMING}"),
        format!("{STREAMING}{never}"),
        never.to_owned(),
        format!("{STREAMING}{never}"),
        format!("{only_by_isp2}{never}"),
        format!("{never}{only_by_isp2}"),
    ] {
        server.configure(&config(&policies));
        let plan = said(&server, "plan");
        for command in commands(&plan) {
            ok(Command::new("sh").args(["-c", &command]));
            assert!(!is_answered(), "after {command}\nof\n{plan}");
        }
        assert_eq!(said(&server, "plan"), "# nothing to change\n", "{plan}");
        for family in ["-4", "-6"] {
            assert_eq!(shown(&format!("{family} rule show priority 186")).len(), usize::from(family == "-4"), "{plan}");
        }
    }
}

#[test]
fn a_set_of_another_kind_in_our_table_is_a_refusal_that_ends_when_nftables_is_asked_for() {
    let (server, _internet) = scene(STREAMING);
    server.configure(&with_settings(&format!("{LINKS}{STREAMING}"), "firewall = \"auto\""));
    let other = "flush ruleset; add table inet multihome; add set inet multihome streaming4 { type inet_service; }";
    ok(Command::new("nft").arg(other));
    let (status, text) = refused(&server, "apply");
    let told = "Write firewall = \"nftables\" in [settings]";
    assert!(status == Some(1) && text.contains(told) && !text.contains("modprobe"), "{status:?} {text}");
    let found = String::from_utf8(ctl(&server, "doctor").output().unwrap().stdout).unwrap();
    assert!(found.contains("write firewall = \"nftables\" in [settings]") && !found.contains("modprobe"), "{found}");
    server.configure(&with_settings(&format!("{LINKS}{STREAMING}"), "firewall = \"nftables\""));
    let (status, text) = refused(&server, "apply");
    assert!(status == Some(1) && text.contains("add set inet multihome streaming4"), "{status:?} {text}");
    ok(Command::new("nft").arg("delete table inet multihome"));
    server.apply();
    assert_eq!(said(&server, "set list"), "streaming  empty\n");
}
