//! Waiting for the removal of an interface, by the kernel's notices.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket as Netlink, SocketAddr};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use thiserror::Error;

pub mod wait;

use self::wait::{Notice, Wait, WaitOutcome};
use super::interface;
use super::netlink::socket::{self, Socket, split};
use super::program::timeout;
use crate::kernel::netlink::constants::{RTM_DELLINK, RTM_NEWADDR, RTMGRP_IPV4_IFADDR, RTMGRP_LINK};
use crate::model::names::IfName;

const GROUPS: u32 = RTMGRP_LINK | RTMGRP_IPV4_IFADDR;

/// Why notices cannot be received.
#[derive(Debug, Error)]
#[error("cannot watch interfaces: {0}")]
pub struct Error(#[from] io::Error);

/// A subscription. Notices between subscribing and waiting are not lost.
pub struct Watch {
    socket: Netlink,
    terminate: SignalFd,
}

impl Watch {
    /// Subscribes, and handles SIGTERM from here on: this thread and the programs that it starts do not get it.
    pub(crate) fn subscribe() -> Result<Self, Error> {
        let mut socket = Netlink::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, GROUPS))?;
        socket.set_non_blocking(true)?;
        let terminate = SigSet::from(Signal::SIGTERM);
        terminate.thread_block().map_err(io::Error::from)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let terminate = SignalFd::with_flags(&terminate, flags).map_err(io::Error::from)?;
        Ok(Self { socket, terminate })
    }

    /// Waits for the outcome of `wait`, which is about `interface`.
    pub fn wait(self, wait: &Wait, interface: &IfName, index: u32) -> Result<WaitOutcome, Error> {
        // The interface may have gone before the subscription, without a notice.
        let mut notices = vec![look(interface, index)?];
        loop {
            if let Some(outcome) = notices.iter().find_map(|notice| wait.notice(*notice)) {
                return Ok(outcome);
            }
            let Some(left) = wait.remaining(Instant::now()) else { return Ok(WaitOutcome::TimedOut) };
            let mut fds = [self.socket.as_fd(), self.terminate.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match poll(&mut fds, timeout(left)) {
                Err(Errno::EINTR) => {}
                polled => drop(polled.map_err(io::Error::from)?),
            }
            notices = if matches!(self.terminate.read_signal(), Ok(Some(_))) {
                vec![Notice::Terminated]
            } else {
                self.notices(interface, index)?
            };
        }
    }

    /// The notices that have come, if any.
    fn notices(&self, interface: &IfName, index: u32) -> Result<Vec<Notice>, Error> {
        match self.socket.recv_from_full() {
            Ok((datagram, _)) => Ok(read(&datagram)),
            // Some notices were lost.
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => Ok(vec![look(interface, index)?]),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(Vec::new()),
            Err(e) => Err(e.into()),
        }
    }
}

/// Checks whether the interface exists, since notices may have been lost.
fn look(interface: &IfName, index: u32) -> Result<Notice, Error> {
    let found = interface::by_name(&mut Socket::open()?, interface).map_err(io::Error::other)?;
    Ok(Notice::Overrun { exists: found.is_some_and(|found| found.index == index) })
}

/// The notices in a datagram. Both kinds of message begin with the family and, four bytes on, the index (`struct
/// ifinfomsg`, `struct ifaddrmsg`).
fn read(datagram: &[u8]) -> Vec<Notice> {
    let mut notices = Vec::new();
    let mut rest = datagram;
    while let Ok::<_, socket::Error>(Some((message, after))) = split(rest) {
        rest = after;
        let Some(&[family, _, _, _, ref index @ ..]) = message.body.first_chunk::<8>() else { continue };
        let index = u32::from_ne_bytes(*index);
        match (message.kind, family) {
            // In another family the message is about a port that leaves its bridge.
            (RTM_DELLINK, 0) => notices.push(Notice::Removed { index }),
            (RTM_NEWADDR, _) => notices.push(Notice::AddressAdded { index }),
            _ => {}
        }
    }
    notices
}
