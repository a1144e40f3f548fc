//! Two providers on Ethernets with a real router advertisement daemon and a real server of prefixes each; a real DHCPv6
//! client, which takes both and gives the LAN a subnet of each; and a daemon that advertises these to a host, whose
//! kernel makes its addresses of them.
//!
//! ```text
//!   LAN host ─── eth2 [server] eth0 fe80::2 ── fe80::1 customer [provider 1] radvd, dhcpd: 2001:db8:1::50, 2001:db8:1N0::/56
//!   autoconfigured    dhcpcd   eth1 fe80::2 ── fe80::1 customer [provider 2] the same of 2001:db8:2
//! ```

use std::fs;
use std::net::{Ipv6Addr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;

use super::internet::*;
use super::sticky::{by_line, talking, tracked};
use crate::dhcp::{Daemon, is_installed};
use crate::support::files::{own_files, unpacked};
use crate::support::internet::{ECHO, Internet, Namespace};
use crate::support::six::held6;
use crate::support::*;

const CONFIG: &str = "[[uplink]]\nname = \"isp1\"\ninterface = \"eth0\"\n\
                      [[uplink]]\nname = \"isp2\"\ninterface = \"eth1\"\n\
                      [settings]\nfirewall = \"nftables\"\n";

/// The client gives the LAN subnet 1 of the first prefix, and subnet 2 of the second.
const CLIENT: &str = "duid\nnodev\nipv6only\nnoipv6rs\n\
                      interface eth0\nipv6rs\nia_na 1\nia_pd 2 eth2/1/64\n\
                      interface eth1\nipv6rs\nia_na 1\nia_pd 2 eth2/2/64\n";

/// What the providers delegate, and the LAN's subnets of it.
const FIRST: &str = "2001:db8:100::";
const SECOND: &str = "2001:db8:200::";
const LAN_1: &str = "2001:db8:100:1:";
const LAN_2: &str = "2001:db8:200:2:";

/// Who advertises the LAN's subnets.
enum Advertiser {
    Dnsmasq,
    /// With lifetimes that are short enough for a test.
    Radvd,
}

/// The scene. Its daemons end with it.
struct Advertised {
    internet: Internet,
    routers: [Option<Daemon>; 2],
    servers: [Option<Daemon>; 2],
    _client: Daemon,
    _advertiser: Daemon,
    _server: Server,
}

impl Advertised {
    /// Builds it, and waits until all have what they are to have.
    fn new(advertiser: &Advertiser) -> Self {
        let server = Server::new(CONFIG);
        own_files();
        install_glue();
        let internet = Internet::new();
        for host in [&internet.server, &internet.providers[0], &internet.providers[1], &internet.world] {
            host.run(without_autoconfiguration);
        }
        begin_world(&internet.world);
        for (i, provider) in internet.providers.iter().enumerate() {
            let (addresses, delegations) = (format!("2001:db8:{}::", i + 1), format!("2001:db8:{}00::/40", i + 1));
            join(&internet, i, &[&format!("{addresses}/48"), &delegations]);
            ip(&format!("link add eth{i} type veth peer name customer"));
            provider.adopt("customer");
            provider.ip("link set customer up");
            ip(&format!("link set eth{i} up"));
            add_addresses(provider, "customer", &["fe80::1", &format!("{addresses}1")]);
            add_addresses(&internet.server, &format!("eth{i}"), &["fe80::2"]);
            provider.ip(&format!("-6 route add {delegations} via fe80::2 dev customer"));
        }
        add_addresses(&internet.server, "eth2", &["fe80::1"]);
        let routers = [0, 1].map(|i| Some(router(&internet, i)));
        let servers = [(0, FIRST), (1, SECOND)].map(|(i, prefix)| Some(prefix_server(&internet, i, prefix)));
        fs::write("/etc/dhcpcd.conf", CLIENT).unwrap();
        // Its helpers would outlive it, but not the shell that is the first process of their namespace. The kernel forgets
        // that it is to be killed with its parent when it gives up root.
        fs::write("/run/client", "dhcpcd -B eth0 eth1\nexit\n").unwrap();
        assert!(is_installed("dhcpcd"), "there is no dhcpcd: run tests/install-tools");
        let client = Daemon::start("unshare --pid --fork --kill-child sh /run/client");
        let advertiser = match advertiser {
            Advertiser::Dnsmasq => dnsmasq(),
            Advertiser::Radvd => {
                radvd("", "lan", "eth2", "prefix ::/64 { AdvPreferredLifetime 8; AdvValidLifetime 60; };")
            }
        };
        let scene = Self { internet, routers, servers, _client: client, _advertiser: advertiser, _server: server };
        comes(0, FIRST);
        comes(1, SECOND);
        for lan in [LAN_1, LAN_2] {
            scene.has_preferred(lan);
        }
        scene
    }

    /// The host's address of this subnet.
    fn host(&self, lan: &str) -> Option<(String, bool)> {
        let shown = self.internet.lan.ip("-6 -o addr show dev eth0 -tentative");
        let line = shown.lines().find(|line| line.contains(lan))?;
        let address = line.split_whitespace().nth(3)?.split('/').next()?;
        Some((address.to_owned(), line.contains(" deprecated ")))
    }

    /// Waits until the host has a preferred address of this subnet, and a way to the Internet; the address.
    fn has_preferred(&self, lan: &str) -> String {
        until(&format!("the host has a preferred address of {lan}"), || {
            self.host(lan).is_some_and(|(_, is_deprecated)| !is_deprecated)
                && self.internet.lan.ip("-6 route show default").contains("via fe80::1")
        });
        self.host(lan).unwrap().0
    }

    /// Waits until the host's address of this subnet is deprecated.
    fn has_deprecated(&self, lan: &str) {
        until(&format!("the host's address of {lan} is deprecated"), || {
            self.host(lan).is_some_and(|(_, is_deprecated)| is_deprecated)
        });
    }
}

/// Waits until IPv6 leads to the Internet by this uplink, and what comes from its prefixes by it.
fn comes(i: usize, prefix: &str) {
    let from = |held: &[String], source: &str| {
        let rule = format!("from {source} lookup {} proto 77", i + 1);
        held.iter().any(|line| line.contains(&rule))
    };
    until(&format!("eth{i} has IPv6 with {prefix}"), || {
        let held = held6();
        let leads = held.iter().any(|line| line.contains(&format!("dev eth{i}")) && line.contains(" metric 512"));
        leads && from(&held, &format!("{prefix}/56")) && from(&held, &format!("2001:db8:{}::50", i + 1))
    });
}

/// multihome and its glue for dhcpcd, where they belong.
fn install_glue() {
    fs::create_dir_all("/var/lib/dhcpcd").unwrap();
    symlink(CTL, "/usr/sbin/mhctl").unwrap();
    fs::write("/etc/multihome.toml", CONFIG).unwrap();
    let glue = Path::new(env!("CARGO_MANIFEST_DIR")).join("hooks/dhcpcd");
    fs::copy(glue, "/usr/lib/dhcpcd/dhcpcd-hooks/90-multihome").unwrap();
}

/// A daemon of a provider runs in its namespace.
fn inside(provider: &Namespace) -> String {
    format!("nsenter --net={}", provider.path())
}

/// radvd(8) on an interface.
fn radvd(inside: &str, name: &str, device: &str, what: &str) -> Daemon {
    let (program, config) = (unpacked("radvd"), format!("/run/radvd-{name}.conf"));
    let intervals = "AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4;";
    fs::write(&config, format!("interface {device} {{ {intervals} {what} }};\n")).unwrap();
    let options = format!("--nodaemon --config {config} --pidfile {config}.pid --logmethod none --username root");
    Daemon::start(&format!("{inside} {program} {options}"))
}

/// Provider `i` advertises its router, to whom addresses come by DHCPv6.
fn router(internet: &Internet, i: usize) -> Daemon {
    let what = format!("AdvManagedFlag on; prefix 2001:db8:{}::/64 {{ AdvAutonomous off; }};", i + 1);
    radvd(&inside(&internet.providers[i]), &format!("provider{i}"), "customer", &what)
}

/// Provider `i` gives its address, and delegates this prefix.
fn prefix_server(internet: &Internet, i: usize, prefix: &str) -> Daemon {
    let (program, files) = (unpacked("dhcpd"), format!("/run/dhcpd{i}"));
    let own = format!("2001:db8:{}::", i + 1);
    let config = format!(
        "default-lease-time 60; preferred-lifetime 40; max-lease-time 60; dhcp-cache-threshold 0; authoritative;\n\
         option dhcp-renewal-time 2; option dhcp-rebinding-time 4;\n\
         subnet6 {own}/64 {{ range6 {own}50 {own}50; prefix6 {prefix} {prefix} /56; }}\n"
    );
    fs::write(format!("{files}.conf"), config).unwrap();
    fs::write(format!("{files}.leases"), "").unwrap();
    Daemon::start(&format!(
        "{} {program} -6 -f -q -cf {files}.conf -lf {files}.leases -pf {files}.pid customer",
        inside(&internet.providers[i])
    ))
}

/// dnsmasq(8) for the LAN: what its interface has addresses of.
fn dnsmasq() -> Daemon {
    Daemon::start(
        "dnsmasq --keep-in-foreground --port=0 --conf-file=/dev/null --user=root --pid-file= --enable-ra \
         --dhcp-range=::,constructor:eth2,ra-only --ra-param=eth2,4,1800 --interface=eth2",
    )
}

/// As whom the Internet sees each of 24 sockets of this address; `None`: no answer.
fn seen(at: &Namespace, local: &str, net: u8) -> Vec<Option<Ipv6Addr>> {
    at.run(|| (0..24).map(|n| ask_from(local, &format!("2001:db8:f:{net}::{n:x}"))).collect())
}

/// What `seen` says where all are seen as this address.
fn all_as(address: &str) -> Vec<Option<Ipv6Addr>> {
    vec![Some(address.parse().unwrap()); 24]
}

fn is_deprecated(address: &str) -> bool {
    ip("-6 -o addr show dev eth2 deprecated").contains(address)
}

#[test]
fn a_host_has_an_address_of_each_line_and_is_told_when_one_is_lost() {
    apart(|| {
        let mut scene = Advertised::new(&Advertiser::Dnsmasq);
        let (host_1, host_2) = (scene.has_preferred(LAN_1), scene.has_preferred(LAN_2));
        let server = Namespace::here();
        let unbound: Vec<_> = seen(&server, "::", 1).into_iter().map(|seen| seen.expect("an answer")).collect();
        let by = by_line(&unbound);
        assert!(by[0] + by[1] == 24 && by.iter().all(|n| *n > 2), "{unbound:?}");
        let lan = &scene.internet.lan;
        assert_eq!(seen(lan, &host_1, 2), all_as(&host_1));
        assert_eq!(seen(lan, &host_2, 3), all_as(&host_2));

        // The router says goodbye. The server of prefixes goes on, so that dhcpcd renews, and the address on the LAN is
        // preferred again each time: until multihome hears of the renewal.
        scene.routers[0].take().unwrap().end();
        scene.has_deprecated(LAN_1);
        until("the server's own is deprecated", || is_deprecated("2001:db8:100:1::1/64"));
        assert!(!is_deprecated(LAN_2) && scene.host(LAN_2).is_some_and(|(_, is_deprecated)| !is_deprecated));
        let lan = &scene.internet.lan;
        let local = "2001:db8:2::50";
        assert_eq!(seen(lan, &host_1, 4), all_as(local));
        assert_eq!(seen(lan, &host_2, 5), all_as(&host_2));
        assert_eq!(seen(&server, "::", 6), all_as(local));
        let mut left = valid_for("2001:db8:100:1::1");
        until("a renewal", || {
            let before = std::mem::replace(&mut left, valid_for("2001:db8:100:1::1"));
            left > before
        });
        scene.has_deprecated(LAN_1);
        until("the server's own is deprecated again", || is_deprecated("2001:db8:100:1::1/64"));

        scene.routers[0] = Some(router(&scene.internet, 0));
        comes(0, FIRST);
        assert_eq!(scene.has_preferred(LAN_1), host_1);
        assert_eq!(seen(&scene.internet.lan, &host_1, 7), all_as(&host_1));
    });
}

/// For how many seconds an address of the LAN is valid.
fn valid_for(address: &str) -> u32 {
    let shown = ip(&format!("-6 -o addr show dev eth2 to {address}"));
    let (_, after) = shown.split_once("valid_lft ").expect("an address with a lifetime");
    after.split("sec").next().unwrap().parse().unwrap()
}

/// Connections from this address to each of some hosts of the Internet.
fn connect(at: &Namespace, local: &str, net: u8) -> Vec<(TcpStream, Ipv6Addr)> {
    let host = |n: u8| format!("2001:db8:f:{net}::{n:x}");
    at.run(|| (0..6).map(|n| connect_from(local, (&host(n), ECHO)).expect("a new connection")).collect())
}

#[test]
fn another_prefix_of_a_provider_takes_the_old_ones_rules_and_connections_along() {
    apart(|| {
        let mut scene = Advertised::new(&Advertiser::Radvd);
        let (host_1, host_2) = (scene.has_preferred(LAN_1), scene.has_preferred(LAN_2));
        let lan = &scene.internet.lan;
        let mut others = connect(lan, &host_1, 1);
        let old = connect(lan, &host_2, 2);
        let mut own = connect(&Namespace::here(), "2001:db8:2::50", 3);
        assert_eq!((tracked("0x1/0x3"), tracked("0x2/0x3")), (6, 12));

        drop(scene.servers[1].take());
        scene.servers[1] = Some(prefix_server(&scene.internet, 1, "2001:db8:2f0::"));
        comes(1, "2001:db8:2f0::");
        until("the old prefix has no rule", || !held6().iter().any(|line| line.contains(SECOND)));
        let new = scene.has_preferred("2001:db8:2f0:2:");
        assert_eq!(seen(&scene.internet.lan, &new, 4), all_as(&new));
        assert_eq!((tracked_from(&host_2), tracked_from(&host_1), tracked_from("2001:db8:2::50")), (0, 6, 6));
        assert_eq!((talking(&mut others), talking(&mut own)), (6, 6));
        // dhcpcd has taken the old subnet's address away; the host's ends after the lifetime that radvd gave it.
        until("the server has no address of the old prefix", || !ip("-6 addr show dev eth2").contains(LAN_2));
        scene.has_deprecated(LAN_2);
        drop(old);
    });
}

/// IPv6 connections of TCP that this address has begun.
fn tracked_from(address: &str) -> usize {
    let output = ok(std::process::Command::new("conntrack").args(["-L", "-f", "ipv6", "-p", "tcp", "-s", address]));
    String::from_utf8(output.stdout).unwrap().lines().count()
}
