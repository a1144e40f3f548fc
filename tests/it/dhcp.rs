//! `hooks/` as they are installed, run by the real dhclient, dhcpcd and wg-quick, with a real DHCP server behind the
//! line; those of dispatchers that need a whole system, with the words that their manuals promise (`tests/managers` has
//! them called by the real ones).
//!
//! Each test has a mount namespace in which /etc and /usr may be written and nothing reaches the machine's own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::files::own_files;
use crate::support::*;

/// A static line, and one by DHCP.
const CONFIG: &str = r#"
[[uplink]]
name      = "isp1"
interface = "eth0"
gateway   = "198.51.100.1"

[[uplink]]
name      = "cable"
interface = "eth1"

[[tunnel]]
name      = "office"
interface = "wg0"
"#;
pub const ONLY_ISP1: &str = "default nhid 7100 via 198.51.100.1 dev eth0 proto 77";

/// A server with the hooks installed and eth0 up; what is behind its line eth1.
pub struct Machine {
    far: Daemon,
    _server: Server,
}

/// A process that ends with the test.
pub struct Daemon(Child);

impl Daemon {
    /// Panics where the program is not installed: nobody reads what it would say.
    pub fn start(program: &str) -> Self {
        let words: Vec<_> = program.split_whitespace().collect();
        let is_inside = usize::from(words[0] == "nsenter");
        for name in words.iter().filter(|word| !word.starts_with('-')).take(1 + is_inside) {
            assert!(is_installed(name), "there is no {name}: run tests/install-tools");
        }
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).args(words);
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Has it end as it does when the machine is shut down.
    pub fn end(mut self) {
        send(Signal::SIGTERM, &self.0);
        self.0.wait().unwrap();
    }
}

pub fn is_installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(name).exists())
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Machine {
    pub fn new() -> Self {
        let server = Server::new(CONFIG);
        own_files();
        for dir in ["/var/lib/dhcp", "/var/lib/dhcpcd", "/etc/NetworkManager/dispatcher.d", "/etc/wireguard"] {
            fs::create_dir_all(dir).unwrap();
        }
        symlink(CTL, "/usr/sbin/mhctl").unwrap();
        fs::write("/etc/multihome.toml", CONFIG).unwrap();
        for (hook, place) in [
            ("dhclient", "/etc/dhcp/dhclient-exit-hooks.d/multihome"),
            ("dhcpcd", "/usr/lib/dhcpcd/dhcpcd-hooks/90-multihome"),
            ("NetworkManager", "/etc/NetworkManager/dispatcher.d/90-multihome"),
            ("networkd-dispatcher", "/etc/90-multihome"),
        ] {
            fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("hooks").join(hook), place).unwrap();
        }

        for line in ["eth0", "eth1"] {
            ip(&format!("link add {line} type veth peer name {line}-far"));
            ip(&format!("link set {line} up"));
        }
        ip("link set eth0-far up");
        ip("addr add 198.51.100.10/24 dev eth0");
        let far = Daemon::start("unshare --net sleep infinity");
        let net = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let pid = far.0.id().to_string();
        until("a namespace behind the line", || net(&pid).is_some_and(|far| Some(far) != net("thread-self")));
        ip(&format!("link set eth1-far netns {pid}"));
        let machine = Self { far, _server: server };
        for command in ["addr add 203.0.113.1/24 dev eth1-far", "link set eth1-far up"] {
            let inside = format!("{} ip {command}", machine.inside());
            ok(Command::new("nsenter").args(inside.split_whitespace().skip(1)));
        }
        ok(Command::new("mhctl").arg("apply"));
        assert_eq!(default(), ONLY_ISP1);
        machine
    }

    pub fn inside(&self) -> String {
        format!("nsenter --net=/proc/{}/ns/net", self.far.0.id())
    }

    /// A DHCP server behind eth1, which says these options.
    fn dnsmasq(&self, options: &str) -> Daemon {
        Daemon::start(&format!(
            "{} dnsmasq --keep-in-foreground --port=0 --conf-file=/dev/null --user=root --pid-file= --no-ping \
             --dhcp-leasefile=/run/leases --dhcp-authoritative --interface=eth1-far \
             --dhcp-range=203.0.113.50,203.0.113.50,2m {options}",
            self.inside()
        ))
    }
}

/// Main's default route at our metric, in one line.
pub fn default() -> String {
    defaults("main").into_iter().find(|line| line.contains(" proto 77")).unwrap_or_default()
}

/// Waits until eth1 leads by `gateway` in the group and in its own table; `None`: until it is in neither.
fn comes(gateway: Option<&str>) {
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        let done = match gateway {
            Some(gateway) => {
                let way = format!("via {gateway} dev eth1");
                default().contains(&way) && defaults("2").iter().any(|route| route.contains(&way))
            }
            None => default() == ONLY_ISP1 && defaults("2").is_empty(),
        };
        if done {
            return;
        }
        assert!(Instant::now() < deadline, "{gateway:?} is not the way of eth1: {:#?}", held());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Of a DHCP server.
const RESOLVERS: &str = "--dhcp-option=6,203.0.113.53,203.0.113.54";

/// Whether the record of eth1 has the resolvers, in their order.
fn has_resolvers() -> bool {
    let record = fs::read_to_string("/run/multihome/eth1.ipv4").unwrap();
    record.contains("\nresolvers = [\"203.0.113.53\", \"203.0.113.54\"]\n")
}

pub fn run(command: &str) {
    let mut words = command.split_whitespace();
    ok(Command::new(words.next().unwrap()).args(words));
}

/// Signals dhcpcd, which 9.4.1 loses while a hook of its runs; ours loads the firewall after the routes,
/// so that it may still run when they are there.
pub fn tell_dhcpcd(option: &str) {
    let here = fs::read_link("/proc/thread-self/ns/net").unwrap();
    let is_hook = |process: &Path| {
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        name.starts_with("dhcpcd-run-hook") && fs::read_link(process.join("ns/net")).is_ok_and(|net| net == here)
    };
    until("dhcpcd's hooks have ended", || {
        !fs::read_dir("/proc").unwrap().flatten().any(|process| is_hook(&process.path()))
    });
    run(&format!("dhcpcd {option} eth1"));
}

pub fn append(file: &str, text: &str) {
    let old = fs::read_to_string(file).unwrap();
    fs::write(file, format!("{old}\n{text}\n")).unwrap();
}

/// What a dispatcher runs: these arguments, this environment and no other.
fn dispatch(script: &str, args: &[&str], environment: &[(&str, &str)]) {
    ok(Command::new(script).args(args).env_clear().env("PATH", "/usr/bin:/bin").envs(environment.iter().copied()));
}

#[test]
#[should_panic(expected = "there is no no-such-client: run tests/install-tools")]
fn a_client_that_is_not_installed_is_named() {
    Daemon::start("nsenter --net=/proc/self/ns/net no-such-client -d eth1");
}

#[test]
fn dhclients_lease_is_a_link_from_bound_to_expired_and_released() {
    apart(|| {
        let machine = Machine::new();
        let times = "supersede dhcp-lease-time 12; supersede dhcp-renewal-time 2; supersede dhcp-rebinding-time 6;";
        append("/etc/dhcp/dhclient.conf", times);
        let first = machine.dnsmasq(&format!("--dhcp-option=3,203.0.113.1 {RESOLVERS}"));
        let _client = Daemon::start("dhclient -4 -d eth1");
        comes(Some("203.0.113.1"));
        assert!(has_resolvers());
        assert!(held().iter().any(|rule| rule.contains("from 203.0.113.50 lookup 2")), "{:#?}", held());
        // dhclient-script cannot add its own where ours is.
        assert_eq!(defaults("main").len(), 1, "{:#?}", held());

        drop(first);
        let second = machine.dnsmasq("--dhcp-option=3,203.0.113.2");
        comes(Some("203.0.113.2"));
        drop(second);
        comes(None);
        // Two routers: the first; dhclient-script's own two have metrics, and stay.
        let third = machine.dnsmasq("--dhcp-option=3,203.0.113.3,203.0.113.1");
        comes(Some("203.0.113.3"));
        drop(third);
        // Option 121 goes before option 3.
        let _fourth = machine.dnsmasq(
            "--dhcp-option=3,203.0.113.1 --dhcp-option=121,10.0.0.0/8,203.0.113.9,192.0.2.128/25,203.0.113.9,\
             0.0.0.0/0,203.0.113.4",
        );
        comes(Some("203.0.113.4"));
        run("dhclient -4 -r eth1");
        comes(None);
    });
}

#[test]
fn the_default_route_that_dhclient_adds_is_replaced_at_the_event() {
    apart(|| {
        let machine = Machine::new();
        ip("link set eth0 down");
        assert_eq!(defaults("main"), [""; 0]);
        let _dhcp = machine.dnsmasq("--dhcp-option=3,203.0.113.1");
        let _client = Daemon::start("dhclient -4 -d eth1");
        comes(Some("203.0.113.1"));
        assert_eq!(defaults("main"), ["default nhid 7100 via 203.0.113.1 dev eth1 proto 77"]);
    });
}

#[test]
fn dhcpcds_lease_is_a_link_and_its_own_default_has_a_metric() {
    apart(|| {
        let machine = Machine::new();
        append("/etc/dhcpcd.conf", "ipv4only\nnoarp");
        let first = machine.dnsmasq(&format!("--dhcp-option=3,203.0.113.2,203.0.113.1 {RESOLVERS}"));
        let _client = Daemon::start("dhcpcd -B eth1");
        comes(Some("203.0.113.2"));
        assert!(has_resolvers());
        let own = defaults("main").into_iter().find(|route| !route.contains(" proto 77")).unwrap();
        assert!(own.contains(" metric ") && own.contains(" dev eth1"), "{own}");

        drop(first);
        let second = machine.dnsmasq("--dhcp-option=3,203.0.113.1");
        tell_dhcpcd("-n");
        comes(Some("203.0.113.1"));
        ip("link set eth1 down");
        comes(None);
        ip("link set eth1 up");
        comes(Some("203.0.113.1"));

        append("/etc/dhcpcd.conf", "nogateway");
        drop(second);
        let _third = machine
            .dnsmasq("--dhcp-option=3,203.0.113.1 --dhcp-option=121,10.0.0.0/8,203.0.113.9,0.0.0.0/0,203.0.113.4");
        tell_dhcpcd("-n");
        comes(Some("203.0.113.4"));
        tell_dhcpcd("-k");
        comes(None);
    });
}

/// Arguments and environment as in NetworkManager-dispatcher(8).
#[test]
fn networkmanagers_events_are_the_links() {
    apart(|| {
        let _machine = Machine::new();
        let script = "/etc/NetworkManager/dispatcher.d/90-multihome";
        ip("addr add 203.0.113.50/24 dev eth1");
        dispatch(script, &["eth1", "up"], &[("IP6_NUM_ADDRESSES", "1")]);
        dispatch(script, &["none", "hostname"], &[]);
        comes(None);
        let address = ("IP4_ADDRESS_0", "203.0.113.50/24 203.0.113.1");
        dispatch(script, &["eth1", "up"], &[address, ("IP4_GATEWAY", "203.0.113.1")]);
        comes(Some("203.0.113.1"));
        // ipv4.never-default: no gateway.
        dispatch(script, &["eth1", "dhcp4-change"], &[address, ("DHCP4_ROUTERS", "203.0.113.2 203.0.113.1")]);
        comes(Some("203.0.113.2"));
        dispatch(script, &["eth1", "down"], &[]);
        comes(None);
    });
}

/// Environment as networkd-dispatcher's README has it; networkd's route as it makes it.
#[test]
fn networkds_states_are_the_links() {
    apart(|| {
        let _machine = Machine::new();
        let event = |state: &str, operational: &str, administrative: &str| {
            let environment = [
                ("IFACE", "eth1"),
                ("STATE", state),
                ("OperationalState", operational),
                ("AdministrativeState", administrative),
                ("IP_ADDRS", "203.0.113.50 (DHCP4 via 203.0.113.1)"),
            ];
            dispatch("/etc/90-multihome", &[], &environment);
        };
        ip("addr add 203.0.113.50/24 dev eth1");
        event("routable", "routable", "configuring");
        comes(None);
        ip("route add default via 203.0.113.1 dev eth1 proto dhcp src 203.0.113.50 metric 1024");
        event("configured", "routable", "configured");
        comes(Some("203.0.113.1"));
        event("carrier", "carrier", "configuring");
        comes(None);
        event("routable", "routable", "configured");
        comes(Some("203.0.113.1"));
        event("off", "off", "unmanaged");
        comes(None);
    });
}

/// The real wg-quick; where the kernel has no `WireGuard` it takes wireguard-go.
#[test]
fn wg_quicks_tunnel_is_a_link() {
    apart(|| {
        let _machine = Machine::new();
        let key = String::from_utf8(ok(Command::new("wg").arg("genkey")).stdout).unwrap();
        let lines = include_str!("../../hooks/wg-quick.conf");
        let config = format!("[Interface]\nPrivateKey = {key}Address = 10.9.0.2/32\n{lines}");
        fs::write("/etc/wireguard/wg0.conf", config).unwrap();
        run("wg-quick up wg0");
        let (table, main, record) = (defaults("3"), default(), fs::exists("/run/multihome/wg0.ipv4").unwrap());
        // Before anything is asserted: wireguard-go ends with its device, and would outlive the test.
        run("wg-quick down wg0");
        assert_eq!(table, ["default dev wg0 table 3 proto 77 scope 253"]);
        assert_eq!(main, ONLY_ISP1);
        assert!(record);
        assert_eq!(defaults("3"), [""; 0]);
        assert!(!fs::exists("/run/multihome/wg0.ipv4").unwrap());
    });
}
