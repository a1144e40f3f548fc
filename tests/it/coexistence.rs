//! Our rules beside those of other programs, each the real one: what of ours goes and who puts it back, that theirs stay
//! as they are, and that connections keep their line and are translated once with both in force.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::support::alternatives::{alternatives, variant};
use crate::support::firewalls::{Fail2ban, Firewalld, configure_ufw, installed, ours, sh, theirs};
use crate::support::internet::*;
use crate::support::*;

/// What holds our rules, and which iptables the machine has.
#[derive(Clone, Copy)]
struct Backend {
    firewall: &'static str,
    variant: &'static str,
}

const NFTABLES: Backend = Backend { firewall: "auto", variant: "nft" };
const NFTABLES_BESIDE_LEGACY: Backend = Backend { variant: "legacy", ..NFTABLES };
const IPTABLES: Backend = Backend { firewall: "iptables", variant: "nft" };
const LEGACY: Backend = Backend { variant: "legacy", ..IPTABLES };

/// The tables of ours that somebody has harmed: where nftables holds ours, iptables-nft, iptables-legacy.
type Harmed = [&'static str; 3];

const NONE: Harmed = [""; 3];
const TABLES_OF_IPTABLES: Harmed = ["", "mangle nat", "mangle nat"];
const NAT_OF_IPTABLES: Harmed = ["", "nat", "nat"];

impl Backend {
    fn harmed(self, harmed: Harmed) -> &'static str {
        match (self.firewall, self.variant) {
            ("auto", _) => harmed[0],
            (_, "nft") => harmed[1],
            _ => harmed[2],
        }
    }
}

/// A server with two lines and a LAN. We translate what leaves by the first line; the second is up to the others.
struct Scene {
    server: Server,
    internet: Internet,
    backend: Backend,
    ours: Vec<String>,
}

/// A connection, and the address that its far end has seen.
type Connection = (TcpStream, Ipv4Addr);

impl Scene {
    fn new(backend: Backend) -> Self {
        installed();
        let server = Server::new(&Self::config(backend, 128, 128));
        alternatives(|name| variant(backend.variant, name));
        let internet = Internet::new();
        for line in [ISP1, ISP2] {
            internet.connect(line);
            ok(&mut server.hook(UP, line));
        }
        let ours = ours();
        assert!(ours.len() > 20, "{ours:#?}");
        Self { server, internet, backend, ours }
    }

    fn config(backend: Backend, first: u8, second: u8) -> String {
        format!(
            "[[uplink]]\nname = \"isp1\"\ninterface = \"ppp0\"\nweight = {first}\nmasquerade = true\n\
             [[uplink]]\nname = \"isp2\"\ninterface = \"ppp1\"\nweight = {second}\n\
             [settings]\nfirewall = \"{}\"\nsettle-timeout = \"0s\"\n",
            backend.firewall
        )
    }

    /// The others do this: these tables of ours are harmed, which an event mends, and what the timer runs does as well.
    fn they(&self, command: &str, harmed: Harmed) {
        sh(command);
        self.is_harmed(command, harmed);
        self.mended_by(command, &mut self.server.hook(UP, ISP1));
        if !self.backend.harmed(harmed).is_empty() {
            sh(command);
            self.mended_by(command, self.server.bare(CTL).arg("apply"));
        }
    }

    fn is_harmed(&self, what: &str, harmed: Harmed) {
        let now = ours();
        let mut found = vec!["inet multihome", "mangle", "nat"];
        found.retain(|table| of_table(&now, table) != of_table(&self.ours, table));
        let Backend { firewall, variant } = self.backend;
        assert_eq!(found.join(" "), self.backend.harmed(harmed), "{what}, {firewall}, iptables-{variant}");
    }

    /// Afterwards ours are whole, and theirs as they were.
    fn mended_by(&self, what: &str, command: &mut Command) {
        let before = theirs();
        ok(command);
        self.is_harmed(what, NONE);
        assert_eq!(theirs(), before, "{what}");
        let plan = ok(self.server.bare(CTL).arg("plan")).stdout;
        assert_eq!(String::from_utf8(plan).unwrap(), "# nothing to change\n", "{what}");
    }

    /// Connections of a host inside and of the server by both lines.
    fn connect(&self, inside: &Namespace) -> Vec<Connection> {
        let mut connections = Vec::new();
        for from in [inside, &self.internet.server] {
            let open = |n| connect_tcp((&format!("100.64.1.{n}"), ECHO)).expect("a new connection");
            connections.extend(from.run(|| (0..16).map(open).collect::<Vec<_>>()));
        }
        for line in [ISP1, ISP2] {
            let local: Ipv4Addr = line.local.parse().unwrap();
            assert!(connections.iter().any(|(_, seen)| *seen == local), "none by {}", line.device);
        }
        connections
    }

    /// The connections go on by their lines while nearly all new ones go by the second, or by the first.
    fn stick(&self, connections: &mut [Connection]) {
        for (first, second) in [(1, 255), (255, 1), (128, 128)] {
            self.server.configure(&Self::config(self.backend, first, second));
            self.server.apply();
            assert!(connections.iter_mut().all(|(stream, _)| talks(stream)), "{first}:{second}");
            assert_translated_by_line();
        }
    }

    /// Clients of the Internet reach the port that somebody has published, at the address of either line.
    fn is_published(&self, port: u16) {
        for line in [ISP1, ISP2] {
            let asked = self.internet.world.run(|| (0..4).filter(|_| ask_tcp((line.local, port)).is_some()).count());
            assert_eq!(asked, 4, "by {}", line.device);
        }
    }

    /// We go: nothing of ours stays, and everything of theirs.
    fn leave(self) {
        let before = theirs();
        ok(self.server.bare(CTL).arg("flush"));
        assert_eq!(ours(), [""; 0]);
        assert_eq!(theirs(), before);
    }
}

/// Runs the scene with each backend of ours, in a thread and so a machine of its own.
fn with_each(work: fn(Scene)) {
    for backend in [NFTABLES, IPTABLES, LEGACY] {
        apart(move || work(Scene::new(backend)));
    }
}

/// The same for rules of iptables, which may be legacy iptables' while ours are in nftables.
fn with_each_beside_iptables(work: fn(Scene)) {
    with_each(work);
    apart(move || work(Scene::new(NFTABLES_BESIDE_LEGACY)));
}

fn of_table<'a>(all: &'a [String], table: &str) -> Vec<&'a String> {
    all.iter().filter(|line| line.starts_with(table)).collect()
}

/// Each connection to an echo service has the mark of the line that its answers come to, at that line's address.
fn assert_translated_by_line() {
    let tracked = sh("conntrack -L -p tcp --dport 7 2>/dev/null");
    assert!(tracked.lines().count() >= 32, "{tracked}");
    for entry in tracked.lines() {
        let mark = entry.split_once(" mark=").unwrap().1.split(' ').next().unwrap().parse::<u32>().unwrap();
        let to = |line: Line| entry.contains(&format!(" dst={} ", line.local));
        assert_eq!(
            (mark & 3, to(ISP1), to(ISP2)),
            if to(ISP1) { (1, true, false) } else { (2, false, true) },
            "{entry}"
        );
    }
}

/// A container or a guest behind a device of the server's, which answers at port 7.
fn inside(device: &str, network: &str) -> Namespace {
    let host = Namespace::new();
    ip(&format!("link add {device} type veth peer name inside"));
    ip(&format!("addr add {network}.1/24 dev {device}"));
    ip(&format!("link set {device} up"));
    host.adopt("inside");
    host.ip(&format!("addr add {network}.2/24 dev inside"));
    host.ip("link set inside up");
    host.ip(&format!("route add default via {network}.1"));
    host.serve_echo(ECHO);
    host
}

/// The path of a rule set or a configuration of somebody else's.
fn file(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/rulesets").join(name).display().to_string()
}

#[test]
fn ufw() {
    with_each(|scene| {
        // ufw does not flush this table, so administrators do.
        configure_ufw("*nat\n-F\n-A POSTROUTING -s 192.168.2.0/24 -o ppp1 -j MASQUERADE\nCOMMIT\n");
        scene.they("ufw --force enable", NAT_OF_IPTABLES);
        scene.they("ufw route allow in on eth2", NONE);
        let mut connections = scene.connect(&scene.internet.lan);
        scene.they("ufw reload", NAT_OF_IPTABLES);
        scene.stick(&mut connections);
        scene.they("ufw disable", NONE);
        sh("sed -i 's/MANAGE_BUILTINS=no/MANAGE_BUILTINS=yes/' /etc/default/ufw");
        scene.they("ufw --force enable", TABLES_OF_IPTABLES);
        scene.they("ufw disable", TABLES_OF_IPTABLES);
        scene.leave();
    });
}

/// firewalld with one of its own backends.
fn firewalld(scene: &Scene, backend: &str, harmed: Harmed) {
    sh(&format!("sed -i 's/^FirewallBackend=.*/FirewallBackend={backend}/' /etc/firewalld/firewalld.conf"));
    sh("firewall-offline-cmd -q --zone=external --add-interface=ppp0
        firewall-offline-cmd -q --zone=external --add-interface=ppp1
        firewall-offline-cmd -q --zone=trusted --add-interface=eth2");
    let firewalld = Firewalld::start();
    // With its nftables backend that of Debian 13 (2.3) leaves iptables alone, where that of Debian 12 (1.3) flushes it.
    let harmed = if backend == "nftables" && Firewalld::major_version() >= 2 { NONE } else { harmed };
    scene.is_harmed("the start of firewalld", harmed);
    scene.mended_by("the start of firewalld", &mut scene.server.hook(UP, ISP1));
    // It sets the whole mark of what comes from the LAN. In nftables it does so behind iptables' tables, where nobody can
    // put it right.
    if backend == "iptables" || scene.backend.firewall == "auto" {
        let rule = "rule family=ipv4 source address=192.168.2.0/24 mark set=0x100";
        sh(&format!("firewall-cmd --permanent --zone=trusted --add-rich-rule='{rule}'"));
    }
    scene.they("firewall-cmd --reload", harmed);
    let mut connections = scene.connect(&scene.internet.lan);
    scene.stick(&mut connections);
    firewalld.stop();
    scene.is_harmed("the end of firewalld", harmed);
    scene.mended_by("the end of firewalld", scene.server.bare(CTL).arg("apply"));
}

#[test]
fn firewalld_with_nftables() {
    with_each(|scene| {
        // It flushes the tables of iptables all the same.
        firewalld(&scene, "nftables", TABLES_OF_IPTABLES);
        scene.leave();
    });
}

#[test]
fn firewalld_with_iptables() {
    with_each(|scene| {
        firewalld(&scene, "iptables", TABLES_OF_IPTABLES);
        scene.leave();
    });
}

#[test]
fn a_configuration_of_nftables_that_begins_with_flush_ruleset() {
    with_each(|scene| {
        fs::copy(file("nftables.conf"), "/etc/nftables.conf").unwrap();
        scene.they("nft -f /etc/nftables.conf", ["inet multihome", "mangle nat", ""]);
        let mut connections = scene.connect(&scene.internet.lan);
        scene.they("nft -f /etc/nftables.conf", ["inet multihome", "mangle nat", ""]);
        scene.stick(&mut connections);
        // As administrators save what they have.
        let flush = "#!/usr/sbin/nft -f\nflush ruleset\n";
        fs::write("/etc/nftables.conf", flush.to_owned() + &sh("nft -s list ruleset")).unwrap();
        // Which does not hold what is special to iptables.
        scene.they("nft -f /etc/nftables.conf", ["", "mangle nat", ""]);
        scene.leave();
    });
}

#[test]
fn rules_of_iptables_that_are_restored() {
    with_each_beside_iptables(|scene| {
        let restore = format!("iptables-restore < {}", file("rules.v4"));
        scene.they(&restore, NAT_OF_IPTABLES);
        let mut connections = scene.connect(&scene.internet.lan);
        scene.they(&restore, NAT_OF_IPTABLES);
        scene.stick(&mut connections);
        // As netfilter-persistent does.
        scene.they("iptables-save > /run/rules.v4; iptables-restore < /run/rules.v4", NONE);
        scene.leave();
    });
}

/// The machine has gone over from iptables to nftables, and its saved rules have not.
#[test]
fn rules_that_were_saved_while_iptables_held_ours() {
    for before in [IPTABLES, LEGACY] {
        apart(move || {
            let mut scene = Scene::new(before);
            sh(&format!("iptables-restore --noflush < {}", file("rules.v4")));
            let mut connections = scene.connect(&scene.internet.lan);
            sh("iptables-save > /run/rules.v4");
            scene.backend = Backend { firewall: "auto", ..before };
            scene.stick(&mut connections);
            scene.ours = ours();
            let restore = "iptables-restore < /run/rules.v4";
            sh(restore);
            scene.is_harmed(restore, ["mangle nat", "", ""]);
            // No event runs a program to look into legacy iptables; the timer's apply does.
            if before.variant == "nft" {
                scene.mended_by(restore, &mut scene.server.hook(UP, ISP1));
                sh(restore);
            }
            scene.mended_by(restore, scene.server.bare(CTL).arg("apply"));
            scene.stick(&mut connections);
            scene.leave();
        });
    }
}

/// What dockerd loads for a container on docker0 with a published port.
fn docker(scene: Scene, load: &str) {
    let container = inside("docker0", "172.17.0");
    scene.they(load, NONE);
    let mut connections = scene.connect(&container);
    scene.stick(&mut connections);
    scene.is_published(8080);
    scene.leave();
}

#[test]
fn docker_with_iptables() {
    with_each_beside_iptables(|scene| {
        docker(scene, &format!("iptables-restore --noflush {}", file("docker.iptables")));
    });
}

#[test]
fn docker_with_nftables() {
    with_each(|scene| docker(scene, &format!("nft -f {}", file("docker.nft"))));
}

#[test]
fn podman() {
    with_each(|scene| {
        let container = Namespace::new();
        let netavark = format!("/usr/lib/podman/netavark --config /run/netavark --file {}", file("podman.json"));
        scene.they(&format!("{netavark} setup {}", container.path()), NONE);
        container.serve_echo(ECHO);
        let mut connections = scene.connect(&container);
        scene.stick(&mut connections);
        scene.is_published(8080);
        scene.they(&format!("{netavark} teardown {}", container.path()), NONE);
        scene.leave();
    });
}

#[test]
fn libvirt() {
    with_each(|scene| {
        let guest = inside("virbr0", "192.168.122");
        scene.they(&format!("nft -f {}", file("libvirt.nft")), NONE);
        let mut connections = scene.connect(&guest);
        scene.stick(&mut connections);
        scene.leave();
    });
}

#[test]
fn fail2ban() {
    with_each(|scene| {
        sh("iptables -t nat -A POSTROUTING -o ppp1 -j MASQUERADE");
        let fail2ban = Fail2ban::start();
        scene.they("for jail in nftables iptables; do fail2ban-client set $jail banip 100.64.9.9; done", NONE);
        let mut connections = scene.connect(&scene.internet.lan);
        scene.they("fail2ban-client reload", NONE);
        scene.stick(&mut connections);
        sh("fail2ban-client stop");
        drop(fail2ban);
        scene.is_harmed("the end of fail2ban", NONE);
        scene.leave();
    });
}
