//! The test Internet in both families: what `support::internet` has in IPv4, and the same in IPv6.
//!
//! ```text
//!   LAN host ─── eth2 [server] ppp0 fe80::2 ── fe80::1 provider 1 ──┐
//!   fd00:2::30                 ppp1 fe80::2 ── fe80::1 provider 2 ──── [Internet] 2001:db8:f::/48, every address
//!   2001:db8:1:2::30
//!   2001:db8:2:2::30
//! ```
//!
//! Provider 1 routes `2001:db8:1::/48` to the server, provider 2 `2001:db8:2::/48`, and each drops what comes from the server
//! with another source. So a test is:
//!
//! ```text
//! let server = Server::new(six::LINKS);          // its namespace is the thread's
//! let six = Six::new();
//! six.connect(SIX1);                             // the line and its addresses, as pppd leaves them
//! SIX1.up(&server);                              // ip-up and ipv6-up
//! let seen = ask_from("::", "2001:db8:f::1");    // an echo of the Internet; who it says that we are
//! ```

use std::io::{IoSlice, IoSliceMut, Read};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg, setsockopt, sockopt,
};

use crate::support::internet::{ECHO, Internet, Namespace, answer_tcp, sysctl, talks};
use crate::support::*;

/// Two uplinks with the prefixes that their providers route here.
pub const LINKS: &str = "[[uplink]]\nname = \"isp1\"\ninterface = \"ppp0\"\nprefixes = [\"2001:db8:1::/48\"]\n\
                         [[uplink]]\nname = \"isp2\"\ninterface = \"ppp1\"\nprefixes = [\"2001:db8:2::/48\"]\n";

/// The LAN host's addresses: a unique local one, and one of each provider's prefix.
pub const LAN_ULA: &str = "fd00:2::30";
pub const LAN_1: &str = "2001:db8:1:2::30";
pub const LAN_2: &str = "2001:db8:2:2::30";

/// The ends of each line, as pppd says them to ipv6-up.
const NEAR: &str = "fe80::2";
const FAR: &str = "fe80::1";

/// A line in both families.
#[derive(Clone, Copy)]
pub struct SixLine {
    pub line: Line,
    /// The server's global address on it.
    pub local: &'static str,
    /// What its provider routes to the server.
    pub prefix: &'static str,
}

pub const SIX1: SixLine = SixLine { line: ISP1, local: "2001:db8:1::10", prefix: "2001:db8:1::/48" };
pub const SIX2: SixLine = SixLine { line: ISP2, local: "2001:db8:2::10", prefix: "2001:db8:2::/48" };

impl SixLine {
    /// The server's IPv6 addresses on the line, which go with its interface's being up.
    pub fn address(self) {
        for address in [NEAR, self.local] {
            ip(&format!("-6 addr replace {address}/64 dev {} nodad", self.line.device));
        }
    }

    /// Tells the hooks that the line is up in both families.
    pub fn up(self, server: &Server) {
        ok(&mut server.hook(UP, self.line));
        ok(&mut hook6(server, UP, self));
    }

    /// The whole end of the line: pppd hangs up, both hooks run, the device goes.
    pub fn lose(self, server: &Server) {
        self.line.hang_up();
        let downs = [start(&mut hook6(server, DOWN, self)), start(&mut server.hook(DOWN, self.line))];
        self.line.unregister();
        downs.into_iter().for_each(finish);
    }

    /// Whether an address is of this line's prefix.
    pub fn has(self, addr: Ipv6Addr) -> bool {
        self.prefix.parse::<ipnet::Ipv6Net>().unwrap().contains(&addr)
    }
}

/// The scene. It goes with the namespaces.
pub struct Six {
    pub internet: Internet,
}

impl Six {
    /// Builds it around the thread's namespace. The lines come with `connect`.
    pub fn new() -> Self {
        let internet = Internet::new();
        let Internet { server, lan, providers, world } = &internet;
        for host in [server, lan, &providers[0], &providers[1], world] {
            host.run(without_autoconfiguration);
        }
        for (i, line) in [SIX1, SIX2].iter().enumerate() {
            join(&internet, i, &[line.prefix]);
        }
        add_addresses(server, "eth2", &["fe80::1", "fd00:2::1", "2001:db8:1:2::1", "2001:db8:2:2::1"]);
        add_addresses(lan, "eth0", &["fe80::30", LAN_ULA, LAN_1, LAN_2]);
        lan.ip("-6 route add default via fd00:2::1");
        begin_world(world);
        Self { internet }
    }

    /// Lays the line to its provider: as pppd leaves it at ip-up and ipv6-up, with a router's advertisement taken.
    pub fn connect(&self, six: SixLine) {
        self.internet.connect(six.line);
        six.address();
        let provider = &self.internet.providers[usize::from(six.line.device == ISP2.device)];
        provider.ip(&format!("-6 addr replace {FAR}/64 dev customer nodad"));
        provider.ip(&format!("-6 route replace {} via {NEAR} dev customer", six.prefix));
    }

    /// A line in both families, laid and told.
    pub fn begin(&self, server: &Server, six: SixLine) {
        self.connect(six);
        six.up(server);
    }
}

/// A hook as pppd runs ipv6-up or ipv6-down.
pub fn hook6(server: &Server, program: &str, six: SixLine) -> Command {
    server.hook(program, Line { local: NEAR, remote: FAR, ..six.line })
}

/// All hosts of the Internet, with an echo service.
pub(super) fn begin_world(world: &Namespace) {
    world.ip("-6 route add local 2001:db8:f::/48 dev lo");
    // A socket of any of them (`ip6_datagram_send_ctl()`, which IPv4 has no need of).
    world.sysctl("ipv6/ip_nonlocal_bind", "1");
    serve_echo(world, ECHO);
}

/// Joins a provider to the Internet. From its `customer` it lets nothing through but what has a source of these prefixes.
pub(super) fn join(internet: &Internet, i: usize, prefixes: &[&str]) {
    let (provider, world) = (&internet.providers[i], &internet.world);
    add_addresses(provider, "veth0", &["fe80::1", &format!("2001:db8:e:{i}::1")]);
    add_addresses(world, &format!("far{i}"), &["fe80::2", &format!("2001:db8:e:{i}::2")]);
    provider.ip(&format!("-6 route add default via 2001:db8:e:{i}::2"));
    for prefix in prefixes {
        world.ip(&format!("-6 route add {prefix} via 2001:db8:e:{i}::1"));
        // The kernel has no reverse path filter in IPv6.
        provider.ip(&format!("-6 rule add pref 10 iif customer from {prefix} lookup main"));
    }
    provider.ip("-6 rule add pref 11 iif customer blackhole");
}

/// Addresses that count at once. A router without a link-local one asks for no neighbour (`ndisc_send_ns_create()`).
pub(super) fn add_addresses(host: &Namespace, device: &str, all: &[&str]) {
    for address in all {
        host.ip(&format!("-6 addr add {address}/64 dev {device} nodad"));
    }
}

/// No addresses but those that the scene gives, and each of them at once.
pub(super) fn without_autoconfiguration() {
    for key in ["addr_gen_mode", "accept_dad", "dad_transmits", "accept_ra"] {
        sysctl(&format!("ipv6/conf/default/{key}"), if key == "addr_gen_mode" { "1" } else { "0" });
    }
    sysctl("ipv6/conf/all/forwarding", "1");
    // Beside the services of IPv4, at the same ports.
    sysctl("ipv6/bindv6only", "1");
}

/// UDP and TCP services on all IPv6 addresses: each answers with the address that it sees the client at, and then with
/// what it is sent.
pub fn serve_echo(at: &Namespace, port: u16) {
    let (ready, wait) = channel();
    for serve in [echo_udp, echo_tcp] {
        let ready = ready.clone();
        at.spawn(move || serve(port, &ready));
    }
    for _ in 0..2 {
        wait.recv().unwrap();
    }
}

fn echo_udp(port: u16, ready: &Sender<()>) {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
    // The answer comes from the address that was asked, which any of a prefix can be.
    setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true).unwrap();
    ready.send(()).unwrap();
    let mut buffer = [0; 4096];
    loop {
        let (length, from, to) = {
            let mut parts = [IoSliceMut::new(&mut buffer[16..])];
            let mut space = nix::cmsg_space!(nix::libc::in6_pktinfo);
            let Ok(got) = recvmsg::<SockaddrIn6>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())
            else {
                continue;
            };
            let to = got.cmsgs().unwrap().find_map(|message| match message {
                ControlMessageOwned::Ipv6PacketInfo(info) => Some(info.ipi6_addr),
                _ => None,
            });
            (got.bytes, got.address.unwrap(), to.unwrap())
        };
        let info = nix::libc::in6_pktinfo { ipi6_addr: to, ipi6_ifindex: 0 };
        buffer[..16].copy_from_slice(&from.ip().octets());
        let parts = [IoSlice::new(&buffer[..16 + length])];
        let control = [ControlMessage::Ipv6PacketInfo(&info)];
        let _ = sendmsg(socket.as_raw_fd(), &parts, &control, MsgFlags::empty(), Some(&from));
    }
}

fn echo_tcp(port: u16, ready: &Sender<()>) {
    answer_tcp(Ipv6Addr::UNSPECIFIED.into(), port, ready);
}

/// How long an answer may take; loss is found by this, so no test waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(2);

/// A socket of this address, `::` for any.
pub fn bound(local: &str) -> UdpSocket {
    UdpSocket::bind((local.parse::<Ipv6Addr>().unwrap(), 0)).unwrap()
}

/// Asks the UDP echo service of a host of the Internet from this address; who it says that we are.
pub fn ask_from(local: &str, to: &str) -> Option<Ipv6Addr> {
    ask_by(&bound(local), (to, ECHO))
}

/// The same by a socket that there is already. Sends twice where the first answer is missing.
pub fn ask_by(socket: &UdpSocket, to: (&str, u16)) -> Option<Ipv6Addr> {
    socket.set_read_timeout(Some(PATIENCE / 4)).unwrap();
    let to = SocketAddr::new(to.0.parse().unwrap(), to.1);
    for _ in 0..2 {
        // An answer from anywhere else is none.
        if socket.send_to(b"who", to).is_err() {
            continue;
        }
        let mut answer = [0; 64];
        if let Ok((19, from)) = socket.recv_from(&mut answer)
            && from == to
        {
            return Some(seen(&answer));
        }
    }
    None
}

/// Opens a TCP connection to an echo service from an address; the stream, and who it says that we are.
pub fn connect_from(local: &str, to: (&str, u16)) -> Option<(TcpStream, Ipv6Addr)> {
    let socket = bound_stream(local);
    let to = SocketAddrV6::new(to.0.parse().unwrap(), to.1, 0, 0);
    nix::sys::socket::connect(socket.as_raw_fd(), &SockaddrIn6::from(to)).ok()?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = [0; 16];
    stream.read_exact(&mut answer).ok()?;
    talks(&mut stream).then_some((stream, answer.into()))
}

/// A TCP socket that is bound to an address, and waits no longer for a connection than an answer may take.
fn bound_stream(local: &str) -> std::os::fd::OwnedFd {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, bind, socket};
    let socket = socket(AddressFamily::Inet6, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let local = SocketAddrV6::new(local.parse().unwrap(), 0, 0, 0);
    bind(socket.as_raw_fd(), &SockaddrIn6::from(local)).unwrap();
    let patience = nix::sys::time::TimeVal::new(2, 0);
    setsockopt(&socket, sockopt::SendTimeout, &patience).unwrap();
    socket
}

/// The address at the beginning of an answer.
fn seen(answer: &[u8]) -> Ipv6Addr {
    <[u8; 16]>::try_from(&answer[..16]).unwrap().into()
}

/// Whether the echo service at a link-local address on this interface answers.
pub fn ask_scoped(socket: &UdpSocket, to: &str, device: &str, port: u16) -> bool {
    send_scoped(socket, to, device, port);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    matches!(socket.recv(&mut [0; 64]), Ok(19))
}

/// Sends a packet to an address that is one of this interface only.
pub fn send_scoped(socket: &UdpSocket, to: &str, device: &str, port: u16) {
    let index = nix::net::if_::if_nametoindex(device).unwrap();
    socket.send_to(b"who", SocketAddrV6::new(to.parse().unwrap(), port, 0, index)).unwrap();
}
