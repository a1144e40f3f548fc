//! Real OpenVPN at both ends: a server of a test with two lines, beyond them the Internet (one more network
//! namespace) with OpenVPN servers and a host behind them, and clients that see our files where they belong.
//!
//! ```text
//!   [server] ppp0 ── [Internet] 203.0.113.99, OpenVPN's servers
//!            ppp1 ──            10.9.0.1, a host that answers on every way: in the clear, too
//!            tun0 ═══ in UDP packets ═══ tun-1130
//! ```
//!
//! A client runs in a mount namespace of its own, in which /usr/sbin/mh-vpn-up, /etc/multihome.toml,
//! /run/multihome and /etc/openvpn/client are those of the test. Nothing of the machine is touched.

use std::fs::{self, File, Permissions};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{CTL, ISP1, ISP2, Line, Server, UP, VPN, ip, ok, send};

/// Where OpenVPN's servers are, as in the article.
pub const FAR_END: &str = "203.0.113.99";
/// The article's port.
pub const PORT: u16 = 1130;
/// A host behind the tunnel. It hears what comes to it in the clear just as well.
pub const HOST: &str = "10.9.0.1";

/// OpenVPN connects within a second; a machine may be busy with something else.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a client sees instead of the machine's own files. `$1` is the directory of them, `$2` the
/// configuration, `$3` the state directory, `$4` mh-vpn-up, `$5` mhctl; the rest is the command.
const VIEW: &str = r#"set -e
mount -t overlay overlay -o lowerdir="$1/etc:/etc" /etc
mount -t overlay overlay -o lowerdir="$1/sbin:/usr/sbin" /usr/sbin
mount --bind "$2" /etc/multihome.toml
mount --bind "$4" /usr/sbin/mh-vpn-up
mount --bind "$5" /usr/sbin/mhctl
mount --bind "$1/run" /run
mount --bind "$3" /run/multihome
[ ! -e "$1/tun" ] || mount --bind "$1/tun" /dev/net/tun
shift 5
cd /etc/openvpn/client
exec "$@""#;

/// A server of a test, and what is around it.
pub struct World {
    pub server: Server,
    far: Far,
    dir: TempDir,
    clear: Arc<AtomicUsize>,
}

/// A network namespace, as long as this lives.
struct Far {
    namespace: PathBuf,
    _end: Sender<()>,
}

impl Far {
    fn new() -> Self {
        let (tell, told) = channel();
        let (end, ended) = channel::<()>();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let path = format!("/proc/{}/task/{}/ns/net", std::process::id(), nix::unistd::gettid());
            tell.send(PathBuf::from(path)).unwrap();
            // Until the end of `Far` nothing is sent, and then `recv` fails.
            let _ = ended.recv();
        });
        Self { namespace: told.recv().unwrap(), _end: end }
    }

    /// Runs `what` there, in a thread of its own.
    fn run<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        let there = || {
            setns(File::open(&self.namespace).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            what()
        };
        thread::scope(|scope| scope.spawn(there).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}

impl World {
    /// A server with this configuration and no line, and an Internet.
    pub fn new(config: &str) -> Self {
        if let Err(e) = File::options().write(true).open("/dev/net/tun") {
            panic!("/dev/net/tun: {e}: load the module tun, and run this as root or give the device the mode 0666");
        }
        let (server, far, clear) = (Server::new(config), Far::new(), Arc::default());
        let world = Self { server, far, dir: TempDir::new().unwrap(), clear };
        let listening = world.far.run(|| {
            ip("link set lo up");
            for address in [FAR_END, HOST] {
                ip(&format!("addr add {address}/32 dev lo"));
            }
            // A provider drops what comes from another's customer.
            for conf in ["all", "default"] {
                fs::write(format!("/proc/sys/net/ipv4/conf/{conf}/rp_filter"), "1").unwrap();
            }
            UdpSocket::bind((HOST, 7)).unwrap()
        });
        // Says who is asking. It ends with the process, as sockets do not mind where their thread is.
        let clear = Arc::clone(&world.clear);
        thread::spawn(move || {
            while let Ok((_, from)) = listening.recv_from(&mut [0; 64]) {
                let by_line = [ISP1, ISP2].iter().any(|line| from.ip().to_string() == line.local);
                clear.fetch_add(by_line.into(), Ordering::Relaxed);
                let _ = listening.send_to(from.ip().to_string().as_bytes(), from);
            }
        });
        world.lay_out();
        world
    }

    /// The files that clients see, and the keys of both ends.
    fn lay_out(&self) {
        let dir = self.dir.path();
        for sub in ["etc/openvpn/client", "etc/sudoers.d", "sbin", "run/multihome", "log"] {
            fs::create_dir_all(dir.join(sub)).unwrap();
        }
        // udev makes it 0666. Where there is no udev it may be root's, and nobody could not open it again.
        let mode = fs::metadata("/dev/net/tun").unwrap().permissions().mode();
        if mode & 0o777 != 0o666 {
            ok(Command::new("mknod").args(["-m", "666"]).arg(dir.join("tun")).args(["c", "10", "200"]));
        }
        fs::write(dir.join("etc/multihome.toml"), "").unwrap();
        for program in ["mh-vpn-up", "mhctl"] {
            fs::write(dir.join("sbin").join(program), "").unwrap();
        }
        fs::create_dir_all(self.server.state()).unwrap();
        // OpenVPN as nobody has to see its way, whatever the umask here.
        for sub in ["etc", "etc/openvpn", "etc/openvpn/client", "etc/sudoers.d", "sbin", "run", "run/multihome"] {
            fs::set_permissions(dir.join(sub), Permissions::from_mode(0o755)).unwrap();
        }
        fs::set_permissions(self.server.state(), Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(self.server.config(), Permissions::from_mode(0o644)).unwrap();
        for (end, files) in [("server", ["ca.crt", "server.key"]), ("client", ["client.crt", "client.key"])] {
            let keys = dir.join("etc/openvpn/client");
            let mut openssl = Command::new("openssl");
            openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
            openssl.args(["-days", "2", "-subj", &format!("/CN={end}")]);
            openssl.args(["-addext", &format!("extendedKeyUsage={end}Auth")]);
            openssl.args(["-addext", "keyUsage=digitalSignature"]);
            openssl.arg("-out").arg(keys.join(files[0])).arg("-keyout").arg(keys.join(files[1]));
            ok(&mut openssl);
        }
        self.install("openvpn/client/user-nobody.inc", include_str!("../../../etc-openvpn/user-nobody.inc"), 0o644);
        self.install("openvpn/client/down-root.inc", include_str!("../../../etc-openvpn/down-root.inc"), 0o644);
    }

    /// Puts a file where it belongs under /etc, with its mode.
    fn install(&self, path: &str, content: &str, mode: u32) {
        let path = self.dir.path().join("etc").join(path);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }

    /// Installs our sudoers file, for `user` instead of nobody.
    pub fn allow_sudo(&self, user: &str) {
        let uids = fs::read_to_string("/proc/self/uid_map").unwrap();
        let root = uids.split_whitespace().take(2).eq(["0", "0"]);
        assert!(root, "sudo belongs to the machine's root, and works for nobody else: run this test as root");
        let sudoers = include_str!("../../../etc-openvpn/sudoers").replace("\nnobody ALL", &format!("\n{user} ALL"));
        self.install("sudoers.d/multihome", &sudoers, 0o440);
        // Nobody who could be asked knows this machine's name.
        self.install("hosts", "127.0.0.1 localhost\n", 0o644);
    }

    /// Brings a line up as pppd does, with its other end in the Internet.
    pub fn up(&self, line: Line) {
        let Line { device, local, remote, .. } = line;
        // As on a ppp device, nobody asks for Ethernet addresses: both ends have the same, and no IPv6. Then every
        // packet on it is one that somebody sent.
        let end = "address 02:00:00:00:00:01";
        let far = self.far.namespace.display();
        ip(&format!("link add {device} {end} type veth peer name {device}-far {end} netns {far}"));
        let up = |device: &str, local, remote| {
            ip(&format!("addr add {local} peer {remote} dev {device}"));
            ip(&format!("link set {device} arp off addrgenmode none up"));
        };
        self.far.run(|| up(&format!("{device}-far"), remote, local));
        up(device, local, remote);
        ok(&mut self.server.hook(UP, line));
    }

    /// An OpenVPN server on that port, which has given itself the first address of `network`/24.
    pub fn openvpn_server(&self, topology: &str, network: &str, port: u16) -> OpenVpn {
        self.far_end(port, &format!("topology {topology}\nserver {network} 255.255.255.0\nexplicit-exit-notify 1"))
    }

    /// OpenVPN at the far end with these options beside the keys and where it listens.
    pub fn far_end(&self, port: u16, options: &str) -> OpenVpn {
        let keys = self.dir.path().join("etc/openvpn/client");
        let config = format!(
            "dev tun-{port}\ndev-type tun\nproto udp\nlocal {FAR_END}\nport {port}\ntls-server\nkeepalive 1 4\n\
             dh none\nca {0}/client.crt\ncert {0}/ca.crt\nkey {0}/server.key\n{options}\n",
            keys.display()
        );
        let file = self.dir.path().join(format!("server-{port}.conf"));
        fs::write(&file, config).unwrap();
        let mut command = Command::new("/usr/sbin/openvpn");
        command.arg("--config").arg(file);
        let log = self.log(&format!("server-{port}"));
        let openvpn = self.far.run(|| OpenVpn::start(command, log));
        // A tunnel of two ends has nothing else to say before the other one calls.
        openvpn.says(if options.contains("server") { DONE } else { "UDPv4 link remote" });
        openvpn
    }

    /// What a client sees as /run, but for what is mounted there.
    pub fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    fn log(&self, name: &str) -> PathBuf {
        let log = self.dir.path().join("log");
        log.join(format!("{name}-{}", fs::read_dir(&log).unwrap().count()))
    }

    /// Our client.conf as it is installed, then `options`. Returns at once.
    pub fn client(&self, name: &str, options: &str) -> OpenVpn {
        self.client_under(&[], name, options)
    }

    /// The same, started by `wrapper`, a command that takes another as its last arguments.
    pub fn client_under(&self, wrapper: &[&str], name: &str, options: &str) -> OpenVpn {
        self.client_of(wrapper, name, &format!("{CLIENT_CONF}\nconnect-retry 1 1\n{options}\n"))
    }

    /// OpenVPN with this configuration and these files in place.
    pub fn client_of(&self, wrapper: &[&str], name: &str, config: &str) -> OpenVpn {
        let dir = self.dir.path();
        fs::write(dir.join(format!("etc/openvpn/client/{name}.conf")), config).unwrap();
        let mut command = self.viewed(wrapper);
        // As Debian's unit does, but for the time stamps.
        command.args(["/usr/sbin/openvpn", "--nobind", "--config", &format!("{name}.conf")]);
        OpenVpn::start(command, self.log(name))
    }

    /// A command that sees our files where they belong.
    pub fn viewed(&self, command: &[&str]) -> Command {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "/bin/sh", "-c", VIEW, "view"]).arg(self.dir.path());
        unshare.arg(self.server.config()).arg(self.server.state()).arg(VPN).arg(CTL).args(command);
        unshare
    }

    /// What is recorded of a link, in either family, if anything is.
    pub fn record(&self, link: &str) -> Option<String> {
        let files = fs::read_dir(self.server.state()).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()));
        let about = files.flatten().filter(|text| text.contains(&format!("link = \"{link}\"")));
        Some(about.collect::<String>()).filter(|text| !text.is_empty())
    }

    /// How many packets have come to the host by a line, in the clear.
    pub fn in_the_clear(&self) -> usize {
        self.clear.load(Ordering::Relaxed)
    }
}

/// Packets that have left by a line.
pub fn packets(line: Line) -> u64 {
    let devices = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let of_line = devices.lines().find_map(|l| l.trim().strip_prefix(&format!("{}:", line.device)));
    of_line.expect("the line is there").split_whitespace().nth(9).unwrap().parse().unwrap()
}

/// Our client.conf.
pub const CLIENT_CONF: &str = include_str!("../../../etc-openvpn/client.conf");

/// What OpenVPN says when it is up.
pub const DONE: &str = "Initialization Sequence Completed";

/// A running OpenVPN; it ends with its test.
pub struct OpenVpn {
    child: Child,
    log: PathBuf,
    /// Lines of the log that earlier calls of `says` have passed.
    seen: std::cell::Cell<usize>,
}

impl OpenVpn {
    fn start(mut command: Command, log: PathBuf) -> Self {
        command.args(["--machine-readable-output", "--verb", "3"]);
        let out = File::create(&log).unwrap();
        command.stdin(Stdio::null()).stderr(out.try_clone().unwrap()).stdout(out);
        Self { child: command.spawn().unwrap(), log, seen: 0.into() }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits for the next line with this text.
    pub fn says(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if let Some(at) = log.lines().skip(self.seen.get()).position(|line| line.contains(text)) {
                self.seen.set(self.seen.get() + at + 1);
                return;
            }
            assert!(Instant::now() < deadline, "OpenVPN does not say {text:?} any more:\n{log}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn signal(&self, signal: Signal) {
        send(signal, &self.child);
    }

    /// Waits for its end.
    pub fn ended(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, self.log());
            }
            assert!(Instant::now() < deadline, "OpenVPN does not end:\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGTERM, which has to end it as it should; its log.
    pub fn stop(self) -> String {
        self.signal(Signal::SIGTERM);
        let (status, log) = self.ended();
        assert!(status.success() && !log.contains("fatal error"), "{log}");
        log
    }
}

impl Drop for OpenVpn {
    fn drop(&mut self) {
        // A plugin's child stays behind when OpenVPN is killed, and ends with one that is told to end.
        if self.log().contains("PLUGIN_INIT") && self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(Signal::SIGTERM);
            let deadline = Instant::now() + PATIENCE;
            while Instant::now() < deadline && self.child.try_wait().is_ok_and(|status| status.is_none()) {
                thread::sleep(Duration::from_millis(5));
            }
        }
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How long mh-vpn-up took at each call: from the line in which OpenVPN says that it calls it to the next.
pub fn times(log: &str) -> Vec<Duration> {
    let stamp = |line: &str| line.split(' ').next().and_then(|word| word.parse::<f64>().ok());
    let lines: Vec<_> = log.lines().filter_map(|line| Some((stamp(line)?, line))).collect();
    let called = |pair: &&[(f64, &str)]| pair[0].1.contains(" 1 /usr/sbin/mh-vpn-up ");
    // OpenVPN sleeps for a second between two tunnel devices.
    let opened = |pair: &&[(f64, &str)]| pair[1].1.contains("TUN/TAP device");
    lines
        .windows(2)
        .filter(called)
        .filter(|pair| !opened(pair))
        .map(|pair| Duration::from_secs_f64((pair[1].0 - pair[0].0).max(0.0)))
        .collect()
}
