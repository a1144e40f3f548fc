//! What `mh-watch` asks targets by: its packets leave by the link that they are about, and only the answer counts.
//!
//! ```text
//!            main's default, rule of mark 1
//!   [server] a0 ──────────── [far 0]  hosts of 192.0.2.0/24 and 2001:db8:f::/64
//!            a1 ──────────── [far 1]  the same
//!            rule of mark 2
//! ```

mod forged;
mod leaves;

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use multihome::config::{self, Target};
use multihome::kernel;
use multihome::watch::probe::{Answer, Binding, Error, Prober};
use nix::sched::{CloneFlags, unshare};
use tokio::runtime::{Builder, Runtime};

use crate::support::internet::{Namespace, sysctl};
use crate::support::{ip, until};

/// How long an answer may take that has to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long is waited for an answer that must not come: a veth pair takes microseconds.
const LONG: Duration = Duration::from_millis(300);

/// A server with two links.
struct Scene {
    far: [Namespace; 2],
    runtime: Runtime,
}

impl Scene {
    /// In a new namespace, that of the thread.
    fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        sysctl("ipv4/ping_group_range", "0 2147483647");
        let far = [Namespace::new(), Namespace::new()];
        for (i, far) in far.iter().enumerate() {
            let mark = i + 1;
            ip(&format!("link add a{i} type veth peer name b{i}"));
            far.adopt(&format!("b{i}"));
            let own = |end| format!("10.0.{i}.{end}/24 dev");
            let own6 = |end| format!("2001:db8:{i}::{end}/64 dev");
            for own in [own(2), own6(2)] {
                ip(&format!("addr add {own} a{i} {}", nodad(&own)));
            }
            ip(&format!("link set a{i} up"));
            for own in [own(1), own6(1)] {
                far.ip(&format!("addr add {own} b{i} {}", nodad(&own)));
            }
            far.ip(&format!("link set b{i} up"));
            far.ip("route add local 192.0.2.0/24 dev lo");
            for host in [1, 2, 53, 54, 80] {
                far.ip(&format!("addr add 2001:db8:f::{host}/128 dev lo nodad"));
            }
            for (family, gateway) in [("-4", format!("10.0.{i}.1")), ("-6", format!("2001:db8:{i}::1"))] {
                ip(&format!("{family} rule add fwmark {mark}/{mark} lookup {mark}"));
                ip(&format!("{family} route add default via {gateway} dev a{i} table {mark}"));
                if i == 0 {
                    ip(&format!("{family} route add default via {gateway} dev a0"));
                }
            }
        }
        until("both links have their carrier", || ip("link").matches("LOWER_UP").count() == 3);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        Self { far, runtime }
    }

    /// How packets of a link leave.
    fn binding(i: u32, source: Option<&str>) -> Binding {
        let interface = format!("a{i}").parse().unwrap();
        let index = kernel::index(&interface).unwrap().unwrap();
        let source = source.map(|source| source.parse().unwrap());
        Binding { mark: i + 1, interface, index, source }
    }

    fn prober(&self, binding: Binding) -> Prober {
        let _inside = self.runtime.enter();
        Prober::new(binding)
    }

    fn send(&self, prober: &mut Prober, target: &str, probe: u64) -> Result<(), Error> {
        let _inside = self.runtime.enter();
        prober.send(target_of(target), probe)
    }

    /// The probe that is answered next, within this time.
    fn answer(&self, prober: &mut Prober, within: Duration) -> Option<u64> {
        self.whole_answer(prober, within).map(|answer| answer.probe)
    }

    fn whole_answer(&self, prober: &mut Prober, within: Duration) -> Option<Answer> {
        let answer = self.runtime.block_on(async { tokio::time::timeout(within, prober.answer()).await }).ok();
        assert!(answer.is_none_or(|answer| answer.at <= Instant::now()));
        answer
    }

    /// Asks the target, which has to answer.
    fn asks(&self, prober: &mut Prober, target: &str, probe: u64) {
        self.send(prober, target, probe).unwrap();
        assert_eq!(self.answer(prober, PATIENCE), Some(probe), "{target}");
    }

    /// Asks the target, by which nothing that counts must come.
    fn asks_in_vain(&self, prober: &mut Prober, target: &str, probe: u64) {
        // That the question cannot be sent is as well.
        let _ = self.send(prober, target, probe);
        assert_eq!(self.answer(prober, LONG), None, "{target}");
    }
}

fn nodad(address: &str) -> &'static str {
    if address.contains("::") { "nodad" } else { "" }
}

/// A target, as the configuration has it.
fn target_of(text: &str) -> Target {
    let config = format!("uplink = [{{ name = 'a', interface = 'a0' }}]\n[check]\ntargets = '{text}'\n");
    config::parse(&config, "test".as_ref()).unwrap().check.unwrap().targets[0]
}

/// What is done with each question of DNS: the answer, and whether it is sent from another address or port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Say {
    Right,
    OtherId,
    Question,
    FromPort,
    FromAddress,
}

/// Name servers on an address that answer so.
fn serve_dns(far: &Namespace, address: &'static str, other: &'static str, say: Say) {
    let (ready, wait) = channel();
    far.spawn(move || {
        let address: IpAddr = address.parse().unwrap();
        let other: IpAddr = other.parse().unwrap();
        let socket = UdpSocket::bind((address, 53)).unwrap();
        let elsewhere = UdpSocket::bind((other, 53)).unwrap();
        let other_port = UdpSocket::bind((address, 5353)).unwrap();
        ready.send(()).unwrap();
        let mut packet = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            if say != Say::Question {
                packet[2] |= 0x80;
            }
            packet[0] ^= u8::from(say == Say::OtherId);
            let by = match say {
                Say::FromPort => &other_port,
                Say::FromAddress => &elsewhere,
                _ => &socket,
            };
            by.send_to(&packet[..length], from).unwrap();
        }
    });
    wait.recv().unwrap();
}

/// A program that accepts connections on an address.
fn serve_tcp(far: &Namespace, address: &'static str, port: u16) {
    let (ready, wait) = channel();
    far.spawn(move || {
        let listener = TcpListener::bind((address.parse::<IpAddr>().unwrap(), port)).unwrap();
        ready.send(()).unwrap();
        for stream in listener.incoming().flatten() {
            thread::spawn(move || drop(stream));
        }
    });
    wait.recv().unwrap();
}
