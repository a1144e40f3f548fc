//! Kill switches and real packets: sockets that belong to one, bound to an uplink's address and unbound, in both
//! families, send without a pause while lines, rules and the configuration come and go. What arrives at the far ends of
//! the uplinks is looked at: none of theirs, and all the time some of a socket that belongs to none.

use std::fmt::Write;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::*;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

const USER: u32 = 4242;
/// Ports by which packets are told apart: of a kill switch's, and of no kill switch's.
const KILLED: u16 = 5555;
const FREE: u16 = 5556;

/// A number of policies, and behind them two kill switches.
fn config(links: [&str; 3], policies: usize, rule_priority: u32) -> String {
    let mut text = String::new();
    for link in links {
        let (kind, interface) = match link {
            "isp1" => ("uplink", "ppp0"),
            "isp2" => ("uplink", "ppp1"),
            _ => ("tunnel", "tun0"),
        };
        write!(text, "[[{kind}]]\nname = \"{link}\"\ninterface = \"{interface}\"\n").unwrap();
    }
    for n in 0..policies {
        let to = format!("10.77.{}.{}", n / 250, n % 250);
        write!(text, "[[policy]]\nname = \"p{n}\"\nto = \"{to}\"\nvia = \"isp1\"\n").unwrap();
    }
    let kill = "via = \"vpn\"\notherwise = \"unreachable\"\n";
    write!(text, "[[policy]]\nname = \"a user\"\nuid = {USER}\n{kill}").unwrap();
    write!(text, "[[policy]]\nname = \"a destination\"\nto = \"100.64.0.0/16\"\n{kill}").unwrap();
    // Else everything by the first line, wherever it comes from.
    text += "[[policy]]\nname = \"the rest\"\nproto = \"udp\"\nvia = \"isp1\"\n";
    write!(text, "[settings]\nfirewall = \"none\"\nrule-priority = {rule_priority}\n").unwrap();
    text
}

/// What was seen at the far ends.
#[derive(Debug, Default)]
struct Seen {
    /// Of kill switches, at an uplink.
    leaked: AtomicU64,
    /// Of kill switches, at the tunnel.
    tunnelled: AtomicU64,
    /// Of none, at an uplink.
    free: AtomicU64,
}

/// Threads that send, and one that looks at the far ends.
struct Probe {
    stop: Arc<AtomicBool>,
    seen: Arc<Seen>,
    threads: Vec<JoinHandle<()>>,
}

impl Probe {
    fn start(sockets: &[(u32, &str, &str, u16)]) -> Self {
        let mut probe = Self { stop: Arc::default(), seen: Arc::default(), threads: Vec::new() };
        probe.watch();
        for (uid, local, to, port) in sockets {
            probe.send(*uid, local, format!("{to}:{port}"));
        }
        probe
    }

    fn send(&mut self, uid: u32, local: &str, to: String) {
        let stop = Arc::clone(&self.stop);
        let local = format!("{local}:0");
        self.threads.push(thread::spawn(move || {
            // The owner of a socket is who opens it.
            nix::unistd::setfsuid(uid.into());
            let socket = UdpSocket::bind(local).unwrap();
            while !stop.load(Ordering::Relaxed) {
                let _ = socket.send_to(b"?", &to);
                thread::sleep(Duration::from_micros(100));
            }
        }));
    }

    fn watch(&mut self) {
        let (stop, seen) = (Arc::clone(&self.stop), Arc::clone(&self.seen));
        let packets =
            socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll).unwrap();
        setsockopt(&packets, sockopt::RcvBufForce, &(64 << 20)).unwrap();
        setsockopt(&packets, sockopt::ReceiveTimeout, &TimeVal::new(0, 10_000)).unwrap();
        let index = |device: &str| usize::try_from(if_nametoindex(device).unwrap_or(0)).unwrap();
        let mut far = [0; 3];
        self.threads.push(thread::spawn(move || {
            let mut packet = [0; 128];
            while !stop.load(Ordering::Relaxed) {
                let Ok((length, Some(from))) = recvfrom::<LinkAddr>(packets.as_raw_fd(), &mut packet) else { continue };
                let Some(port) = udp_port(&packet[..length]) else { continue };
                // PACKET_OUTGOING is what the near ends send. Devices come and go.
                if ![KILLED, FREE].contains(&port) || from.pkttype() == 4 {
                    continue;
                }
                if !far.contains(&from.ifindex()) {
                    far = ["ppp0-far", "ppp1-far", "tun0-far"].map(index);
                }
                let counter = match (port, from.ifindex() == far[2]) {
                    (KILLED, true) => &seen.tunnelled,
                    (KILLED, false) => &seen.leaked,
                    _ => &seen.free,
                };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }

    fn leaked(&self) -> u64 {
        self.seen.leaked.load(Ordering::Relaxed)
    }

    /// The same, when nothing is on its way any more.
    fn leaked_until_now(&self) -> u64 {
        let mut before = u64::MAX;
        until("nothing leaves", || {
            thread::sleep(Duration::from_millis(50));
            std::mem::replace(&mut before, self.leaked()) == self.leaked()
        });
        self.leaked()
    }

    /// Waits until more packets have arrived that may.
    fn until_free_ones_arrive(&self) {
        let before = self.seen.free.load(Ordering::Relaxed);
        until("what no kill switch keeps arrives", || self.seen.free.load(Ordering::Relaxed) > before + 20);
    }

    fn until_tunnelled_ones_arrive(&self) {
        let before = self.seen.tunnelled.load(Ordering::Relaxed);
        until("the kill switches' arrive by the tunnel", || self.seen.tunnelled.load(Ordering::Relaxed) > before + 20);
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The destination port of a UDP packet of either family.
fn udp_port(packet: &[u8]) -> Option<u16> {
    let udp = match packet.first()? >> 4 {
        4 if packet.get(9) == Some(&17) => usize::from(packet[0] & 15) * 4,
        6 if packet.get(6) == Some(&17) => 40,
        _ => return None,
    };
    Some(u16::from_be_bytes([*packet.get(udp + 2)?, *packet.get(udp + 3)?]))
}

/// A line's device, whose far end hears all that is sent to anybody.
fn lay(line: Line) {
    line.create();
    ip(&format!("link set {} arp off", line.device));
}

/// Sockets of IPv4: a user's and root's, unbound and bound to each uplink.
const IPV4: [(u32, &str, &str, u16); 7] = [
    (USER, "0.0.0.0", "100.65.0.1", KILLED),
    (USER, ISP1.local, "100.65.0.1", KILLED),
    (USER, ISP2.local, "100.65.0.1", KILLED),
    (0, "0.0.0.0", "100.64.0.1", KILLED),
    (0, ISP1.local, "100.64.0.1", KILLED),
    (0, ISP2.local, "100.64.0.1", KILLED),
    (0, "0.0.0.0", "100.65.0.1", FREE),
];

#[test]
fn not_one_packet_leaks_at_the_first_event_behind_three_thousand_policies() {
    let server = Server::new(&config(["isp1", "isp2", "vpn"], 3000, 100));
    lay(ISP1);
    lay(ISP2);
    let probe = Probe::start(&IPV4);
    ok(&mut server.hook(UP, ISP1));
    probe.until_free_ones_arrive();
    ok(&mut server.hook(UP, ISP2));
    probe.until_free_ones_arrive();
    assert_eq!(probe.leaked(), 0);
}

#[test]
fn not_one_packet_leaks_after_a_flush_of_rules_and_while_the_configuration_changes() {
    let usual = config(["isp1", "isp2", "vpn"], 20, 100);
    let server = Server::new(&usual);
    // Before any line, as at boot.
    server.apply();
    lay(ISP1);
    lay(ISP2);
    for (device, local) in [("ppp0", "2001:db8:1::10"), ("ppp1", "2001:db8:2::10")] {
        ip(&format!("-6 addr add {local}/64 dev {device} nodad"));
    }
    // As a router's advertisement makes it.
    ip("-6 route add default dev ppp0 metric 1024");
    ip("-6 route add default dev ppp1 metric 1025");
    let mut sockets = IPV4.to_vec();
    sockets.extend([
        (USER, "[::]", "[2001:db8:9::1]", KILLED),
        (USER, "[2001:db8:1::10]", "[2001:db8:9::1]", KILLED),
        (USER, "[2001:db8:2::10]", "[2001:db8:9::1]", KILLED),
    ]);
    let probe = Probe::start(&sockets);
    let free6 = Probe::start(&[(0, "[2001:db8:1::10]", "[2001:db8:9::1]", FREE)]);
    for line in [ISP1, ISP2] {
        ok(&mut server.hook(UP, line));
    }
    probe.until_free_ones_arrive();
    free6.until_free_ones_arrive();
    assert_eq!(probe.leaked(), 0, "lines came up");

    // It deletes rule by rule, ours before `lookup main`; without that nothing leaves at all, until it is put back.
    ip("-4 rule flush");
    ip("-6 rule flush");
    let flushed = probe.leaked_until_now();
    server.apply();
    for family in ["-4", "-6"] {
        ip(&format!("{family} rule add priority 32766 lookup main"));
    }
    probe.until_free_ones_arrive();
    free6.until_free_ones_arrive();
    assert_eq!(probe.leaked(), flushed, "after a flush");

    VPN0.create();
    ip("link set tun0 arp off");
    ok(&mut server.openvpn(VPN0, "up"));
    probe.until_tunnelled_ones_arrive();
    for (links, policies, rule_priority) in [
        (["vpn", "isp2", "isp1"], 20, 100),
        (["isp2", "vpn", "isp1"], 3, 150),
        (["isp2", "isp1", "vpn"], 90, 150),
        (["isp1", "isp2", "vpn"], 0, 101),
        (["isp1", "vpn", "isp2"], 20, 100),
    ] {
        server.configure(&config(links, policies, rule_priority));
        server.apply();
        probe.until_tunnelled_ones_arrive();
        probe.until_free_ones_arrive();
        assert_eq!(probe.leaked(), flushed, "{links:?}, {policies} policies, from {rule_priority} on");
    }
    VPN0.unregister();
    ok(&mut server.openvpn(VPN0, "down"));
    server.configure(&usual);
    server.apply();
    server.lose(ISP1);
    probe.until_free_ones_arrive();
    lay(ISP1);
    ok(&mut server.hook(UP, ISP1));
    probe.until_free_ones_arrive();
    assert_eq!(probe.leaked(), flushed, "without its tunnel");
}
