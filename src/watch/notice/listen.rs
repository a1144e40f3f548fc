//! The sockets on which the kernel tells of its changes.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{AsyncSocket, SocketAddr, TokioSocket};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::MulticastGroup;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::judge::{self, OfFilter};
use super::{Interest, Notice, Process};
use crate::kernel::netlink::socket::split;

const GROUPS: [MulticastGroup; 10] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv4Netconf,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv6Rule,
    MulticastGroup::Ipv6Netconf,
    MulticastGroup::Nexthop,
];

/// `NFNLGRP_NFTABLES` (linux/netfilter/nfnetlink.h).
const NFTABLES: u32 = 7;

/// Bytes of notices that the kernel keeps for us at most; memory that it takes only while there are that many.
const KEPT: usize = 4 << 20;

/// Bytes of a datagram: a notice is no longer than a page.
const LONGEST: usize = 32 << 10;

/// Datagrams that are read without looking after anything else.
const AT_ONCE: usize = 256;

/// After notices were read, the next are left to gather for this long: in a flood most of the cost is waking up.
const REST: Duration = Duration::from_millis(5);

/// What was heard.
#[derive(Debug, Default)]
pub(in crate::watch) struct Heard {
    /// Those that can concern us.
    pub(in crate::watch) notices: Vec<Notice>,
    /// Some were lost (ENOBUFS): only a look tells what has changed.
    pub(in crate::watch) is_overrun: bool,
}

/// The sockets, subscribed.
pub(in crate::watch) struct Notices {
    route: TokioSocket,
    /// `None`: the kernel lacks it.
    filter: Option<TokioSocket>,
    buffer: Vec<u8>,
    rested: Instant,
}

impl Notices {
    /// Subscribes in the thread's network namespace. Notices between subscribing and reading are not lost.
    pub(in crate::watch) fn subscribe() -> io::Result<Self> {
        let route = socket(NETLINK_ROUTE)?;
        for group in GROUPS {
            let joined = route.socket_ref().add_membership(group as u32);
            // Before 5.3 there are no nexthop objects, and no group for them.
            if group != MulticastGroup::Nexthop {
                joined?;
            }
        }
        let filter = socket(NETLINK_NETFILTER).and_then(|socket| {
            socket.socket_ref().add_membership(NFTABLES)?;
            Ok(socket)
        });
        let filter = filter.inspect_err(|e| debug!("no notices of nftables: {e}")).ok();
        Ok(Self { route, filter, buffer: Vec::with_capacity(LONGEST), rested: Instant::now() })
    }

    /// Waits for notices. Nothing is lost if the caller stops waiting.
    pub(in crate::watch) async fn next(&mut self, interest: &Interest) -> io::Result<Heard> {
        sleep_until(self.rested).await;
        let heard = poll_fn(|context| self.poll(context, interest)).await?;
        self.rested = Instant::now() + REST;
        Ok(heard)
    }

    /// Reads what has come on either socket.
    fn poll(&mut self, context: &mut Context<'_>, interest: &Interest) -> Poll<io::Result<Heard>> {
        let mut heard = Heard::default();
        let notices = &mut heard.notices;
        let mut read = read(&self.route, &mut self.buffer, context, &mut |kind, port, body| {
            notices.extend(judge::route(kind, port, body, interest));
        })?;
        if let Some(filter) = &self.filter {
            let of_filter =
                self::read(filter, &mut self.buffer, context, &mut |kind, port, body| match judge::filter(
                    kind, port, body, interest,
                ) {
                    Some(OfFilter::Notice(notice)) => notices.push(notice),
                    Some(OfFilter::By(process)) => name_all(notices, &process),
                    None => {}
                })?;
            read = Read { any: read.any || of_filter.any, is_overrun: read.is_overrun || of_filter.is_overrun };
        }
        heard.is_overrun = read.is_overrun;
        if read.any { Poll::Ready(Ok(heard)) } else { Poll::Pending }
    }
}

/// A socket without groups yet.
fn socket(protocol: isize) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(protocol)?;
    socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
    // Without CAP_NET_ADMIN the kernel's default stays, and more is lost in a flood.
    if let Err(e) = setsockopt(socket.socket_ref(), sockopt::RcvBufForce, &KEPT) {
        debug!("few notices are kept: {e}");
    }
    Ok(socket)
}

/// Says of the notices of a transaction who has made it.
fn name_all(notices: &mut [Notice], process: &Process) {
    for notice in notices.iter_mut().filter(|notice| notice.is_unnamed()) {
        notice.process = Some(process.clone());
    }
}

/// What came of reading a socket.
#[derive(Debug, Default)]
struct Read {
    /// Anything was read, or was lost.
    any: bool,
    is_overrun: bool,
}

/// Reads what has come, and calls `each` with the type, the port and the body of each message.
fn read(
    socket: &TokioSocket,
    buffer: &mut Vec<u8>,
    context: &mut Context<'_>,
    each: &mut dyn FnMut(u16, u32, &[u8]),
) -> io::Result<Read> {
    let mut read = Read::default();
    for _ in 0..AT_ONCE {
        buffer.clear();
        match socket.poll_recv_from(context, buffer) {
            Poll::Pending => break,
            // Anybody may send to our port.
            Poll::Ready(Ok(from)) if from.port_number() != 0 => {}
            Poll::Ready(Ok(_)) => messages(buffer, each),
            Poll::Ready(Err(e)) => match e.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ENOBUFS) => read.is_overrun = true,
                Some(Errno::EINTR) => {}
                _ => return Err(e),
            },
        }
        read.any = true;
    }
    Ok(read)
}

/// The messages in a datagram. What cannot be read is none.
fn messages(datagram: &[u8], each: &mut dyn FnMut(u16, u32, &[u8])) {
    let mut rest = datagram;
    while let Ok(Some((message, after))) = split(rest) {
        // `nlmsg_pid` stands last in the header.
        let port = rest.get(12..16).and_then(|port| port.try_into().ok()).map_or(0, u32::from_ne_bytes);
        each(message.kind, port, message.body);
        rest = after;
    }
}
