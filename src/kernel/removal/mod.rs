//! Waiting for the removal of an interface, by the kernel's notices.

use std::io;
use std::time::Instant;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use nix::libc;
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};

pub mod wait;

use self::wait::{Notice, Wait, WaitOutcome};
use super::interface;
use super::netlink::socket::{self, Socket, split};
use crate::kernel::netlink::constants::{RTM_DELLINK, RTM_NEWADDR, RTMGRP_IPV4_IFADDR, RTMGRP_LINK};
use crate::model::names::IfName;

const GROUPS: u32 = RTMGRP_LINK | RTMGRP_IPV4_IFADDR;

/// Why notices cannot be received.
#[derive(Debug, Error)]
#[error("cannot watch interfaces: {0}")]
pub struct Error(#[from] io::Error);

/// A subscription. Notices between subscribing and waiting are not lost.
pub struct Watch {
    runtime: tokio::runtime::Runtime,
    socket: TokioSocket,
    terminate: Signal,
}

impl Watch {
    /// Subscribes, and handles SIGTERM from here on.
    pub(crate) fn subscribe() -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let entered = runtime.enter();
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind(&SocketAddr::new(0, GROUPS))?;
        let terminate = signal(SignalKind::terminate())?;
        drop(entered);
        Ok(Self { runtime, socket, terminate })
    }

    /// Waits for the outcome of `wait`, which is about `interface`.
    pub fn wait(mut self, wait: &Wait, interface: &IfName, index: u32) -> Result<WaitOutcome, Error> {
        // The interface may have gone before the subscription, without a notice.
        let mut notices = vec![look(interface, index)?];
        loop {
            if let Some(outcome) = notices.iter().find_map(|notice| wait.notice(*notice)) {
                return Ok(outcome);
            }
            let Some(left) = wait.remaining(Instant::now()) else { return Ok(WaitOutcome::TimedOut) };
            let next = async {
                tokio::select! {
                    _ = self.terminate.recv() => Ok(vec![Notice::Terminated]),
                    received = self.socket.recv_from_full() => match received {
                        Ok((datagram, _)) => Ok(read(&datagram)),
                        Err(e) => Err(e),
                    },
                }
            };
            notices = match self.runtime.block_on(async { tokio::time::timeout(left, next).await }) {
                Err(_) => return Ok(WaitOutcome::TimedOut),
                Ok(Ok(notices)) => notices,
                // ENOBUFS: some notices were lost.
                Ok(Err(e)) if e.raw_os_error() == Some(libc::ENOBUFS) => vec![look(interface, index)?],
                Ok(Err(e)) => return Err(e.into()),
            };
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
