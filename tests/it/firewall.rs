//! Our chains in iptables beside everybody else's: what is loaded when, by which iptables, and what is left alone.

use std::process::Command;

use crate::support::alternatives::{alternatives, instead_of, use_legacy, variant};
use crate::support::filter::{feed, iptables};
use crate::support::internet::{ECHO, Internet, ask_udp};
use crate::support::strace::programs;
use crate::support::*;

const LINKS: &str = "[[uplink]]\nname = \"isp1\"\ninterface = \"ppp0\"\nmasquerade = true\n\
                     [[uplink]]\nname = \"isp2\"\ninterface = \"ppp1\"\n[settings]\nsettle-timeout = \"0s\"\n\
                     firewall = \"iptables\"\n";

/// What docker and tailscale leave, with their own marks, and rules of an administrator.
const FOREIGN: &str = "\
*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:ADMIN - [0:0]
-A PREROUTING -m conntrack --ctstate RELATED,ESTABLISHED -j CONNMARK --restore-mark --nfmask 0xff0000 --ctmask 0xff0000
-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
-A OUTPUT -j ADMIN
-A OUTPUT -m conntrack --ctstate NEW -m mark ! --mark 0x0/0xff0000 -j CONNMARK --save-mark --nfmask 0xff0000 --ctmask 0xff0000
-A ADMIN -p udp -m udp --dport 7 -j MARK --set-xmark 0x80000/0xff0000
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
:ts-postrouting - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -j ts-postrouting
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A ts-postrouting -m mark --mark 0x40000/0xff0000 -j MASQUERADE
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER-USER - [0:0]
:ts-forward - [0:0]
-A FORWARD -j ts-forward
-A FORWARD -j DOCKER-USER
-A DOCKER-USER -j RETURN
-A ts-forward -i tailscale0 -j MARK --set-xmark 0x40000/0xff0000
-A ts-forward -m mark --mark 0x40000/0xff0000 -j ACCEPT
COMMIT
";

/// The rules of all tables, without comments and the counts of packets behind a chain's policy.
fn saved() -> Vec<String> {
    let text = String::from_utf8(ok(&mut Command::new("iptables-save")).stdout).unwrap();
    let rule = |line: &str| match line.strip_prefix(':') {
        Some(chain) => format!(":{} [0:0]", chain.rsplit_once(' ').unwrap().0),
        None => line.to_owned(),
    };
    text.lines().filter(|line| !line.starts_with('#')).map(rule).collect()
}

fn ours() -> Vec<String> {
    saved().into_iter().filter(|line| line.contains("MULTIHOME")).collect()
}

fn foreign() -> Vec<String> {
    saved().into_iter().filter(|line| !line.contains("MULTIHOME")).collect()
}

fn up(server: &Server, line: Line) {
    line.create();
    ok(&mut server.hook(UP, line));
}

#[test]
fn the_chains_of_two_links() {
    let server = Server::new(LINKS);
    up(&server, ISP1);
    let fingerprint =
        |line: &String| line.split("--comment \"").nth(1).map(|l| l.split('"').next().unwrap().to_owned());
    let lines = ours();
    let fingerprints: Vec<_> = lines.iter().filter_map(fingerprint).collect();
    let lines: Vec<_> = lines
        .iter()
        .map(|line| {
            fingerprints.iter().fold(line.clone(), |l, s| l.replace(&format!("-m comment --comment \"{s}\" "), ""))
        })
        .collect();
    assert_eq!(
        lines,
        [
            ":MULTIHOME-ARRIVED - [0:0]",
            ":MULTIHOME-FORWARD - [0:0]",
            ":MULTIHOME-INPUT - [0:0]",
            ":MULTIHOME-OUTPUT - [0:0]",
            ":MULTIHOME-POSTROUTING - [0:0]",
            ":MULTIHOME-PREROUTING - [0:0]",
            ":MULTIHOME-isp1 - [0:0]",
            ":MULTIHOME-isp2 - [0:0]",
            "-A PREROUTING -j MULTIHOME-PREROUTING",
            "-A INPUT -j MULTIHOME-INPUT",
            "-A FORWARD -j MULTIHOME-FORWARD",
            "-A OUTPUT -j MULTIHOME-OUTPUT",
            "-A POSTROUTING -j MULTIHOME-POSTROUTING",
            "-A MULTIHOME-ARRIVED -d 224.0.0.0/3 -j RETURN",
            "-A MULTIHOME-ARRIVED -m devgroup --src-group 0x1b58 -j CONNMARK --set-xmark 0x1/0x3",
            "-A MULTIHOME-ARRIVED -m devgroup --src-group 0x1b59 -j CONNMARK --set-xmark 0x2/0x3",
            "-A MULTIHOME-FORWARD -m connmark ! --mark 0x0/0x3 -j RETURN",
            "-A MULTIHOME-FORWARD -m conntrack --ctdir REPLY -j RETURN",
            "-A MULTIHOME-FORWARD -m devgroup --src-group 0x1b58 -m conntrack --ctstate DNAT -g MULTIHOME-ARRIVED",
            "-A MULTIHOME-FORWARD -m devgroup --src-group 0x1b59 -m conntrack --ctstate DNAT -g MULTIHOME-ARRIVED",
            "-A MULTIHOME-FORWARD -m devgroup --dst-group 0x1b58 -j RETURN",
            "-A MULTIHOME-FORWARD -m devgroup --dst-group 0x1b59 -j RETURN",
            "-A MULTIHOME-FORWARD -g MULTIHOME-ARRIVED",
            "-A MULTIHOME-INPUT -m connmark ! --mark 0x0/0x3 -j RETURN",
            "-A MULTIHOME-INPUT -m conntrack --ctdir REPLY -j RETURN",
            "-A MULTIHOME-INPUT -g MULTIHOME-ARRIVED",
            "-A MULTIHOME-OUTPUT -m connmark --mark 0x0/0x3 -j RETURN",
            "-A MULTIHOME-OUTPUT -p icmp -m conntrack --ctstate RELATED -j RETURN",
            "-A MULTIHOME-OUTPUT -j CONNMARK --restore-mark --nfmask 0x3 --ctmask 0x3",
            "-A MULTIHOME-POSTROUTING -m connmark ! --mark 0x0/0x3 -j RETURN",
            "-A MULTIHOME-POSTROUTING -m conntrack --ctdir REPLY -j RETURN",
            "-A MULTIHOME-POSTROUTING -d 224.0.0.0/3 -j RETURN",
            "-A MULTIHOME-POSTROUTING -m devgroup --dst-group 0x1b58 -j CONNMARK --set-xmark 0x1/0x3",
            "-A MULTIHOME-POSTROUTING -m devgroup --dst-group 0x1b59 -j CONNMARK --set-xmark 0x2/0x3",
            "-A MULTIHOME-PREROUTING -m connmark --mark 0x0/0x3 -j RETURN",
            "-A MULTIHOME-PREROUTING -m devgroup --src-group 0x1b58 -g MULTIHOME-isp1",
            "-A MULTIHOME-PREROUTING -m devgroup --src-group 0x1b59 -g MULTIHOME-isp2",
            "-A MULTIHOME-PREROUTING -j CONNMARK --restore-mark --nfmask 0x3 --ctmask 0x3",
            "-A MULTIHOME-isp1 -m connmark --mark 0x1/0x3 -j RETURN",
            "-A MULTIHOME-isp1 -m conntrack ! --ctstate DNAT -j RETURN",
            "-A MULTIHOME-isp1 -j CONNMARK --restore-mark --nfmask 0x3 --ctmask 0x3",
            "-A MULTIHOME-isp2 -m connmark --mark 0x2/0x3 -j RETURN",
            "-A MULTIHOME-isp2 -m conntrack ! --ctstate DNAT -j RETURN",
            "-A MULTIHOME-isp2 -j CONNMARK --restore-mark --nfmask 0x3 --ctmask 0x3",
            ":MULTIHOME-POSTROUTING - [0:0]",
            "-A POSTROUTING -j MULTIHOME-POSTROUTING",
            "-A MULTIHOME-POSTROUTING -m devgroup --dst-group 0x1b58 -j MASQUERADE",
        ]
    );
    assert!(ip("-d link show ppp0").contains("group 7000"));
}

#[test]
fn an_event_that_changes_nothing_in_them_runs_no_program_and_a_second_line_changes_nothing() {
    let server = Server::new(LINKS);
    ISP1.create();
    let first = programs(&server, &server.hook(UP, ISP1));
    assert!(first.iter().any(|p| p.ends_with("iptables-restore")), "this test would see it: {first:?}");
    assert_eq!(programs(&server, &server.hook(UP, ISP1)), [""; 0]);
    // Other people's rules come and go.
    feed("iptables-restore", &[], FOREIGN);
    // That flushed ours.
    ok(&mut server.hook(UP, ISP1));
    iptables("-t nat -A DOCKER -p tcp --dport 80 -j DNAT --to 172.17.0.2");
    iptables("-A FORWARD -j ACCEPT");
    ISP2.create();
    assert_eq!(programs(&server, &server.hook(UP, ISP2)), [""; 0]);
    assert!(String::from_utf8(ok(&mut server.with_args(CTL, &["plan"])).stdout).unwrap().contains("nothing to change"));
}

/// What has to be true with either variant.
fn rules_come_back_and_go() {
    let server = Server::new(LINKS);
    up(&server, ISP1);
    let whole = ours();
    assert!(whole.len() > 10);
    for harm in [
        "-t mangle -F",
        "-t mangle -F MULTIHOME-OUTPUT",
        "-t mangle -D MULTIHOME-POSTROUTING 2",
        "-t mangle -D PREROUTING -j MULTIHOME-PREROUTING",
        "-t nat -F",
        // A rule that has come after ours, which are to have the last word.
        "-t mangle -A OUTPUT -j MARK --set-mark 0x2",
        // A second jump.
        "-t mangle -I OUTPUT -j MULTIHOME-OUTPUT",
        "-t mangle -R MULTIHOME-OUTPUT 1 -j RETURN",
    ] {
        iptables(harm);
        ok(&mut server.hook(UP, ISP1));
        let printed = String::from_utf8(ok(&mut server.with_args(CTL, &["plan"])).stdout).unwrap();
        assert!(printed.contains("nothing to change"), "{harm}: {printed}");
        let now = ours();
        assert_eq!(now, whole, "{harm}");
    }
    iptables("-t mangle -F");
    ok(&mut server.with_args(CTL, &["apply"]));
    assert_eq!(ours(), whole);

    // The last rule of OUTPUT is ours, and the administrator's stays.
    iptables("-t mangle -A OUTPUT -j MARK --set-mark 0x2");
    ok(&mut server.hook(UP, ISP1));
    let output: Vec<_> = saved().into_iter().filter(|line| line.starts_with("-A OUTPUT")).collect();
    assert_eq!(output, ["-A OUTPUT -j MARK --set-xmark 0x2/0xffffffff", "-A OUTPUT -j MULTIHOME-OUTPUT"]);

    // Without masquerading the chain of nat goes.
    server.configure(&LINKS.replace("masquerade = true\n", ""));
    ok(&mut server.hook(UP, ISP1));
    assert_eq!(ours().iter().filter(|line| line.contains("MASQUERADE")).count(), 0);

    ok(&mut server.with_args(CTL, &["flush"]));
    assert_eq!(ours(), [""; 0]);
    assert!(held().iter().all(|line| !line.contains("proto 77")), "{:?}", held());
    assert!(!ip("-d link show ppp0").contains("group 7000"));
    let again = String::from_utf8(ok(&mut server.with_args(CTL, &["flush", "--dry-run"])).stdout).unwrap();
    assert!(again.contains("nothing to take away"), "{again}");
    ok(&mut server.with_args(CTL, &["apply"]));
    assert!(ours().len() > 10 && held().iter().any(|line| line.contains("proto 77")));
}

#[test]
fn rules_come_back_and_go_with_the_nft_variant() {
    rules_come_back_and_go();
}

#[test]
fn rules_come_back_and_go_with_the_legacy_variant() {
    use_legacy();
    rules_come_back_and_go();
}

fn not_one_line_of_others_changes() {
    let server = Server::new(LINKS);
    let internet = Internet::new();
    feed("iptables-restore", &[], &FOREIGN.replace(":FORWARD DROP", ":FORWARD ACCEPT"));
    let before = foreign();
    assert!(before.len() > 30);
    for line in [ISP1, ISP2] {
        internet.connect(line);
        ok(&mut server.hook(UP, line));
        assert_eq!(foreign(), before);
    }
    // Their bits of a packet's and a connection's mark beside ours.
    assert!(ask_udp(("100.64.1.1", ECHO)).is_some() || ask_udp(("100.64.1.2", ECHO)).is_some());
    let tracked = String::from_utf8(ok(Command::new("conntrack").args(["-L", "-p", "udp"])).stdout).unwrap();
    let (theirs, ours) = (0x80000, [1, 2]);
    assert!(ours.iter().any(|ours| tracked.contains(&format!("mark={}", theirs | ours))), "{tracked}");
    ISP2.unregister();
    finish(server.down(ISP2));
    ok(&mut server.with_args(CTL, &["apply"]));
    assert_eq!(foreign(), before);
    ok(&mut server.with_args(CTL, &["flush"]));
    assert_eq!(saved(), before);
}

#[test]
fn not_one_line_of_others_changes_with_the_nft_variant() {
    not_one_line_of_others_changes();
}

#[test]
fn not_one_line_of_others_changes_with_the_legacy_variant() {
    use_legacy();
    not_one_line_of_others_changes();
}

#[test]
fn with_firewall_none_nothing_is_looked_at_or_touched() {
    let server = Server::new(&LINKS.replace("\"iptables\"", "\"none\""));
    ISP1.create();
    assert_eq!(programs(&server, &server.hook(UP, ISP1)), [""; 0]);
    assert_eq!(saved(), [""; 0]);
    assert!(!ip("-d link show ppp0").contains("group 7000"));
}

/// Group of each of these Ethernets.
fn groups(devices: [&str; 3]) -> [String; 3] {
    let group = |name| {
        let shown = ip(&format!("-N link show dev {name}"));
        shown.split_once(" group ").unwrap().1.split(' ').next().unwrap().to_owned()
    };
    devices.map(group)
}

/// Whoever is on a device that is no link's any more would be taken for the Internet.
#[test]
fn a_device_that_is_no_links_any_more_leaves_its_group() {
    let uplink = |name, device: &str| {
        format!("[[uplink]]\nname = \"{name}\"\ninterface = \"{device}\"\ngateway = \"10.{}.0.1\"\n", &device[3..])
    };
    let server = Server::new(&(uplink("isp1", "eth1") + &uplink("isp2", "eth2")));
    let devices = ["eth1", "eth2", "eth3"];
    for device in devices {
        ip(&format!("link add {device} type veth peer far-{device}"));
        ip(&format!("link set far-{device} up"));
        ip(&format!("addr add 10.{}.0.2/24 dev {device}", &device[3..]));
        ip(&format!("link set {device} up"));
    }
    let said = |args: &str| String::from_utf8(ok(server.bare(CTL).args(args.split(' '))).stdout).unwrap();
    server.apply();
    assert_eq!(groups(devices), ["7000", "7001", "0"]);

    // Its group becomes the other's.
    server.configure(&uplink("isp2", "eth2"));
    let shown = said("plan");
    assert!(shown.contains("ip link set dev eth1 group 0\nip link set dev eth2 group 7000\n"), "{shown}");
    assert_eq!(said("apply --dry-run"), shown);
    assert_eq!(groups(devices), ["7000", "7001", "0"], "a plan changes nothing");
    server.apply();
    assert_eq!(groups(devices), ["0", "7000", "0"]);
    assert_eq!(said("plan"), "# nothing to change\n");

    // The link is on another interface, and the administrator's group of the first stays.
    ip("link set eth1 group 42");
    server.configure(&uplink("isp2", "eth3"));
    server.apply();
    assert_eq!(groups(devices), ["42", "0", "7000"]);

    // No device is put into a group: only rules change.
    server.configure(&(uplink("isp2", "eth3") + &uplink("isp1", "eth2")));
    server.apply();
    assert_eq!(groups(devices), ["42", "7001", "7000"]);
    server.configure(&uplink("isp2", "eth3"));
    server.apply();
    assert_eq!(groups(devices), ["42", "0", "7000"]);
    assert_eq!(said("plan"), "# nothing to change\n");
}

#[test]
fn another_group_of_the_administrators_stays_and_the_rules_name_the_interface() {
    let server = Server::new(LINKS);
    ISP1.create();
    ip("link set ppp0 group 42");
    ok(&mut server.hook(UP, ISP1));
    assert!(ip("-d link show ppp0").contains("group 42"));
    let rules = ours().join("\n");
    assert!(
        rules.contains("-A MULTIHOME-PREROUTING -i ppp0 -g MULTIHOME-isp1") && rules.contains("--src-group 0x1b59"),
        "{rules}"
    );
    assert!(rules.contains("-A MULTIHOME-POSTROUTING -o ppp0 ") && rules.contains("-j MASQUERADE"));
}

#[test]
fn without_device_groups_the_rules_name_interfaces_and_that_is_not_tried_at_every_event() {
    let dir = tempfile::tempdir().unwrap();
    let old = dir.path().join("iptables-restore");
    let script = "#!/bin/sh\ninput=$(/bin/cat)\ncase \"$input\" in *devgroup*) echo \"Couldn't load match\" >&2; exit 2;; esac\n\
                  printf '%s\\n' \"$input\" | /usr/sbin/iptables-nft-restore \"$@\"\n";
    install_script(script, &old);
    alternatives(|name| if name == "iptables-restore" { old.clone() } else { variant("nft", name) });

    let server = Server::new(LINKS);
    up(&server, ISP1);
    let rules = ours().join("\n");
    assert!(
        rules.contains("-A MULTIHOME-PREROUTING -i ppp0 -g MULTIHOME-isp1") && !rules.contains("devgroup"),
        "{rules}"
    );
    assert_eq!(programs(&server, &server.hook(UP, ISP1)), [""; 0]);
    // The link comes back by another name.
    let renamed = Line { device: "ppp7", pid: 1007, ..ISP1 };
    renamed.create();
    ok(&mut server.hook(UP, renamed));
    assert!(ours().join("\n").contains("-A MULTIHOME-PREROUTING -i ppp7 -g MULTIHOME-isp1"));
}

/// A script in the place of all of iptables: what a hook then says, with the routes as they should be.
fn told_of_with(script: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken");
    install_script(&format!("#!/bin/sh\n{script}\n"), &broken);
    instead_of("/usr/sbin/xtables-nft-multi", &broken);
    let server = Server::new(LINKS);
    ISP1.create();
    let output = server.hook(UP, ISP1).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert_eq!(defaults("main"), ["default nhid 7100 via 198.51.100.1 dev ppp0 proto 77"]);
    assert!(shown("rule").iter().any(|rule| rule.contains("from 198.51.100.10 lookup 1")));
    said
}

#[test]
fn an_iptables_that_fails_is_told_of_and_keeps_no_route_waiting() {
    let said = told_of_with("/bin/cat >/dev/null\necho 'it is broken' >&2\nexit 4");
    assert!(said.contains("it is broken"), "{said}");
}

#[test]
fn an_iptables_that_hangs_is_killed_and_told_of() {
    let said = told_of_with("exec /bin/sleep 120");
    assert!(said.contains("iptables-restore had not ended after 10 s and was killed"), "{said}");
}
