//! Whoever has lines that are up, and no configuration, is done after `mhctl init --write` and `mhctl setup`.
//!
//! Each test has a mount namespace in which /etc and /usr may be written and nothing reaches the machine's own.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use crate::support::files::own_files;
use crate::support::internet::*;
use crate::support::*;

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A machine with the program installed, and nothing else of it.
fn machine(files: &[(&str, &str)]) -> Server {
    let server = Server::new("");
    own_files();
    for dir in ["/etc/ppp", "/etc/systemd/network", "/etc/multihome.toml"] {
        let _ = fs::remove_dir_all(dir);
    }
    for program in ["mh-ip-up", "mh-ip-down", "mh-vpn-up"] {
        symlink("/bin/true", format!("/usr/sbin/{program}")).unwrap();
    }
    symlink(CTL, "/usr/sbin/mhctl").unwrap();
    for (path, text) in files {
        fs::create_dir_all(std::path::Path::new(path).parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    server
}

/// What a command of mhctl says, which has to succeed.
fn mhctl(args: &str) -> String {
    String::from_utf8(ok(Command::new(CTL).args(args.split_whitespace()).env_clear()).stdout).unwrap()
}

fn setup() -> String {
    mhctl("setup --distribution debian --bin-dir /usr/sbin")
}

/// As whom the Internet sees us, asked for many times.
fn seen() -> BTreeSet<Option<Ipv4Addr>> {
    (1..=32).map(|n| ask_udp((&format!("100.64.{n}.1"), ECHO))).collect()
}

fn both() -> BTreeSet<Option<Ipv4Addr>> {
    [ISP1, ISP2].map(|line| Some(line.local.parse().unwrap())).into()
}

/// What stands for a pppd that runs for a peer: a process of such a command line, which waits, and its file.
fn pppd(line: Line, peer: &str) -> Process {
    let mut shell = Command::new("/bin/sh");
    shell.arg0("/usr/sbin/pppd").args(["-s", "call", peer]).stdin(Stdio::piped());
    let process = Process(shell.spawn().unwrap());
    fs::write(format!("/run/{}.pid", line.device), format!("{}\n", process.0.id())).unwrap();
    process
}

#[test]
fn two_lines_of_pppd_that_are_up_share_the_traffic_after_init_and_setup() {
    apart(|| {
        let _server = machine(&[
            ("/etc/ppp/peers/dsl", "plugin rp-pppoe.so eth1\nnodefaultroute\n"),
            ("/etc/ppp/peers/lte", "/dev/ttyUSB0\nnodefaultroute\nipparam mobile\n"),
        ]);
        let internet = Internet::new();
        // The second was dialled first, and has the first unit.
        let _pppds = [(ISP1, "lte"), (ISP2, "dsl")].map(|(line, peer)| {
            internet.connect(line);
            pppd(line, peer)
        });
        assert_eq!(seen(), [None].into());

        let written = mhctl("init --write");
        assert!(written.ends_with("read it, then mhctl check, mhctl setup\n"), "{written}");
        mhctl("check");
        let dry = mhctl("setup --distribution debian --bin-dir /usr/sbin --dry-run");
        assert!(dry.contains("would take up dsl on ppp1 with 203.0.113.10 via 203.0.113.1\n"), "{dry}");
        assert_eq!(ours(), [""; 0]);
        let said = setup();
        assert!(said.contains("\ntaken up     dsl on ppp1 with 203.0.113.10 via 203.0.113.1\n"), "{said}");
        assert!(said.contains("\ntaken up     lte on ppp0 with 198.51.100.10 via 198.51.100.1\n"), "{said}");
        assert!(said.contains("\nlinks up     dsl lte\n"), "{said}");
        assert_eq!(seen(), both());

        // What is told is not told again, and what was told otherwise stays so.
        let again = setup();
        assert!(!again.contains("taken up") && again.contains("\nlinks up     dsl lte\n"), "{again}");
        assert_eq!(mhctl("apply"), "");
    });
}

#[test]
fn a_line_of_pppd_and_an_ethernet_are_tiers_as_their_metrics_have_it() {
    apart(|| {
        let _server = machine(&[("/etc/ppp/peers/dsl", "plugin rp-pppoe.so eth1\n")]);
        let internet = Internet::new();
        internet.connect(ISP1);
        internet.connect(ISP2);
        // As pppd's `defaultroute` and a DHCP client make them: the second line is no pppd's here.
        ip("route add default dev ppp0");
        ip("route add default via 203.0.113.1 dev ppp1 onlink proto dhcp metric 1002");

        mhctl("init --write");
        let said = setup();
        assert!(said.contains("\ntaken up     dsl on ppp0 with 198.51.100.10 via 198.51.100.1\n"), "{said}");
        assert!(said.contains("\nlinks up     dsl ppp1\n"), "{said}");
        assert_eq!(seen(), [Some(ISP1.local.parse().unwrap())].into());
        ISP1.hang_up();
        mhctl("link down dsl");
        assert_eq!(seen(), [Some(ISP2.local.parse().unwrap())].into());
    });
}

/// An Ethernet line, and a DHCP server behind it, that says no more than the router.
fn dhcp(line: &str, far: &Namespace, subnet: &str) -> Process {
    ip(&format!("link add {line} type veth peer name {line}-far"));
    ip(&format!("link set {line} up"));
    far.adopt(&format!("{line}-far"));
    far.ip(&format!("addr add {subnet}.1/24 dev {line}-far"));
    far.ip(&format!("link set {line}-far up"));
    let server = format!(
        "dnsmasq --keep-in-foreground --port=0 --conf-file=/dev/null --user=root --pid-file= --no-ping \
         --dhcp-leasefile=/run/{line}.leases --dhcp-authoritative --interface={line}-far \
         --dhcp-range={subnet}.50,{subnet}.50,2m --dhcp-option=3,{subnet}.1"
    );
    // The calling thread is its parent: its death ends it.
    daemon(&format!("nsenter --net={} {server}", far.path()))
}

fn daemon(command: &str) -> Process {
    let mut daemon = Command::new("setpriv");
    daemon.args(["--pdeathsig", "KILL"]).args(command.split_whitespace());
    Process(daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// The real dhclient, whose script adds a default route for the first line, and cannot for the second.
#[test]
fn two_ethernets_by_dhcp_are_done_after_init_and_setup() {
    apart(|| {
        let _server = machine(&[]);
        fs::create_dir_all("/var/lib/dhcp").unwrap();
        let far = [Namespace::new(), Namespace::new()];
        let _servers = [dhcp("eth0", &far[0], "198.51.100"), dhcp("eth1", &far[1], "203.0.113")];
        let _clients = ["eth0", "eth1"].map(|line| {
            let files = format!("-pf /run/dhclient.{line}.pid -lf /var/lib/dhcp/dhclient.{line}.leases");
            let client = daemon(&format!("dhclient -4 -d {files} {line}"));
            until("an address", || ip(&format!("-4 addr show {line}")).contains(" inet "));
            // dhclient writes it down after its script.
            let leases = format!("/var/lib/dhcp/dhclient.{line}.leases");
            until("a lease", || fs::read_to_string(&leases).is_ok_and(|text| text.contains("lease {")));
            client
        });
        until("the default route of one", || defaults("main").len() == 1);

        mhctl("init --write");
        let said = setup();
        assert!(said.contains("\nlinks up     eth0 eth1\n"), "{said}");
        let group = shown("route show default").join("\n");
        assert!(group.contains("via 198.51.100.1 dev eth0") && group.contains("via 203.0.113.1 dev eth1"), "{group}");
        assert_eq!(defaults("1"), ["default via 198.51.100.1 dev eth0 table 1 proto 77"]);
        assert_eq!(defaults("2"), ["default via 203.0.113.1 dev eth1 table 2 proto 77"]);
    });
}

const CABLE: &str = "[[uplink]]\nname = 'cable'\ninterface = 'eth1'\n";

#[test]
fn what_is_left_to_do_is_the_last_line() {
    apart(|| {
        let _server = machine(&[("/etc/multihome.toml", CABLE)]);
        let none = "no link is up: each is when its line next connects, or after `mhctl link up`; see mhctl status\n";
        assert_eq!(mhctl("apply"), none);
        let said = setup();
        assert!(said.contains(none) && said.contains("\nThen: systemctl daemon-reload && systemctl start"), "{said}");

        // Nothing tells the router; then a default route does.
        ip("link add eth1 type veth peer name far");
        ip("link set far up");
        ip("link set eth1 up");
        ip("addr add 192.0.2.10/24 dev eth1");
        let command = "\n  mhctl link up cable --interface=eth1 --local=192.0.2.10 --gateway=ROUTER\n";
        for said in [mhctl("apply"), setup()] {
            assert!(said.ends_with(command), "{said}");
            assert!(
                said.contains("cable is up on eth1 with 192.0.2.10 by a router that no default route names"),
                "{said}"
            );
        }
        ip("route add default via 192.0.2.1 dev eth1 metric 100");
        let said = mhctl("apply");
        assert!(
            said.ends_with("\n  mhctl link up cable --interface=eth1 --local=192.0.2.10 --gateway=192.0.2.1\n"),
            "{said}"
        );
        assert_eq!(defaults("1"), [""; 0], "apply tells, and takes up nothing");
        // It can be pasted.
        let line = said.lines().last().unwrap();
        ok(Command::new("sh").args(["-c", line]).env("PATH", "/usr/sbin:/usr/bin:/bin"));
        assert_eq!(defaults("1"), ["default via 192.0.2.1 dev eth1 table 1 proto 77"]);
        assert_eq!(mhctl("apply"), "");
    });
}

#[test]
fn another_system_than_this_one_is_set_up_without_a_look_at_our_lines() {
    apart(|| {
        let _server = machine(&[("/etc/multihome.toml", CABLE)]);
        ip("link add eth1 type veth peer name far");
        ip("link set far up");
        ip("link set eth1 up");
        ip("addr add 192.0.2.10/24 dev eth1");
        ip("route add default via 192.0.2.1 dev eth1 metric 100");
        fs::create_dir_all("/mnt/image/etc").unwrap();
        fs::create_dir_all("/mnt/image/proc").unwrap();
        install(CTL, "/mnt/image/mhctl");
        fs::write("/mnt/image/etc/multihome.toml", CABLE).unwrap();
        let said = mhctl("setup --distribution debian --bin-dir /usr/sbin --root /mnt/image");
        assert!(!said.contains("cable"), "{said}");
        // The first process of all, whose root is ours, is one that may be looked at.
        let inside = "mount -t proc proc /mnt/image/proc
            chroot /mnt/image /mhctl setup --distribution fedora --bin-dir /usr/sbin; exit $?";
        let said = ok(Command::new("unshare").args(["--pid", "--mount", "--fork", "sh", "-c", inside])).stdout;
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains("ip-up.local") && !said.contains("cable"), "{said}");
        assert_eq!(ours(), [""; 0]);
    });
}
