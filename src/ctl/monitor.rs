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
    RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV4_RULE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE, RTMGRP_IPV6_RULE,
    RTMGRP_LINK, RTMGRP_NEXTHOP,
};
use crate::kernel::removal::Error;

/// The kernel leaves out those that it does not have.
const GROUPS: u32 = RTMGRP_LINK
    | RTMGRP_IPV4_IFADDR
    | RTMGRP_IPV4_ROUTE
    | RTMGRP_IPV4_RULE
    | RTMGRP_IPV6_IFADDR
    | RTMGRP_IPV6_ROUTE
    | RTMGRP_IPV6_RULE
    | RTMGRP_NEXTHOP;

/// Why waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wakeup {
    /// The routes may have changed, or the terminal has another size.
    Changed,
    TimedOut,
    /// SIGINT, SIGTERM, SIGHUP or SIGQUIT.
    StopRequested,
}

/// A subscription; from its making on, the signals do not end the process.
pub struct Monitor {
    runtime: Runtime,
    socket: TokioSocket,
    stops: [Signal; 4],
    resized: Signal,
}

impl Monitor {
    /// Subscribes in the thread's network namespace. No privileges are needed.
    pub fn subscribe() -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let entered = runtime.enter();
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind(&SocketAddr::new(0, GROUPS))?;
        let kinds = [SignalKind::interrupt, SignalKind::terminate, SignalKind::hangup, SignalKind::quit];
        let [interrupt, terminate, hangup, quit] = kinds.map(|kind| signal(kind()));
        let stops = [interrupt?, terminate?, hangup?, quit?];
        let resized = signal(SignalKind::window_change())?;
        drop(entered);
        Ok(Self { runtime, socket, stops, resized })
    }

    /// Waits for at most `time`. Changes within `debounce` after the first count as one: a full routing table being loaded sends
    /// thousands of notices a second.
    pub fn wait(&mut self, time: Duration, debounce: Duration) -> Result<Wakeup, Error> {
        let mut wakeup = Wakeup::TimedOut;
        let mut until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() && wakeup == Wakeup::Changed {
                return Ok(wakeup);
            }
            match self.next(left)? {
                Wakeup::TimedOut => return Ok(wakeup),
                Wakeup::StopRequested => return Ok(Wakeup::StopRequested),
                Wakeup::Changed if wakeup == Wakeup::TimedOut => {
                    wakeup = Wakeup::Changed;
                    until = until.min(Instant::now() + debounce);
                }
                Wakeup::Changed => {}
            }
        }
    }

    fn next(&mut self, left: Duration) -> io::Result<Wakeup> {
        let Self { runtime, socket, stops: [interrupt, terminate, hangup, quit], resized } = self;
        let next = async {
            tokio::select! {
                _ = interrupt.recv() => Ok(Wakeup::StopRequested),
                _ = terminate.recv() => Ok(Wakeup::StopRequested),
                _ = hangup.recv() => Ok(Wakeup::StopRequested),
                _ = quit.recv() => Ok(Wakeup::StopRequested),
                _ = resized.recv() => Ok(Wakeup::Changed),
                received = socket.recv_from_full() => match received {
                    // ENOBUFS: so much has changed that some notices were dropped.
                    Err(e) if e.raw_os_error() != Some(libc::ENOBUFS) => Err(e),
                    _ => Ok(Wakeup::Changed),
                },
            }
        };
        runtime.block_on(async { tokio::time::timeout(left, next).await }).unwrap_or(Ok(Wakeup::TimedOut))
    }
}
