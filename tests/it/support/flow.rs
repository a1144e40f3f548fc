//! A flow of packets that travels while something is done, and counts what comes back.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use super::internet::ECHO;

/// A flow of UDP packets that an echo service sends back.
pub struct Flow {
    pub socket: UdpSocket,
    per_second: u64,
}

/// Packets a second, if not said otherwise.
pub const PER_SECOND: u64 = 10_000;

impl Flow {
    pub fn new() -> Self {
        Self::of(PER_SECOND)
    }

    /// One of so many packets a second.
    pub fn of(per_second: u64) -> Self {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        // Some ten seconds of packets: a busy machine may not let the reader run, and what it drops is no loss of ours.
        setsockopt(&socket, sockopt::RcvBufForce, &(256 << 20)).unwrap();
        Self { socket, per_second }
    }

    /// Sends until `work` is done; how many were sent, how many came back, and who was seen.
    pub fn during(&self, to: &str, work: impl FnOnce()) -> (u64, u64, Vec<Ipv4Addr>) {
        let (over, sent) = (AtomicBool::new(false), AtomicU64::new(u64::MAX));
        self.socket.connect((to, ECHO)).unwrap();
        self.socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let start = Instant::now();
                let mut n = 0_u64;
                while !over.load(Ordering::Relaxed) {
                    let due = u64::try_from(start.elapsed().as_micros()).unwrap() * self.per_second / 1_000_000;
                    while n < due {
                        // An error of the socket is a packet lost, and found missing below.
                        let _ = self.socket.send(&n.to_be_bytes());
                        n += 1;
                    }
                    std::thread::sleep(Duration::from_micros(200));
                }
                sent.store(n, Ordering::Relaxed);
            });
            let receiver = scope.spawn(|| {
                let (mut back, mut seen, mut buffer) = (0, Vec::new(), [0; 64]);
                while back < sent.load(Ordering::Relaxed) {
                    match self.socket.recv(&mut buffer) {
                        Ok(12) => back += 1,
                        // Nothing for a while: the rest is lost, if that was the end.
                        Err(e) if e.kind() == ErrorKind::WouldBlock && over.load(Ordering::Relaxed) => break,
                        // Word of a packet that was lost on its way (ICMP), and found missing as well.
                        _ => continue,
                    }
                    let from = Ipv4Addr::new(buffer[0], buffer[1], buffer[2], buffer[3]);
                    if seen.last() != Some(&from) {
                        seen.push(from);
                    }
                }
                (back, seen)
            });
            work();
            over.store(true, Ordering::Relaxed);
            sender.join().unwrap();
            let (back, seen) = receiver.join().unwrap();
            (sent.load(Ordering::Relaxed), back, seen)
        })
    }
}
