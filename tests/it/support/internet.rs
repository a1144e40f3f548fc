//! A small Internet around the server: two providers that drop what does not come from their own
//! customer, hosts behind them, a LAN behind the server, and traffic that really travels.
//!
//! ```text
//!   LAN host ── eth2 [server] ppp0 ── provider 1 ──┐
//!  192.168.2.30             ppp1 ── provider 2 ──── [Internet] 100.64.0.0/16, every address
//!                           tun0 ═══ in UDP packets ══ [Internet] 10.8.0.1, 10.9.0.0/24
//! ```
//!
//! The server is the test thread's namespace. All others are namespaces of a thread each, and go
//! with the `Internet`.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt, sockopt,
};

use super::{ISP1, ISP2, Line, ip};

/// The LAN's host and the server's address there.
pub const LAN_HOST: &str = "192.168.2.30";
pub const LAN_GATEWAY: &str = "192.168.2.1";
/// Somebody who works at the second provider, in its own subnet.
pub const STAFF: &str = "203.0.113.80";
/// The tunnel.
pub const TUN: Line = Line { device: "tun0", local: "10.8.0.2", remote: "10.8.0.1", link: "vpn", pid: 1003 };
/// Port of the echo services, UDP and TCP.
pub const ECHO: u16 = 7;

/// A network namespace, as long as this lives.
pub struct Namespace {
    pub file: File,
    tid: i32,
    _end: Sender<()>,
}

impl Namespace {
    /// A new one, with its loopback up.
    pub fn new() -> Self {
        let (tell, told) = channel();
        let (end, ended) = channel::<()>();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ip("link set lo up");
            let tid = nix::unistd::gettid().as_raw();
            tell.send((File::open(format!("/proc/self/task/{tid}/ns/net")).unwrap(), tid)).unwrap();
            // The namespace needs a thread as long as devices are moved to it by number.
            let _ = ended.recv();
        });
        let (file, tid) = told.recv().unwrap();
        Self { file, tid, _end: end }
    }

    /// That of the calling thread, which lives on.
    pub fn here() -> Self {
        let tid = nix::unistd::gettid().as_raw();
        let file = File::open(format!("/proc/self/task/{tid}/ns/net")).unwrap();
        Self { file, tid, _end: channel().0 }
    }

    /// Its file, for other programs.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Runs `work` in it, on a thread of its own.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let done = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            done.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts `work` in it; it ends with the process, or when it likes.
    pub fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
        let file = self.file.try_clone().unwrap();
        thread::spawn(move || {
            setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }

    /// Takes a device of the calling thread's namespace.
    pub fn adopt(&self, device: &str) {
        ip(&format!("link set {device} netns {}", self.tid));
    }

    pub fn ip(&self, args: &str) -> String {
        self.run(|| ip(args))
    }

    pub fn sysctl(&self, key: &str, value: &str) {
        self.run(|| sysctl(key, value));
    }

    /// UDP and TCP services on all addresses: each answers with the address that it sees the client
    /// at, and then with what it is sent.
    pub fn serve_echo(&self, port: u16) {
        self.serve_echo_as(0, port);
    }

    /// The same by sockets of this user.
    pub fn serve_echo_as(&self, uid: u32, port: u16) {
        let (ready, wait) = channel();
        for serve in [echo_udp, echo_tcp] {
            let ready = ready.clone();
            self.spawn(move || {
                nix::unistd::setfsuid(uid.into());
                serve(port, &ready);
            });
        }
        for _ in 0..2 {
            wait.recv().unwrap();
        }
    }
}

pub fn sysctl(key: &str, value: &str) {
    // /proc/sys/net shows the namespace of the thread that opens it.
    std::fs::write(format!("/proc/sys/net/{key}"), value).unwrap_or_else(|e| panic!("{key}: {e}"));
}

fn echo_udp(port: u16, ready: &Sender<()>) {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    setsockopt(&socket, sockopt::Ipv4PacketInfo, &true).unwrap();
    // Root of a user namespace may not: then what the limit allows has to do.
    let _ = setsockopt(&socket, sockopt::RcvBufForce, &(256 << 20));
    ready.send(()).unwrap();
    let mut buffer = [0; 2048];
    loop {
        let mut space = nix::cmsg_space!(nix::libc::in_pktinfo);
        let mut parts = [std::io::IoSliceMut::new(&mut buffer[4..])];
        let Ok(got) = recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty()) else {
            continue;
        };
        let (length, from) = (got.bytes, got.address.unwrap());
        let to = got.cmsgs().unwrap().find_map(|c| match c {
            ControlMessageOwned::Ipv4PacketInfo(info) => Some(info.ipi_addr),
            _ => None,
        });
        // The answer comes from the address that was asked, whichever it was.
        let info = nix::libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: to.unwrap(),
            ipi_addr: nix::libc::in_addr { s_addr: 0 },
        };
        buffer[..4].copy_from_slice(&from.ip().octets());
        let parts = [std::io::IoSlice::new(&buffer[..4 + length])];
        let control = [ControlMessage::Ipv4PacketInfo(&info)];
        let _ = sendmsg(socket.as_raw_fd(), &parts, &control, MsgFlags::empty(), Some(&from));
    }
}

fn echo_tcp(port: u16, ready: &Sender<()>) {
    answer_tcp(Ipv4Addr::UNSPECIFIED.into(), port, ready);
}

/// Answers with the address of whoever asks, and then with what he says. `any`: all addresses of a family.
pub fn answer_tcp(any: IpAddr, port: u16, ready: &Sender<()>) {
    let listener = TcpListener::bind((any, port)).unwrap();
    ready.send(()).unwrap();
    for stream in listener.incoming().flatten() {
        thread::spawn(move || {
            let mut stream = stream;
            let Ok(peer) = stream.peer_addr() else { return };
            let mut buffer = [0; 4096];
            let mut sent = match peer.ip() {
                IpAddr::V4(peer) => stream.write_all(&peer.octets()),
                IpAddr::V6(peer) => stream.write_all(&peer.octets()),
            };
            while sent.is_ok() {
                match stream.read(&mut buffer) {
                    Ok(n @ 1..) => sent = stream.write_all(&buffer[..n]),
                    _ => return,
                }
            }
        });
    }
}

/// How long an answer may take; loss is found by this, so no test waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks a UDP echo service at `to`; who it says that we are.
pub fn ask_udp(to: (&str, u16)) -> Option<Ipv4Addr> {
    ask_udp_from("0.0.0.0:0", to)
}

pub fn ask_udp_from(local: &str, to: (&str, u16)) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind(local).unwrap();
    ask_again(&socket, to)
}

/// The same by a socket that there is already. Sends twice where the first answer is missing.
pub fn ask_again(socket: &UdpSocket, to: (&str, u16)) -> Option<Ipv4Addr> {
    socket.set_read_timeout(Some(PATIENCE / 4)).unwrap();
    let to = SocketAddrV4::new(to.0.parse().unwrap(), to.1);
    for _ in 0..2 {
        // An answer from anywhere else is none.
        if socket.send_to(b"who", to).is_err() {
            continue;
        }
        let mut answer = [0; 64];
        if let Ok((7, from)) = socket.recv_from(&mut answer)
            && from == SocketAddr::V4(to)
        {
            return Some(Ipv4Addr::new(answer[0], answer[1], answer[2], answer[3]));
        }
    }
    None
}

/// Opens a TCP connection to an echo service; the stream, and who it says that we are.
pub fn connect_tcp(to: (&str, u16)) -> Option<(TcpStream, Ipv4Addr)> {
    let to = SocketAddr::new(IpAddr::V4(to.0.parse().unwrap()), to.1);
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut seen = [0; 4];
    stream.read_exact(&mut seen).ok()?;
    talks(&mut stream).then_some((stream, Ipv4Addr::from(seen)))
}

/// Whether the connection still carries something both ways.
pub fn talks(stream: &mut TcpStream) -> bool {
    let mut back = [0; 5];
    stream.write_all(b"hello").is_ok() && stream.read_exact(&mut back).is_ok() && &back == b"hello"
}

pub fn ask_tcp(to: (&str, u16)) -> Option<Ipv4Addr> {
    connect_tcp(to).map(|(_, seen)| seen)
}

/// The whole scene.
pub struct Internet {
    pub server: Namespace,
    pub lan: Namespace,
    pub providers: [Namespace; 2],
    pub world: Namespace,
}

impl Internet {
    /// Builds it around the thread's namespace. The lines come with `connect`.
    pub fn new() -> Self {
        let (server, lan, world) = (Namespace::here(), Namespace::new(), Namespace::new());
        let providers = [Namespace::new(), Namespace::new()];
        // Every address of 100.64.0.0/16 is a host of its own.
        world.ip("route add local 100.64.0.0/16 dev lo");
        // The providers reach each other through it.
        world.sysctl("ipv4/ip_forward", "1");
        for (i, (provider, line)) in providers.iter().zip([ISP1, ISP2]).enumerate() {
            provider.ip(&format!("link add up type veth peer name far{i} netns {}", world.tid));
            provider.ip(&format!("addr add 10.{i}.0.1/30 dev veth0"));
            provider.ip("link set veth0 up");
            world.ip(&format!("link set far{i} up"));
            world.ip(&format!("addr add 10.{i}.0.2/30 dev far{i}"));
            world.ip(&format!("route add {} via 10.{i}.0.1", line.local));
            provider.ip(&format!("route add default via 10.{i}.0.2"));
            provider.sysctl("ipv4/ip_forward", "1");
        }
        providers[1].ip(&format!("addr add {STAFF}/32 dev lo"));
        world.ip(&format!("route add {STAFF} via 10.1.0.1"));
        world.serve_echo(ECHO);

        ip(&format!("link add eth2 type veth peer name eth0 netns {}", lan.tid));
        ip(&format!("addr add {LAN_GATEWAY}/24 dev eth2"));
        ip("link set eth2 up");
        lan.ip(&format!("addr add {LAN_HOST}/24 dev eth0"));
        lan.ip("addr add 192.168.2.31/24 dev eth0");
        lan.ip("link set eth0 up");
        lan.ip(&format!("route add default via {LAN_GATEWAY}"));
        sysctl("ipv4/ip_forward", "1");
        Self { server, lan, providers, world }
    }

    fn provider(&self, line: Line) -> &Namespace {
        &self.providers[usize::from(line.device == ISP2.device)]
    }

    /// Lays the line to its provider: as pppd leaves it at ip-up.
    pub fn connect(&self, line: Line) {
        line.create();
        let provider = self.provider(line);
        ip(&format!("link set {}-far netns {}", line.device, provider.tid));
        provider.ip(&format!("link set {0}-far name customer", line.device));
        provider.ip("link set customer up");
        provider.ip(&format!("addr replace {} peer {} dev customer", line.remote, line.local));
        // Nothing but the customer's own address comes in: strict reverse path filter.
        provider.sysctl("ipv4/conf/customer/rp_filter", "1");
    }

    /// A tunnel in UDP packets (VXLAN) to 100.64.200.1, whose other end is 10.8.0.1: as OpenVPN leaves its own at `up`.
    pub fn tunnel(&self) {
        ip("link add tun0 type vxlan id 1 remote 100.64.200.1 dstport 4789");
        ip(&format!("addr add {} peer {} dev tun0", TUN.local, TUN.remote));
        ip("link set tun0 up");
        // The far end answers to wherever it hears the server from.
        self.world.ip("link add tun0 type vxlan id 1 local 100.64.200.1 dstport 4789");
        self.world.ip("link set tun0 up");
        self.world.ip(&format!("addr add {} peer {} dev tun0", TUN.remote, TUN.local));
        // 10.9.0.0/24 is reached through the tunnel alone.
        self.world.ip("route add local 10.9.0.0/24 dev lo");
    }
}
