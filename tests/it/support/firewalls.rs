//! Debian's other firewalls, on a machine of the test's own: its namespace, and files of which none is the machine's.
//! And what the kernel then holds, of them and of us.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::files::own_files_over;
use super::{ok, until};

/// From here on the thread has these firewalls installed, and its own files, as `own_files` says.
pub fn installed() {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/firewalls");
    assert!(unpacked.join("packages").exists(), "{}: run tests/install-tools", unpacked.display());
    own_files_over(Some(&unpacked));
}

/// Runs a command of sh(1), which has to succeed; its output.
pub fn sh(command: &str) -> String {
    String::from_utf8(ok(Command::new("sh").args(["-ec", command])).stdout).unwrap()
}

/// A daemon, as long as this lives.
struct Daemon(Child);

impl Daemon {
    /// Starts it; what it says is of interest only when it fails.
    fn start(command: &str) -> Self {
        let mut words = command.split(' ');
        let mut program = Command::new(words.next().unwrap());
        Self(program.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn succeeds(command: &str) -> bool {
    Command::new("sh").args(["-c", command]).output().unwrap().status.success()
}

/// The configuration of ufw as its package leaves it, with `nat` before its first rules, as ufw-framework(8) has it.
pub fn configure_ufw(nat: &str) {
    sh("cp /usr/share/ufw/iptables/*.rules /usr/share/ufw/ufw.conf /etc/ufw");
    let before = fs::read_to_string("/etc/ufw/before.rules").unwrap();
    fs::write("/etc/ufw/before.rules", format!("{nat}{before}")).unwrap();
}

/// firewalld with its bus. It answers when this is made, and is stopped as systemd stops it.
pub struct Firewalld {
    daemon: Daemon,
    _bus: Daemon,
}

impl Firewalld {
    pub fn start() -> Self {
        // That of the package wants a user of its own.
        const BUS: &str = "<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen>\
                           <policy context='default'><allow own='*'/><allow send_destination='*'/>\
                           <allow receive_type='*'/><allow user='*'/></policy></busconfig>";
        fs::create_dir_all("/run/dbus").unwrap();
        fs::write("/run/bus.conf", BUS).unwrap();
        let bus = Daemon::start("dbus-daemon --config-file=/run/bus.conf --nofork --nopidfile");
        until("the bus is there", || Path::new("/run/dbus/system_bus_socket").exists());
        let daemon = Daemon::start("/usr/sbin/firewalld --nofork --nopid");
        until("firewalld answers", || succeeds("firewall-cmd --state"));
        Self { daemon, _bus: bus }
    }

    /// 1 in Debian 12, 2 in Debian 13.
    pub fn major_version() -> u32 {
        let said = ok(Command::new("firewall-cmd").arg("--version"));
        let version = String::from_utf8(said.stdout).unwrap();
        version.split('.').next().unwrap().trim().parse().unwrap()
    }

    pub fn stop(mut self) {
        super::send(nix::sys::signal::Signal::SIGTERM, &self.daemon.0);
        assert!(self.daemon.0.wait().unwrap().success());
    }
}

/// fail2ban with a jail for each of two ways to ban; nobody is banned.
pub struct Fail2ban(#[expect(dead_code, reason = "it ends with this")] Daemon);

impl Fail2ban {
    pub fn start() -> Self {
        let jail = |action| {
            format!(
                "[{action}]\nenabled = true\nfilter = sshd\nport = 22\nlogpath = /run/auth.log\nbanaction = {action}\n"
            )
        };
        let settings = "[DEFAULT]\nbackend = polling\n[Definition]\n[sshd]\nenabled = false\n";
        fs::write("/etc/fail2ban/jail.local", settings.to_owned() + &jail("nftables") + &jail("iptables")).unwrap();
        fs::write("/run/auth.log", "").unwrap();
        fs::create_dir_all("/run/fail2ban").unwrap();
        fs::create_dir_all("/var/lib/fail2ban").unwrap();
        let daemon = Daemon::start("fail2ban-server -f start");
        until("fail2ban answers", || succeeds("fail2ban-client status nftables && fail2ban-client status iptables"));
        Self(daemon)
    }
}

/// The rules and chains of an iptables, each behind the name of its table.
fn saved(program: &str) -> Vec<String> {
    let (mut table, mut all) = (String::new(), Vec::new());
    for line in sh(program).lines() {
        if let Some(name) = line.strip_prefix('*') {
            name.clone_into(&mut table);
        }
        // A chain stands before the counts of packets that its policy was for.
        let is_policy = line.contains(" ACCEPT [");
        match line.strip_prefix(':').map_or(line, |chain| chain.rsplit_once(' ').unwrap().0) {
            chain if line.starts_with(':') && !is_policy => all.push(format!("{table} chain {chain}")),
            rule if line.starts_with("-A") => all.push(format!("{table} {rule}")),
            _ => {}
        }
    }
    all
}

const SAVES: [&str; 4] = ["iptables-nft-save", "iptables-legacy-save", "ip6tables-nft-save", "ip6tables-legacy-save"];

/// What there is of ours, wherever it is: behind the name of its table.
pub fn ours() -> Vec<String> {
    let listed = sh("nft -s list table inet multihome 2>/dev/null || true");
    let mut all: Vec<_> = listed.lines().map(|line| format!("inet multihome {line}")).collect();
    all.extend(SAVES.into_iter().flat_map(saved).filter(|line| line.contains("MULTIHOME")));
    all
}

/// Everything else, with the handles that rules get anew when they are loaded anew. What iptables-nft has in tables
/// that are ours as well is as iptables shows it.
pub fn theirs() -> Vec<String> {
    let mut all = Vec::new();
    for table in sh("nft list tables").lines().map(|line| &line["table ".len()..]) {
        if !["inet multihome", "ip mangle", "ip nat"].contains(&table) {
            all.extend(sh(&format!("nft -a -s list table {table} 2>/dev/null")).lines().map(str::to_owned));
        }
    }
    all.extend(SAVES.into_iter().flat_map(saved).filter(|line| !line.contains("MULTIHOME")));
    all
}
