//! A target that is asked by datagrams: its socket, and the questions that are open.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::net::{SocketAddr, UdpSocket as StdUdpSocket};
use std::os::fd::AsRawFd;
use std::task::{Context, Poll};

use nix::sys::socket::{MsgFlags, sendto};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

use super::{Binding, Error, dns, echo, socket};
use crate::config::{Method, Target};

/// Questions that may be open. The oldest is given up for the next.
const MOST_OPEN: usize = 32;
/// Packets of strangers that are thrown away before others have their turn.
const MOST_STRANGERS: usize = 16;
/// A root server's answer without EDNS is not longer.
const LONGEST: usize = 512;

#[derive(Debug)]
pub(super) struct Datagrams {
    target: Target,
    /// Not connected: otherwise an ICMP error of somebody would be an error of the next question.
    socket: UdpSocket,
    to: SocketAddr,
    /// What is random in a question, and the number of its probe. The oldest first.
    open: VecDeque<(u64, u64)>,
    random: RandomState,
    asked: u64,
}

impl Datagrams {
    pub(super) fn open(binding: &Binding, target: Target) -> Result<Self, Error> {
        let fd = socket::open(binding, target)?;
        // The type is right for any socket of datagrams.
        let socket = UdpSocket::from_std(StdUdpSocket::from(fd))
            .map_err(|source| socket::failed("wait for answers of", target, source))?;
        let port = if target.method() == Method::Dns { dns::PORT } else { 0 };
        let to = SocketAddr::new(target.address(), port);
        Ok(Self { target, socket, to, open: VecDeque::new(), random: RandomState::new(), asked: 0 })
    }

    pub(super) fn target(&self) -> Target {
        self.target
    }

    pub(super) fn ask(&mut self, probe: u64) -> Result<(), Error> {
        let random = self.unguessable();
        let packet = if self.target.method() == Method::Dns {
            // That of `unguessable`, cut to an id.
            dns::question(u16::try_from(random).unwrap_or_default())
        } else {
            echo::question(self.target.family(), random)
        };
        // Not with `try_send_to`, which waits until the runtime has seen that there is room.
        let sent = sendto(self.socket.as_raw_fd(), &packet, &*socket::sockaddr(self.to), MsgFlags::empty());
        sent.map_err(|errno| socket::failed("ask", self.target, errno))?;
        if self.open.len() >= MOST_OPEN {
            self.open.pop_front();
        }
        self.open.push_back((random, probe));
        Ok(())
    }

    /// A number that no stranger can know, and that no open question has: a hash with a key (`SipHash`) that is of the
    /// operating system's randomness.
    fn unguessable(&mut self) -> u64 {
        loop {
            self.asked = self.asked.wrapping_add(1);
            let random = self.random.hash_one(self.asked);
            let random = if self.target.method() == Method::Dns { random & 0xffff } else { random };
            if !self.open.iter().any(|(other, _)| *other == random) {
                return random;
            }
        }
    }

    /// The probe that is answered next.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<u64> {
        for _ in 0..MOST_STRANGERS {
            let mut bytes = [0; LONGEST];
            let mut packet = ReadBuf::new(&mut bytes);
            match self.socket.poll_recv_from(context, &mut packet) {
                Poll::Pending => return Poll::Pending,
                // Of this host, such as a device that has gone: the next question says so, too.
                Poll::Ready(Err(_)) => {}
                Poll::Ready(Ok(from)) => {
                    if let Some(probe) = self.answered(from, packet.filled()) {
                        return Poll::Ready(probe);
                    }
                }
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// The probe that a packet answers.
    fn answered(&mut self, from: SocketAddr, packet: &[u8]) -> Option<u64> {
        if (from.ip(), from.port()) != (self.to.ip(), self.to.port()) {
            return None;
        }
        let random = match self.target.method() {
            Method::Dns => dns::answered(packet).map(u64::from),
            _ => echo::answered(self.target.family(), packet),
        }?;
        let at = self.open.iter().position(|(asked, _)| *asked == random)?;
        self.open.remove(at).map(|(_, probe)| probe)
    }
}
