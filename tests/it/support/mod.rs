//! A server in a network namespace of the test's own: veth pairs that stand for lines, the hooks
//! as pppd runs them, and a prober that asks the kernel for a route without a pause.
//!
//! The namespace is the test thread's: everything that the thread starts is in it, and it goes with
//! the thread. Root is needed; `tests/run-as-root`, which cargo runs the tests through, sees to it.

pub mod alternatives;
pub mod ctl;
mod device;
pub mod files;
pub mod filter;
pub mod firewalls;
pub mod flow;
pub mod host;
pub mod internet;
pub mod nft;
pub mod openvpn;
pub mod openvpn_traffic;
pub mod random;
pub mod segment;
pub mod six;
pub mod strace;

use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use multihome::ctl::probe::{Sampler, Samples};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use alternatives::use_legacy;
pub use files::{install, install_script};

pub const UP: &str = env!("CARGO_BIN_EXE_mh-ip-up");
pub const DOWN: &str = env!("CARGO_BIN_EXE_mh-ip-down");
pub const VPN: &str = env!("CARGO_BIN_EXE_mh-vpn-up");
pub const CTL: &str = env!("CARGO_BIN_EXE_mhctl");

/// The article's two uplinks and its tunnel, as in the design.
pub const ARTICLE: &str = include_str!("../../../src/config/tests/article.toml");

/// A server.
pub struct Server {
    dir: TempDir,
}

/// A line of the server: a veth device with our address and the peer's, as pppd leaves a ppp device.
#[derive(Clone, Copy)]
pub struct Line {
    pub device: &'static str,
    pub local: &'static str,
    pub remote: &'static str,
    pub link: &'static str,
    pub pid: u32,
}

pub const ISP1: Line = Line { device: "ppp0", local: "198.51.100.10", remote: "198.51.100.1", link: "isp1", pid: 1001 };
/// The article's tunnel, as a line: a veth device named tun0.
pub const VPN0: Line = Line { device: "tun0", local: "10.8.0.6", remote: "10.8.0.5", link: "vpn", pid: 1003 };
pub const ISP2: Line = Line { device: "ppp1", local: "203.0.113.10", remote: "203.0.113.1", link: "isp2", pid: 1002 };

impl Server {
    /// A server in a new namespace, with this configuration.
    pub fn new(config: &str) -> Self {
        unshare(CloneFlags::CLONE_NEWNET)
            .expect("a network namespace needs root: run the tests through tests/run-as-root");
        let server = Self { dir: TempDir::new().unwrap() };
        if firewall() == "legacy" {
            use_legacy();
        }
        server.configure(config);
        ip("link set lo up");
        server
    }

    /// Writes the configuration, with the firewall that the tests run with where it names none.
    pub fn configure(&self, config: &str) {
        let is_said = firewall() == "auto" || config.contains("firewall = ");
        let (before, settings) = config.split_once("[settings]\n").unwrap_or((config, ""));
        let with = || format!("{before}\n[settings]\nfirewall = \"iptables\"\n{settings}");
        fs::write(self.config(), if is_said { config.to_owned() } else { with() }).unwrap();
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("multihome.toml")
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// A hook as pppd runs it: no environment but pppd's, umask 077, working directory /.
    pub fn hook(&self, program: &str, line: Line) -> Command {
        let mut command = self.bare(program);
        command.env("PPPD_PID", line.pid.to_string()).env("LINKNAME", line.link).env("IFNAME", line.device);
        command.args([line.device, "/dev/pts/7", "115200", line.local, line.remote, line.link]);
        command
    }

    /// How mends call mhctl for this server.
    pub fn mhctl(&self) -> String {
        format!("mhctl --config={} --state-dir={}", self.config().display(), self.state().display())
    }

    /// Any of our executables with this server's configuration, state and an empty environment.
    pub fn bare(&self, program: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        let script = "umask 077; options=${OPTIONS-}; unset OPTIONS; exec \"$0\" $options \"$@\"";
        command.args(["-c", script, program, "--config"]).arg(self.config());
        command.arg("--state-dir").arg(self.state());
        command.env_clear().current_dir("/").stdin(Stdio::null());
        command
    }

    /// The words of a command, with our executables where other users may run them: the directory that they were built
    /// in may be closed, as a new home is.
    pub fn for_others(&self, command: &Command) -> Vec<OsString> {
        let words = [command.get_program()].into_iter().chain(command.get_args());
        let open = words.map(|word| {
            if ![UP, DOWN, VPN, CTL].iter().any(|program| word == *program) {
                return word.to_owned();
            }
            let copy = self.config().with_file_name(Path::new(word).file_name().unwrap());
            install(word, &copy);
            copy.into_os_string()
        });
        open.collect()
    }

    /// `mh-vpn-up` as OpenVPN runs it in topology p2p or net30 for the tunnel: `script_type` says what happened.
    pub fn openvpn(&self, tunnel: Line, script_type: &str) -> Command {
        let mut command = self.bare(VPN);
        command.args([tunnel.device, "1500", "0", tunnel.local, tunnel.remote, "init"]);
        command.env("script_type", script_type).env("script_context", "init").env("dev", tunnel.device);
        command.env("dev_type", "tun").env("tun_mtu", "1500").env("link_mtu", "1500").env("verb", "1");
        command.env("ifconfig_local", tunnel.local).env("ifconfig_remote", tunnel.remote);
        command.env("trusted_ip", "203.0.113.99").env("trusted_port", "1194");
        command.env("daemon_pid", tunnel.pid.to_string());
        command
    }

    /// The executable with these arguments, which may be any.
    pub fn with_args(&self, program: &str, args: &[&str]) -> Command {
        let mut command = self.bare(program);
        command.args(args);
        command
    }

    /// `mhctl apply`, which has to succeed.
    pub fn apply(&self) {
        ok(self.bare(CTL).arg("apply"));
    }

    /// Creates the line's device and tells `mh-ip-up`; panics unless that says 0.
    pub fn up(&self, line: Line) -> Output {
        line.create();
        ok(&mut self.hook(UP, line))
    }

    /// Starts `mh-ip-down` for the line.
    pub fn down(&self, line: Line) -> Child {
        start(&mut self.hook(DOWN, line))
    }

    /// The whole end of a line: pppd hangs up, ip-down runs, the device goes.
    pub fn lose(&self, line: Line) {
        line.hang_up();
        let down = self.down(line);
        line.unregister();
        finish(down);
    }
}

impl Line {
    /// The device with its address, up, as at ip-up.
    pub fn create(&self) {
        device::create(self.device, self.local.parse().unwrap(), self.remote.parse().unwrap());
    }

    /// What pppd does before it runs ip-down: interface down, address gone.
    pub fn hang_up(&self) {
        ip(&format!("link set {} down", self.device));
        ip(&format!("addr flush dev {}", self.device));
    }

    /// Somebody pulls the plug; returns when routes by the device know it.
    pub fn lose_carrier(&self) {
        ip(&format!("link set {}-far down", self.device));
        until("the carrier is lost", || self.is_linkdown());
    }

    /// The plug is in again.
    pub fn regain_carrier(&self) {
        ip(&format!("link set {}-far up", self.device));
        until("the carrier is back", || !self.is_linkdown());
    }

    /// Whether a next hop by it has lost its carrier. Not by the filter of ip-route(8), which shows a multipath route
    /// with all of its next hops in Debian 13.
    fn is_linkdown(&self) -> bool {
        let device = format!("dev {} ", self.device);
        ip("-4 route show").lines().any(|hop| hop.contains(&device) && hop.contains("linkdown"))
    }

    /// What closing /dev/ppp does.
    pub fn unregister(&self) {
        device::delete(self.device);
    }
}

/// More options for one of our executables, whose caller's words are there already.
pub trait Options {
    /// In front of them.
    fn option(&mut self, option: &str) -> &mut Self;
}

impl Options for Command {
    fn option(&mut self, option: &str) -> &mut Self {
        let given = self.get_envs().find(|(name, _)| *name == "OPTIONS").and_then(|(_, value)| value?.to_str());
        let options = format!("{} {option}", given.unwrap_or_default());
        self.env("OPTIONS", options)
    }
}

/// Runs ip(8), which has to succeed; its output.
pub fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split_whitespace()).output().expect("ip(8) is installed");
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// All that ip(8) shows of IPv4 routing: rules, nexthops, and the routes of all tables but the kernel's own, each on a
/// line of its own.
pub fn held() -> Vec<String> {
    // Between 5.x and 6.x ip(8) writes protocol 6 as `ipproto-6` when it is asked for numbers.
    let mut all: Vec<_> = shown("-4 rule").iter().map(|line| line.replace("ipproto-", "")).collect();
    all.extend(shown("nexthop"));
    all.extend(routes().into_iter().filter(|line| !line.contains(" table 255 ")));
    all
}

/// The routes of all tables, each on a line of its own.
fn routes() -> Vec<String> {
    shown("-4 -o route show table all").iter().map(|line| line.replace(" \\\t", " ")).collect()
}

/// What of `held` is ours.
pub fn ours() -> Vec<String> {
    held().into_iter().filter(|line| line.contains(" proto 77")).collect()
}

/// The spares, one a line.
pub fn spares() -> Vec<String> {
    all_defaults("main").into_iter().filter(|line| is_spare(line)).collect()
}

fn is_spare(line: &str) -> bool {
    line.contains(" proto 77 metric 4000")
}

/// The default routes of a table, one a line, but for spares behind others.
pub fn defaults(table: &str) -> Vec<String> {
    without_spares(all_defaults(table))
}

/// Routes but for spares behind others.
pub fn without_spares(all: Vec<String>) -> Vec<String> {
    let others: Vec<_> = all.iter().filter(|line| !is_spare(line)).cloned().collect();
    if others.is_empty() { all } else { others }
}

fn all_defaults(table: &str) -> Vec<String> {
    let of_table = |line: &String| match line.split_once(" table ") {
        Some((_, rest)) => rest.split(' ').next() == Some(table),
        None => table == "main",
    };
    routes().into_iter().filter(|line| line.starts_with("default ") && of_table(line)).collect()
}

/// There is a way to the Internet, whichever next hop a packet's hash chooses.
pub fn has_default() -> bool {
    let mut probe = multihome::ctl::probe::Probe::open().unwrap();
    let mut ways = (0..32).map(|n| probe.device_towards(Ipv4Addr::new(100, 64, n, 1)).unwrap());
    ways.all(|way| way.is_some())
}

/// A configuration with these settings.
pub fn with_settings(config: &str, settings: &str) -> String {
    format!("{config}\n[settings]\n{settings}\n")
}

/// The packet filter that the tests run with: `auto`, `iptables` or `legacy` (iptables, of that variant).
pub fn firewall() -> String {
    std::env::var("FIREWALL").unwrap_or_else(|_| "auto".to_owned())
}

/// Whether this is `make stress`, which takes its time.
pub fn thorough() -> bool {
    std::env::var_os("STRESS_EVENTS").is_some()
}

/// Runs `what` in a thread, and so in a namespace, of its own.
pub fn apart<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    thread::spawn(what).join().unwrap()
}

/// ip(8)'s output as lines without trailing blanks, numbers instead of names.
pub fn shown(args: &str) -> Vec<String> {
    ip(&format!("-N {args}")).lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Runs a command that has to succeed.
pub fn ok(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Starts a command whose output nobody reads.
pub fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Runs a command that has to fail with `status`; what it says on standard error.
pub fn fails(status: i32, command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{command:?}: {said}");
    said
}

/// Sends a signal to a child.
pub fn send(signal: Signal, child: &Child) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

/// Waits for a child that has to succeed.
pub fn finish(mut child: Child) {
    assert!(child.wait().unwrap().success());
}

/// A sampler that is always answered.
pub struct Prober(Sampler);

impl Prober {
    /// Starts in the thread's namespace; returns when the first answer is there.
    pub fn start() -> Self {
        Self(Sampler::start())
    }

    /// The same in IPv6.
    pub fn start6() -> Self {
        Self(Sampler::start6())
    }

    /// Stops and tells.
    pub fn stop(self) -> Samples {
        self.0.stop().unwrap()
    }
}

/// Waits until `done`, at most a minute: a DHCP client alone may wait ten seconds before it asks again.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !done() {
        if Instant::now() > deadline {
            let (links, routes) = (ip("-d -s link"), ip("-d route show table all"));
            panic!("not within a minute: {what}; there are\n{links}\n{routes}");
        }
        thread::sleep(Duration::from_millis(2));
    }
}
