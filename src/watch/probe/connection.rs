//! A target that is asked by the beginning of a TCP connection.
//!
//! That a connection comes about is an answer, and so is a reset, which only the target can send: it has the number of our
//! packet. The kernel reports a router's "port unreachable" by the same errno, and tells the two apart in the socket's
//! error queue (since Linux 5.8). It repeats the packet after a second: an answer after that may be to either.

use std::io;
use std::net::{SocketAddr, TcpStream as StdTcpStream};
use std::os::fd::AsRawFd;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::linger;
use nix::sys::socket::{MsgFlags, connect, recv, setsockopt, sockopt};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::{Answer, Binding, Error, socket};
use crate::config::Target;
use crate::model::names::Family;

/// No SYN is repeated sooner: `TCP_TIMEOUT_INIT` is a second (RFC 6298, 2.1), and a timer of the kernel is late by some
/// ticks rather than early by more than one.
const UNREPEATED: Duration = Duration::from_millis(950);

#[derive(Debug)]
pub(super) struct Connection {
    target: Target,
    probe: u64,
    stream: TcpStream,
    begun: Instant,
}

impl Connection {
    pub(super) fn begin(binding: &Binding, target: Target, to: SocketAddr, probe: u64) -> Result<Self, Error> {
        let fd = socket::open(binding, target)?;
        // Closed with a reset: neither end keeps anything of it.
        let at_once = setsockopt(&fd, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 });
        let queued = match target.family() {
            Family::V4 => setsockopt(&fd, sockopt::Ipv4RecvErr, &true),
            Family::V6 => setsockopt(&fd, sockopt::Ipv6RecvErr, &true),
        };
        let begun = Instant::now();
        let connecting = at_once.and(queued).and_then(|()| connect(fd.as_raw_fd(), &*socket::sockaddr(to)));
        match connecting {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(errno) => return Err(socket::failed("connect to", target, errno)),
        }
        let stream = TcpStream::from_std(StdTcpStream::from(fd))
            .map_err(|source| socket::failed("wait for the connection to", target, source))?;
        Ok(Self { target, probe, stream, begun })
    }

    pub(super) fn target(&self) -> Target {
        self.target
    }

    /// Its answer, now.
    pub(super) fn answer(&self) -> Answer {
        let at = Instant::now();
        Answer { probe: self.probe, at, is_ambiguous: at.duration_since(self.begun) >= UNREPEATED }
    }

    /// Whether the target has answered; pending as long as it may.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        loop {
            match self.stream.poll_write_ready(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                Poll::Ready(Ok(())) => {}
            }
            // An error that TCP does not give up for wakes, too.
            match self.stream.try_io(Interest::WRITABLE, || self.outcome()) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome.unwrap_or(false)),
            }
        }
    }

    /// Whether the target has answered; [`io::ErrorKind::WouldBlock`]: it may yet.
    fn outcome(&self) -> io::Result<bool> {
        match self.stream.take_error()? {
            None if self.stream.peer_addr().is_ok() => Ok(true),
            None => Err(io::ErrorKind::WouldBlock.into()),
            Some(error) => Ok(error.kind() == io::ErrorKind::ConnectionRefused && !self.has_icmp_error()),
        }
    }

    /// Whether an ICMP error about the connection has come.
    fn has_icmp_error(&self) -> bool {
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        recv(self.stream.as_raw_fd(), &mut [0], flags) != Err(Errno::EAGAIN)
    }
}
