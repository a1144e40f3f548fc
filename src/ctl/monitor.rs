//! Waiting for anything that a view of the routes depends on to change, and for the signals that
//! end or redraw such a view.

use std::io;
use std::time::{Duration, Instant};

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use nix::libc;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::kernel::netlink::constants::{
    RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV4_RULE, RTMGRP_LINK, RTMGRP_NEXTHOP,
};
use crate::kernel::removal::Error;

/// The kernel leaves out those that it does not have.
const GROUPS: u32 = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV4_RULE | RTMGRP_NEXTHOP;

/// Why waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// Something has changed, or the terminal has another size.
    Changed,
    /// The time is over.
    Time,
    /// SIGINT, SIGTERM, SIGHUP or SIGQUIT.
    Told,
}

/// A subscription; from its making on, the signals do not end the process.
pub struct Notices {
    runtime: Runtime,
    socket: TokioSocket,
    ends: [Signal; 4],
    resized: Signal,
}

impl Notices {
    /// Subscribes in the thread's network namespace. No privileges are needed.
    pub fn subscribe() -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let entered = runtime.enter();
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind(&SocketAddr::new(0, GROUPS))?;
        let kinds = [SignalKind::interrupt, SignalKind::terminate, SignalKind::hangup, SignalKind::quit];
        let [interrupt, terminate, hangup, quit] = kinds.map(|kind| signal(kind()));
        let ends = [interrupt?, terminate?, hangup?, quit?];
        let resized = signal(SignalKind::window_change())?;
        drop(entered);
        Ok(Self { runtime, socket, ends, resized })
    }

    /// Waits for at most `time`. What comes within `burst` is told of once: a full routing table being loaded sends
    /// thousands of notices a second.
    pub fn wait(&mut self, time: Duration, burst: Duration) -> Result<Woken, Error> {
        let mut woken = Woken::Time;
        let mut until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() && woken == Woken::Changed {
                return Ok(woken);
            }
            match self.next(left)? {
                Woken::Time => return Ok(woken),
                Woken::Told => return Ok(Woken::Told),
                Woken::Changed if woken == Woken::Time => {
                    woken = Woken::Changed;
                    until = until.min(Instant::now() + burst);
                }
                Woken::Changed => {}
            }
        }
    }

    fn next(&mut self, left: Duration) -> io::Result<Woken> {
        let Self { runtime, socket, ends: [interrupt, terminate, hangup, quit], resized } = self;
        let next = async {
            tokio::select! {
                _ = interrupt.recv() => Ok(Woken::Told),
                _ = terminate.recv() => Ok(Woken::Told),
                _ = hangup.recv() => Ok(Woken::Told),
                _ = quit.recv() => Ok(Woken::Told),
                _ = resized.recv() => Ok(Woken::Changed),
                received = socket.recv_from_full() => match received {
                    // ENOBUFS: so much has changed that some notices were dropped.
                    Err(e) if e.raw_os_error() != Some(libc::ENOBUFS) => Err(e),
                    _ => Ok(Woken::Changed),
                },
            }
        };
        runtime.block_on(async { tokio::time::timeout(left, next).await }).unwrap_or(Ok(Woken::Time))
    }
}
